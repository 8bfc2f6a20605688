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
//! Grouped-query attention is what comes of `k` and `v` with fewer heads than `q`. With padding,
//! shapes are upper bounds and the lengths in use are read from the device: what lies beyond them is
//! masked, and the products are told not to go there.

use cudarc::cudnn::sys::{
    cudnnBackendAttributeName_t as Name, cudnnBackendDescriptor_t,
    cudnnBackendDescriptorType_t as Kind, cudnnDataType_t as Data, cudnnHandle_t,
    cudnnPointwiseMode_t as Pointwise, cudnnReduceTensorOp_t as Reduce,
};

use super::descriptor::Descriptor;
use super::{Bound, Key};
use crate::tensor::cuda::error::CudaError;

/// The number of the first tensor that is not [`Bound`] to memory.
const FIRST_VIRTUAL: i64 = 100;

/// The operations of an attention. The descriptors refer to each other: kept in order of creation,
/// dropped from the last on.
pub(super) struct Graph {
    descriptors: Vec<Descriptor>,
    operations: Vec<cudnnBackendDescriptor_t>,
    virtuals: i64,
    key: Key,
}

impl Drop for Graph {
    fn drop(&mut self) {
        while self.descriptors.pop().is_some() {}
    }
}

/// A tensor of a graph.
#[derive(Clone, Copy)]
struct Tensor(cudnnBackendDescriptor_t);

/// Dimensions and strides, in elements: one batch, heads, rows, columns.
type Layout = ([i64; 4], [i64; 4]);

impl Graph {
    /// The graph of an attention of the shapes in `key`, finalized.
    pub(super) fn attention(handle: cudnnHandle_t, key: Key) -> Result<Self, CudaError> {
        let mut graph = Self { descriptors: Vec::new(), operations: Vec::new(), virtuals: 0, key };
        graph.describe()?;
        let mut whole = Descriptor::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?;
        whole.set(Name::CUDNN_ATTR_OPERATIONGRAPH_HANDLE, handle)?;
        whole.refer(Name::CUDNN_ATTR_OPERATIONGRAPH_OPS, &graph.operations)?;
        whole.finalize()?;
        graph.descriptors.push(whole);
        Ok(graph)
    }

    /// The descriptor of the whole.
    pub(super) fn whole(&self) -> cudnnBackendDescriptor_t {
        self.descriptors.last().map_or(std::ptr::null_mut(), Descriptor::raw)
    }

    fn describe(&mut self) -> Result<(), CudaError> {
        let Key { tokens, keys, shape, causal, padded } = self.key;
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
        let lengths = match (padded, causal) {
            (true, _) => {
                let one = ([1; 4], [1; 4]);
                let length = Data::CUDNN_DATA_INT32;
                Some((
                    self.stored(Bound::Tokens, length, one)?,
                    self.stored(Bound::Keys, length, one)?,
                ))
            }
            (false, true) => {
                let length = Data::CUDNN_DATA_INT32;
                Some((self.value(Bound::Tokens, length)?, self.value(Bound::Keys, length)?))
            }
            (false, false) => None,
        };
        let limits = lengths.filter(|_| padded);

        let float = Data::CUDNN_DATA_FLOAT;
        let s = self.virtual_tensor(float, scores)?;
        let first = limits.map(|(tokens, keys)| {
            [
                (Name::CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, tokens),
                (Name::CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC, keys),
            ]
        });
        self.matmul(q, k, s, first, padded)?;
        let mut s = self.binary(Pointwise::CUDNN_POINTWISE_MUL, float, s, scale, scores)?;
        if let Some((tokens, keys)) = limits {
            s = self.mask_padding(s, scores, tokens, keys)?;
        }
        if let Some((tokens, keys)) = lengths.filter(|_| causal) {
            s = self.mask_causal(s, scores, tokens, keys)?;
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
        let second = limits.map(|(tokens, keys)| {
            [
                (Name::CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, tokens),
                (Name::CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC, keys),
            ]
        });
        self.matmul(p, v, out, second, false)
    }

    /// `s` where the row and the column are in use, minus infinity elsewhere.
    fn mask_padding(
        &mut self,
        s: Tensor,
        scores: Layout,
        tokens: Tensor,
        keys: Tensor,
    ) -> Result<Tensor, CudaError> {
        let (row, column) = (self.index(s, 2, scores)?, self.index(s, 3, scores)?);
        let truth = Data::CUDNN_DATA_BOOLEAN;
        let row = self.binary(Pointwise::CUDNN_POINTWISE_CMP_LT, truth, row, tokens, scores)?;
        let column = self.binary(Pointwise::CUDNN_POINTWISE_CMP_LT, truth, column, keys, scores)?;
        let both =
            self.binary(Pointwise::CUDNN_POINTWISE_LOGICAL_AND, truth, row, column, scores)?;
        self.select(s, both, scores)
    }

    /// `s` where the key is not after the query, the last of both being aligned; minus infinity
    /// elsewhere.
    fn mask_causal(
        &mut self,
        s: Tensor,
        scores: Layout,
        tokens: Tensor,
        keys: Tensor,
    ) -> Result<Tensor, CudaError> {
        let integer = Data::CUDNN_DATA_INT32;
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

    /// The index of each element along `axis`.
    fn index(&mut self, s: Tensor, axis: i64, scores: Layout) -> Result<Tensor, CudaError> {
        let out = self.virtual_tensor(Data::CUDNN_DATA_INT32, scores)?;
        let mut how = Descriptor::new(Kind::CUDNN_BACKEND_POINTWISE_DESCRIPTOR)?;
        how.set(Name::CUDNN_ATTR_POINTWISE_MODE, Pointwise::CUDNN_POINTWISE_GEN_INDEX)?;
        how.set(Name::CUDNN_ATTR_POINTWISE_MATH_PREC, Data::CUDNN_DATA_INT32)?;
        how.set(Name::CUDNN_ATTR_POINTWISE_AXIS, axis)?;
        self.apply(how, &[s], out)?;
        Ok(out)
    }

    fn unary(&mut self, mode: Pointwise, x: Tensor, layout: Layout) -> Result<Tensor, CudaError> {
        let out = self.virtual_tensor(Data::CUDNN_DATA_FLOAT, layout)?;
        self.pointwise(mode, Data::CUDNN_DATA_FLOAT, &[x], out)?;
        Ok(out)
    }

    fn binary(
        &mut self,
        mode: Pointwise,
        data: Data,
        a: Tensor,
        b: Tensor,
        layout: Layout,
    ) -> Result<Tensor, CudaError> {
        let out = self.virtual_tensor(data, layout)?;
        self.pointwise(mode, data, &[a, b], out)?;
        Ok(out)
    }

    fn pointwise(
        &mut self,
        mode: Pointwise,
        precision: Data,
        inputs: &[Tensor],
        out: Tensor,
    ) -> Result<(), CudaError> {
        let mut how = Descriptor::new(Kind::CUDNN_BACKEND_POINTWISE_DESCRIPTOR)?;
        how.set(Name::CUDNN_ATTR_POINTWISE_MODE, mode)?;
        how.set(Name::CUDNN_ATTR_POINTWISE_MATH_PREC, precision)?;
        self.apply(how, inputs, out)
    }

    fn apply(
        &mut self,
        mut how: Descriptor,
        inputs: &[Tensor],
        out: Tensor,
    ) -> Result<(), CudaError> {
        how.finalize()?;
        let mut operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)?;
        operation.refer(Name::CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, &[how.raw()])?;
        let names = [
            Name::CUDNN_ATTR_OPERATION_POINTWISE_XDESC,
            Name::CUDNN_ATTR_OPERATION_POINTWISE_BDESC,
            Name::CUDNN_ATTR_OPERATION_POINTWISE_TDESC,
        ];
        for (name, input) in names.into_iter().zip(inputs) {
            operation.refer(name, &[input.0])?;
        }
        operation.refer(Name::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, &[out.0])?;
        self.add(how, operation)
    }

    fn reduce(&mut self, mode: Reduce, x: Tensor, layout: Layout) -> Result<Tensor, CudaError> {
        let out = self.virtual_tensor(Data::CUDNN_DATA_FLOAT, layout)?;
        let mut how = Descriptor::new(Kind::CUDNN_BACKEND_REDUCTION_DESCRIPTOR)?;
        how.set(Name::CUDNN_ATTR_REDUCTION_COMP_TYPE, Data::CUDNN_DATA_FLOAT)?;
        how.set(Name::CUDNN_ATTR_REDUCTION_OPERATOR, mode)?;
        how.finalize()?;
        let mut operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR)?;
        operation.refer(Name::CUDNN_ATTR_OPERATION_REDUCTION_XDESC, &[x.0])?;
        operation.refer(Name::CUDNN_ATTR_OPERATION_REDUCTION_YDESC, &[out.0])?;
        operation.refer(Name::CUDNN_ATTR_OPERATION_REDUCTION_DESC, &[how.raw()])?;
        self.add(how, operation)?;
        Ok(out)
    }

    /// `out = a b`, at most as far as the `limits` (lengths on the device) say.
    fn matmul(
        &mut self,
        a: Tensor,
        b: Tensor,
        out: Tensor,
        limits: Option<[(Name, Tensor); 2]>,
        pad: bool,
    ) -> Result<(), CudaError> {
        let mut how = Descriptor::new(Kind::CUDNN_BACKEND_MATMUL_DESCRIPTOR)?;
        how.set(Name::CUDNN_ATTR_MATMUL_COMP_TYPE, Data::CUDNN_DATA_FLOAT)?;
        if pad {
            how.set(Name::CUDNN_ATTR_MATMUL_PADDING_VALUE, 0.0f64)?;
        }
        how.finalize()?;
        let mut operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR)?;
        operation.refer(Name::CUDNN_ATTR_OPERATION_MATMUL_ADESC, &[a.0])?;
        operation.refer(Name::CUDNN_ATTR_OPERATION_MATMUL_BDESC, &[b.0])?;
        operation.refer(Name::CUDNN_ATTR_OPERATION_MATMUL_CDESC, &[out.0])?;
        operation.refer(Name::CUDNN_ATTR_OPERATION_MATMUL_DESC, &[how.raw()])?;
        for (name, length) in limits.into_iter().flatten() {
            operation.refer(name, &[length.0])?;
        }
        self.add(how, operation)
    }

    /// Finalizes an operation and keeps it, behind what it refers to.
    fn add(&mut self, how: Descriptor, mut operation: Descriptor) -> Result<(), CudaError> {
        operation.finalize()?;
        self.operations.push(operation.raw());
        self.descriptors.push(how);
        self.descriptors.push(operation);
        Ok(())
    }

    /// A tensor in the device's memory.
    fn stored(&mut self, bound: Bound, data: Data, layout: Layout) -> Result<Tensor, CudaError> {
        self.tensor(bound as i64, data, layout, |_| Ok(()))
    }

    /// A single number in the host's memory, read at each execution.
    fn value(&mut self, bound: Bound, data: Data) -> Result<Tensor, CudaError> {
        self.tensor(bound as i64, data, ([1; 4], [1; 4]), |tensor| {
            tensor.set(Name::CUDNN_ATTR_TENSOR_IS_BY_VALUE, true)
        })
    }

    /// A tensor that only ever exists inside the fused kernel.
    fn virtual_tensor(&mut self, data: Data, layout: Layout) -> Result<Tensor, CudaError> {
        self.virtuals += 1;
        self.tensor(FIRST_VIRTUAL + self.virtuals, data, layout, |tensor| {
            tensor.set(Name::CUDNN_ATTR_TENSOR_IS_VIRTUAL, true)
        })
    }

    fn tensor(
        &mut self,
        uid: i64,
        data: Data,
        (dims, strides): Layout,
        mark: impl FnOnce(&mut Descriptor) -> Result<(), CudaError>,
    ) -> Result<Tensor, CudaError> {
        let mut tensor = Descriptor::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, uid)?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_DATA_TYPE, data)?;
        tensor.set_all(Name::CUDNN_ATTR_TENSOR_DIMENSIONS, &dims)?;
        tensor.set_all(Name::CUDNN_ATTR_TENSOR_STRIDES, &strides)?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 16i64)?;
        mark(&mut tensor)?;
        tensor.finalize()?;
        let handle = Tensor(tensor.raw());
        self.descriptors.push(tensor);
        Ok(handle)
    }
}
