//! What cuBLASLt has to know of a product, and the algorithm it chooses for it.

#![allow(unsafe_code)]

use std::ptr::null_mut;

use cudarc::cublaslt::sys::{
    self as lt, cublasComputeType_t, cublasLtHandle_t, cublasLtMatmulAlgo_t, cublasLtMatmulDesc_t,
    cublasLtMatmulDescAttributes_t as DescAttribute, cublasLtMatmulHeuristicResult_t,
    cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t as Preference,
    cublasLtMatrixLayout_t, cublasStatus_t, cudaDataType_t as DataType,
};

use super::check;
use crate::cuda::error::CudaError;

/// Working memory of the products, in bytes: what cuBLAS itself takes on Hopper.
pub(super) const WORKSPACE: usize = 32 << 20;
/// The library's kernels care about addresses up to multiples of this.
pub(super) const MAX_ALIGNMENT: u32 = 256;

/// cuBLAS's `CUBLAS_OP_T`: transpose the matrix.
const TRANSPOSE: i32 = 1;
/// What the choice of an algorithm depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) product: Product,
    /// The largest power of two, up to [`MAX_ALIGNMENT`], that all addresses are multiples of.
    pub(super) alignment: u32,
}

/// What becomes of the product.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Product {
    /// Rounded to bf16.
    Bf16,
    /// Stored as f32.
    F32,
    /// Added to what is there, in f32.
    Added,
}

/// A product of given shapes and the algorithm chosen for it.
pub(super) struct Plan {
    pub(super) operation: Operation,
    pub(super) w: Layout,
    pub(super) x: Layout,
    pub(super) y: Layout,
    pub(super) algorithm: cublasLtMatmulAlgo_t,
}

// SAFETY: descriptors belong to no thread, and nothing changes them once the plan is made.
unsafe impl Send for Plan {}
// SAFETY: as above.
unsafe impl Sync for Plan {}

impl Plan {
    pub(super) fn new(handle: cublasLtHandle_t, key: Key) -> Result<Self, CudaError> {
        let Key { rows, inputs, outputs, product, alignment } = key;
        let output = match product {
            Product::Bf16 => DataType::CUDA_R_16BF,
            Product::F32 | Product::Added => DataType::CUDA_R_32F,
        };
        let operation = Operation::transposed()?;
        let w = Layout::new(DataType::CUDA_R_16BF, inputs, outputs)?;
        let x = Layout::new(DataType::CUDA_R_16BF, inputs, rows)?;
        let y = Layout::new(output, outputs, rows)?;
        let limits = Limits::new(alignment)?;

        let mut found = 0;
        // SAFETY: all-zero is a valid value of this plain C struct (0 is success).
        let mut best: cublasLtMatmulHeuristicResult_t = unsafe { std::mem::zeroed() };
        // SAFETY: all descriptors are alive; the call writes at most one result and their number.
        let status = unsafe {
            lt::cublasLtMatmulAlgoGetHeuristic(
                handle,
                operation.0,
                w.0,
                x.0,
                y.0,
                y.0,
                limits.0,
                1,
                &mut best,
                &mut found,
            )
        };
        if status == cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED || found == 0 {
            let what = format!(
                "a bf16 product of {rows} rows by {outputs}x{inputs} weights at addresses that \
                 are multiples of {alignment}"
            );
            return Err(CudaError::Unsupported { what });
        }
        check("cublasLtMatmulAlgoGetHeuristic", status)?;
        check("cublasLtMatmulAlgoGetHeuristic", best.state)?;
        Ok(Self { operation, w, x, y, algorithm: best.algo })
    }
}

/// A product with f32 sums whose first matrix is transposed.
pub(super) struct Operation(pub(super) cublasLtMatmulDesc_t);

impl Operation {
    fn transposed() -> Result<Self, CudaError> {
        let mut operation = Self(null_mut());
        let (sums, scalars) = (cublasComputeType_t::CUBLAS_COMPUTE_32F, DataType::CUDA_R_32F);
        // SAFETY: the library is loaded; the call writes the descriptor.
        check("cublasLtMatmulDescCreate", unsafe {
            lt::cublasLtMatmulDescCreate(&mut operation.0, sums, scalars)
        })?;
        let transpose = TRANSPOSE;
        // SAFETY: the attribute is one 32-bit number, copied by the call.
        check("cublasLtMatmulDescSetAttribute", unsafe {
            lt::cublasLtMatmulDescSetAttribute(
                operation.0,
                DescAttribute::CUBLASLT_MATMUL_DESC_TRANSA,
                (&raw const transpose).cast(),
                size_of::<i32>(),
            )
        })?;
        Ok(operation)
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: created once, destroyed once.
            let _ = unsafe { lt::cublasLtMatmulDescDestroy(self.0) };
        }
    }
}

/// A dense matrix, first index fastest.
pub(super) struct Layout(pub(super) cublasLtMatrixLayout_t);

impl Layout {
    fn new(elements: DataType, first: usize, second: usize) -> Result<Self, CudaError> {
        let mut layout = Self(null_mut());
        let (first, second) = (first as u64, second as u64);
        // SAFETY: the library is loaded; the call writes the descriptor.
        check("cublasLtMatrixLayoutCreate", unsafe {
            lt::cublasLtMatrixLayoutCreate(&mut layout.0, elements, first, second, first as i64)
        })?;
        Ok(layout)
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: created once, destroyed once.
            let _ = unsafe { lt::cublasLtMatrixLayoutDestroy(self.0) };
        }
    }
}

/// What an algorithm may count on: the working memory and the alignment of all matrices.
struct Limits(cublasLtMatmulPreference_t);

impl Limits {
    fn new(alignment: u32) -> Result<Self, CudaError> {
        let mut limits = Self(null_mut());
        // SAFETY: the library is loaded; the call writes the descriptor.
        check("cublasLtMatmulPreferenceCreate", unsafe {
            lt::cublasLtMatmulPreferenceCreate(&mut limits.0)
        })?;
        limits.set(Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, WORKSPACE as u64)?;
        for matrix in [
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ] {
            limits.set(matrix, alignment)?;
        }
        Ok(limits)
    }

    fn set<T: bytemuck::Pod>(&self, attribute: Preference, value: T) -> Result<(), CudaError> {
        // SAFETY: the descriptor is alive; the call copies the value, and refuses a wrong size.
        check("cublasLtMatmulPreferenceSetAttribute", unsafe {
            lt::cublasLtMatmulPreferenceSetAttribute(
                self.0,
                attribute,
                (&raw const value).cast(),
                size_of::<T>(),
            )
        })
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: created once, destroyed once.
            let _ = unsafe { lt::cublasLtMatmulPreferenceDestroy(self.0) };
        }
    }
}
