//! Moments of a device's streams, to time what runs between them and to wait for each other.

#![allow(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use cudarc::driver::sys::{self as driver, CUevent, CUresult, CUstream};

use super::device::Device;
use super::error::{CudaError, check};

/// The moment at which a device's stream gets to where the event was recorded.
pub struct Event {
    device: Arc<Device>,
    handle: CUevent,
}

// SAFETY: an event may be used from any thread; it never changes after `record`.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// Marks the end of the work enqueued on `device` so far.
    ///
    /// # Errors
    /// The driver's.
    pub fn record(device: &Arc<Device>) -> Result<Self, CudaError> {
        Self::record_on(device, device.stream())
    }

    /// Marks the end of the work enqueued on `stream`, which is one of `device`, so far.
    pub(super) fn record_on(device: &Arc<Device>, stream: CUstream) -> Result<Self, CudaError> {
        device.bind()?;
        let mut event = Self { device: device.clone(), handle: std::ptr::null_mut() };
        // SAFETY: the context is current, the stream alive; the first call writes the handle, which
        // the second uses.
        unsafe {
            check("cuEventCreate", driver::cuEventCreate(&mut event.handle, 0))?;
            check("cuEventRecord", driver::cuEventRecord(event.handle, stream))?;
        }
        Ok(event)
    }

    pub(super) fn handle(&self) -> CUevent {
        self.handle
    }

    /// Whether it has come.
    ///
    /// # Errors
    /// The driver's, for this call or for work before it.
    pub fn is_past(&self) -> Result<bool, CudaError> {
        self.device.bind()?;
        // SAFETY: the event is recorded and alive.
        match unsafe { driver::cuEventQuery(self.handle) } {
            CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            result => check("cuEventQuery", result).map(|()| true),
        }
    }

    /// Waits for it.
    ///
    /// # Errors
    /// The driver's, for this call or for work before it.
    pub fn wait(&self) -> Result<(), CudaError> {
        self.device.bind()?;
        // SAFETY: the event is recorded and alive.
        check("cuEventSynchronize", unsafe { driver::cuEventSynchronize(self.handle) })
    }

    /// The time the device took from `self` to `end`; waits for it.
    ///
    /// # Errors
    /// The driver's, for this call or for work before it.
    pub fn until(&self, end: &Event) -> Result<Duration, CudaError> {
        end.wait()?;
        let mut milliseconds = 0.0f32;
        // SAFETY: both events are recorded and alive; the call writes one f32.
        check("cuEventElapsedTime", unsafe {
            driver::cuEventElapsedTime_v2(&mut milliseconds, self.handle, end.handle)
        })?;
        Ok(Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) / 1e3))
    }
}

impl Device {
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
}

impl Drop for Event {
    fn drop(&mut self) {
        if !self.handle.is_null() && self.device.bind().is_ok() {
            // SAFETY: created by `record`, destroyed once.
            let _ = unsafe { driver::cuEventDestroy_v2(self.handle) };
        }
    }
}
