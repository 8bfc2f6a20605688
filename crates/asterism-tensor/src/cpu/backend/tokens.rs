//! Embeddings read from the model's file, and rotation by angles computed for each token.

use super::{Result, floats, floats_mut};
use crate::cpu::{Cpu, ops};
use crate::{Aligned, HeadShape, Part, PartMut, Rotation, RowReader, SplitQkv, Tokens};

/// Tokens and their positions.
#[derive(Debug, Default)]
pub struct Ids {
    tokens: Vec<u32>,
    positions: Vec<u32>,
}

impl Tokens for Cpu {
    fn set_ids(&self, ids: &mut Ids, tokens: &[u32], positions: &[u32]) -> Result {
        *ids = Ids { tokens: tokens.to_vec(), positions: positions.to_vec() };
        Ok(())
    }

    fn embed(&self, table: &RowReader, ids: &Ids, x: PartMut<'_, Aligned<f32>>) -> Result {
        let Some(hidden) = x.len.checked_div(ids.tokens.len()) else { return Ok(()) };
        self.fill_rows(floats_mut(x), hidden, |t, row| table(ids.tokens[t] as usize, row));
        Ok(())
    }

    fn angles(&self, frequencies: &Vec<f32>, ids: &Ids, out: PartMut<'_, Aligned<f32>>) -> Result {
        self.fill_angles(frequencies, &ids.positions, floats_mut(out));
        Ok(())
    }

    fn split_and_rotate(
        &self,
        qkv: Part<'_, Aligned<f32>>,
        shape: HeadShape,
        rotation: Rotation<'_, Self>,
        out: SplitQkv<'_, Self>,
    ) -> Result {
        let norms = rotation.norms.map(|(q, k, eps)| (q.as_slice(), k.as_slice(), eps));
        let rotation = ops::Rotation { norms, angles: floats(rotation.angles) };
        let (q, k, v) = (floats_mut(out.q), floats_mut(out.k), floats_mut(out.v));
        self.split_and_rotate(floats(qkv), shape, rotation, ops::SplitQkv { q, k, v });
        Ok(())
    }
}
