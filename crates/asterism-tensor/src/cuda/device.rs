//! A GPU: its context, its memory pool and its stream.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;

use cudarc::driver::sys::{
    self as driver, CUcontext, CUdevice, CUdevice_attribute as Attribute, CUdeviceptr,
    CUmemPool_attribute as PoolAttribute, CUmemoryPool, CUresult, CUstream, CUstream_flags,
};

use super::error::{CudaError, check};
use super::libraries;

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
    stream: CUstream,
    pool: CUmemoryPool,
    properties: Properties,
    is_recording: AtomicBool,
    recorder: Mutex<Option<Recorder>>,
    recording_turn: Mutex<()>,
}

/// The thread whose work is recorded, and where it goes.
#[derive(Clone, Copy)]
struct Recorder {
    thread: ThreadId,
    stream: CUstream,
    later: CUdeviceptr,
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
            is_recording: AtomicBool::new(false),
            recorder: Mutex::default(),
            recording_turn: Mutex::default(),
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
        self.recorder().map_or(self.stream, |recorder| recorder.stream)
    }

    /// The address of the number of tokens by which a recorded step is later when it runs; 0 for
    /// work that runs at once.
    pub(super) fn later(&self) -> CUdeviceptr {
        self.recorder().map_or(0, |recorder| recorder.later)
    }

    fn recorder(&self) -> Option<Recorder> {
        // Almost always nobody records: that is seen without a lock.
        if !self.is_recording.load(Ordering::Acquire) {
            return None;
        }
        let recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        recorder.filter(|recorder| recorder.thread == std::thread::current().id())
    }

    /// Runs `step`, whose work goes to `stream` meanwhile and finds [`Self::later`] at `later`.
    pub(super) fn record_on<T>(
        &self,
        stream: CUstream,
        later: CUdeviceptr,
        step: impl FnOnce() -> T,
    ) -> T {
        /// Ends the recording, also when the step panics.
        struct End<'a>(&'a Device);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                *self.0.recorder.lock().unwrap_or_else(PoisonError::into_inner) = None;
                self.0.is_recording.store(false, Ordering::Release);
            }
        }
        // One thread records at a time.
        let _turn = self.recording_turn.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = std::thread::current().id();
        *self.recorder.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Recorder { thread, stream, later });
        self.is_recording.store(true, Ordering::Release);
        let _end = End(self);
        step()
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

    /// Bytes free for new buffers, those the pool holds unused included, and bytes in all.
    ///
    /// # Errors
    /// The driver's.
    pub fn memory(&self) -> Result<(usize, usize), CudaError> {
        self.bind()?;
        let (mut free, mut total) = (0usize, 0usize);
        let (mut reserved, mut used) = (0u64, 0u64);
        // SAFETY: the context is current; the calls write two usize and one u64 each.
        unsafe {
            check("cuMemGetInfo", driver::cuMemGetInfo_v2(&mut free, &mut total))?;
            for (attribute, value) in [
                (PoolAttribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &mut reserved),
                (PoolAttribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &mut used),
            ] {
                let value: *mut c_void = (&raw mut *value).cast();
                check(
                    "cuMemPoolGetAttribute",
                    driver::cuMemPoolGetAttribute(self.pool, attribute, value),
                )?;
            }
        }
        Ok((free + reserved.saturating_sub(used) as usize, total))
    }

    /// The most bytes that buffers took at once since this was last called (or the device opened).
    ///
    /// # Errors
    /// The driver's.
    pub fn take_peak_memory(&self) -> Result<u64, CudaError> {
        self.bind()?;
        let (mut peak, mut zero) = (0u64, 0u64);
        let attribute = PoolAttribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
        // SAFETY: the pool belongs to the device; the calls write and read a u64, as the attribute
        // asks for (0 resets it).
        unsafe {
            check(
                "cuMemPoolGetAttribute",
                driver::cuMemPoolGetAttribute(self.pool, attribute, (&raw mut peak).cast()),
            )?;
            check(
                "cuMemPoolSetAttribute",
                driver::cuMemPoolSetAttribute(self.pool, attribute, (&raw mut zero).cast()),
            )?;
        }
        Ok(peak)
    }

    /// `bytes` (more than 0) of memory, not initialised. To be given to [`Self::free`] once.
    pub(super) fn allocate(&self, bytes: usize) -> Result<CUdeviceptr, CudaError> {
        self.bind()?;
        let mut pointer = 0;
        // SAFETY: the context is current, the stream alive; the call writes the pointer.
        match unsafe { driver::cuMemAllocAsync(&mut pointer, bytes, self.stream()) } {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                let (free, total) = self.memory()?;
                Err(CudaError::OutOfMemory { bytes, free, total })
            }
            result => check("cuMemAllocAsync", result).map(|()| pointer),
        }
    }

    /// Gives memory back once the work enqueued so far is done with it.
    ///
    /// # Safety
    /// `pointer` came from [`Self::allocate`] and is used by nothing enqueued later.
    pub(super) unsafe fn free(&self, pointer: CUdeviceptr) {
        // A failure means that the context is lost, and its memory with it: nothing to do.
        if self.bind().is_ok() {
            // SAFETY: by this function's contract.
            let _ = unsafe { driver::cuMemFreeAsync(pointer, self.stream()) };
        }
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
