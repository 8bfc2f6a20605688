//! The kernels for AVX2 + FMA and for AVX-512.
//!
//! The matrix tile is written with intrinsics, since it decides the speed of prefill and the
//! compiler does not reliably keep its accumulators in registers, and so is what decodes:
//! [`few`](super::few) and [`row`](super::row). The rest are the portable bodies compiled again
//! with the instructions allowed.

#![allow(unsafe_code)]

use super::few::LINE;
use super::{Isa, Kernels, tiles};
use half::bf16;
use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};

/// AVX-512 with products of bf16.
pub(super) const AVX512_BF16: Kernels =
    Kernels { isa: Isa::Avx512Bf16, tiles: Some(tiles::avx512bf16::KERNELS), ..avx512::KERNELS };

/// AVX-512 with the matrix unit.
#[cfg(target_os = "linux")]
pub(super) const AMX: Kernels =
    Kernels { isa: Isa::Amx, tiles: Some(tiles::amx::KERNELS), ..avx512::KERNELS };

/// See [`super::fetch`].
pub(super) fn fetch(data: &[bf16]) {
    for line in data.chunks(LINE) {
        // SAFETY: every x86-64 has SSE, and a prefetch changes nothing but caches.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
}

/// Defines safe entry points around `#[target_feature]` instances of the portable bodies.
macro_rules! instantiate {
    ($features:literal, $($name:ident = $body:path, ($($arg:ident: $ty:ty),*) $(-> $ret:ty)?;)*) => {$(
        fn $name($($arg: $ty),*) $(-> $ret)? {
            #[target_feature(enable = $features)]
            fn with_features($($arg: $ty),*) $(-> $ret)? {
                $body($($arg),*)
            }
            // SAFETY: reachable only through this module's table, which `Kernels::of` hands out
            // after it has seen the features on this machine.
            unsafe { with_features($($arg),*) }
        }
    )*};
}

/// Defines `multiply` by tiles of `$rows` rows and two registers of `$lanes` columns.
macro_rules! tile {
    ($features:literal, $rows:literal, $lanes:literal, $zero:ident, $load:ident, $store:ident,
     $set1:ident, $fma:ident, $add:ident) => {
        /// See [`portable::multiply`](super::super::portable::multiply).
        #[allow(clippy::too_many_arguments)]
        fn multiply(
            a: &[f32],
            lda: usize,
            rows: usize,
            k: usize,
            b: &[f32],
            c: &mut [f32],
            ldc: usize,
            accumulate: bool,
        ) {
            if rows == 0 {
                return;
            }
            assert!(a.len() >= (rows - 1) * lda + k, "a too short");
            assert!(b.len() >= k * PANEL, "b too short");
            assert!(c.len() >= (rows - 1) * ldc + PANEL, "c too short");
            let (mut a, mut c, mut left) = (a.as_ptr(), c.as_mut_ptr(), rows);
            let b = b.as_ptr();
            // SAFETY: the asserts above cover every row of a, b and c that the tiles touch; the
            // features are present because this table was handed out by `Kernels::of`.
            unsafe {
                while left >= $rows {
                    tile::<$rows>(a, lda, k, b, c, ldc, accumulate);
                    left -= $rows;
                    if left > 0 {
                        a = a.add($rows * lda);
                        c = c.add($rows * ldc);
                    }
                }
                // The last rows, two at a time: fewer instances than one per remainder.
                while left >= 2 {
                    tile::<2>(a, lda, k, b, c, ldc, accumulate);
                    left -= 2;
                    if left > 0 {
                        a = a.add(2 * lda);
                        c = c.add(2 * ldc);
                    }
                }
                if left == 1 {
                    tile::<1>(a, lda, k, b, c, ldc, accumulate);
                }
            }
        }

        /// See [`portable::peak`](super::super::portable::peak): all accumulators of the tile.
        fn peak(rounds: usize) -> u64 {
            #[target_feature(enable = $features)]
            fn with_features(rounds: usize) {
                let (x, y) = ($set1(black_box(0.5)), $set1(black_box(1e-3)));
                let mut sums = [[$zero(); 2]; $rows];
                for _ in 0..rounds {
                    for sum in &mut sums {
                        sum[0] = $fma(x, y, sum[0]);
                        sum[1] = $fma(x, y, sum[1]);
                    }
                }
                black_box(sums);
            }
            // SAFETY: the features are present because `Kernels::of` handed this table out.
            unsafe { with_features(rounds) };
            (rounds * $rows * 2 * $lanes * 2) as u64
        }

        /// Adds element `step` of R rows of a times one row of b. Pointers step on by wrapping_add:
        /// after the last step they stand past the end, where they are not read.
        ///
        /// # Safety
        /// `b` has `PANEL` elements; row `r < R` of `a`, at `bases[r / 3] + (r % 3) * lda`, has
        /// more than `step`.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn accumulate_step<const R: usize>(
            bases: &[*const f32; 4],
            step: usize,
            lda: usize,
            b: *const f32,
            sums: &mut [[Register; 2]; R],
        ) {
            // SAFETY: by this function's contract.
            unsafe {
                let b0 = $load(b);
                let b1 = $load(b.wrapping_add($lanes));
                for r in 0..R {
                    let a = bases[r / 3].wrapping_add((r % 3).wrapping_mul(lda) + step);
                    let x = $set1(*a);
                    sums[r][0] = $fma(x, b0, sums[r][0]);
                    sums[r][1] = $fma(x, b1, sums[r][1]);
                }
            }
        }

        /// `R` rows of one panel, all accumulators in registers.
        ///
        /// # Safety
        /// Row `r < R` of `a` has `k` elements at `a + r * lda`, row `r` of `c` has `PANEL` at
        /// `c + r * ldc`, and `b` has `k * PANEL`.
        #[target_feature(enable = $features)]
        unsafe fn tile<const R: usize>(
            a: *const f32,
            lda: usize,
            k: usize,
            b: *const f32,
            c: *mut f32,
            ldc: usize,
            accumulate: bool,
        ) {
            let mut sums = [[$zero(); 2]; R];
            // Three rows share a base pointer: the processor adds lda and 2 lda for free.
            let mut bases = [0, 1, 2, 3].map(|group| a.wrapping_add(group * 3 * lda));
            let mut b = b;
            // Unrolled by hand: the compiler does not, and the loop's own counting costs 10%.
            for _ in 0..k / UNROLL {
                for step in 0..UNROLL {
                    // SAFETY: row `step` of the next UNROLL rows of b, and that element of R rows
                    // of a, exist: fewer than k were read before.
                    unsafe {
                        accumulate_step::<R>(
                            &bases,
                            step,
                            lda,
                            b.wrapping_add(step * PANEL),
                            &mut sums,
                        );
                    }
                }
                bases = bases.map(|base| base.wrapping_add(UNROLL));
                b = b.wrapping_add(UNROLL * PANEL);
            }
            for step in 0..k % UNROLL {
                // SAFETY: as above, for the last k % UNROLL rows.
                unsafe {
                    accumulate_step::<R>(
                        &bases,
                        step,
                        lda,
                        b.wrapping_add(step * PANEL),
                        &mut sums,
                    );
                }
            }
            for (r, sum) in sums.iter().enumerate() {
                // SAFETY: r < R rows of PANEL elements exist at c.
                unsafe {
                    let c0 = c.add(r * ldc);
                    let c1 = c0.add($lanes);
                    if accumulate {
                        $store(c0, $add($load(c0), sum[0]));
                        $store(c1, $add($load(c1), sum[1]));
                    } else {
                        $store(c0, sum[0]);
                        $store(c1, sum[1]);
                    }
                }
            }
        }
    };
}

/// The table of one module's kernels.
macro_rules! table {
    ($isa:ident) => {
        pub(in super::super) const KERNELS: Kernels = Kernels {
            isa: Isa::$isa,
            tiles: None,
            panel: PANEL,
            peak,
            multiply,
            widen,
            narrow,
            rows_f32,
            rows_bf16,
            softmax_row,
            scale,
            silu_mul,
            rms_norm,
            rotate,
            add_scaled,
            score_f32,
            score_bf16,
            weigh_f32,
            weigh_bf16,
            score_int8: coded::score_int8,
            weigh_int8: coded::weigh_int8,
            unpack_keys,
            unpack_values,
            copy_keys: portable::copy_keys::<PANEL>,
            copy_values: portable::copy_values::<PANEL>,
            encode_int8,
            decode_int8,
        };

        fn unpack_keys(keys: &[bf16], stride: usize, count: usize, dim: usize, out: &mut [f32]) {
            // SAFETY: every processor that `Kernels::of` hands this table out for has AVX2.
            unsafe { unpack::unpack_keys::<PANEL>(keys, stride, count, dim, out) }
        }
    };
}

/// The portable bodies, compiled with `$features`.
macro_rules! portable_bodies {
    ($features:literal) => {
        instantiate! {
            $features,
            widen = portable::widen, (source: &[bf16], out: &mut [f32]);
            narrow = portable::narrow, (source: &[f32], out: &mut [bf16]);
            softmax_row = portable::softmax_row::<true>,
                (scores: &mut [f32], max: f32) -> (f32, f32);
            scale = portable::scale, (x: &mut [f32], factor: f32);
            silu_mul = portable::silu_mul::<true>, (gate: &mut [f32], up: &[f32]);
            rms_norm = portable::rms_norm::<true>,
                (x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]);
            rotate = portable::rotate::<true>, (x: &mut [f32], cos: &[f32], sin: &[f32]);
            add_scaled = portable::add_scaled::<true>, (out: &mut [f32], factor: f32, x: &[f32]);
            score_f32 = portable::score_f32::<true>,
                (shape: FewRows, q: &[f32], k: &[f32], s: &mut [f32]);
            unpack_values = portable::unpack_values::<PANEL>,
                (v: &[bf16], stride: usize, count: usize, dim: usize, out: &mut [f32], between: usize);
            weigh_f32 = portable::weigh_f32::<true>,
                (shape: FewRows, w: &[f32], v: &[f32], out: &mut [f32]);
            encode_int8 = portable::encode_int8, (x: &[f32], dim: usize, out: &mut [u8]);
            decode_int8 = portable::decode_int8,
                (heads: &[u8], stride: usize, count: usize, dim: usize, out: &mut [f32]);
        }
    };
}

/// 16 registers of 8 floats: 6 x 2 accumulators, 2 for b, 1 for a.
pub(super) mod avx2 {
    use super::super::few::{LINE, MOST_DIM, Part, few, part_tokens};
    use super::super::many::MANY_ROWS;
    use super::super::row::{of_rows, row};
    use super::super::{FEW, FewRows, Isa, Kernels, portable, unpack};
    use half::bf16;
    use std::arch::x86_64::{
        __m256i, _MM_HINT_T0, _mm_add_ps, _mm_prefetch, _mm_storeu_ps, _mm256_add_ps,
        _mm256_and_si256, _mm256_castpd_ps, _mm256_castps_pd, _mm256_castps256_ps128,
        _mm256_castsi256_ps, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_hadd_ps,
        _mm256_loadu_ps, _mm256_loadu_si256, _mm256_permute2f128_ps, _mm256_permute4x64_pd,
        _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_shuffle_ps, _mm256_slli_epi32,
        _mm256_storeu_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };
    use std::hint::black_box;

    const PANEL: usize = 16;
    const UNROLL: usize = 4;
    type Register = std::arch::x86_64::__m256;
    table!(Avx2);
    portable_bodies!("avx2,fma");
    tile!(
        "avx2,fma",
        6,
        8,
        _mm256_setzero_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps
    );
    few!(
        "avx2,fma",
        8,
        [score_part::<1, 4>, score_part::<2, 4>, score_part::<3, 4>, score_part::<4, 2>],
        [weigh_part::<1, 4>, weigh_part::<2, 2>, weigh_part::<3, 1>, weigh_part::<4, 1>],
        3,
        [score_panel::<1>, score_panel::<2>, score_panel::<3>],
        __m256i,
        _mm256_setzero_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        _mm256_loadu_si256,
        _mm256_castsi256_ps,
        _mm256_slli_epi32,
        _mm256_and_si256,
        _mm256_set1_epi32,
        std::convert::identity,
        |low, high| {
            // Both halves of 128 bits are shuffled alike: runs of four come out in turns.
            let in_order = |mixed| {
                _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(mixed)))
            };
            let even = _mm256_shuffle_ps::<0b10_00_10_00>(low, high);
            [in_order(even), in_order(_mm256_shuffle_ps::<0b11_01_11_01>(low, high))]
        },
        |even, odd| {
            let (low, high) = (_mm256_unpacklo_ps(even, odd), _mm256_unpackhi_ps(even, odd));
            let halves = _mm256_permute2f128_ps::<0x20>(low, high);
            [halves, _mm256_permute2f128_ps::<0x31>(low, high)]
        }
    );
    row!(
        "avx2,fma",
        8,
        3,
        [1, 2, 3],
        _mm256_setzero_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps
    );

    /// What reads keys in 8 bits.
    mod coded {
        use super::super::super::few8::few8;
        use std::arch::x86_64::{
            _mm_loadl_epi64, _mm_loadu_ps, _mm_mul_ps, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps,
        };
        few8!(
            "avx2,fma",
            8,
            [score_part::<1, 4>, score_part::<2, 4>, score_part::<3, 4>, score_part::<4, 2>],
            [weigh_part::<1, 8>, weigh_part::<2, 4>, weigh_part::<3, 2>, weigh_part::<4, 2>],
            |codes: *const u8| {
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(codes.cast())))
            },
            _mm256_setzero_ps,
            _mm256_loadu_ps,
            _mm256_storeu_ps,
            _mm256_set1_ps,
            _mm256_fmadd_ps,
            _mm256_add_ps,
            std::convert::identity
        );
    }
}

/// 32 registers of 16 floats: 12 x 2 accumulators, 2 for b, a by broadcast from memory.
pub(super) mod avx512 {
    use super::super::few::{LINE, MOST_DIM, Part, few, part_tokens};
    use super::super::many::MANY_ROWS;
    use super::super::row::{of_rows, row};
    use super::super::{FEW, FewRows, Isa, Kernels, portable, unpack};
    use half::bf16;
    use std::arch::x86_64::{
        __m512i, _MM_HINT_T0, _mm_add_ps, _mm_prefetch, _mm_storeu_ps, _mm256_add_ps,
        _mm256_castps256_ps128, _mm256_extractf128_ps, _mm256_hadd_ps, _mm512_add_epi32,
        _mm512_add_ps, _mm512_and_si512, _mm512_castps512_ps256, _mm512_castsi512_ps,
        _mm512_extractf32x8_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
        _mm512_permutex2var_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setr_epi32,
        _mm512_setzero_ps, _mm512_slli_epi32, _mm512_storeu_ps,
    };
    use std::hint::black_box;

    const PANEL: usize = 32;
    const UNROLL: usize = 4;
    type Register = std::arch::x86_64::__m512;
    table!(Avx512);
    portable_bodies!("avx512f,avx512bw,avx512dq,avx512vl,fma");
    tile!(
        "avx512f,avx512bw,avx512dq,avx512vl,fma",
        12,
        16,
        _mm512_setzero_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps
    );
    few!(
        "avx512f,avx512bw,avx512dq,avx512vl,fma",
        16,
        [score_part::<1, 4>, score_part::<2, 4>, score_part::<3, 4>, score_part::<4, 4>],
        [weigh_part::<1, 4>, weigh_part::<2, 4>, weigh_part::<3, 2>, weigh_part::<4, 2>],
        4,
        [score_panel::<1>, score_panel::<2>, score_panel::<3>, score_panel::<4>],
        __m512i,
        _mm512_setzero_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        _mm512_loadu_si512,
        _mm512_castsi512_ps,
        _mm512_slli_epi32,
        _mm512_and_si512,
        _mm512_set1_epi32,
        |sum| _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps::<1>(sum)),
        |low, high| {
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
            [even, odd].map(|of| _mm512_permutex2var_ps(low, of, high))
        },
        |even, odd| {
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
            [low, high].map(|of| _mm512_permutex2var_ps(even, of, odd))
        }
    );
    row!(
        "avx512f,avx512bw,avx512dq,avx512vl,fma",
        16,
        6,
        [1, 2, 3, 4, 5, 6],
        _mm512_setzero_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps
    );

    /// What reads keys in 8 bits.
    mod coded {
        use super::super::super::few8::few8;
        use std::arch::x86_64::{
            _mm_loadu_ps, _mm_loadu_si128, _mm_mul_ps, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps,
        };
        few8!(
            "avx512f,avx512bw,avx512dq,avx512vl,fma",
            16,
            [score_part::<1, 4>, score_part::<2, 4>, score_part::<3, 4>, score_part::<4, 4>],
            [weigh_part::<1, 8>, weigh_part::<2, 8>, weigh_part::<3, 4>, weigh_part::<4, 4>],
            |codes: *const u8| {
                _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(codes.cast())))
            },
            _mm512_setzero_ps,
            _mm512_loadu_ps,
            _mm512_storeu_ps,
            _mm512_set1_ps,
            _mm512_fmadd_ps,
            _mm512_add_ps,
            |sum| _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps::<1>(sum))
        );
    }
}
