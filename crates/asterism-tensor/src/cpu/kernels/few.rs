//! Scores and weighted sums of a few rows over bf16 keys and values: what decoding spends its time
//! on. See `score` and `weigh` in [`portable`].
//!
//! A register of bf16 pairs becomes two registers of f32 by one instruction each: the even elements
//! by a shift, the odd ones by a mask. Queries are brought into the same order beforehand, outputs
//! back out of it afterwards.
//!
//! Heads lie in turns in memory, and rows of one head are read with gaps, which no processor
//! foresees well. So keys and values are taken in parts that stay in the first-level cache until
//! all heads have used them, and while a part is worked on the next one is fetched, line by line as
//! it lies in memory. Sums and operands fill the registers just so: one operand more, and the
//! compiler keeps a sum in memory, where it waits for itself.

#![allow(unsafe_code)]

use super::FewRows;
use half::bf16;

/// Elements of a head at most; longer heads take the portable kernels.
pub(super) const MOST_DIM: usize = 256;

/// bf16 of one cache line.
pub(super) const LINE: usize = 32;

/// Bytes of a part: a quarter of a first-level cache, as is the next part, which is being fetched.
const PART: usize = 8 * 1024;

/// Tokens of a part: a multiple of the keys that are scored at a time.
pub(super) fn part_tokens(shape: FewRows) -> usize {
    (PART / (shape.kv_width() * size_of::<bf16>())).next_multiple_of(4).max(16)
}

/// One head's keys or values in one part.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// The first token's.
    pub(super) first: *const bf16,
    pub(super) tokens: usize,
    /// Elements from one token to the next.
    pub(super) stride: usize,
    /// This head's share of the next part: `[tokens, dim]` elements without gaps. Only fetched;
    /// need not exist.
    pub(super) next: *const bf16,
}

macro_rules! few {
    ($features:literal, $lanes:literal, $score:expr, $weigh:expr, $many:literal, $panel:expr,
     $int:ident, $zero:ident, $load:ident, $store:ident, $set1:ident, $fma:ident, $add:ident,
     $load_int:ident, $cast:ident, $shift:ident, $and:ident, $splat:ident, $halve:expr,
     $split:expr, $join:expr) => {
        super::super::many::many!(
            $features, $lanes, $many, $panel, $zero, $load, $store, $set1, $fma, $add
        );

        /// bf16 of one register.
        const PAIRS: usize = 2 * $lanes;

        /// The even (0) or the odd (1) of [`PAIRS`] elements.
        ///
        /// # Safety
        /// `source` has [`PAIRS`] elements.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn widen_half(source: *const bf16, half: usize) -> Register {
            // SAFETY: by this function's contract.
            let pairs: $int = unsafe { $load_int(source.cast()) };
            match half {
                0 => $cast($shift::<16>(pairs)),
                _ => $cast($and(pairs, $splat(0xffff_0000_u32 as i32))),
            }
        }

        /// Brings rows of [`PAIRS`] floats into the order of [`widen_half`]: of each piece the even
        /// ones, then the odd ones.
        #[target_feature(enable = $features)]
        fn split_pairs(rows: &[f32], order: &mut [f32]) {
            let pieces = rows.as_chunks::<PAIRS>().0;
            for (order, piece) in order.as_chunks_mut::<PAIRS>().0.iter_mut().zip(pieces) {
                // SAFETY: two registers of floats each.
                unsafe {
                    let (low, high) = ($load(piece.as_ptr()), $load(piece[$lanes..].as_ptr()));
                    let [even, odd] = $split(low, high);
                    $store(order.as_mut_ptr(), even);
                    $store(order[$lanes..].as_mut_ptr(), odd);
                }
            }
        }

        /// Asks for the cache line of element `at` behind `first`, if it begins a line: the others
        /// are on their way. A hint, for any address.
        #[inline]
        #[target_feature(enable = $features)]
        fn prefetch(first: *const bf16, at: usize) {
            if at.is_multiple_of(LINE) {
                _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(at).cast());
            }
        }

        /// Calls `body(first token of a part, row, rows, part)` for every part of `rows` (keys or
        /// values), every head, and up to [`FEW`] of its rows, which are counted through all heads.
        #[inline]
        fn for_each_part(
            shape: FewRows,
            rows: &[bf16],
            mut body: impl FnMut(usize, usize, usize, Part),
        ) {
            let (stride, step) = (shape.kv_width(), part_tokens(shape));
            let width = rows.len() / stride;
            for first in (0..width).step_by(step) {
                for head in 0..shape.kv_heads {
                    let part = Part {
                        first: rows[first * stride + head * shape.dim..].as_ptr(),
                        tokens: step.min(width - first),
                        stride,
                        next: rows
                            .as_ptr()
                            .wrapping_add((first + step) * stride + head * step * shape.dim),
                    };
                    for row in (0..shape.rows).step_by(FEW) {
                        let count = FEW.min(shape.rows - row);
                        body(first, head * shape.rows + row, count, part);
                    }
                }
            }
        }

        fn score_bf16(shape: FewRows, q: &[f32], keys: &[bf16], scores: &mut [f32]) {
            let (dim, width) = (shape.dim, keys.len() / shape.kv_width());
            if !dim.is_multiple_of(PAIRS) || dim > MOST_DIM {
                return portable::score_bf16::<false>(shape, q, keys, scores);
            }
            let rows = shape.kv_heads * shape.rows;
            assert_eq!(keys.len(), width * shape.kv_width(), "keys are not of whole tokens");
            assert_eq!(q.len(), rows * dim, "q is not [kv_heads, rows, dim]");
            assert_eq!(scores.len(), rows * width, "scores are not [kv_heads, rows, width]");
            if shape.rows >= MANY_ROWS {
                return score_many(shape, q, keys, scores);
            }
            // [rows, dim / PAIRS, even then odd]
            let mut order = [0.0f32; FEW * MOST_DIM];
            for_each_part(shape, keys, |first, row, count, part| {
                let order = &mut order[..count * dim];
                // SAFETY: the features are present because `Kernels::of` handed this table out.
                unsafe { split_pairs(&q[row * dim..][..count * dim], order) };
                let scores = &mut scores[row * width + first..];
                // SAFETY: the part's keys have `dim` elements each, and `scores` has as many from
                // here on for each of `count` rows, `width` apart (asserted); the features are
                // present because `Kernels::of` handed this table out.
                unsafe {
                    of_rows::<_, FEW>(count, $score)(order, part, scores.as_mut_ptr(), width)
                };
            });
        }

        /// Scores of R rows, K keys at a time, so that every piece of the queries is read once for
        /// them.
        ///
        /// # Safety
        /// `part` has keys of `q.len() / R` elements, a multiple of [`PAIRS`]; `scores` has R rows,
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
            let keys = part.first.wrapping_add(t * part.stride);
            let mut sums = [[$zero(); 4]; R];
            // First all even elements, then all odd ones: side by side, the compiler would keep
            // what it read for both, and sums would have to leave their registers.
            for half in 0..2 {
                for chunk in (0..dim).step_by(PAIRS) {
                    for k in 0..K {
                        if half == 0 {
                            prefetch(part.next.wrapping_add((t + k) * dim), chunk);
                        }
                    }
                    // SAFETY: every row of q has a run of PAIRS from `chunk` on, as has every key.
                    unsafe {
                        let at = q.as_ptr().add(chunk + half * $lanes);
                        let q: [Register; R] = std::array::from_fn(|r| $load(at.add(r * dim)));
                        for k in 0..K {
                            let wide = widen_half(keys.add(k * part.stride + chunk), half);
                            for (sums, q) in sums.iter_mut().zip(q) {
                                sums[k] = $fma(q, wide, sums[k]);
                            }
                        }
                    }
                }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                let [a, b, c, d] = sums.map($halve);
                let halves = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
                let (low, high) =
                    (_mm256_castps256_ps128(halves), _mm256_extractf128_ps::<1>(halves));
                let mut totals = [0.0f32; 4];
                // SAFETY: four floats; K scores of row r.
                unsafe {
                    _mm_storeu_ps(totals.as_mut_ptr(), _mm_add_ps(low, high));
                    scores.add(r * width).copy_from_nonoverlapping(totals.as_ptr(), K);
                }
            }
        }

        fn weigh_bf16(shape: FewRows, weights: &[f32], values: &[bf16], out: &mut [f32]) {
            let (dim, width) = (shape.dim, values.len() / shape.kv_width());
            if !dim.is_multiple_of(PAIRS) {
                return portable::weigh_bf16::<false>(shape, weights, values, out);
            }
            let rows = shape.kv_heads * shape.rows;
            assert_eq!(values.len(), width * shape.kv_width(), "values are not of whole tokens");
            assert_eq!(weights.len(), rows * width, "weights are not [kv_heads, rows, width]");
            assert_eq!(out.len(), rows * dim, "out is not [kv_heads, rows, dim]");
            for_each_part(shape, values, |first, row, count, part| {
                let weights = &weights[row * width + first..];
                let out = &mut out[row * dim..][..count * dim];
                // SAFETY: the part's values have `dim` elements each, and `weights` has as many
                // from here on for each of `count` rows, `width` apart (asserted); the features are
                // present because `Kernels::of` handed this table out.
                unsafe { of_rows::<_, FEW>(count, $weigh)(weights.as_ptr(), width, part, out) };
            });
        }

        /// Sums of R rows, C registers of columns at a time.
        ///
        /// # Safety
        /// `part` has values of `out.len() / R` elements, a multiple of [`PAIRS`]; `weights` has R
        /// rows, `width` apart, with an element for each of them.
        #[target_feature(enable = $features)]
        unsafe fn weigh_part<const R: usize, const C: usize>(
            weights: *const f32,
            width: usize,
            part: Part,
            out: &mut [f32],
        ) {
            let dim = out.len() / R;
            let whole = dim - dim % (C * PAIRS);
            // SAFETY: columns of every row of the values.
            unsafe {
                for column in (0..whole).step_by(C * PAIRS) {
                    weigh_columns::<R, C>(weights, width, part, out, column);
                }
                for column in (whole..dim).step_by(PAIRS) {
                    weigh_columns::<R, 1>(weights, width, part, out, column);
                }
            }
        }

        /// # Safety
        /// As for [`weigh_part`]; the values have `C * PAIRS` elements from `column` on.
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
            let mut sums = [[[$zero(); 2]; C]; R];
            for t in 0..part.tokens {
                let row = part.first.wrapping_add(t * part.stride + column);
                // SAFETY: row t of the values; weight t of every row.
                unsafe {
                    let weights: [Register; R] =
                        std::array::from_fn(|r| $set1(*weights.add(r * width + t)));
                    for chunk in 0..C {
                        let at = column + chunk * PAIRS;
                        if at.is_multiple_of(LINE) {
                            prefetch(part.next, at * part.tokens + t * LINE);
                        }
                        for half in 0..2 {
                            let wide = widen_half(row.add(chunk * PAIRS), half);
                            for (sums, weight) in sums.iter_mut().zip(weights) {
                                sums[chunk][half] = $fma(weight, wide, sums[chunk][half]);
                            }
                        }
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                for (chunk, sum) in sums.iter().enumerate() {
                    let out = &mut out[r * dim + column + chunk * PAIRS..][..PAIRS];
                    // SAFETY: two registers of floats.
                    unsafe {
                        let [low, high] = $join(sum[0], sum[1]);
                        let (first, second) = (out.as_ptr(), out[$lanes..].as_ptr());
                        let (low, high) = ($add($load(first), low), $add($load(second), high));
                        $store(out.as_mut_ptr(), low);
                        $store(out[$lanes..].as_mut_ptr(), high);
                    }
                }
            }
        }
    };
}

pub(super) use few;
