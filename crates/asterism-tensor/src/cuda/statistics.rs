//! What the queries and keys of a text are like, for heads of one size.

#![allow(unsafe_code)]

use super::kernels::{STATISTICS, StatisticsTile};
use super::kv::Kv;
use super::rows::{RowKernels, int};
use super::view::same_length;
use super::{Argument, Buffer, CudaError, Device, Function, Module, View};
use crate::{HeadShape, Part};
use half::bf16;
use std::sync::Arc;

/// The kernels for heads of one size.
pub(super) struct StatisticsKernels {
    tile: StatisticsTile,
    moments: Function,
    expect: Function,
    norms: Function,
    device: Arc<Device>,
}

impl StatisticsKernels {
    /// Compiles them for heads of `head_dim` elements.
    pub(super) fn compile(device: &Arc<Device>, head_dim: usize) -> Result<Self, CudaError> {
        let tile =
            StatisticsTile::new(head_dim).ok_or_else(|| super::flash::no_heads_of(head_dim))?;
        let module = Module::compile(device, STATISTICS.name, &STATISTICS.text(), &[&tile.option])?;
        Ok(Self {
            moments: module.function(c"moments")?,
            expect: module.function(c"expect")?,
            norms: module.function(c"norms")?,
            tile,
            device: Arc::clone(device),
        })
    }

    /// See [`Statistics::moments`](crate::Statistics::moments).
    pub(super) fn moments_of(
        &self,
        q: View<'_, bf16>,
        shape: HeadShape,
        start: usize,
        frequencies: &[f32],
    ) -> Result<Vec<f32>, CudaError> {
        let HeadShape { heads, head_dim: dim, .. } = shape;
        same_length("frequencies", dim / 2, frequencies.len())?;
        let tokens = int("the number of rows", q.len() / shape.q_width())?;
        let (start, count) = (int("a position", start)?, heads as i32);
        let frequencies = Buffer::from_slice(&self.device, frequencies)?;
        let moments = Buffer::<f32>::uninit(&self.device, heads * (dim + 1) * dim)?;
        let (of_pairs, to) = (frequencies.view(), moments.view());
        let arguments: [&dyn Argument; 6] = [&q, &of_pairs, &to, &tokens, &start, &count];
        let StatisticsTile { side, threads, .. } = self.tile;
        let tiles = dim.div_ceil(side) as u32;
        // SAFETY: the kernel's parameters, in its order; a thread writes the products of its part
        // of a tile, which it sees to be inside, and the first tiles the sums.
        unsafe {
            self.moments.launch(
                [tiles, tiles, heads as u32],
                [threads, threads, 1],
                0,
                &arguments,
            )?
        };
        moments.to_vec()
    }

    /// See [`Statistics::expected_scores`](crate::Statistics::expected_scores).
    pub(super) fn expected_of(
        &self,
        rows: &RowKernels,
        keys: Part<'_, Kv>,
        shape: HeadShape,
        queries: &[f32],
    ) -> Result<Vec<f32>, CudaError> {
        let HeadShape { heads, kv_heads, head_dim: dim } = shape;
        same_length("queries", heads * (dim + 1) * dim, queries.len())?;
        let tokens = keys.len / shape.kv_width();
        let mut unpacked = None;
        let keys = Kv::view(keys)?.bf16(rows, shape, &mut unpacked)?;
        let queries = Buffer::from_slice(&self.device, queries)?;
        let logits = Buffer::<f32>::uninit(&self.device, heads * tokens)?;
        if tokens == 0 {
            return Ok(Vec::new());
        }
        let (of_heads, to, scale) = (queries.view(), logits.view(), shape.scale());
        let [count, heads_, kv_heads_] = [tokens, heads, kv_heads].map(|n| n as i32);
        let arguments: [&dyn Argument; 7] =
            [&keys, &of_heads, &to, &count, &heads_, &kv_heads_, &scale];
        let grid = [tokens.div_ceil(self.tile.keys) as u32, heads as u32, 1];
        let threads = 4 * self.tile.keys as u32;
        // SAFETY: the kernel's parameters, in its order; four threads write a key's logit.
        unsafe { self.expect.launch(grid, [threads, 1, 1], 0, &arguments)? };
        logits.to_vec()
    }

    /// See [`Statistics::norms`](crate::Statistics::norms).
    pub(super) fn norms_of(
        &self,
        rows: &RowKernels,
        vectors: Part<'_, Kv>,
        shape: HeadShape,
    ) -> Result<Vec<f32>, CudaError> {
        let tokens = vectors.len / shape.kv_width();
        let mut unpacked = None;
        let vectors = Kv::view(vectors)?.bf16(rows, shape, &mut unpacked)?;
        let count = tokens * shape.kv_heads;
        let norms = Buffer::<f32>::uninit(&self.device, count)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let (to, [tokens, kv_heads]) = (norms.view(), [tokens, shape.kv_heads].map(|n| n as i32));
        let arguments: [&dyn Argument; 4] = [&vectors, &to, &tokens, &kv_heads];
        let grid = [count.div_ceil(StatisticsTile::WARPS) as u32, 1, 1];
        let threads = 32 * StatisticsTile::WARPS as u32;
        // SAFETY: the kernel's parameters, in its order; a warp writes the length of its vector.
        unsafe { self.norms.launch(grid, [threads, 1, 1], 0, &arguments)? };
        norms.to_vec()
    }
}
