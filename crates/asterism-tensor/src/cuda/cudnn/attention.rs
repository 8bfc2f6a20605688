//! Attention as a graph of operations, in the pattern cuDNN has fused kernels for.
//!
//! ```text
//! s = scale q k^T                              [1, heads, tokens, keys], f32, never stored
//! s = row + keys - tokens >= column ? s : -inf (causal only)
//! m = max_j s,  e = exp(s - m),  z = sum_j e
//! stats = m + ln z                             [1, heads, tokens, 1]
//! out = (e / z) v
//! ```
//!
//! Grouped-query attention is what comes of `k` and `v` with fewer heads than `q`.

use cudarc::cudnn::sys::{
    cudnnDataType_t as Data, cudnnHandle_t, cudnnPointwiseMode_t as Pointwise,
    cudnnReduceTensorOp_t as Reduce,
};

use super::graph::{Graph, Layout, Tensor};
use super::{Bound, Key};
use crate::cuda::error::CudaError;

impl Graph {
    /// The graph of an attention of the shapes in `key`, finalized.
    pub(super) fn attention(handle: cudnnHandle_t, key: Key) -> Result<Self, CudaError> {
        let mut graph = Self::new();
        graph.describe(key)?;
        graph.finalize(handle)?;
        Ok(graph)
    }

    fn describe(&mut self, key: Key) -> Result<(), CudaError> {
        let Key { tokens, keys, shape, causal } = key;
        let [tokens, keys, heads, kv_heads, dim] =
            [tokens, keys, shape.heads, shape.kv_heads, shape.head_dim].map(|size| size as i64);
        // Token after token, in each its heads, in each its elements.
        let rows = |count: i64, heads: i64| -> Layout {
            ([1, heads, count, dim], [count * heads * dim, dim, heads * dim, 1])
        };
        let (dims, strides) = rows(keys, kv_heads);
        let transposed = (
            [dims[0], dims[1], dims[3], dims[2]],
            [strides[0], strides[1], strides[3], strides[2]],
        );
        let scores: Layout =
            ([1, heads, tokens, keys], [heads * tokens * keys, tokens * keys, keys, 1]);
        let per_row: Layout = ([1, heads, tokens, 1], [heads * tokens, tokens, 1, 1]);

        let q = self.stored(Bound::Q, Data::CUDNN_DATA_BFLOAT16, rows(tokens, heads))?;
        let k = self.stored(Bound::K, Data::CUDNN_DATA_BFLOAT16, transposed)?;
        let v = self.stored(Bound::V, Data::CUDNN_DATA_BFLOAT16, rows(keys, kv_heads))?;
        let out = self.stored(Bound::Out, Data::CUDNN_DATA_BFLOAT16, rows(tokens, heads))?;
        let stats = self.stored(Bound::Stats, Data::CUDNN_DATA_FLOAT, per_row)?;
        let scale = self.value(Bound::Scale, Data::CUDNN_DATA_FLOAT)?;
        let float = Data::CUDNN_DATA_FLOAT;
        let s = self.virtual_tensor(float, scores)?;
        self.matmul(q, k, s)?;
        let mut s = self.binary(Pointwise::CUDNN_POINTWISE_MUL, float, s, scale, scores)?;
        if causal {
            s = self.mask_causal(s, scores)?;
        }

        let max = self.reduce(Reduce::CUDNN_REDUCE_TENSOR_MAX, s, per_row)?;
        let shifted = self.binary(Pointwise::CUDNN_POINTWISE_SUB, float, s, max, scores)?;
        let e = self.unary(Pointwise::CUDNN_POINTWISE_EXP, shifted, scores)?;
        let z = self.reduce(Reduce::CUDNN_REDUCE_TENSOR_ADD, e, per_row)?;
        let ln_z = self.unary(Pointwise::CUDNN_POINTWISE_LOG, z, per_row)?;
        self.pointwise(Pointwise::CUDNN_POINTWISE_ADD, float, &[max, ln_z], stats)?;
        // The second product takes its inputs in bf16.
        let p = self.virtual_tensor(Data::CUDNN_DATA_BFLOAT16, scores)?;
        self.pointwise(Pointwise::CUDNN_POINTWISE_DIV, float, &[e, z], p)?;
        self.matmul(p, v, out)
    }

    /// `s` where the key is not after the query, the last of both being aligned; minus infinity
    /// elsewhere.
    fn mask_causal(&mut self, s: Tensor, scores: Layout) -> Result<Tensor, CudaError> {
        let integer = Data::CUDNN_DATA_INT32;
        let tokens = self.value(Bound::Tokens, integer)?;
        let keys = self.value(Bound::Keys, integer)?;
        let row = self.index(s, 2, scores)?;
        let row = self.binary(Pointwise::CUDNN_POINTWISE_ADD, integer, row, keys, scores)?;
        let last = self.binary(Pointwise::CUDNN_POINTWISE_SUB, integer, row, tokens, scores)?;
        let column = self.index(s, 3, scores)?;
        let truth = Data::CUDNN_DATA_BOOLEAN;
        let seen = self.binary(Pointwise::CUDNN_POINTWISE_CMP_GE, truth, last, column, scores)?;
        self.select(s, seen, scores)
    }

    fn select(&mut self, s: Tensor, keep: Tensor, scores: Layout) -> Result<Tensor, CudaError> {
        let out = self.virtual_tensor(Data::CUDNN_DATA_FLOAT, scores)?;
        let masked = self.value(Bound::Masked, Data::CUDNN_DATA_FLOAT)?;
        let mode = Pointwise::CUDNN_POINTWISE_BINARY_SELECT;
        self.pointwise(mode, Data::CUDNN_DATA_FLOAT, &[s, masked, keep], out)?;
        Ok(out)
    }
}
