//! Statistics of queries and keys where they lie.

use super::Result;
use crate::cuda::kv::Kv;
use crate::cuda::memory::{Grown, view};
use crate::cuda::statistics::StatisticsKernels;
use crate::cuda::{Cuda, CudaError};
use crate::{HeadShape, Part, Statistics};
use half::bf16;
use std::sync::Arc;

impl Cuda {
    /// The kernels for heads of this shape, compiled when first asked for.
    fn statistics(
        &self,
        HeadShape { head_dim, .. }: HeadShape,
    ) -> std::result::Result<Arc<StatisticsKernels>, CudaError> {
        let compile = || StatisticsKernels::compile(&self.device, head_dim);
        self.statistics.of(head_dim, compile)
    }
}

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
        Ok(self.statistics(shape)?.moments_of(view(q)?, shape, start, frequencies)?)
    }

    fn expected_scores(
        &self,
        keys: Part<'_, Kv>,
        shape: HeadShape,
        queries: &[f32],
    ) -> Result<Vec<f32>> {
        Ok(self.statistics(shape)?.expected_of(&self.rows, keys, shape, queries)?)
    }

    fn norms(&self, kv: Part<'_, Kv>, shape: HeadShape) -> Result<Vec<f32>> {
        Ok(self.statistics(shape)?.norms_of(&self.rows, kv, shape)?)
    }
}
