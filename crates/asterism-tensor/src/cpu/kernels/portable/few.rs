//! A few rows of queries over keys and values in the order they lie in memory, as in decoding.

use super::super::FewRows;
use super::{LANES, mul_add, total, wide};
use half::bf16;

/// Query rows that the two kernels below take at a time at most: their sums stay in registers.
pub(in super::super) const FEW: usize = 4;

/// `scores[h, r, t] = q[h, r] · keys[t, h]`: `q [kv_heads, rows, dim]` against
/// `keys [width, kv_heads, dim]`, which says how many tokens there are; `scores` is
/// `[kv_heads, rows, width]`. Every key is read once, in the order they lie in memory.
#[inline(always)]
fn score<T: Copy, const FMA: bool>(
    shape: FewRows,
    q: &[f32],
    keys: &[T],
    scores: &mut [f32],
    value: impl Fn(T) -> f32,
) {
    let FewRows { rows, dim, .. } = shape;
    let width = keys.len() / shape.kv_width();
    let whole = dim - dim % LANES;
    for (i, key) in keys.chunks_exact(dim).enumerate() {
        let (t, head) = (i / shape.kv_heads, i % shape.kv_heads);
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
                scores[row * width + t] = total(*sums) + rest;
            }
        }
    }
}

/// `out[h, r] += Σ_t weights[h, r, t] values[t, h]`: the other half, with `weights` of the shape of
/// the scores, `values` of that of the keys and `out` of that of the queries.
#[inline(always)]
fn weigh<T: Copy, const FMA: bool>(
    shape: FewRows,
    weights: &[f32],
    values: &[T],
    out: &mut [f32],
    value: impl Fn(T) -> f32,
) {
    let FewRows { kv_heads, rows, dim } = shape;
    let stride = shape.kv_width();
    let width = values.len() / stride;
    let whole = dim - dim % LANES;
    for first in (0..kv_heads * rows).flat_map(|r| (r % rows % FEW == 0).then_some(r)) {
        let (head, count) = (first / rows, FEW.min(rows - first % rows));
        for c in (0..whole).step_by(LANES) {
            let mut sums = [[0.0f32; LANES]; FEW];
            for t in 0..width {
                let mut part = [0.0f32; LANES];
                for (w, v) in part.iter_mut().zip(&values[t * stride + head * dim + c..][..LANES]) {
                    *w = value(*v);
                }
                for (r, sums) in sums.iter_mut().take(count).enumerate() {
                    for (s, v) in sums.iter_mut().zip(&part) {
                        *s = mul_add::<FMA>(weights[(first + r) * width + t], *v, *s);
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
                let value = |t: usize| value(values[t * stride + head * dim + d]);
                let terms = (0..width).map(|t| weights[row * width + t] * value(t));
                out[row * dim + d] += terms.sum::<f32>();
            }
        }
    }
}

#[inline(always)]
pub(in super::super) fn score_f32<const FMA: bool>(
    shape: FewRows,
    q: &[f32],
    k: &[f32],
    s: &mut [f32],
) {
    score::<_, FMA>(shape, q, k, s, |v| v);
}

#[inline(always)]
pub(in super::super) fn score_bf16<const FMA: bool>(
    shape: FewRows,
    q: &[f32],
    k: &[bf16],
    s: &mut [f32],
) {
    score::<_, FMA>(shape, q, k, s, wide);
}

#[inline(always)]
pub(in super::super) fn weigh_f32<const FMA: bool>(
    shape: FewRows,
    w: &[f32],
    v: &[f32],
    out: &mut [f32],
) {
    weigh::<_, FMA>(shape, w, v, out, |v| v);
}

#[inline(always)]
pub(in super::super) fn weigh_bf16<const FMA: bool>(
    shape: FewRows,
    w: &[f32],
    v: &[bf16],
    out: &mut [f32],
) {
    weigh::<_, FMA>(shape, w, v, out, wide);
}
