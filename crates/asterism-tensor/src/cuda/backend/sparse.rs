//! Attention over some tiles of keys.

use super::Result;
use crate::cuda::Cuda;
use crate::cuda::memory::{Grown, view, view_mut};
use crate::{Grain, HeadShape, Part, PartMut, Sequence, SparseAttention, TileMask};
use half::bf16;
use std::ops::Range;

impl SparseAttention for Cuda {
    fn attend_tiles(
        &self,
        q: Part<'_, Grown<bf16>>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        mask: &TileMask,
        out: PartMut<'_, Grown<bf16>>,
        lse: PartMut<'_, Grown<f32>>,
    ) -> Result {
        let (q, out, lse) = (view(q)?, view_mut(out)?, view_mut(lse)?);
        Ok(self.attend_listed(q, shape, sequence, mask, out, lse)?)
    }

    fn lines(
        &self,
        q: Part<'_, Grown<bf16>>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        lse: Part<'_, Grown<f32>>,
        vertical: PartMut<'_, Grown<f32>>,
        slash: PartMut<'_, Grown<f32>>,
    ) -> Result {
        let (vertical, slash) = (view_mut(vertical)?, view_mut(slash)?);
        Ok(self.weigh_lines(view(q)?, shape, sequence, view(lse)?, vertical, slash)?)
    }

    fn tile_mass(
        &self,
        q: Part<'_, Grown<bf16>>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        grain: Grain,
        sums: PartMut<'_, Grown<f32>>,
    ) -> Result {
        Ok(self.weigh_tiles(view(q)?, shape, sequence, grain, view_mut(sums)?)?)
    }

    fn heaviest(
        &self,
        weights: Part<'_, Grown<f32>>,
        heads: usize,
        key_tiles: usize,
        own: &[Range<u32>],
        share: f32,
    ) -> Result<Vec<u32>> {
        Ok(self.heaviest_tiles(view(weights)?, heads, key_tiles, own, share)?)
    }
}
