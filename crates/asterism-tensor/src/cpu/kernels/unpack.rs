//! Keys of one head transposed into panels, for AVX2 and what includes it. See `unpack_keys` in
//! [`portable`](super::portable).

#![allow(unsafe_code)]

use super::portable;
use half::bf16;
use std::arch::x86_64::{
    __m256i, _mm256_and_si256, _mm256_loadu_si256, _mm256_permute2x128_si256, _mm256_set1_epi32,
    _mm256_slli_epi32, _mm256_storeu_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64,
    _mm256_unpacklo_epi32, _mm256_unpacklo_epi64,
};

/// Keys transposed at a time.
const KEYS: usize = 8;

/// Elements of each of them: pairs of bf16 move together.
const DIMS: usize = 16;

/// For panels of `PANEL` keys, on a processor with AVX2.
///
/// # Safety
/// The processor has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn unpack_keys<const PANEL: usize>(
    keys: &[bf16],
    stride: usize,
    count: usize,
    dim: usize,
    out: &mut [f32],
) {
    let whole = if dim.is_multiple_of(DIMS) { count - count % KEYS } else { 0 };
    if whole > 0 {
        assert!(keys.len() >= (whole - 1) * stride + dim, "keys too short");
        assert!(out.len() >= whole.div_ceil(PANEL) * dim * PANEL, "out too short");
    }
    for t in (0..whole).step_by(KEYS) {
        for d in (0..dim).step_by(DIMS) {
            let at = (t / PANEL * dim + d) * PANEL + t % PANEL;
            // SAFETY: eight keys of 16 elements from `d` on, and as many rows of eight in their
            // panel (asserted).
            unsafe {
                transpose::<PANEL>(
                    keys.as_ptr().add(t * stride + d),
                    stride,
                    out.as_mut_ptr().add(at),
                );
            }
        }
    }
    let rest = &keys[(whole * stride).min(keys.len())..];
    portable::unpack_some_keys::<PANEL>(rest, stride, whole..count, dim, out);
}

/// Eight keys of 16 elements, `stride` apart, to 16 rows of eight floats, `PANEL` apart.
///
/// # Safety
/// They are there.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn transpose<const PANEL: usize>(keys: *const bf16, stride: usize, out: *mut f32) {
    // SAFETY: by this function's contract.
    let k: [__m256i; KEYS] =
        std::array::from_fn(|i| unsafe { _mm256_loadu_si256(keys.add(i * stride).cast()) });
    // In each half of a register, pairs of elements as the units: [pair 0 of keys 0 and 1, pair 1
    // ...].
    let low = |i: usize| _mm256_unpacklo_epi32(k[i], k[i + 1]);
    let high = |i: usize| _mm256_unpackhi_epi32(k[i], k[i + 1]);
    let (a, b, c, d) = (low(0), low(2), low(4), low(6));
    let (e, f, g, h) = (high(0), high(2), high(4), high(6));
    // Four keys: [pairs j and j + 4 of keys 0 to 3], then of keys 4 to 7.
    let fours = [
        (_mm256_unpacklo_epi64(a, b), _mm256_unpacklo_epi64(c, d)),
        (_mm256_unpackhi_epi64(a, b), _mm256_unpackhi_epi64(c, d)),
        (_mm256_unpacklo_epi64(e, f), _mm256_unpacklo_epi64(g, h)),
        (_mm256_unpackhi_epi64(e, f), _mm256_unpackhi_epi64(g, h)),
    ];
    for (j, (front, back)) in fours.into_iter().enumerate() {
        let pairs = [
            (j, _mm256_permute2x128_si256::<0x20>(front, back)),
            (j + 4, _mm256_permute2x128_si256::<0x31>(front, back)),
        ];
        for (pair, eight) in pairs {
            let upper = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            // SAFETY: by this function's contract.
            unsafe {
                let row = out.add(2 * pair * PANEL);
                _mm256_storeu_si256(row.cast(), _mm256_slli_epi32::<16>(eight));
                _mm256_storeu_si256(row.add(PANEL).cast(), _mm256_and_si256(eight, upper));
            }
        }
    }
}
