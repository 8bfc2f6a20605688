//! Statistics of queries and of keys, which are unpacked for them.

use super::{Result, cached, floats};
use crate::cpu::{Cpu, Kv};
use crate::{Aligned, HeadShape, Part, Statistics};

/// Keys as numbers, `[tokens, kv_heads, head_dim]`.
fn numbers(part: Part<'_, Kv>, shape: HeadShape) -> Vec<f32> {
    let view = cached(part);
    view.to_bytes().to_f32(view.precision(), shape.head_dim)
}

impl Statistics for Cpu {
    fn moments(
        &self,
        q: Part<'_, Aligned<f32>>,
        shape: HeadShape,
        start: usize,
        frequencies: &[f32],
    ) -> Result<Vec<f32>> {
        Ok(self.moments_of(floats(q), shape, start, frequencies))
    }

    fn expected_scores(
        &self,
        keys: Part<'_, Kv>,
        shape: HeadShape,
        queries: &[f32],
    ) -> Result<Vec<f32>> {
        Ok(self.expected_of(&numbers(keys, shape), shape, queries))
    }

    fn norms(&self, kv: Part<'_, Kv>, shape: HeadShape) -> Result<Vec<f32>> {
        Ok(self.norms_of(&numbers(kv, shape), shape))
    }
}
