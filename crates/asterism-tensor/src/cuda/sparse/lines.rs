//! Softmax weight by key and by distance: the lines of a matrix of scores.

#![allow(unsafe_code)]

use crate::cuda::kernels::{COARSE_THREADS, LinesTile};
use crate::cuda::kv::Kv;
use crate::cuda::queries::Places;
use crate::cuda::rows::int;
use crate::cuda::view::same_length;
use crate::cuda::{Argument, Buffer, Cuda, CudaError, View, ViewMut};
use crate::{HeadShape, Sequence};
use half::bf16;

impl Cuda {
    /// See [`SparseAttention::lines`](crate::SparseAttention::lines).
    pub(in crate::cuda) fn weigh_lines(
        &self,
        q: View<'_, bf16>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        lse: View<'_, f32>,
        vertical: ViewMut<'_, f32>,
        slash: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let kernels = self.sparse_kernels(shape.head_dim)?;
        let LinesTile { keys: size, rows: most, threads, shared, .. } = kernels.lines_tile;
        let Sequence { rows, positions, segments } = sequence;
        let all: usize = segments.iter().map(|segment| segment.tokens).sum();
        let (tokens, places) = (rows.len(), Places::of(*positions, rows.len())?);
        if tokens > most || places.listed.is_some() {
            let what = format!("weights by key of {tokens} rows, or of rows at listed positions");
            return Err(CudaError::Unsupported { what });
        }
        assert!(tokens <= all, "{tokens} rows of {all} keys");
        same_length("vertical", shape.heads * all, vertical.len())?;
        same_length("slash", shape.heads * all, slash.len())?;
        let q = q.slice(rows.start * shape.q_width()..rows.end * shape.q_width())?;
        let lse = lse.slice(rows.start * shape.heads..rows.end * shape.heads)?;
        let [heads, kv_heads, most, size_] =
            [shape.heads, shape.kv_heads, most, size].map(|n| n as i32);
        let (tokens, start) = (tokens as i32, int("a position", places.first)?);
        let (scale, mut first, mut is_first) = (shape.scale(), 0i64, 1i32);
        let all = all as i64;
        for segment in segments.iter().filter(|segment| segment.tokens > 0) {
            let mut unpacked = None;
            let keys = Kv::view(segment.keys)?.bf16(&self.rows, shape, &mut unpacked)?;
            let tiles = segment.tokens.div_ceil(size);
            let bands = shape.heads * tiles * (size + most as usize);
            let bands = Buffer::<f32>::uninit(&self.device, bands)?;
            let bands = bands.view();
            let count = int("the number of keys", segment.tokens)?;
            let key_start = int("the position of a segment", segment.start)?;
            let arguments: [&dyn Argument; 14] = [
                &q, &lse, &keys, &vertical, &bands, &tokens, &start, &heads, &kv_heads, &scale,
                &count, &key_start, &first, &all,
            ];
            let grid = [tiles as u32, heads as u32, 1];
            // SAFETY: the kernel's parameters, in its order; it writes an element of each head's
            // row of `vertical` for each key of the segment, and `bands` for each of its tiles.
            unsafe { kernels.lines.launch(grid, [threads, 1, 1], shared, &arguments)? };
            let tiles = tiles as i32;
            let arguments: [&dyn Argument; 9] =
                [&bands, &slash, &tiles, &size_, &most, &tokens, &first, &all, &is_first];
            let grid = [(all as usize).div_ceil(COARSE_THREADS as usize) as u32, heads as u32, 1];
            // SAFETY: as above; a thread for each element of `slash`.
            unsafe { kernels.slash.launch(grid, [COARSE_THREADS, 1, 1], 0, &arguments)? };
            first += segment.tokens as i64;
            is_first = 0;
        }
        Ok(())
    }
}
