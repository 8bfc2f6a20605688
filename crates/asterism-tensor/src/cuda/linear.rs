//! Linear layers: `y = x W^T` in bf16 with sums in f32, by cuBLASLt.
//!
//! The library counts columns first; a row-major matrix is its transpose to it. So it is asked for
//! `y^T = W x^T`: `W` as stored is `[inputs, outputs]` to it and to be transposed, `x` is
//! `[inputs, rows]`, and the product `[outputs, rows]` is our `y` of `[rows, outputs]`.

#![allow(unsafe_code)]

mod plan;

use std::collections::HashMap;
use std::ffi::{CStr, c_void};
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cublaslt::sys::{self as lt, cublasLtHandle_t, cublasStatus_t};
use cudarc::driver::sys::CUdeviceptr;
use half::bf16;

use super::buffer::Buffer;
use super::device::Device;
use super::error::CudaError;
use super::libraries;
use super::view::{View, ViewMut, same_device, same_length};
use plan::{Key, MAX_ALIGNMENT, Plan, Product, WORKSPACE};

/// The matrix products of one device. Any number of threads may use it at once.
pub struct Gemm {
    device: Arc<Device>,
    handle: cublasLtHandle_t,
    /// Written by one product after the other, as the stream runs them.
    workspace: Buffer<u8>,
    /// Held while a product is enqueued: kernels of another thread's must not come between its own,
    /// which use the workspace.
    enqueuing: Mutex<()>,
    plans: Mutex<HashMap<Key, Arc<Plan>>>,
}

// SAFETY: the library's handle may be used by several threads at once.
unsafe impl Send for Gemm {}
// SAFETY: as above.
unsafe impl Sync for Gemm {}

impl Gemm {
    /// Loads cuBLASLt for `device` and takes its working memory (32 MiB).
    ///
    /// # Errors
    /// [`CudaError::Missing`] without the library, [`CudaError::OutOfMemory`], or a failed call.
    pub fn new(device: &Arc<Device>) -> Result<Self, CudaError> {
        libraries::cublaslt()?;
        device.bind()?;
        let workspace = Buffer::uninit(device, WORKSPACE)?;
        let mut handle = null_mut();
        // SAFETY: the library is loaded and the device's context current; the call writes a handle.
        check("cublasLtCreate", unsafe { lt::cublasLtCreate(&mut handle) })?;
        let device = device.clone();
        Ok(Self { device, handle, workspace, enqueuing: Mutex::default(), plans: Mutex::default() })
    }

    /// `y = x W^T`, rounded to bf16: `x` is `[rows, inputs]`, `w` is `[outputs, inputs]` and `y` is
    /// `[rows, outputs]`, all row-major. Does not wait.
    ///
    /// # Errors
    /// [`CudaError::Length`] and [`CudaError::OtherDevice`] for views that do not fit;
    /// [`CudaError::Unsupported`] if the library has no algorithm for the shape; a failed call.
    pub fn bf16(
        &self,
        x: View<'_, bf16>,
        w: View<'_, bf16>,
        (rows, inputs, outputs): (usize, usize, usize),
        y: ViewMut<'_, bf16>,
    ) -> Result<(), CudaError> {
        same_length("y", rows * outputs, y.len())?;
        same_device("y", &self.device, y.device())?;
        self.device.keep([y.memory]);
        self.product(x, w, (rows, inputs, outputs), Product::Bf16, y.pointer)
    }

    /// As [`Self::bf16`], with `y` in f32.
    ///
    /// # Errors
    /// As [`Self::bf16`].
    pub fn f32(
        &self,
        x: View<'_, bf16>,
        w: View<'_, bf16>,
        (rows, inputs, outputs): (usize, usize, usize),
        y: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        same_length("y", rows * outputs, y.len())?;
        same_device("y", &self.device, y.device())?;
        self.device.keep([y.memory]);
        self.product(x, w, (rows, inputs, outputs), Product::F32, y.pointer)
    }

    /// `y += x W^T` in f32: a layer's output added to the residual stream.
    ///
    /// # Errors
    /// As [`Self::bf16`].
    pub fn accumulate(
        &self,
        x: View<'_, bf16>,
        w: View<'_, bf16>,
        (rows, inputs, outputs): (usize, usize, usize),
        y: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        same_length("y", rows * outputs, y.len())?;
        same_device("y", &self.device, y.device())?;
        self.device.keep([y.memory]);
        self.product(x, w, (rows, inputs, outputs), Product::Added, y.pointer)
    }

    fn product(
        &self,
        x: View<'_, bf16>,
        w: View<'_, bf16>,
        (rows, inputs, outputs): (usize, usize, usize),
        product: Product,
        y: CUdeviceptr,
    ) -> Result<(), CudaError> {
        same_length("x", rows * inputs, x.len())?;
        same_length("the weights", outputs * inputs, w.len())?;
        same_device("x", &self.device, x.device())?;
        same_device("the weights", &self.device, w.device())?;
        if rows == 0 || outputs == 0 {
            return Ok(());
        }
        if inputs == 0 {
            return Err(CudaError::Unsupported { what: "a product over no inputs".into() });
        }
        self.device.bind()?;
        self.device.keep([x.memory, w.memory, self.workspace.view().memory]);
        let addresses = x.pointer | w.pointer | y;
        let alignment = 1 << addresses.trailing_zeros().min(MAX_ALIGNMENT.ilog2());
        let plan = self.plan(Key { rows, inputs, outputs, product, alignment })?;
        let alpha = 1.0f32;
        let beta = if product == Product::Added { 1.0f32 } else { 0.0 };
        let _alone = self.enqueuing.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the views hold the matrices the plan's layouts describe; C and D are both `y`,
        // with one layout, which the library allows. The scalars are f32, as the plan says, and
        // read before the call returns. The workspace is at least as long as the plan's, and used
        // on this one stream only.
        check("cublasLtMatmul", unsafe {
            lt::cublasLtMatmul(
                self.handle,
                plan.operation.0,
                (&raw const alpha).cast(),
                w.pointer as *const c_void,
                plan.w.0,
                x.pointer as *const c_void,
                plan.x.0,
                (&raw const beta).cast(),
                y as *const c_void,
                plan.y.0,
                y as *mut c_void,
                plan.y.0,
                &plan.algorithm,
                self.workspace.view().pointer as *mut c_void,
                WORKSPACE,
                self.device.stream().cast(),
            )
        })
    }

    /// The plan for `key`, made at its first use.
    fn plan(&self, key: Key) -> Result<Arc<Plan>, CudaError> {
        // A panic elsewhere leaves the map as it was before or after an insertion: both are fine.
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(&key) {
            return Ok(plan.clone());
        }
        let plan = Arc::new(Plan::new(self.handle, key)?);
        plans.insert(key, plan.clone());
        Ok(plan)
    }
}

impl Drop for Gemm {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: created once, destroyed once; plans hold no handle.
            let _ = unsafe { lt::cublasLtDestroy(self.handle) };
        }
    }
}

/// The result of `call`, a function of cuBLASLt.
fn check(call: &'static str, status: cublasStatus_t) -> Result<(), CudaError> {
    if status == cublasStatus_t::CUBLAS_STATUS_SUCCESS {
        return Ok(());
    }
    // SAFETY: the library is loaded; it returns a static string for any status.
    let text = unsafe { CStr::from_ptr(lt::cublasLtGetStatusString(status)) };
    Err(CudaError::Call { call, code: status as i32, text: text.to_string_lossy().into() })
}
