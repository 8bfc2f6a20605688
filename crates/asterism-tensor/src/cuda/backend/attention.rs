//! Attention over cached keys, and partial attentions merged.

use super::Result;
use crate::cuda::Cuda;
use crate::cuda::memory::{Grown, view, view_mut};
use crate::cuda::queries::{Places, Queries};
use crate::{Attention, HeadShape, MassOver, Part, PartMut, Sequence};
use half::bf16;

impl Attention for Cuda {
    fn attend(
        &self,
        q: Part<'_, Grown<bf16>>,
        shape: HeadShape,
        sequences: &[Sequence<'_, Self>],
        out: PartMut<'_, Grown<bf16>>,
        lse: PartMut<'_, Grown<f32>>,
    ) -> Result {
        if q.len == 0 {
            return Ok(());
        }
        Ok(self.attend_sequences(view(q)?, shape, sequences, view_mut(out)?, view_mut(lse)?)?)
    }

    fn mass(
        &self,
        q: Part<'_, Grown<bf16>>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        lse: Part<'_, Grown<f32>>,
        over: MassOver,
        sums: PartMut<'_, Grown<f32>>,
    ) -> Result {
        let Sequence { rows, positions, segments } = sequence;
        if sums.len == 0 {
            return Ok(());
        }
        let range = |width: usize| rows.start * width..rows.end * width;
        let (q, lse) = (q.slice(range(shape.q_width())), lse.slice(range(shape.heads)));
        let (tokens, places) = (rows.len(), Places::of(*positions, rows.len())?);
        let queries = Queries { q: view(q)?, tokens, places, shape };
        Ok(self.mass_of(queries, segments, view(lse)?, over, view_mut(sums)?)?)
    }

    fn merge(
        &self,
        out: PartMut<'_, Grown<bf16>>,
        lse: PartMut<'_, Grown<f32>>,
        part: Part<'_, Grown<bf16>>,
        part_lse: Part<'_, Grown<f32>>,
    ) -> Result {
        if lse.len == 0 {
            return Ok(());
        }
        let (out, lse) = (view_mut(out)?, view_mut(lse)?);
        Ok(self.rows.merge(out, lse, view(part)?, view(part_lse)?)?)
    }

    fn merge_all(
        &self,
        count: usize,
        parts: Part<'_, Grown<bf16>>,
        lse: Part<'_, Grown<f32>>,
        out: PartMut<'_, Grown<bf16>>,
    ) -> Result {
        if lse.len == 0 {
            return Ok(());
        }
        Ok(self.rows.merge_all(count, view(parts)?, view(lse)?, view_mut(out)?)?)
    }
}
