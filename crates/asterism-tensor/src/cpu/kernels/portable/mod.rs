//! Every kernel in plain Rust: the reference, the fallback, and (compiled again with more
//! instructions allowed) most of the fast versions.
//!
//! Loops run over fixed-size arrays of [`LANES`] partial results, which is what lets the compiler
//! use whole registers without changing the order of sums behind our back. `FMA` says whether
//! `a * b + c` may be one instruction: without hardware support it would be a library call.

mod few;
mod int8;
mod unpack;

#[cfg(target_arch = "x86_64")]
pub(super) use few::FEW;
pub(super) use few::{score_bf16, score_f32, score_int8, weigh_bf16, weigh_f32, weigh_int8};
pub(super) use int8::{decode_int8, encode_int8};
#[cfg(target_arch = "x86_64")]
pub(super) use unpack::unpack_some_keys;
pub(super) use unpack::{copy_keys, copy_values, unpack_keys, unpack_values};

use super::{Isa, Kernels};
use half::bf16;

/// Partial results kept side by side in reductions.
const LANES: usize = 16;

/// Columns of a packed panel.
const PANEL: usize = 16;

pub(super) const KERNELS: Kernels = Kernels {
    isa: Isa::Portable,
    tiles: None,
    panel: PANEL,
    peak,
    multiply,
    widen,
    narrow,
    rows_f32,
    rows_bf16,
    softmax_row: softmax_row::<false>,
    scale,
    silu_mul: silu_mul::<false>,
    rms_norm: rms_norm::<false>,
    rotate: rotate::<false>,
    add_scaled: add_scaled::<false>,
    score_f32: score_f32::<false>,
    score_bf16: score_bf16::<false>,
    weigh_f32: weigh_f32::<false>,
    weigh_bf16: weigh_bf16::<false>,
    score_int8: score_int8::<false>,
    weigh_int8: weigh_int8::<false>,
    unpack_keys: unpack_keys::<PANEL>,
    unpack_values: unpack_values::<PANEL>,
    copy_keys: copy_keys::<PANEL>,
    copy_values: copy_values::<PANEL>,
    encode_int8,
    decode_int8,
};

#[inline(always)]
fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// bf16 is the upper half of an f32.
#[inline(always)]
fn wide(v: bf16) -> f32 {
    f32::from_bits(u32::from(v.to_bits()) << 16)
}

/// As many multiply-adds at once as registers allow, without memory: what bounds every product.
/// Returns the number of operations, of which a multiply-add is two.
pub(super) fn peak(rounds: usize) -> u64 {
    let (x, y) = (std::hint::black_box(0.5f32), std::hint::black_box(1e-3f32));
    let mut sums = [[0.0f32; LANES]; 4];
    for _ in 0..rounds {
        for sum in sums.as_flattened_mut() {
            *sum += x * y;
        }
    }
    std::hint::black_box(sums);
    (rounds * 4 * LANES * 2) as u64
}

/// `c[rows, PANEL] = a[rows, k] · b[k, PANEL]`, added to `c` if `accumulate`.
/// Rows of `a` are `lda` apart, rows of `c` are `ldc` apart, `b` is dense.
#[allow(clippy::too_many_arguments)]
pub(crate) fn multiply(
    a: &[f32],
    lda: usize,
    rows: usize,
    k: usize,
    b: &[f32],
    c: &mut [f32],
    ldc: usize,
    accumulate: bool,
) {
    for r in 0..rows {
        let mut sum = [0.0f32; PANEL];
        for (x, b_row) in a[r * lda..r * lda + k].iter().zip(b.chunks_exact(PANEL)) {
            for (s, y) in sum.iter_mut().zip(b_row) {
                *s += x * y;
            }
        }
        for (c, s) in c[r * ldc..r * ldc + PANEL].iter_mut().zip(sum) {
            *c = if accumulate { *c + s } else { s };
        }
    }
}

#[inline(always)]
pub(super) fn widen(source: &[bf16], out: &mut [f32]) {
    for (o, s) in out.iter_mut().zip(source) {
        *o = wide(*s);
    }
}

/// To the nearest bf16, ties to even; a NaN stays one.
#[inline(always)]
pub(super) fn narrow(source: &[f32], out: &mut [bf16]) {
    for (o, s) in out.iter_mut().zip(source) {
        let bits = s.to_bits();
        let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        let bits = if s.is_nan() { bits >> 16 | 0x40 } else { nearest };
        *o = bf16::from_bits(bits as u16);
    }
}

/// `out[rows, PANEL] = x[rows, inputs] · b[inputs, PANEL]`, one row after the other: a product for
/// decoding, where weights are read once and not worth unpacking. Rows of `out` are `stride` apart.
fn rows_panel<T: Copy>(
    x: &[f32],
    inputs: usize,
    b: &[T],
    out: &mut [f32],
    stride: usize,
    value: impl Fn(T) -> f32,
) {
    for (x, out) in x.chunks_exact(inputs).zip(out.chunks_mut(stride)) {
        let mut sums = [0.0f32; PANEL];
        for (x, b) in x.iter().zip(b.chunks_exact(PANEL)) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum += x * value(*b);
            }
        }
        out[..PANEL].copy_from_slice(&sums);
    }
}

fn rows_f32(x: &[f32], inputs: usize, b: &[f32], out: &mut [f32], stride: usize) {
    rows_panel(x, inputs, b, out, stride, |v| v);
}

fn rows_bf16(x: &[f32], inputs: usize, b: &[bf16], out: &mut [f32], stride: usize) {
    rows_panel(x, inputs, b, out, stride, wide);
}

/// Partial results made one, by halves: four steps deep instead of sixteen.
#[inline(always)]
fn reduce(mut parts: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            parts[i] = join(parts[i], parts[i + half]);
        }
    }
    parts[0]
}

#[inline(always)]
fn total(sums: [f32; LANES]) -> f32 {
    reduce(sums, |a, b| a + b)
}

/// Adding 1.5 * 2^23 rounds to an integer, which then sits in the low bits.
const ROUND: f32 = 12_582_912.0;

/// 2^(n + r) to 2 units in the last place for |r| <= 1/2, where `shifted` is `ROUND + n`: 2^r by a
/// polynomial fitted for the least relative error, 1 at 0.
#[inline(always)]
fn power<const FMA: bool>(r: f32, shifted: f32) -> f32 {
    let mut p = 0.001_326_472_7;
    p = mul_add::<FMA>(p, r, 0.009_671_513);
    p = mul_add::<FMA>(p, r, 0.055_507_336);
    p = mul_add::<FMA>(p, r, 0.240_222_42);
    p = mul_add::<FMA>(p, r, 0.693_146_94);
    p = mul_add::<FMA>(p, r, 1.0);
    // The bits of `shifted` count up by one per unit of n; multiplying by 2^n adds n to the
    // exponent.
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// 2^x for x <= 0, without branches. Below -126 the result is held at 2^-126 (1e-38), so that it
/// stays a normal number; a NaN stays one.
#[inline(always)]
fn exp2<const FMA: bool>(x: f32) -> f32 {
    let x = if x < -126.0 { -126.0 } else { x };
    let shifted = x + ROUND;
    power::<FMA>(x - (shifted - ROUND), shifted)
}

/// e^x to 3 units in the last place for -87 <= x <= 0, and held at its least there: e^x = 2^n e^r
/// with x = n ln 2 + r.
#[inline(always)]
fn exp<const FMA: bool>(x: f32) -> f32 {
    // ln 2 in two parts, the first with few enough bits that n * LN2_HIGH is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = mul_add::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = mul_add::<FMA>(n, -LN2_LOW, mul_add::<FMA>(n, -LN2_HIGH, x));
    power::<FMA>(r * std::f32::consts::LOG2_E, shifted)
}

/// One round of an online softmax over one row, in powers of two: `max` is the largest score
/// before. Turns `scores` into weights `2^(score - max)` with the largest of all scores so far;
/// returns that and the sum of the weights.
#[inline(always)]
pub(super) fn softmax_row<const FMA: bool>(scores: &mut [f32], max: f32) -> (f32, f32) {
    let mut best = [max; LANES];
    let mut chunks = scores.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (b, v) in best.iter_mut().zip(chunk) {
            *b = if *v > *b { *v } else { *b };
        }
    }
    let max = chunks.remainder().iter().fold(reduce(best, f32::max), |m, v| m.max(*v));
    let mut sums = [0.0f32; LANES];
    let mut chunks = scores.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (s, v) in sums.iter_mut().zip(chunk) {
            *v = exp2::<FMA>(*v - max);
            *s += *v;
        }
    }
    let mut rest = 0.0;
    for v in chunks.into_remainder() {
        *v = exp2::<FMA>(*v - max);
        rest += *v;
    }
    (max, total(sums) + rest)
}

#[inline(always)]
pub(super) fn scale(x: &mut [f32], factor: f32) {
    for v in x {
        *v *= factor;
    }
}

/// `gate = gate * sigmoid(gate) * up` (SwiGLU).
#[inline(always)]
pub(super) fn silu_mul<const FMA: bool>(gate: &mut [f32], up: &[f32]) {
    for (g, u) in gate.iter_mut().zip(up) {
        // e^-|g| never overflows; sigmoid(g) is 1/(1+e) above zero and e/(1+e) below.
        let e = exp::<FMA>(-g.abs());
        let sigmoid = if *g >= 0.0 { 1.0 } else { e } / (1.0 + e);
        *g = *g * sigmoid * u;
    }
}

/// `out = x / sqrt(mean(x²) + eps) * weight` (Zhang and Sennrich, arXiv 1910.07467).
#[inline(always)]
pub(super) fn rms_norm<const FMA: bool>(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let mean = dot::<FMA>(x, x) / x.len() as f32;
    let factor = 1.0 / (mean + eps).sqrt();
    for ((o, v), w) in out.iter_mut().zip(x).zip(weight) {
        *o = v * factor * w;
    }
}

/// Rotates the pairs `(x[i], x[i + half])` of one head by the angles of its position
/// (rotary embedding, arXiv 2104.09864, in the halves layout of Hugging Face checkpoints).
#[inline(always)]
pub(super) fn rotate<const FMA: bool>(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = x.len() / 2;
    let (first, second) = x.split_at_mut(half);
    for (((a, b), c), s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        let (x, y) = (*a, *b);
        *a = mul_add::<FMA>(x, *c, -(y * s));
        *b = mul_add::<FMA>(y, *c, x * s);
    }
}

#[inline(always)]
fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (mut a_chunks, mut b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    for (x, y) in (&mut a_chunks).zip(&mut b_chunks) {
        for i in 0..LANES {
            sums[i] = mul_add::<FMA>(x[i], y[i], sums[i]);
        }
    }
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    total(sums) + rest
}

#[inline(always)]
pub(super) fn add_scaled<const FMA: bool>(out: &mut [f32], factor: f32, x: &[f32]) {
    for (o, v) in out.iter_mut().zip(x) {
        *o = mul_add::<FMA>(factor, *v, *o);
    }
}
