//! Which tiles hold a share of the weight.

#![allow(unsafe_code)]

use crate::cuda::kernels::COARSE_THREADS;
use crate::cuda::rows::int;
use crate::cuda::{Argument, Buffer, Cuda, CudaError, View};
use std::ops::Range;

impl Cuda {
    /// See [`SparseAttention::heaviest`](crate::SparseAttention::heaviest).
    pub(in crate::cuda) fn heaviest_tiles(
        &self,
        weights: View<'_, f32>,
        heads: usize,
        key_tiles: usize,
        own: &[Range<u32>],
        share: f32,
    ) -> Result<Vec<u32>, CudaError> {
        assert_eq!(weights.len(), heads * own.len() * key_tiles, "weights of tiles");
        let (words, query_tiles) = (key_tiles.div_ceil(32), own.len());
        let rows = int("the number of rows", heads * query_tiles)?;
        let ends: Vec<u32> = own.iter().flat_map(|own| [own.start, own.end]).collect();
        let ends = Buffer::from_slice(&self.device, &ends)?;
        let bits = Buffer::<u32>::uninit(&self.device, heads * query_tiles * words)?;
        let (ends, bits) = (ends.view(), bits.view());
        let [tiles, query_tiles] = [key_tiles, query_tiles].map(|n| n as i32);
        let arguments: [&dyn Argument; 6] = [&weights, &ends, &bits, &tiles, &query_tiles, &share];
        let (grid, shared) = ([rows as u32, 1, 1], (key_tiles * size_of::<f32>()) as u32);
        // It is the same for heads of any size: those that exist were used for the weights.
        let kernels = match self.sparse.any() {
            Some(kernels) => kernels,
            None => self.sparse_kernels(64)?,
        };
        let kernel = &kernels.heaviest;
        // SAFETY: the kernel's parameters, in its order; a block writes the words of its row.
        unsafe { kernel.launch(grid, [COARSE_THREADS, 1, 1], shared, &arguments)? };
        bits.to_vec()
    }
}
