//! Scores and weighted sums of a few rows over keys and values in 8 bits: as [`few`](super::few)
//! over bf16, part by part while the next one is fetched. Codes become whole numbers and these
//! floats, in two instructions for a register; a head's scale comes in once, with its sum or its
//! weight. See `score` and `weigh` in [`portable`].

#![allow(unsafe_code)]

use super::FewRows;
use crate::cpu::kv::int8_bytes;

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// Bytes of a part: a quarter of a first-level cache, as is the next part, which is being fetched.
const PART: usize = 8 * 1024;

/// Bytes of a scale, which stands before its codes.
pub(super) const SCALE: usize = int8_bytes(0);

/// Tokens of a part: a multiple of the keys that are scored at a time.
pub(super) fn part_tokens(shape: FewRows) -> usize {
    (PART / (shape.kv_heads * int8_bytes(shape.dim))).next_multiple_of(4).max(16)
}

/// One head's keys or values in one part.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// The first token's: a scale, then codes.
    pub(super) first: *const u8,
    pub(super) tokens: usize,
    /// Bytes from one token to the next.
    pub(super) stride: usize,
    /// This head's share of the next part, `[tokens, 4 + dim]` bytes without gaps. Only fetched;
    /// need not exist.
    pub(super) next: *const u8,
}

impl Part {
    /// The scale of token `t`.
    ///
    /// # Safety
    /// The part has it.
    #[inline(always)]
    pub(super) unsafe fn scale(self, t: usize) -> f32 {
        // SAFETY: by this function's contract; any four bytes are a float.
        unsafe { self.first.add(t * self.stride).cast::<f32>().read_unaligned() }
    }

    /// The codes of token `t`.
    pub(super) fn codes(self, t: usize) -> *const u8 {
        self.first.wrapping_add(t * self.stride + SCALE)
    }
}

/// Calls `body(first token of a part, row, rows, part)` for every part of `heads` (keys or values),
/// every head, and up to `FEW` of its rows, which are counted through all heads.
#[inline]
pub(super) fn for_each_part<const FEW: usize>(
    shape: FewRows,
    heads: &[u8],
    mut body: impl FnMut(usize, usize, usize, Part),
) {
    let bytes = int8_bytes(shape.dim);
    let (stride, step) = (shape.kv_heads * bytes, part_tokens(shape));
    let width = heads.len() / stride;
    for first in (0..width).step_by(step) {
        for head in 0..shape.kv_heads {
            let next = (first + step) * stride + head * step * bytes;
            let part = Part {
                first: heads[first * stride + head * bytes..].as_ptr(),
                tokens: step.min(width - first),
                stride,
                next: heads.as_ptr().wrapping_add(next),
            };
            for row in (0..shape.rows).step_by(FEW) {
                body(first, head * shape.rows + row, FEW.min(shape.rows - row), part);
            }
        }
    }
}

macro_rules! few8 {
    ($features:literal, $lanes:literal, $score:expr, $weigh:expr, $widen:expr, $zero:ident,
     $load:ident, $store:ident, $set1:ident, $fma:ident, $add:ident, $halve:expr) => {
        use super::super::super::few8::{self, Part, SCALE};
        use super::super::super::row::of_rows;
        use super::super::super::{FEW, FewRows, portable};
        use super::*;

        const LANES: usize = $lanes;

        /// Asks for the cache line of byte `at` behind `first`, if it is the first of one: a hint,
        /// for any address.
        #[inline]
        #[target_feature(enable = $features)]
        fn prefetch(first: *const u8, at: usize) {
            if at.is_multiple_of(few8::LINE) {
                _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(at).cast());
            }
        }

        pub(super) fn score_int8(shape: FewRows, q: &[f32], keys: &[u8], scores: &mut [f32]) {
            let (dim, stride) = (shape.dim, shape.kv_heads * (SCALE + shape.dim));
            if !dim.is_multiple_of(LANES) {
                return portable::score_int8::<false>(shape, q, keys, scores);
            }
            let (rows, width) = (shape.kv_heads * shape.rows, keys.len() / stride);
            assert_eq!(keys.len(), width * stride, "keys are not of whole tokens");
            assert_eq!(q.len(), rows * dim, "q is not [kv_heads, rows, dim]");
            assert_eq!(scores.len(), rows * width, "scores are not [kv_heads, rows, width]");
            few8::for_each_part::<FEW>(shape, keys, |first, row, count, part| {
                let q = &q[row * dim..][..count * dim];
                let scores = &mut scores[row * width + first..];
                // SAFETY: the part's keys have `dim` codes each, and `scores` has as many from here
                // on for each of `count` rows, `width` apart (asserted); the features are present
                // because `Kernels::of` handed this table out.
                unsafe { of_rows::<_, FEW>(count, $score)(q, part, scores.as_mut_ptr(), width) };
            });
        }

        /// Scores of R rows, K keys at a time.
        ///
        /// # Safety
        /// `part` has keys of `q.len() / R` codes, a multiple of [`LANES`]; `scores` has R rows,
        /// `width` apart, with an element for each of them.
        #[target_feature(enable = $features)]
        unsafe fn score_part<const R: usize, const K: usize>(
            q: &[f32],
            part: Part,
            scores: *mut f32,
            width: usize,
        ) {
            let whole = part.tokens - part.tokens % K;
            // SAFETY: tokens of the part.
            unsafe {
                for t in (0..whole).step_by(K) {
                    score_keys::<R, K>(q, part, t, scores.add(t), width);
                }
                for t in whole..part.tokens {
                    score_keys::<R, 1>(q, part, t, scores.add(t), width);
                }
            }
        }

        /// # Safety
        /// As for [`score_part`], for `K <= 4` tokens from `t` on; `scores` is the first of them.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn score_keys<const R: usize, const K: usize>(
            q: &[f32],
            part: Part,
            t: usize,
            scores: *mut f32,
            width: usize,
        ) {
            let dim = q.len() / R;
            let mut sums = [[$zero(); 4]; R];
            for chunk in (0..dim).step_by(LANES) {
                for k in 0..K {
                    prefetch(part.next.wrapping_add((t + k) * (SCALE + dim)), chunk);
                }
                // SAFETY: every row of q has LANES elements from `chunk` on, as has every key.
                unsafe {
                    let at = q.as_ptr().add(chunk);
                    let q: [Register; R] = std::array::from_fn(|r| $load(at.add(r * dim)));
                    for k in 0..K {
                        let wide = $widen(part.codes(t + k).add(chunk));
                        for (sums, q) in sums.iter_mut().zip(q) {
                            sums[k] = $fma(q, wide, sums[k]);
                        }
                    }
                }
            }
            let mut scales = [0.0f32; 4];
            for (k, scale) in scales.iter_mut().enumerate().take(K) {
                // SAFETY: a token of the part.
                *scale = unsafe { part.scale(t + k) };
            }
            for (r, sums) in sums.into_iter().enumerate() {
                let [a, b, c, d] = sums.map($halve);
                let halves = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
                let (low, high) =
                    (_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
                let mut totals = [0.0f32; 4];
                // SAFETY: four floats each; K scores of row r.
                unsafe {
                    let total = _mm_mul_ps(_mm_add_ps(low, high), _mm_loadu_ps(scales.as_ptr()));
                    _mm_storeu_ps(totals.as_mut_ptr(), total);
                    scores.add(r * width).copy_from_nonoverlapping(totals.as_ptr(), K);
                }
            }
        }

        pub(super) fn weigh_int8(shape: FewRows, weights: &[f32], values: &[u8], out: &mut [f32]) {
            let (dim, stride) = (shape.dim, shape.kv_heads * (SCALE + shape.dim));
            if !dim.is_multiple_of(LANES) {
                return portable::weigh_int8::<false>(shape, weights, values, out);
            }
            let (rows, width) = (shape.kv_heads * shape.rows, values.len() / stride);
            assert_eq!(values.len(), width * stride, "values are not of whole tokens");
            assert_eq!(weights.len(), rows * width, "weights are not [kv_heads, rows, width]");
            assert_eq!(out.len(), rows * dim, "out is not [kv_heads, rows, dim]");
            few8::for_each_part::<FEW>(shape, values, |first, row, count, part| {
                let weights = &weights[row * width + first..];
                let out = &mut out[row * dim..][..count * dim];
                // SAFETY: the part's values have `dim` codes each, and `weights` has as many from
                // here on for each of `count` rows, `width` apart (asserted); the features are
                // present because `Kernels::of` handed this table out.
                unsafe { of_rows::<_, FEW>(count, $weigh)(weights.as_ptr(), width, part, out) };
            });
        }

        /// Sums of R rows, C registers of columns at a time.
        ///
        /// # Safety
        /// `part` has values of `out.len() / R` codes, a multiple of [`LANES`]; `weights` has R
        /// rows, `width` apart, with an element for each of them.
        #[target_feature(enable = $features)]
        unsafe fn weigh_part<const R: usize, const C: usize>(
            weights: *const f32,
            width: usize,
            part: Part,
            out: &mut [f32],
        ) {
            let dim = out.len() / R;
            let whole = dim - dim % (C * LANES);
            // SAFETY: columns of every row of the values.
            unsafe {
                for column in (0..whole).step_by(C * LANES) {
                    weigh_columns::<R, C>(weights, width, part, out, column);
                }
                for column in (whole..dim).step_by(LANES) {
                    weigh_columns::<R, 1>(weights, width, part, out, column);
                }
            }
        }

        /// # Safety
        /// As for [`weigh_part`]; the values have `C * LANES` codes from `column` on.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn weigh_columns<const R: usize, const C: usize>(
            weights: *const f32,
            width: usize,
            part: Part,
            out: &mut [f32],
            column: usize,
        ) {
            let dim = out.len() / R;
            let mut sums = [[$zero(); C]; R];
            for t in 0..part.tokens {
                let row = part.codes(t).wrapping_add(column);
                // SAFETY: row t of the values; weight t of every row.
                unsafe {
                    let scale = part.scale(t);
                    let weights: [Register; R] =
                        std::array::from_fn(|r| $set1(*weights.add(r * width + t) * scale));
                    for chunk in 0..C {
                        let at = column + chunk * LANES;
                        prefetch(part.next.wrapping_add(t * (SCALE + dim)), at);
                        let wide = $widen(row.add(chunk * LANES));
                        for (sums, weight) in sums.iter_mut().zip(weights) {
                            sums[chunk] = $fma(weight, wide, sums[chunk]);
                        }
                    }
                }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                for (chunk, sum) in sums.into_iter().enumerate() {
                    let out = &mut out[r * dim + column + chunk * LANES..][..LANES];
                    // SAFETY: a register of floats.
                    unsafe { $store(out.as_mut_ptr(), $add($load(out.as_ptr()), sum)) };
                }
            }
        }
    };
}

pub(super) use few8;
