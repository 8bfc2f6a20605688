//! A few rows of queries over keys and values in the order they lie in memory, as in decoding.

use super::super::FewRows;
use super::int8::{number, split};
use super::{LANES, mul_add, total, wide};
use crate::cpu::kv::int8_bytes;
use half::bf16;

/// Query rows that the two kernels below take at a time at most: their sums stay in registers.
pub(in super::super) const FEW: usize = 4;

/// `scores[h, r, t] = q[h, r] · keys[t, h]`: `q [kv_heads, rows, dim]` against as many keys as fill
/// `scores [kv_heads, rows, tokens]`. `head(t * kv_heads + h)` is key `(t, h)`: what its elements
/// are multiplied by, and these. Every key is read once, in the order they lie in memory.
#[inline(always)]
fn score<'a, T: Copy + 'a, const FMA: bool>(
    shape: FewRows,
    q: &[f32],
    head: impl Fn(usize) -> (f32, &'a [T]),
    scores: &mut [f32],
    value: impl Fn(T) -> f32,
) {
    let FewRows { kv_heads, rows, dim } = shape;
    let width = scores.len() / (kv_heads * rows);
    let whole = dim - dim % LANES;
    for i in 0..width * kv_heads {
        let (scale, key) = head(i);
        let (t, head) = (i / kv_heads, i % kv_heads);
        for first in (head * rows..(head + 1) * rows).step_by(FEW) {
            let count = FEW.min((head + 1) * rows - first);
            let mut sums = [[0.0f32; LANES]; FEW];
            for c in (0..whole).step_by(LANES) {
                let mut part = [0.0f32; LANES];
                for (w, k) in part.iter_mut().zip(&key[c..c + LANES]) {
                    *w = value(*k);
                }
                for (r, sums) in sums.iter_mut().take(count).enumerate() {
                    let q = &q[(first + r) * dim + c..][..LANES];
                    for ((s, q), k) in sums.iter_mut().zip(q).zip(&part) {
                        *s = mul_add::<FMA>(*q, *k, *s);
                    }
                }
            }
            for (r, sums) in sums.iter().take(count).enumerate() {
                let row = first + r;
                let rest = (whole..dim).map(|d| q[row * dim + d] * value(key[d])).sum::<f32>();
                scores[row * width + t] = (total(*sums) + rest) * scale;
            }
        }
    }
}

/// `out[h, r] += Σ_t weights[h, r, t] values[t, h]`: the other half, with `weights` of the shape of
/// the scores, values given like the keys and `out` of the shape of the queries.
#[inline(always)]
fn weigh<'a, T: Copy + 'a, const FMA: bool>(
    shape: FewRows,
    weights: &[f32],
    head: impl Fn(usize) -> (f32, &'a [T]),
    out: &mut [f32],
    value: impl Fn(T) -> f32,
) {
    let FewRows { kv_heads, rows, dim } = shape;
    let width = weights.len() / (kv_heads * rows);
    let whole = dim - dim % LANES;
    for first in (0..kv_heads * rows).flat_map(|r| (r % rows % FEW == 0).then_some(r)) {
        let (kv_head, count) = (first / rows, FEW.min(rows - first % rows));
        for c in (0..whole).step_by(LANES) {
            let mut sums = [[0.0f32; LANES]; FEW];
            for t in 0..width {
                let (scale, values) = head(t * kv_heads + kv_head);
                let mut part = [0.0f32; LANES];
                for (w, v) in part.iter_mut().zip(&values[c..][..LANES]) {
                    *w = value(*v);
                }
                for (r, sums) in sums.iter_mut().take(count).enumerate() {
                    let weight = weights[(first + r) * width + t] * scale;
                    for (s, v) in sums.iter_mut().zip(&part) {
                        *s = mul_add::<FMA>(weight, *v, *s);
                    }
                }
            }
            for (r, sums) in sums.iter().take(count).enumerate() {
                for (o, s) in out[(first + r) * dim + c..][..LANES].iter_mut().zip(sums) {
                    *o += s;
                }
            }
        }
        for row in first..first + count {
            for d in whole..dim {
                let term = |t: usize| {
                    let (scale, values) = head(t * kv_heads + kv_head);
                    weights[row * width + t] * scale * value(values[d])
                };
                out[row * dim + d] += (0..width).map(term).sum::<f32>();
            }
        }
    }
}

/// Heads `[tokens, kv_heads, dim]` as they are.
#[inline(always)]
fn plain<'a, T>(heads: &'a [T], dim: usize) -> impl Fn(usize) -> (f32, &'a [T]) {
    move |i| (1.0, &heads[i * dim..][..dim])
}

/// Heads in 8 bits, `[tokens, kv_heads, 4 + dim]`.
#[inline(always)]
fn coded<'a>(heads: &'a [u8], dim: usize) -> impl Fn(usize) -> (f32, &'a [u8]) {
    move |i| split(&heads[i * int8_bytes(dim)..][..int8_bytes(dim)])
}

#[inline(always)]
pub(in super::super) fn score_f32<const FMA: bool>(
    shape: FewRows,
    q: &[f32],
    k: &[f32],
    s: &mut [f32],
) {
    score::<_, FMA>(shape, q, plain(k, shape.dim), s, |v| v);
}

#[inline(always)]
pub(in super::super) fn score_bf16<const FMA: bool>(
    shape: FewRows,
    q: &[f32],
    k: &[bf16],
    s: &mut [f32],
) {
    score::<_, FMA>(shape, q, plain(k, shape.dim), s, wide);
}

#[inline(always)]
pub(in super::super) fn score_int8<const FMA: bool>(
    shape: FewRows,
    q: &[f32],
    k: &[u8],
    s: &mut [f32],
) {
    score::<_, FMA>(shape, q, coded(k, shape.dim), s, number);
}

#[inline(always)]
pub(in super::super) fn weigh_f32<const FMA: bool>(
    shape: FewRows,
    w: &[f32],
    v: &[f32],
    out: &mut [f32],
) {
    weigh::<_, FMA>(shape, w, plain(v, shape.dim), out, |v| v);
}

#[inline(always)]
pub(in super::super) fn weigh_bf16<const FMA: bool>(
    shape: FewRows,
    w: &[f32],
    v: &[bf16],
    out: &mut [f32],
) {
    weigh::<_, FMA>(shape, w, plain(v, shape.dim), out, wide);
}

#[inline(always)]
pub(in super::super) fn weigh_int8<const FMA: bool>(
    shape: FewRows,
    w: &[f32],
    v: &[u8],
    out: &mut [f32],
) {
    weigh::<_, FMA>(shape, w, coded(v, shape.dim), out, number);
}
