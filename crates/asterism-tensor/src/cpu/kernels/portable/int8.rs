//! Heads in 8 bits, as they are cached: a scale (f32) and behind it the codes (i8).

use crate::cpu::kv::int8_bytes;

/// The largest code.
const MOST: f32 = 127.0;

/// Heads whose elements are smaller than this are zeros: 127 divided by it is still a float.
const LEAST: f32 = 1e-30;

/// Added to a small number it leaves the nearest whole number, ties to even, in its lowest bits.
const TO_WHOLE: f32 = 12_582_912.0;

/// Heads `x [heads, dim]` in 8 bits, `out [heads, 4 + dim]`: the scale is the largest size of an
/// element divided by 127, a code what an element divided by the scale is nearest to. A head with
/// an infinity or a NaN has such a scale, and none of its elements is finite any more.
#[inline(always)]
pub(in super::super) fn encode_int8(x: &[f32], dim: usize, out: &mut [u8]) {
    for (x, out) in x.chunks_exact(dim).zip(out.chunks_exact_mut(int8_bytes(dim))) {
        // Bits without a sign are in the order of sizes, infinity and NaN above all.
        let most = x.iter().fold(0, |most: u32, x| most.max(x.to_bits() & 0x7fff_ffff));
        let most = f32::from_bits(most);
        let (scale, factor) = if most < LEAST { (0.0, 0.0) } else { (most / MOST, MOST / most) };
        let (to_scale, codes) = out.split_at_mut(size_of::<f32>());
        to_scale.copy_from_slice(&scale.to_le_bytes());
        for (code, x) in codes.iter_mut().zip(x) {
            *code = (x * factor + TO_WHOLE).to_bits() as u8;
        }
    }
}

/// Heads as they were, but for what 8 bits do not hold: `out [count, dim]` of `count` heads whose
/// first bytes are `stride` apart.
#[inline(always)]
pub(in super::super) fn decode_int8(
    heads: &[u8],
    stride: usize,
    count: usize,
    dim: usize,
    out: &mut [f32],
) {
    for (t, out) in out.chunks_exact_mut(dim).take(count).enumerate() {
        let (scale, codes) = split(&heads[t * stride..][..int8_bytes(dim)]);
        for (out, code) in out.iter_mut().zip(codes) {
            *out = number(*code) * scale;
        }
    }
}

/// The scale of a head, and its codes.
#[inline(always)]
pub(super) fn split(head: &[u8]) -> (f32, &[u8]) {
    let (scale, codes) = head.split_first_chunk().unwrap_or((&[0; 4], &[]));
    (f32::from_le_bytes(*scale), codes)
}

/// The whole number of a code.
#[inline(always)]
pub(super) fn number(code: u8) -> f32 {
    f32::from(code.cast_signed())
}
