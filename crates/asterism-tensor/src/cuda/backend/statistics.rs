//! Statistics of queries and keys where they lie.

use super::Result;
use crate::cuda::Cuda;
use crate::cuda::kv::Kv;
use crate::cuda::memory::{Grown, view};
use crate::{HeadShape, Part, Statistics};
use half::bf16;

impl Statistics for Cuda {
    fn moments(
        &self,
        q: Part<'_, Grown<bf16>>,
        shape: HeadShape,
        start: usize,
        frequencies: &[f32],
    ) -> Result<Vec<f32>> {
        if q.len == 0 {
            return Ok(vec![0.0; shape.heads * (shape.head_dim + 1) * shape.head_dim]);
        }
        Ok(self.moments_of(view(q)?, shape, start, frequencies)?)
    }

    fn expected_scores(
        &self,
        keys: Part<'_, Kv>,
        shape: HeadShape,
        queries: &[f32],
    ) -> Result<Vec<f32>> {
        Ok(self.expected_of(keys, shape, queries)?)
    }

    fn norms(&self, kv: Part<'_, Kv>, shape: HeadShape) -> Result<Vec<f32>> {
        Ok(self.norms_of(kv, shape)?)
    }
}
