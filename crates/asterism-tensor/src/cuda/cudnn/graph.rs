//! A graph of operations, as cuDNN takes it.

use cudarc::cudnn::sys::{
    cudnnBackendAttributeName_t as Name, cudnnBackendDescriptor_t,
    cudnnBackendDescriptorType_t as Kind, cudnnDataType_t as Data, cudnnHandle_t,
    cudnnPointwiseMode_t as Pointwise, cudnnReduceTensorOp_t as Reduce,
};

use super::descriptor::Descriptor;
use super::{ALIGNMENT, Bound};
use crate::cuda::error::CudaError;

/// The number of the first tensor that is not [`Bound`] to memory.
const FIRST_VIRTUAL: i64 = 100;

/// Operations on tensors. The descriptors refer to each other: kept in order of creation,
/// dropped from the last on.
pub(super) struct Graph {
    descriptors: Vec<Descriptor>,
    operations: Vec<cudnnBackendDescriptor_t>,
    virtuals: i64,
}

impl Drop for Graph {
    fn drop(&mut self) {
        while self.descriptors.pop().is_some() {}
    }
}

/// A tensor of a graph.
#[derive(Clone, Copy)]
pub(super) struct Tensor(cudnnBackendDescriptor_t);

/// Dimensions and strides, in elements: one batch, heads, rows, columns.
pub(super) type Layout = ([i64; 4], [i64; 4]);

impl Graph {
    pub(super) fn new() -> Self {
        Self { descriptors: Vec::new(), operations: Vec::new(), virtuals: 0 }
    }

    /// Ends describing: cuDNN checks the whole.
    pub(super) fn finalize(&mut self, handle: cudnnHandle_t) -> Result<(), CudaError> {
        let mut whole = Descriptor::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?;
        whole.set(Name::CUDNN_ATTR_OPERATIONGRAPH_HANDLE, handle)?;
        whole.refer(Name::CUDNN_ATTR_OPERATIONGRAPH_OPS, &self.operations)?;
        whole.finalize()?;
        self.descriptors.push(whole);
        Ok(())
    }

    /// The descriptor of the whole, once it is finalized.
    pub(super) fn whole(&self) -> cudnnBackendDescriptor_t {
        self.descriptors.last().map_or(std::ptr::null_mut(), Descriptor::raw)
    }

    /// The index of each element along `axis`.
    pub(super) fn index(
        &mut self,
        s: Tensor,
        axis: i64,
        scores: Layout,
    ) -> Result<Tensor, CudaError> {
        let out = self.virtual_tensor(Data::CUDNN_DATA_INT32, scores)?;
        let mut how = Descriptor::new(Kind::CUDNN_BACKEND_POINTWISE_DESCRIPTOR)?;
        how.set(Name::CUDNN_ATTR_POINTWISE_MODE, Pointwise::CUDNN_POINTWISE_GEN_INDEX)?;
        how.set(Name::CUDNN_ATTR_POINTWISE_MATH_PREC, Data::CUDNN_DATA_INT32)?;
        how.set(Name::CUDNN_ATTR_POINTWISE_AXIS, axis)?;
        self.apply(how, &[s], out)?;
        Ok(out)
    }

    pub(super) fn unary(
        &mut self,
        mode: Pointwise,
        x: Tensor,
        layout: Layout,
    ) -> Result<Tensor, CudaError> {
        let out = self.virtual_tensor(Data::CUDNN_DATA_FLOAT, layout)?;
        self.pointwise(mode, Data::CUDNN_DATA_FLOAT, &[x], out)?;
        Ok(out)
    }

    pub(super) fn binary(
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

    pub(super) fn pointwise(
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

    pub(super) fn reduce(
        &mut self,
        mode: Reduce,
        x: Tensor,
        layout: Layout,
    ) -> Result<Tensor, CudaError> {
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

    /// `out = a b`.
    pub(super) fn matmul(&mut self, a: Tensor, b: Tensor, out: Tensor) -> Result<(), CudaError> {
        let mut how = Descriptor::new(Kind::CUDNN_BACKEND_MATMUL_DESCRIPTOR)?;
        how.set(Name::CUDNN_ATTR_MATMUL_COMP_TYPE, Data::CUDNN_DATA_FLOAT)?;
        how.finalize()?;
        let mut operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR)?;
        operation.refer(Name::CUDNN_ATTR_OPERATION_MATMUL_ADESC, &[a.0])?;
        operation.refer(Name::CUDNN_ATTR_OPERATION_MATMUL_BDESC, &[b.0])?;
        operation.refer(Name::CUDNN_ATTR_OPERATION_MATMUL_CDESC, &[out.0])?;
        operation.refer(Name::CUDNN_ATTR_OPERATION_MATMUL_DESC, &[how.raw()])?;
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
    pub(super) fn stored(
        &mut self,
        bound: Bound,
        data: Data,
        layout: Layout,
    ) -> Result<Tensor, CudaError> {
        self.tensor(bound as i64, data, layout, |_| Ok(()))
    }

    /// A single number in the host's memory, read at each execution.
    pub(super) fn value(&mut self, bound: Bound, data: Data) -> Result<Tensor, CudaError> {
        self.tensor(bound as i64, data, ([1; 4], [1; 4]), |tensor| {
            tensor.set(Name::CUDNN_ATTR_TENSOR_IS_BY_VALUE, true)
        })
    }

    /// A tensor that only ever exists inside the fused kernel.
    pub(super) fn virtual_tensor(
        &mut self,
        data: Data,
        layout: Layout,
    ) -> Result<Tensor, CudaError> {
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
        tensor.set(Name::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, ALIGNMENT)?;
        mark(&mut tensor)?;
        tensor.finalize()?;
        let handle = Tensor(tensor.raw());
        self.descriptors.push(tensor);
        Ok(handle)
    }
}
