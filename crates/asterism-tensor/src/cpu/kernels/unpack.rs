//! Keys of one head transposed into panels, for AVX2 and AVX-512. See `unpack_keys` in
//! [`portable`](super::portable).

#![allow(unsafe_code)]

use super::portable;
use half::bf16;
use std::arch::x86_64::{
    __m256i, __m512i, _mm256_and_si256, _mm256_loadu_si256, _mm256_permute2x128_si256,
    _mm256_set1_epi32, _mm256_slli_epi32, _mm256_storeu_si256, _mm256_unpackhi_epi32,
    _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm512_and_si512,
    _mm512_castsi256_si512, _mm512_inserti64x4, _mm512_set1_epi32, _mm512_shuffle_i32x4,
    _mm512_slli_epi32, _mm512_storeu_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

/// Elements of a key that are transposed at a time: pairs of bf16 move together.
const DIMS: usize = 16;

/// For panels of `PANEL` keys, on a processor with AVX2.
///
/// # Safety
/// The processor has AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn by_eight<const PANEL: usize>(
    keys: &[bf16],
    stride: usize,
    count: usize,
    dim: usize,
    out: &mut [f32],
) {
    // SAFETY: by this function's contract.
    unsafe { unpack::<8, PANEL>(keys, stride, count, dim, out, transpose_eight::<PANEL>) }
}

/// For panels of `PANEL` keys, on a processor with AVX-512.
///
/// # Safety
/// The processor has AVX-512 F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn by_sixteen<const PANEL: usize>(
    keys: &[bf16],
    stride: usize,
    count: usize,
    dim: usize,
    out: &mut [f32],
) {
    // SAFETY: by this function's contract.
    unsafe { unpack::<16, PANEL>(keys, stride, count, dim, out, transpose_sixteen::<PANEL>) }
}

/// `N` keys at a time by `transpose`, those that are left one by one.
///
/// # Safety
/// `transpose` may be called, for `N` keys of [`DIMS`] elements, so many elements apart, and as
/// many rows of `N` floats, `PANEL` apart.
#[inline(always)]
unsafe fn unpack<const N: usize, const PANEL: usize>(
    keys: &[bf16],
    stride: usize,
    count: usize,
    dim: usize,
    out: &mut [f32],
    transpose: unsafe fn(*const bf16, usize, *mut f32),
) {
    let whole = if dim.is_multiple_of(DIMS) { count - count % N } else { 0 };
    if whole > 0 {
        assert!(keys.len() >= (whole - 1) * stride + dim, "keys too short");
        assert!(out.len() >= whole.div_ceil(PANEL) * dim * PANEL, "out too short");
    }
    for t in (0..whole).step_by(N) {
        for d in (0..dim).step_by(DIMS) {
            let at = (t / PANEL * dim + d) * PANEL + t % PANEL;
            // SAFETY: N keys of 16 elements from `d` on, and as many rows of N in their panel
            // (asserted).
            unsafe {
                let key = keys.as_ptr().add(t * stride + d);
                transpose(key, stride, out.as_mut_ptr().add(at));
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
unsafe fn transpose_eight<const PANEL: usize>(keys: *const bf16, stride: usize, out: *mut f32) {
    // SAFETY: by this function's contract.
    let k: [__m256i; 8] =
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

/// Sixteen keys of 16 elements, `stride` apart, to 16 rows of sixteen floats, `PANEL` apart.
///
/// # Safety
/// They are there.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn transpose_sixteen<const PANEL: usize>(keys: *const bf16, stride: usize, out: *mut f32) {
    // SAFETY: by this function's contract.
    let load = |i: usize| unsafe { _mm256_loadu_si256(keys.add(i * stride).cast()) };
    // Keys i and i + 4 of eight: in halves that are never mixed.
    let k: [__m512i; 8] = std::array::from_fn(|i| {
        let i = i / 4 * 8 + i % 4;
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(load(i)), load(i + 4))
    });
    let low = |i: usize| _mm512_unpacklo_epi32(k[i], k[i + 1]);
    let high = |i: usize| _mm512_unpackhi_epi32(k[i], k[i + 1]);
    let (a, b, c, d) = (low(0), low(2), low(4), low(6));
    let (e, f, g, h) = (high(0), high(2), high(4), high(6));
    // In quarters of a register: pairs j of keys 0 to 3, pairs j + 4 of them, the same of keys 4 to
    // 7; then those of keys 8 to 15.
    let eights = [
        (_mm512_unpacklo_epi64(a, b), _mm512_unpacklo_epi64(c, d)),
        (_mm512_unpackhi_epi64(a, b), _mm512_unpackhi_epi64(c, d)),
        (_mm512_unpacklo_epi64(e, f), _mm512_unpacklo_epi64(g, h)),
        (_mm512_unpackhi_epi64(e, f), _mm512_unpackhi_epi64(g, h)),
    ];
    for (j, (front, back)) in eights.into_iter().enumerate() {
        let pairs = [
            (j, _mm512_shuffle_i32x4::<0b10_00_10_00>(front, back)),
            (j + 4, _mm512_shuffle_i32x4::<0b11_01_11_01>(front, back)),
        ];
        for (pair, sixteen) in pairs {
            let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            // SAFETY: by this function's contract.
            unsafe {
                let row = out.add(2 * pair * PANEL);
                _mm512_storeu_si512(row.cast(), _mm512_slli_epi32::<16>(sixteen));
                _mm512_storeu_si512(row.add(PANEL).cast(), _mm512_and_si512(sixteen, upper));
            }
        }
    }
}
