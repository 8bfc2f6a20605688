//! A GPU: its context, its memory pool and its stream.

#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;

use cudarc::driver::sys::{
    self as driver, CUcontext, CUdevice, CUdevice_attribute as Attribute, CUdeviceptr,
    CUmemPool_attribute as PoolAttribute, CUmemoryPool, CUresult, CUstream, CUstream_flags,
};

use super::buffer::Allocation;
use super::error::{CudaError, check};
use super::event::Event;
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
struct Recorder {
    thread: ThreadId,
    stream: CUstream,
    later: CUdeviceptr,
    used: Used,
}

/// What a recorded step uses.
pub(super) struct Used {
    /// The memory it reads and writes: replaying it is sound as long as this is there.
    /// By address: a step of many sequences uses thousands of pieces, each several times.
    memory: HashMap<usize, Arc<Allocation>>,
    /// How many tokens later it may run at most: all buffers have room for so many.
    pub(super) most_later: u32,
    /// Memory that it took and has not given back.
    held: usize,
}

impl Used {
    /// Whether all memory that the step took is given back, so that it can run again.
    pub(super) fn is_closed(&self) -> bool {
        self.held == 0
    }
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
        self.recording(|recorder| recorder.stream).unwrap_or(self.stream)
    }

    /// The address of the number of tokens by which a recorded step is later when it runs; 0 for
    /// work that runs at once.
    pub(super) fn later(&self) -> CUdeviceptr {
        self.recording(|recorder| recorder.later).unwrap_or(0)
    }

    /// Whether the calling thread records a step.
    pub(super) fn is_recording(&self) -> bool {
        self.recording(|_| ()).is_some()
    }

    /// Says that work which is enqueued now uses this memory: if it is recorded, the recording
    /// keeps it.
    pub(super) fn keep<'a>(&self, memory: impl IntoIterator<Item = &'a Arc<Allocation>>) {
        self.recording(|recorder| {
            for memory in memory {
                if !memory.of_step {
                    let address = Arc::as_ptr(memory).addr();
                    recorder.used.memory.entry(address).or_insert_with(|| Arc::clone(memory));
                }
            }
        });
    }

    /// Says that work which is enqueued now has room for at most so many more tokens: a recording
    /// of it is not replayed for later ones.
    pub(super) fn limit_later(&self, tokens: usize) {
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        self.recording(|recorder| {
            recorder.used.most_later = recorder.used.most_later.min(tokens);
        });
    }

    /// # Errors
    /// [`CudaError::Unsupported`] while the calling thread records a step: `what` runs once.
    pub(super) fn not_recording(&self, what: &str) -> Result<(), CudaError> {
        match self.is_recording() {
            true => Err(CudaError::Unsupported { what: format!("{what} in a recorded step") }),
            false => Ok(()),
        }
    }

    fn recording<T>(&self, use_it: impl FnOnce(&mut Recorder) -> T) -> Option<T> {
        // Almost always nobody records: that is seen without a lock.
        if !self.is_recording.load(Ordering::Acquire) {
            return None;
        }
        let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = std::thread::current().id();
        recorder.as_mut().filter(|recorder| recorder.thread == thread).map(use_it)
    }

    /// Runs `step`, whose work goes to `stream` meanwhile and finds [`Self::later`] at `later`;
    /// also returns what it used.
    pub(super) fn record_on<T>(
        &self,
        stream: CUstream,
        later: CUdeviceptr,
        step: impl FnOnce() -> T,
    ) -> (T, Used) {
        /// Ends the recording, also when the step panics.
        struct End<'a>(&'a Device);
        impl End<'_> {
            fn end(&self) -> Option<Recorder> {
                let recorder =
                    self.0.recorder.lock().unwrap_or_else(PoisonError::into_inner).take();
                self.0.is_recording.store(false, Ordering::Release);
                recorder
            }
        }
        impl Drop for End<'_> {
            fn drop(&mut self) {
                // Outside the lock: what it kept may be freed here.
                drop(self.end());
            }
        }
        // One thread records at a time.
        let _turn = self.recording_turn.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = std::thread::current().id();
        let used = Used { memory: HashMap::new(), most_later: u32::MAX, held: 0 };
        *self.recorder.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Recorder { thread, stream, later, used });
        self.is_recording.store(true, Ordering::Release);
        let end = End(self);
        let result = step();
        let nothing = Used { memory: HashMap::new(), most_later: 0, held: 0 };
        let used = end.end().map_or(nothing, |recorder| recorder.used);
        (result, used)
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

    /// Gives back to the driver what the pool keeps and nobody uses. Waits for all work.
    ///
    /// # Errors
    /// The driver's.
    pub(super) fn trim(&self) -> Result<(), CudaError> {
        self.synchronize()?;
        // SAFETY: the pool is the device's.
        check("cuMemPoolTrimTo", unsafe { driver::cuMemPoolTrimTo(self.pool, 0) })
    }

    /// `bytes` (more than 0) of memory, not initialised, and whether it belongs to a step that is
    /// being recorded. To be given to [`Self::free`] once.
    pub(super) fn allocate(&self, bytes: usize) -> Result<(CUdeviceptr, bool), CudaError> {
        let pointer = self.allocate_on(bytes, self.stream())?;
        Ok((pointer, self.recording(|recorder| recorder.used.held += 1).is_some()))
    }

    /// As [`Self::allocate`], for a stream of this device that nobody records.
    pub(super) fn allocate_on(
        &self,
        bytes: usize,
        stream: CUstream,
    ) -> Result<CUdeviceptr, CudaError> {
        self.bind()?;
        let mut pointer = 0;
        // SAFETY: the context is current, the stream alive; the call writes the pointer.
        match unsafe { driver::cuMemAllocAsync(&mut pointer, bytes, stream) } {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                let (free, total) = self.memory()?;
                Err(CudaError::OutOfMemory { bytes, free, total })
            }
            result => check("cuMemAllocAsync", result).map(|()| pointer),
        }
    }

    /// What its own stream is given from now on waits for `event`.
    ///
    /// # Errors
    /// The driver's.
    pub fn after(&self, event: &Event) -> Result<(), CudaError> {
        self.bind()?;
        // SAFETY: the context is current; stream and event are alive.
        check("cuStreamWaitEvent", unsafe {
            driver::cuStreamWaitEvent(self.stream, event.handle(), 0)
        })
    }

    /// The stream that the calling thread's work goes to, for libraries that enqueue on it.
    pub fn raw_stream(&self) -> *mut c_void {
        self.stream().cast()
    }

    /// Gives memory back once the work enqueued so far is done with it.
    ///
    /// # Safety
    /// `pointer` and `of_step` came from [`Self::allocate`], and nothing enqueued later uses the
    /// memory.
    pub(super) unsafe fn free(&self, pointer: CUdeviceptr, of_step: bool) {
        // A failure means that the context is lost, and its memory with it: nothing to do.
        if self.bind().is_err() {
            return;
        }
        // What was there before a step is freed when it is dropped, not whenever the step runs.
        let stream = self.recording(|recorder| {
            recorder.used.held = recorder.used.held.saturating_sub(usize::from(of_step));
            if of_step { recorder.stream } else { self.stream }
        });
        // SAFETY: by this function's contract.
        let _ = unsafe { driver::cuMemFreeAsync(pointer, stream.unwrap_or(self.stream)) };
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
