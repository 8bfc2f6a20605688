//! A second stream of a device: work beside its own, such as messages to other GPUs.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::sys::{self as driver, CUstream, CUstream_flags};

use super::allocation::Allocation;
use super::device::Device;
use super::error::{CudaError, check};
use super::event::Event;
use super::{Buffer, Element};

/// A stream beside the device's own. Nothing orders the two but the events that are asked for here.
pub struct Stream {
    device: Arc<Device>,
    handle: CUstream,
}

// SAFETY: the driver's functions may be called from any thread, on one stream at once; the fields
// never change.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

impl Stream {
    /// A stream whose work goes before the device's own where both could run: messages are short,
    /// and somebody waits for them.
    ///
    /// # Errors
    /// The driver's.
    pub fn new(device: &Arc<Device>) -> Result<Self, CudaError> {
        device.bind()?;
        let mut stream = Self { device: Arc::clone(device), handle: std::ptr::null_mut() };
        let (mut least, mut greatest) = (0, 0);
        let flags = CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: the context is current; the calls write two numbers and the stream.
        unsafe {
            let range = driver::cuCtxGetStreamPriorityRange(&mut least, &mut greatest);
            check("cuCtxGetStreamPriorityRange", range)?;
            let create = driver::cuStreamCreateWithPriority(&mut stream.handle, flags, greatest);
            check("cuStreamCreateWithPriority", create)?;
        }
        Ok(stream)
    }

    /// The device it is of.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// What it is given from now on waits for the work that the device was given so far.
    ///
    /// # Errors
    /// The driver's.
    pub fn after_device(&self) -> Result<(), CudaError> {
        let event = Event::record(&self.device)?;
        // SAFETY: the context is current since `record`; stream and event are alive.
        check("cuStreamWaitEvent", unsafe {
            driver::cuStreamWaitEvent(self.handle, event.handle(), 0)
        })
    }

    /// Marks the end of the work that it was given so far.
    ///
    /// # Errors
    /// The driver's.
    pub fn record(&self) -> Result<Event, CudaError> {
        Event::record_on(&self.device, self.handle)
    }

    /// `len` elements of no particular value, which are there for this stream at once and for the
    /// device's own after an event of this one. They are freed as all others are: behind the work
    /// of the device's own stream, so whoever gives them to this stream lets that wait for it.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`], or the driver's.
    pub fn uninit<T: Element>(&self, len: usize) -> Result<Buffer<T>, CudaError> {
        let bytes = len.saturating_mul(size_of::<T>());
        Ok(Buffer::of(Allocation::on(&self.device, bytes, self.handle)?, len))
    }

    /// The stream itself, for libraries that enqueue on it.
    pub fn raw(&self) -> *mut c_void {
        self.handle.cast()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.handle.is_null() && self.device.bind().is_ok() {
            // SAFETY: created once, destroyed once; the driver lets what it was given run first.
            let _ = unsafe { driver::cuStreamDestroy_v2(self.handle) };
        }
    }
}
