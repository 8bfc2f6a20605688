//! Embeddings and rotation, a kernel each.

use super::Result;
use crate::cuda::memory::{Grown, Ids, view, view_mut};
use crate::cuda::weights::Embedding;
use crate::cuda::{Buffer, Cuda};
use crate::{HeadShape, Part, PartMut, Rotation, SplitQkv, Tokens};
use half::bf16;

impl Tokens for Cuda {
    fn set_ids(&self, ids: &mut Ids, tokens: &[u32], positions: &[u32]) -> Result {
        Ok(ids.set(&self.device, tokens, positions)?)
    }

    fn embed(&self, table: &Embedding, ids: &Ids, x: PartMut<'_, Grown<f32>>) -> Result {
        if ids.count == 0 {
            return Ok(());
        }
        let tokens = view(Part::new(&ids.tokens, 0..ids.count))?;
        Ok(self.rows.embed(table.table.view(), tokens, table.hidden, view_mut(x)?)?)
    }

    fn angles(&self, frequencies: &Buffer<f32>, ids: &Ids, out: PartMut<'_, Grown<f32>>) -> Result {
        if ids.count == 0 {
            return Ok(());
        }
        let positions = view(Part::new(&ids.positions, 0..ids.count))?;
        Ok(self.rows.angles(frequencies.view(), positions, view_mut(out)?)?)
    }

    fn split_and_rotate(
        &self,
        qkv: Part<'_, Grown<bf16>>,
        shape: HeadShape,
        rotation: Rotation<'_, Self>,
        out: SplitQkv<'_, Self>,
    ) -> Result {
        let norms = rotation.norms.map(|(q, k, eps)| (q.view(), k.view(), eps));
        let out = [view_mut(out.q)?, view_mut(out.k)?, view_mut(out.v)?];
        Ok(self.rows.split_rotate(view(qkv)?, shape, norms, view(rotation.angles)?, out)?)
    }
}
