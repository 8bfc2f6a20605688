//! Cached keys and values on their way to the kernels, which multiply floats.
//!
//! Few rows, as in decoding, are bound by reading memory: their kernels read keys of every
//! precision as they are stored. Many rows use what is unpacked so often that keys in 8 bits are
//! multiplied by their scales first, to f32, and to bf16 where that is multiplied.

use super::queries::HeadPlace;
use crate::Aligned;
use crate::cpu::kernels::FewRows;
use crate::cpu::{Cpu, Int8View, KvView};
use half::bf16;

/// Some keys (or values) of one head as floats.
#[derive(Default)]
pub(super) struct Decoded {
    /// `[tokens, head_dim]`
    wide: Aligned<f32>,
    /// `[tokens, head_dim]`
    narrow: Aligned<bf16>,
}

impl Cpu {
    /// Scores of few rows `q [kv_heads, rows, head_dim]` against keys `[tokens, kv_heads,
    /// head_dim]`, into `scores [kv_heads, rows, tokens]`.
    pub(super) fn score_few(
        &self,
        shape: FewRows,
        q: &[f32],
        keys: KvView<'_>,
        scores: &mut [f32],
    ) {
        match keys {
            KvView::F32(keys) => (self.kernels.score_f32)(shape, q, keys, scores),
            KvView::Bf16(keys) => (self.kernels.score_bf16)(shape, q, keys, scores),
            KvView::Int8(keys) => (self.kernels.score_int8)(shape, q, keys.bytes(), scores),
        }
    }

    /// Adds the sums of values, by `weights [kv_heads, rows, tokens]`, to `out [kv_heads, rows,
    /// head_dim]`.
    pub(super) fn weigh_few(
        &self,
        shape: FewRows,
        weights: &[f32],
        values: KvView<'_>,
        out: &mut [f32],
    ) {
        match values {
            KvView::F32(values) => (self.kernels.weigh_f32)(shape, weights, values, out),
            KvView::Bf16(values) => (self.kernels.weigh_bf16)(shape, weights, values, out),
            KvView::Int8(values) => {
                (self.kernels.weigh_int8)(shape, weights, values.bytes(), out);
            }
        }
    }

    /// `count` keys of the head at `place` as panels of columns of f32: see `unpack_keys` of the
    /// kernels.
    pub(super) fn keys_as_panels(
        &self,
        keys: KvView<'_>,
        (place, count, dim): (HeadPlace, usize, usize),
        panels: &mut [f32],
        decoded: &mut Decoded,
    ) {
        let HeadPlace { stride, offset } = place;
        match keys {
            KvView::F32(keys) => {
                (self.kernels.copy_keys)(&keys[offset..], stride, count, dim, panels);
            }
            KvView::Bf16(keys) => {
                (self.kernels.unpack_keys)(&keys[offset..], stride, count, dim, panels);
            }
            KvView::Int8(keys) => {
                let keys = self.decode(keys, (place, count, dim), &mut decoded.wide);
                (self.kernels.copy_keys)(keys, dim, count, dim, panels);
            }
        }
    }

    /// `count` values of the head at `place` as panels of f32, `between` elements from one to the
    /// next: see `unpack_values` of the kernels.
    pub(super) fn values_as_panels(
        &self,
        values: KvView<'_>,
        (place, count, dim): (HeadPlace, usize, usize),
        (panels, between): (&mut [f32], usize),
        decoded: &mut Decoded,
    ) {
        let HeadPlace { stride, offset } = place;
        match values {
            KvView::F32(values) => {
                (self.kernels.copy_values)(&values[offset..], stride, count, dim, panels, between);
            }
            KvView::Bf16(values) => {
                let values = &values[offset..];
                (self.kernels.unpack_values)(values, stride, count, dim, panels, between);
            }
            KvView::Int8(values) => {
                let values = self.decode(values, (place, count, dim), &mut decoded.wide);
                (self.kernels.copy_values)(values, dim, count, dim, panels, between);
            }
        }
    }

    /// `count` keys (or values) of the head at `place` in bf16, and the elements from one to the
    /// next.
    ///
    /// # Panics
    /// If they are f32: nothing rounds those.
    pub(super) fn head_in_bf16<'a>(
        &self,
        kv: KvView<'a>,
        (place, count, dim): (HeadPlace, usize, usize),
        decoded: &'a mut Decoded,
    ) -> (&'a [bf16], usize) {
        match kv {
            KvView::F32(_) => unreachable!("the caller saw that keys are not f32"),
            KvView::Bf16(all) => (&all[place.offset..], place.stride),
            KvView::Int8(all) => {
                let wide = self.decode(all, (place, count, dim), &mut decoded.wide);
                let narrow = decoded.narrow.at_least(count * dim);
                (self.kernels.narrow)(wide, narrow);
                (narrow, dim)
            }
        }
    }

    /// `count` keys (or values) of the head at `place`, `[count, dim]`.
    fn decode<'a>(
        &self,
        kv: Int8View<'_>,
        (place, count, dim): (HeadPlace, usize, usize),
        wide: &'a mut Aligned<f32>,
    ) -> &'a [f32] {
        let wide = wide.at_least(count * dim);
        let (first, stride) = (kv.at(place.offset), kv.at(place.stride));
        (self.kernels.decode_int8)(&kv.bytes()[first..], stride, count, dim, wide);
        wide
    }
}
