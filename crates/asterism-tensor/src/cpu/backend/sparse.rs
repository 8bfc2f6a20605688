//! Attention over some tiles of keys.

use super::attention::{kv_segments, kv_sequence};
use super::{Result, floats, floats_mut};
use crate::cpu::Cpu;
use crate::{Aligned, Grain, HeadShape, Part, PartMut, Sequence, SparseAttention, TileMask};
use std::ops::Range;

impl SparseAttention for Cpu {
    fn attend_tiles(
        &self,
        q: Part<'_, Aligned<f32>>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        mask: &TileMask,
        out: PartMut<'_, Aligned<f32>>,
        lse: PartMut<'_, Aligned<f32>>,
    ) -> Result {
        let segments = kv_segments(sequence.segments);
        let sequence = kv_sequence(sequence, &segments);
        self.attend_tiles(floats(q), shape, &sequence, mask, floats_mut(out), floats_mut(lse));
        Ok(())
    }

    fn lines(
        &self,
        q: Part<'_, Aligned<f32>>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        lse: Part<'_, Aligned<f32>>,
        vertical: PartMut<'_, Aligned<f32>>,
        slash: PartMut<'_, Aligned<f32>>,
    ) -> Result {
        let segments = kv_segments(sequence.segments);
        let sequence = kv_sequence(sequence, &segments);
        let (vertical, slash) = (floats_mut(vertical), floats_mut(slash));
        self.lines(floats(q), shape, &sequence, floats(lse), vertical, slash);
        Ok(())
    }

    fn tile_mass(
        &self,
        q: Part<'_, Aligned<f32>>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        grain: Grain,
        sums: PartMut<'_, Aligned<f32>>,
    ) -> Result {
        let segments = kv_segments(sequence.segments);
        let sequence = kv_sequence(sequence, &segments);
        self.tile_mass(floats(q), shape, &sequence, grain, floats_mut(sums));
        Ok(())
    }

    fn heaviest(
        &self,
        weights: Part<'_, Aligned<f32>>,
        heads: usize,
        key_tiles: usize,
        own: &[Range<u32>],
        share: f32,
    ) -> Result<Vec<u32>> {
        Ok(self.heaviest(floats(weights), heads, key_tiles, own, share))
    }
}
