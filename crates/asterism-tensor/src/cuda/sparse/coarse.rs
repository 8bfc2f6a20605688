//! Softmax weight of tiles, estimated from coarse rows and keys.

#![allow(unsafe_code)]

use super::kernels::SparseKernels;
use super::keys_of;
use crate::cuda::kernels::WEIGH_THREADS;
use crate::cuda::queries::Places;
use crate::cuda::rows::int;
use crate::cuda::view::same_length;
use crate::cuda::{Argument, Buffer, Cuda, CudaError, View, ViewMut};
use crate::{Grain, HeadShape, MASK_TILE, Segment, Sequence};
use half::bf16;
use std::ffi::c_void;

/// Elements of coarse scores that are there at a time: 256 MiB.
const MOST_SCORES: usize = 64 << 20;

/// Coarse rows of one product, and what their number of keys is rounded up to, so that few pairs of
/// lengths occur.
const COARSE_ROWS: usize = 2048;

/// Segments of keys of one sequence.
const MOST_RUNS: usize = 8;

/// `struct Run` of the kernels.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct RawRun {
    first: i32,
    count: i32,
    start: i32,
    first_tile: i32,
}

/// `struct Runs` of the kernels.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct RawRuns {
    run: [RawRun; MOST_RUNS],
    count: i32,
    step: i32,
    per_tile: i32,
    tiles: i32,
}

// SAFETY: laid out as the kernels declare it.
unsafe impl Argument for RawRuns {
    fn address(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

/// Which grid of scores is asked for, and its buffers for one head.
struct Grid {
    runs: RawRuns,
    stride: usize,
    /// Elements of a coarse row.
    depth: usize,
    /// Coarse keys, rounded up.
    keys: usize,
    /// `[keys, depth]`
    of_keys: Buffer<bf16>,
    /// `[coarse rows, depth]`
    of_rows: Buffer<bf16>,
    /// Coarse rows of a product: whole tiles.
    step: usize,
}

impl Cuda {
    /// See [`SparseAttention::tile_mass`](crate::SparseAttention::tile_mass).
    pub(in crate::cuda) fn weigh_tiles(
        &self,
        q: View<'_, bf16>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        grain: Grain,
        mut sums: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let kernels = self.sparse_kernels(shape.head_dim)?;
        let Sequence { rows, positions, segments } = sequence;
        let (tokens, places) = (rows.len(), Places::of(*positions, rows.len())?);
        if segments.len() > MOST_RUNS || places.listed.is_some() {
            let what = "weights of tiles over so many segments, or of rows at listed positions";
            return Err(CudaError::Unsupported { what: what.into() });
        }
        let mut grid = self.grid(shape, tokens, segments, grain)?;
        let of_head = tokens.div_ceil(MASK_TILE) * grid.runs.tiles as usize;
        same_length("sums", shape.heads * of_head, sums.len())?;
        let q = q.slice(rows.start * shape.q_width()..rows.end * shape.q_width())?;
        let mut unpacked = Vec::new();
        let keys = keys_of(self, shape, segments, &mut unpacked)?;
        let start = int("a position", places.first)?;
        for kv_head in 0..shape.kv_heads {
            for (keys, run) in keys.iter().zip(grid.runs.run) {
                let (first, count) = (run.first as usize, run.count as usize);
                let range = first * grid.depth..(first + count) * grid.depth;
                let rows = (keys.keys, keys.tokens, shape.kv_heads, kv_head);
                let to = grid.of_keys.slice_mut(range)?;
                kernels.gather_rows(shape.head_dim, grain, rows, to, false)?;
            }
            for head in kv_head * shape.group()..(kv_head + 1) * shape.group() {
                let rows = (q, tokens, shape.heads, head);
                let to = grid.of_rows.view_mut();
                kernels.gather_rows(shape.head_dim, grain, rows, to, true)?;
                let own = sums.reborrow().slice(head * of_head..(head + 1) * of_head)?;
                self.weigh_head(&kernels, &grid, shape, (tokens, start), own)?;
            }
        }
        Ok(())
    }

    fn grid(
        &self,
        shape: HeadShape,
        tokens: usize,
        segments: &[Segment<'_, Self>],
        grain: Grain,
    ) -> Result<Grid, CudaError> {
        let stride = grain.stride();
        assert!(MASK_TILE.is_multiple_of(stride), "a stride of {stride}");
        let mut runs = RawRuns {
            step: stride as i32,
            per_tile: (MASK_TILE / stride) as i32,
            count: segments.len() as i32,
            ..RawRuns::default()
        };
        let (mut keys, mut tiles) = (0, 0);
        for (run, segment) in runs.run.iter_mut().zip(segments) {
            let count = segment.tokens.div_ceil(stride);
            *run = RawRun {
                first: int("the number of keys", keys)?,
                count: int("the number of keys", count)?,
                start: int("the position of a segment", segment.start)?,
                first_tile: int("the number of tiles", tiles)?,
            };
            keys += count;
            tiles += segment.tokens.div_ceil(MASK_TILE);
        }
        runs.tiles = int("the number of tiles", tiles)?;
        let depth = match grain {
            Grain::Antidiagonal { stride } => stride * shape.head_dim,
            Grain::Mean => shape.head_dim,
        };
        let keys = keys.next_multiple_of(COARSE_ROWS.min(keys.next_power_of_two().max(8)));
        let rows = tokens.div_ceil(stride);
        let per_tile = runs.per_tile as usize;
        let step = (MOST_SCORES / keys).min(COARSE_ROWS) / per_tile * per_tile;
        let step = step.max(per_tile).min(rows.next_multiple_of(per_tile));
        let mut of_keys = Buffer::uninit(&self.device, keys * depth)?;
        // What is behind the last key is multiplied, too, and its scores not looked at.
        of_keys.view_mut().fill_bytes(0)?;
        Ok(Grid {
            runs,
            stride,
            depth,
            keys,
            of_keys,
            of_rows: Buffer::uninit(&self.device, rows * depth)?,
            step,
        })
    }

    /// Products and softmax of one head, some coarse rows at a time, over the keys they see.
    fn weigh_head(
        &self,
        kernels: &SparseKernels,
        grid: &Grid,
        shape: HeadShape,
        (tokens, start): (usize, i32),
        sums: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let Grid { runs, depth, step, .. } = grid;
        let per_tile = runs.per_tile as usize;
        let rows = tokens.div_ceil(grid.stride);
        let grouped = depth / shape.head_dim;
        let scale = shape.scale() / grouped as f32;
        for first in (0..rows).step_by(*step) {
            let count = (*step).min(rows - first);
            // Coarse keys up to the last that these rows see, rounded up.
            let last = start as usize + ((first + count) * grid.stride).min(tokens) - 1;
            let seen = runs.run[..runs.count as usize].iter().map(|run| {
                let seen = (last + 1).saturating_sub(run.start as usize).div_ceil(grid.stride);
                if seen == 0 { 0 } else { run.first as usize + seen.min(run.count as usize) }
            });
            let seen = seen.max().unwrap_or(0).max(1);
            let keys = seen.next_multiple_of(COARSE_ROWS).min(grid.keys);
            let x = grid.of_rows.view().slice(first * depth..(first + count) * depth)?;
            let w = grid.of_keys.view().slice(0..keys * depth)?;
            let mut scores = Buffer::<f32>::uninit(&self.device, count * keys)?;
            self.gemm.f32(x, w, (count, *depth, keys), scores.view_mut())?;
            let scores = scores.view();
            let (count_, first_tile, tokens_) =
                (count as i32, (first / per_tile) as i32, tokens as i32);
            let stride = keys as i64;
            let arguments: [&dyn Argument; 9] =
                [&scores, &sums, runs, &count_, &stride, &scale, &first_tile, &tokens_, &start];
            let blocks = [count.div_ceil(per_tile) as u32, 1, 1];
            // SAFETY: the kernel's parameters, in its order; a block writes the row of `sums` of
            // its tile of queries.
            unsafe { kernels.weigh.launch(blocks, [WEIGH_THREADS, 1, 1], 0, &arguments)? };
        }
        Ok(())
    }
}
