//! Cached keys and values on their way to the kernels, which multiply floats.
//!
//! Keys in 8 bits: for few rows, which are bound by reading memory, a tile's codes become bf16,
//! which has them exactly and stays in the second-level cache, and the scales go to scores and
//! weights: no number is rounded again. Many rows use what is unpacked so often that scales are
//! multiplied in, as for any other keys: to f32, and where bf16 is multiplied, to that.

use super::queries::HeadPlace;
use crate::Aligned;
use crate::cpu::kernels::FewRows;
use crate::cpu::{Cpu, Int8View, KvView};
use half::bf16;

/// Keys (or values) in 8 bits of one tile, taken apart.
#[derive(Default)]
pub(super) struct Codes {
    /// `[tokens, kv_heads, head_dim]`
    codes: Aligned<bf16>,
    /// `[kv_heads, tokens]`
    scales: Aligned<f32>,
}

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
        codes: &mut Codes,
    ) {
        match keys {
            KvView::F32(keys) => (self.kernels.score_f32)(shape, q, keys, scores),
            KvView::Bf16(keys) => (self.kernels.score_bf16)(shape, q, keys, scores),
            KvView::Int8(keys) => {
                let (keys, scales) = self.take_apart(shape, keys, codes);
                (self.kernels.score_bf16)(shape, q, keys, scores);
                self.scale_rows(shape, scores, scales);
            }
        }
    }

    /// Adds the sums of values, by `weights [kv_heads, rows, tokens]`, to `out [kv_heads, rows,
    /// head_dim]`. Spoils the weights.
    pub(super) fn weigh_few(
        &self,
        shape: FewRows,
        weights: &mut [f32],
        values: KvView<'_>,
        out: &mut [f32],
        codes: &mut Codes,
    ) {
        match values {
            KvView::F32(values) => (self.kernels.weigh_f32)(shape, weights, values, out),
            KvView::Bf16(values) => (self.kernels.weigh_bf16)(shape, weights, values, out),
            KvView::Int8(values) => {
                let (values, scales) = self.take_apart(shape, values, codes);
                self.scale_rows(shape, weights, scales);
                (self.kernels.weigh_bf16)(shape, weights, values, out);
            }
        }
    }

    /// Codes `[tokens, kv_heads, head_dim]` and scales `[kv_heads, tokens]`.
    fn take_apart<'a>(
        &self,
        shape: FewRows,
        kv: Int8View<'_>,
        to: &'a mut Codes,
    ) -> (&'a [bf16], &'a [f32]) {
        let FewRows { kv_heads, dim, .. } = shape;
        let heads = kv.heads();
        let (codes, scales) = (to.codes.at_least(heads * dim), to.scales.at_least(heads));
        (self.kernels.split_int8)(kv.bytes(), kv_heads, dim, codes, scales);
        (codes, scales)
    }

    /// Multiplies the columns of `rows [kv_heads, rows, tokens]` by `scales [kv_heads, tokens]`.
    fn scale_rows(&self, shape: FewRows, rows: &mut [f32], scales: &[f32]) {
        let tokens = scales.len() / shape.kv_heads;
        for (row, x) in rows.chunks_exact_mut(tokens).enumerate() {
            (self.kernels.multiply_by)(x, &scales[row / shape.rows * tokens..][..tokens]);
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
