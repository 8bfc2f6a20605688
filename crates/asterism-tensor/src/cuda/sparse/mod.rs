//! Attention over some tiles of keys, and the estimates that choose them.

mod attend;
mod coarse;
mod heaviest;
pub(super) mod kernels;
mod lines;

use super::kv::Kv;
use super::queries::Keys;
use super::{Buffer, Cuda, CudaError, View};
use crate::{HeadShape, Segment};
use half::bf16;
use kernels::SparseKernels;
use std::sync::Arc;

/// Keys and values in bf16; `unpacked` holds what had to be made for that.
fn keys_of<'a>(
    cuda: &Cuda,
    shape: HeadShape,
    segments: &[Segment<'a, Cuda>],
    unpacked: &'a mut Vec<[Option<Buffer<bf16>>; 2]>,
) -> Result<Vec<Keys<'a, View<'a, bf16>>>, CudaError> {
    unpacked.resize_with(segments.len(), Default::default);
    let mut keys = Vec::with_capacity(segments.len());
    for (segment, [of_keys, of_values]) in segments.iter().zip(unpacked) {
        assert!(segment.hidden.is_none(), "keys are hidden by the mask here");
        assert!(segment.kept.is_none(), "heads have the keys of all tokens while they are encoded");
        keys.push(Keys {
            keys: Kv::view(segment.keys)?.bf16(&cuda.rows, shape, of_keys)?,
            values: Kv::view(segment.values)?.bf16(&cuda.rows, shape, of_values)?,
            tokens: segment.tokens,
            start: segment.start,
            hidden: None,
            kept: None,
        });
    }
    Ok(keys)
}

impl Cuda {
    fn sparse_kernels(&self, head_dim: usize) -> Result<Arc<SparseKernels>, CudaError> {
        self.sparse.of(head_dim, || SparseKernels::compile(&self.device, head_dim))
    }
}
