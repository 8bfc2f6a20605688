//! A GPU: its context, its memory pool and its stream.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_void};
use std::sync::Arc;

use cudarc::driver::sys::{
    self as driver, CUcontext, CUdevice, CUdevice_attribute as Attribute, CUdeviceptr,
    CUmemPool_attribute as PoolAttribute, CUmemoryPool, CUstream, CUstream_flags,
};

use super::error::{CudaError, check};
use super::libraries;
use super::recorder::Recorder;

/// What a GPU is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Properties {
    /// Its name, such as `NVIDIA H200`.
    pub name: String,
    /// Its compute capability: (9, 0) is Hopper.
    pub capability: (u32, u32),
    /// How many multiprocessors it has.
    pub multiprocessors: u32,
    /// Bytes of its second-level cache.
    pub l2: usize,
    /// The most bytes of shared memory a block of threads may ask for.
    pub shared_memory: usize,
    /// Bytes of its memory.
    pub memory: usize,
}

impl Properties {
    /// The architecture kernels are compiled for. Hopper and Blackwell have instructions (matrix
    /// products of a warp group among them) that only the variant with an `a` may use.
    pub fn arch(&self) -> String {
        let (major, minor) = self.capability;
        format!("sm_{major}{minor}{}", if major >= 9 { "a" } else { "" })
    }
}

/// A GPU with one stream, on which all its work is enqueued in order.
pub struct Device {
    ordinal: usize,
    handle: CUdevice,
    context: CUcontext,
    pub(super) stream: CUstream,
    pub(super) pool: CUmemoryPool,
    properties: Properties,
    pub(super) recorder: Recorder,
}

// SAFETY: the driver's functions may be called from any thread, on the same context and stream at
// once; those that need a current context are called after `bind`. The fields never change.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Device {
    /// How many GPUs this process sees (`CUDA_VISIBLE_DEVICES` hides some).
    ///
    /// # Errors
    /// [`CudaError::Missing`] without a driver; [`CudaError::NoDevice`] rather than 0.
    pub fn count() -> Result<usize, CudaError> {
        libraries::driver()?;
        let mut count: c_int = 0;
        // SAFETY: the driver is loaded; the calls need no context, the second writes `count`.
        unsafe {
            check("cuInit", driver::cuInit(0))?;
            check("cuDeviceGetCount", driver::cuDeviceGetCount(&mut count))?;
        }
        if count > 0 { Ok(count as usize) } else { Err(CudaError::NoDevice) }
    }

    /// Opens GPU `ordinal`, counted from 0.
    ///
    /// Memory is taken from the device's pool, which keeps what is freed: a buffer costs
    /// microseconds once its size was in use before.
    ///
    /// # Errors
    /// No driver, no GPU, no GPU of this number, or a call that failed.
    pub fn open(ordinal: usize) -> Result<Arc<Self>, CudaError> {
        let devices = Self::count()?;
        if ordinal >= devices {
            return Err(CudaError::Ordinal { ordinal, devices });
        }
        let mut handle: CUdevice = 0;
        let mut context: CUcontext = std::ptr::null_mut();
        // SAFETY: the driver is initialised and the ordinal exists; the call writes the handle.
        check("cuDeviceGet", unsafe { driver::cuDeviceGet(&mut handle, ordinal as c_int) })?;
        let properties = properties(handle)?;
        // SAFETY: the device exists; the call writes the context.
        check("cuDevicePrimaryCtxRetain", unsafe {
            driver::cuDevicePrimaryCtxRetain(&mut context, handle)
        })?;
        // From here on dropping the device gives back what was taken.
        let mut device = Self {
            ordinal,
            handle,
            context,
            stream: std::ptr::null_mut(),
            pool: std::ptr::null_mut(),
            properties,
            recorder: Recorder::default(),
        };
        device.bind()?;
        let flags = CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        let mut keep = u64::MAX;
        // SAFETY: the context is current; the calls write the stream and the pool, and read `keep`,
        // a u64 as this attribute asks for.
        unsafe {
            check("cuStreamCreate", driver::cuStreamCreate(&mut device.stream, flags))?;
            check(
                "cuDeviceGetDefaultMemPool",
                driver::cuDeviceGetDefaultMemPool(&mut device.pool, handle),
            )?;
            let attribute = PoolAttribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            let keep: *mut c_void = (&raw mut keep).cast();
            check(
                "cuMemPoolSetAttribute",
                driver::cuMemPoolSetAttribute(device.pool, attribute, keep),
            )?;
        }
        Ok(Arc::new(device))
    }

    /// Its number.
    pub fn ordinal(&self) -> usize {
        self.ordinal
    }

    /// What it is.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// The stream that the calling thread's work goes to: the one all work runs on, but while the
    /// thread records a step.
    pub(super) fn stream(&self) -> CUstream {
        self.recorder.with(|step| step.stream).unwrap_or(self.stream)
    }

    /// The address of the number of tokens by which a recorded step is later when it runs; 0 for
    /// work that runs at once.
    pub(super) fn later(&self) -> CUdeviceptr {
        self.recorder.with(|step| step.later).unwrap_or(0)
    }

    /// Whether the calling thread records a step.
    pub(super) fn is_recording(&self) -> bool {
        self.recorder.with(|_| ()).is_some()
    }

    /// Says that work which is enqueued now has room for at most so many more tokens: a recording
    /// of it is not replayed for later ones.
    pub(super) fn limit_later(&self, tokens: usize) {
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        self.recorder.with(|step| step.used.most_later = step.used.most_later.min(tokens));
    }

    /// # Errors
    /// [`CudaError::Unsupported`] while the calling thread records a step: `what` runs once.
    pub(super) fn not_recording(&self, what: &str) -> Result<(), CudaError> {
        match self.is_recording() {
            true => Err(CudaError::Unsupported { what: format!("{what} in a recorded step") }),
            false => Ok(()),
        }
    }

    /// Makes this device the calling thread's. Every call of this backend does so itself.
    ///
    /// # Errors
    /// The driver's, if an earlier kernel of the process failed.
    pub fn bind(&self) -> Result<(), CudaError> {
        // SAFETY: the context is retained until `self` is dropped.
        check("cuCtxSetCurrent", unsafe { driver::cuCtxSetCurrent(self.context) })
    }

    /// Waits until all work enqueued so far is done. A kernel that failed is reported here.
    ///
    /// # Errors
    /// The driver's, for this call or for work before it.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.bind()?;
        // SAFETY: the stream lives as long as `self`.
        check("cuStreamSynchronize", unsafe { driver::cuStreamSynchronize(self.stream) })
    }

    /// The stream that the calling thread's work goes to, for libraries that enqueue on it.
    pub fn raw_stream(&self) -> *mut c_void {
        self.stream().cast()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: buffers, modules and handles own their device, so nothing uses the stream or the
        // context any more. Failures mean that both are gone already.
        unsafe {
            if !self.stream.is_null() && self.bind().is_ok() {
                let _ = driver::cuStreamSynchronize(self.stream);
                let _ = driver::cuStreamDestroy_v2(self.stream);
            }
            let _ = driver::cuDevicePrimaryCtxRelease_v2(self.handle);
        }
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({}, {})", self.ordinal, self.properties.name)
    }
}

fn properties(handle: CUdevice) -> Result<Properties, CudaError> {
    let mut name = [0; 256];
    let mut memory = 0usize;
    // SAFETY: the device exists; the calls write at most 256 bytes, zero included, and one usize.
    unsafe {
        check("cuDeviceGetName", driver::cuDeviceGetName(name.as_mut_ptr(), 256, handle))?;
        check("cuDeviceTotalMem", driver::cuDeviceTotalMem_v2(&mut memory, handle))?;
    }
    let attribute = |attribute| {
        let mut value: c_int = 0;
        // SAFETY: as above, for one integer.
        let result = unsafe { driver::cuDeviceGetAttribute(&mut value, attribute, handle) };
        check("cuDeviceGetAttribute", result).map(|()| value.max(0) as u32)
    };
    // SAFETY: the driver ended the name with a zero inside the array.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
    Ok(Properties {
        name,
        capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        l2: attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as usize,
        shared_memory: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?
            as usize,
        memory,
    })
}
