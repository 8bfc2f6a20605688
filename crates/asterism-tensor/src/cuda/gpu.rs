//! A GPU with all that computes on it, opened once.

use super::cudnn::Cudnn;
use super::flash::Flash;
use super::gemv::Gemv;
use super::rows::RowKernels;
use super::sparse::kernels::SparseKernels;
use super::staging::Staging;
use super::statistics::StatisticsKernels;
use super::{CudaError, Device, Element, Gemm, ViewMut};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Kernels by the size of heads that they are for, compiled when first asked for.
pub(super) struct BySize<T>(Mutex<HashMap<usize, Arc<T>>>);

impl<T> Default for BySize<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> BySize<T> {
    /// Those for heads of `head_dim` elements, which `compile` makes if there are none.
    pub(super) fn of(
        &self,
        head_dim: usize,
        compile: impl FnOnce() -> std::result::Result<T, CudaError>,
    ) -> std::result::Result<Arc<T>, CudaError> {
        let mut compiled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernels) = compiled.get(&head_dim) {
            return Ok(Arc::clone(kernels));
        }
        let kernels = Arc::new(compile()?);
        compiled.insert(head_dim, Arc::clone(&kernels));
        Ok(kernels)
    }

    /// Those for heads of any size, if there are some.
    pub(super) fn any(&self) -> Option<Arc<T>> {
        let compiled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.values().next().cloned()
    }
}

/// A GPU, its libraries and our kernels.
pub struct Cuda {
    pub(super) device: Arc<Device>,
    /// Products of many rows.
    pub(super) gemm: Gemm,
    /// Products of few.
    pub(super) gemv: Gemv,
    pub(super) rows: RowKernels,
    /// Our attention, one per size of heads.
    flash: BySize<Flash>,
    /// The same over some tiles of keys, compiled when first needed.
    pub(super) sparse: BySize<SparseKernels>,
    /// What queries and keys are like, compiled when first needed.
    pub(super) statistics: BySize<StatisticsKernels>,
    /// For weights, from the first on.
    staging: Mutex<Option<Staging>>,
    /// Attention of whole blocks; our own does it where cuDNN is missing.
    pub(super) cudnn: Option<Cudnn>,
    /// Why cuDNN is missing.
    without_cudnn: Option<String>,
}

impl Cuda {
    /// Opens GPU `ordinal` and compiles our kernels for it.
    ///
    /// # Errors
    /// If the driver, the GPU, NVRTC or cuBLASLt is missing or fails. cuDNN may be missing:
    /// [`Cuda::without_cudnn`] says why.
    pub fn open(ordinal: usize) -> std::result::Result<Self, CudaError> {
        let device = Device::open(ordinal)?;
        let (cudnn, without_cudnn) = match Cudnn::new(&device) {
            Ok(cudnn) => (Some(cudnn), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let (gemm, gemv) = (Gemm::new(&device)?, Gemv::compile(&device)?);
        let rows = RowKernels::compile(&device)?;
        Ok(Self {
            device,
            gemm,
            gemv,
            rows,
            flash: BySize::default(),
            sparse: BySize::default(),
            statistics: BySize::default(),
            staging: Mutex::default(),
            cudnn,
            without_cudnn,
        })
    }

    /// The GPU.
    #[must_use]
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Why attention of whole blocks runs on our own kernel, if it does.
    #[must_use]
    pub fn without_cudnn(&self) -> Option<&str> {
        self.without_cudnn.as_deref()
    }

    /// Uploads weights.
    pub(super) fn upload<T: Element>(
        &self,
        to: ViewMut<'_, T>,
        from: &[T],
    ) -> std::result::Result<(), CudaError> {
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *staging {
            Some(staging) => staging.upload(to, from),
            none => none.insert(Staging::new(&self.device)?).upload(to, from),
        }
    }

    /// Our attention for heads of `head_dim` elements, compiled when first asked for.
    pub(super) fn flash(&self, head_dim: usize) -> std::result::Result<Arc<Flash>, CudaError> {
        self.flash.of(head_dim, || Flash::compile(&self.device, &self.rows, head_dim))
    }
}
