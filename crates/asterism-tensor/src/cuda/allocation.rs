//! Memory of a device, owned: what buffers and their views share.

#![allow(unsafe_code)]

use std::sync::Arc;

use cudarc::driver::sys::{CUdeviceptr, CUstream};

use super::device::Device;
use super::error::CudaError;

/// Memory that a device gave, given back when the last who holds it drops it.
pub struct Allocation {
    pub(super) device: Arc<Device>,
    /// 0 if there are no bytes.
    pub(super) pointer: CUdeviceptr,
    pub(super) bytes: usize,
    /// Whether it belongs to a step that was being recorded: it is there only while that runs.
    pub(super) of_step: bool,
}

impl Allocation {
    /// `bytes` of memory, not initialised.
    pub(super) fn new(device: &Arc<Device>, bytes: usize) -> Result<Arc<Self>, CudaError> {
        let (pointer, of_step) = if bytes == 0 { (0, false) } else { device.allocate(bytes)? };
        Ok(Arc::new(Self { device: Arc::clone(device), pointer, bytes, of_step }))
    }

    /// Memory that is there for `stream`, another of `device`'s than its own, first.
    pub(super) fn on(
        device: &Arc<Device>,
        bytes: usize,
        stream: CUstream,
    ) -> Result<Arc<Self>, CudaError> {
        let pointer = if bytes == 0 { 0 } else { device.allocate_on(bytes, stream)? };
        Ok(Arc::new(Self { device: Arc::clone(device), pointer, bytes, of_step: false }))
    }

    /// Bytes of it that lie behind `address`, which is inside it or its end.
    pub(super) fn behind(&self, address: CUdeviceptr) -> usize {
        (self.pointer + self.bytes as CUdeviceptr).saturating_sub(address) as usize
    }
}

impl Device {
    /// Says that work which is enqueued now uses this memory: if it is recorded, the recording
    /// keeps it.
    pub(super) fn keep<'a>(&self, memory: impl IntoIterator<Item = &'a Arc<Allocation>>) {
        self.recorder.with(|step| {
            for memory in memory.into_iter().filter(|memory| !memory.of_step) {
                step.used.keep(memory);
            }
        });
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if self.pointer != 0 {
            // SAFETY: allocated by `new`, freed once; views borrow the buffer, so what uses them
            // was enqueued before, and recordings own what they use.
            unsafe { self.device.free(self.pointer, self.of_step) };
        }
    }
}
