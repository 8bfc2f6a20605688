//! Scores and weighted sums of a few rows over bf16 keys and values: what decoding spends its time
//! on. See `score` and `weigh` in [`portable`].
//!
//! A register of bf16 pairs becomes two registers of f32 by one instruction each: the even elements
//! by a shift, the odd ones by a mask. Queries are brought into the same order beforehand, outputs
//! back out of it afterwards.

#![allow(unsafe_code)]

/// Elements of a head at most; longer heads take the portable kernels.
pub(super) const MOST_DIM: usize = 256;

macro_rules! few {
    ($features:literal, $lanes:literal, $chunks:literal, $int:ident, $zero:ident, $load:ident,
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
            // SAFETY: every key has `dim` elements (checked); the features are present because
            // `Kernels::of` handed this table out.
            unsafe {
                let keys = keys.as_ptr();
                match n {
                    1 => score_whole::<1>(q, keys, stride, scores),
                    2 => score_whole::<2>(q, keys, stride, scores),
                    3 => score_whole::<3>(q, keys, stride, scores),
                    4 => score_whole::<4>(q, keys, stride, scores),
                    _ => panic!("{n} rows at a time: at most {FEW}"),
                }
            }
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
            for t in 0..width {
                let mut sums = [$zero(); R];
                for chunk in 0..dim / PAIRS {
                    // SAFETY: elements of key t; order has a run of PAIRS for every row and chunk.
                    unsafe {
                        let [even, odd] = widen_pairs(keys.add(t * stride + chunk * PAIRS));
                        for (r, sum) in sums.iter_mut().enumerate() {
                            let q = order.as_ptr().add((chunk * R + r) * PAIRS);
                            *sum = $fma($load(q), even, *sum);
                            *sum = $fma($load(q.add($lanes)), odd, *sum);
                        }
                    }
                }
                let mut halves = [_mm256_setzero_ps(); FEW];
                for (half, sum) in halves.iter_mut().zip(sums) {
                    *half = $halve(sum);
                }
                let [a, b, c, d] = halves;
                let pairs = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
                let total =
                    _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps::<1>(pairs));
                let mut rows = [0.0f32; FEW];
                // SAFETY: four floats.
                unsafe { _mm_storeu_ps(rows.as_mut_ptr(), total) };
                for (r, row) in rows.iter().take(R).enumerate() {
                    scores[r * width + t] = *row;
                }
            }
        }

        fn weigh_bf16(n: usize, weights: &[f32], values: &[bf16], stride: usize, out: &mut [f32]) {
            let (dim, width) = (out.len() / n, weights.len() / n);
            if !dim.is_multiple_of($chunks * PAIRS) || width == 0 {
                return portable::weigh_bf16::<false>(n, weights, values, stride, out);
            }
            assert!(values.len() >= (width - 1) * stride + dim, "values too short");
            for column in (0..dim).step_by($chunks * PAIRS) {
                // SAFETY: every value has `dim` elements (checked), out has n rows of as many; the
                // features are present because `Kernels::of` handed this table out.
                unsafe {
                    let values = values[column..].as_ptr();
                    match n {
                        1 => weigh_columns::<1>(weights, values, stride, out, column),
                        2 => weigh_columns::<2>(weights, values, stride, out, column),
                        3 => weigh_columns::<3>(weights, values, stride, out, column),
                        4 => weigh_columns::<4>(weights, values, stride, out, column),
                        _ => panic!("{n} rows at a time: at most {FEW}"),
                    }
                }
            }
        }

        /// # Safety
        /// `values` has a row of `$chunks * PAIRS` elements for every weight of a row, `stride`
        /// apart; `out` has R rows with as many from `column` on.
        #[target_feature(enable = $features)]
        unsafe fn weigh_columns<const R: usize>(
            weights: &[f32],
            values: *const bf16,
            stride: usize,
            out: &mut [f32],
            column: usize,
        ) {
            let (dim, width) = (out.len() / R, weights.len() / R);
            let mut sums = [[[$zero(); 2]; $chunks]; R];
            for t in 0..width {
                // SAFETY: row t of the values; weight t of every row.
                unsafe {
                    let mut parts = [[$zero(); 2]; $chunks];
                    for (chunk, part) in parts.iter_mut().enumerate() {
                        *part = widen_pairs(values.add(t * stride + chunk * PAIRS));
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
