//! Scores and weighted sums of a few rows over bf16 keys and values: what decoding spends its time
//! on. See `score` and `weigh` in [`portable`].
//!
//! A register of bf16 pairs becomes two registers of f32 by one instruction each: the even elements
//! by a shift, the odd ones by a mask. Queries are brought into the same order beforehand, outputs
//! back out of it afterwards.

#![allow(unsafe_code)]

use super::FEW;

/// Elements of a head at most; longer heads take the portable kernels.
pub(super) const MOST_DIM: usize = 256;

/// Rows of keys or values that are fetched ahead: a row of one head is two cache lines or so, rows are
/// far apart, and the processor does not foresee that by itself.
pub(super) const AHEAD: usize = 16;

/// bf16 of one cache line.
pub(super) const LINE: usize = 32;

/// The one of `functions`, for one row, two and so on, that takes `n` rows.
pub(super) fn of_rows<F: Copy>(n: usize, functions: [F; FEW]) -> F {
    assert!((1..=FEW).contains(&n), "{n} rows at a time: at most {FEW}");
    functions[n - 1]
}

macro_rules! few {
    ($features:literal, $lanes:literal, $weigh:expr, $int:ident, $zero:ident, $load:ident,
     $store:ident, $set1:ident, $fma:ident, $load_int:ident, $cast:ident, $shift:ident,
     $and:ident, $splat:ident, $halve:expr) => {
        /// bf16 of one register.
        const PAIRS: usize = 2 * $lanes;

        /// The even and the odd of [`PAIRS`] elements.
        ///
        /// # Safety
        /// `source` has [`PAIRS`] elements.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn widen_pairs(source: *const bf16) -> [Register; 2] {
            // SAFETY: by this function's contract.
            let pairs: $int = unsafe { $load_int(source.cast()) };
            let upper = $splat(0xffff_0000_u32 as i32);
            [$cast($shift::<16>(pairs)), $cast($and(pairs, upper))]
        }

        fn score_bf16(n: usize, q: &[f32], keys: &[bf16], stride: usize, scores: &mut [f32]) {
            let (dim, width) = (q.len() / n, scores.len() / n);
            if !dim.is_multiple_of(PAIRS) || dim > MOST_DIM || width == 0 {
                return portable::score_bf16::<false>(n, q, keys, stride, scores);
            }
            assert!(keys.len() >= (width - 1) * stride + dim, "keys too short");
            let score = of_rows(
                n,
                [score_whole::<1>, score_whole::<2>, score_whole::<3>, score_whole::<4>],
            );
            // SAFETY: every key has `dim` elements (checked); the features are present because
            // `Kernels::of` handed this table out.
            unsafe { score(q, keys.as_ptr(), stride, scores) };
        }

        /// # Safety
        /// `keys` has `scores.len() / R` rows of `q.len() / R` elements, `stride` apart.
        #[target_feature(enable = $features)]
        unsafe fn score_whole<const R: usize>(
            q: &[f32],
            keys: *const bf16,
            stride: usize,
            scores: &mut [f32],
        ) {
            let (dim, width) = (q.len() / R, scores.len() / R);
            // [dim / PAIRS, R, even then odd]
            let mut order = [0.0f32; FEW * MOST_DIM];
            for (i, value) in q.iter().enumerate() {
                let (r, d) = (i / dim, i % dim);
                let at = (d / PAIRS * R + r) * PAIRS + d % 2 * $lanes + d % PAIRS / 2;
                order[at] = *value;
            }
            // Two keys at a time, so that every piece of the queries is read once for both.
            for t in (0..width).step_by(2) {
                let last = (t + 1).min(width - 1);
                let pair = [t, last].map(|t| keys.wrapping_add(t * stride));
                let mut sums = [[$zero(); FEW]; 2];
                for chunk in 0..dim / PAIRS {
                    for key in pair {
                        prefetch(key.wrapping_add(AHEAD * stride), chunk * PAIRS);
                    }
                    // SAFETY: elements of keys t and `last`; order has a run of PAIRS for every row
                    // and chunk.
                    unsafe {
                        let wide = pair.map(|key| widen_pairs(key.add(chunk * PAIRS)));
                        for r in 0..R {
                            let q = order.as_ptr().add((chunk * R + r) * PAIRS);
                            let (even, odd) = ($load(q), $load(q.add($lanes)));
                            for (sums, wide) in sums.iter_mut().zip(wide) {
                                sums[r] = $fma(even, wide[0], sums[r]);
                                sums[r] = $fma(odd, wide[1], sums[r]);
                            }
                        }
                    }
                }
                let [a, b] = sums.map(|[a, b, c, d]| {
                    let [a, b, c, d] = [$halve(a), $halve(b), $halve(c), $halve(d)];
                    _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d))
                });
                let low = _mm256_permute2f128_ps::<0x20>(a, b);
                let high = _mm256_permute2f128_ps::<0x31>(a, b);
                // Of key t, then of key `last`.
                let mut rows = [[0.0f32; FEW]; 2];
                // SAFETY: eight floats.
                unsafe { _mm256_storeu_ps(rows.as_mut_ptr().cast(), _mm256_add_ps(low, high)) };
                for r in 0..R {
                    scores[r * width + t] = rows[0][r];
                    scores[r * width + last] = rows[1][r];
                }
            }
        }

        /// Asks for the cache line of element `at` of a row, if it is the first in its line: the others
        /// are on their way. A hint, for any address.
        #[inline]
        #[target_feature(enable = $features)]
        fn prefetch(row: *const bf16, at: usize) {
            if at.is_multiple_of(LINE) {
                _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(at).cast());
            }
        }

        fn weigh_bf16(n: usize, weights: &[f32], values: &[bf16], stride: usize, out: &mut [f32]) {
            let (dim, width) = (out.len() / n, weights.len() / n);
            if !dim.is_multiple_of(PAIRS) || width == 0 {
                return portable::weigh_bf16::<false>(n, weights, values, stride, out);
            }
            assert!(values.len() >= (width - 1) * stride + dim, "values too short");
            let weigh = of_rows(n, $weigh);
            // SAFETY: every value has `dim` elements (checked), out has n rows of as many; the
            // features are present because `Kernels::of` handed this table out.
            unsafe { weigh(weights, values.as_ptr(), stride, out) };
        }

        /// # Safety
        /// `values` has a row of `out.len() / R` elements, a multiple of [`PAIRS`], for every weight of
        /// a row, `stride` apart.
        #[target_feature(enable = $features)]
        unsafe fn weigh_rows<const R: usize, const C: usize>(
            weights: &[f32],
            values: *const bf16,
            stride: usize,
            out: &mut [f32],
        ) {
            let dim = out.len() / R;
            let whole = dim - dim % (C * PAIRS);
            for column in (0..whole).step_by(C * PAIRS) {
                // SAFETY: columns of every row of the values.
                unsafe { weigh_columns::<R, C>(weights, values, stride, out, column) };
            }
            for column in (whole..dim).step_by(PAIRS) {
                // SAFETY: as above.
                unsafe { weigh_columns::<R, 1>(weights, values, stride, out, column) };
            }
        }

        /// # Safety
        /// `values` has a row for every weight of a row, `stride` apart, with `C * PAIRS` elements from
        /// `column` on; `out` has R rows with as many.
        #[target_feature(enable = $features)]
        unsafe fn weigh_columns<const R: usize, const C: usize>(
            weights: &[f32],
            values: *const bf16,
            stride: usize,
            out: &mut [f32],
            column: usize,
        ) {
            let (dim, width) = (out.len() / R, weights.len() / R);
            let mut sums = [[[$zero(); 2]; C]; R];
            for t in 0..width {
                let row = values.wrapping_add(t * stride);
                for chunk in 0..C {
                    prefetch(row.wrapping_add(AHEAD * stride), column + chunk * PAIRS);
                }
                // SAFETY: row t of the values; weight t of every row.
                unsafe {
                    let mut parts = [[$zero(); 2]; C];
                    for (chunk, part) in parts.iter_mut().enumerate() {
                        *part = widen_pairs(row.add(column + chunk * PAIRS));
                    }
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let weight = $set1(*weights.get_unchecked(r * width + t));
                        for (sum, part) in sums.iter_mut().zip(parts) {
                            sum[0] = $fma(weight, part[0], sum[0]);
                            sum[1] = $fma(weight, part[1], sum[1]);
                        }
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                for (chunk, sum) in sums.iter().enumerate() {
                    let out = &mut out[r * dim + column + chunk * PAIRS..][..PAIRS];
                    let (mut even, mut odd) = ([0.0f32; $lanes], [0.0f32; $lanes]);
                    // SAFETY: a register of floats each.
                    unsafe {
                        $store(even.as_mut_ptr(), sum[0]);
                        $store(odd.as_mut_ptr(), sum[1]);
                    }
                    for i in 0..$lanes {
                        out[2 * i] += even[i];
                        out[2 * i + 1] += odd[i];
                    }
                }
            }
        }
    };
}

pub(super) use few;
