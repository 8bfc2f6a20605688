//! Shares of memory that outlive the buffers they are of: what other libraries read and write.

use std::sync::Arc;

use cudarc::driver::sys::CUdeviceptr;

use super::allocation::Allocation;
use super::device::Device;
use super::{Element, View};

/// Some bytes of a device's memory, which is kept as long as this is.
#[derive(Clone)]
pub struct Piece {
    memory: Arc<Allocation>,
    pointer: CUdeviceptr,
    bytes: usize,
}

impl Piece {
    /// The device it is on.
    #[must_use]
    pub fn device(&self) -> &Arc<Device> {
        &self.memory.device
    }

    /// The address of its first byte on the device.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.pointer
    }

    /// How many bytes it has.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<T: Element> View<'_, T> {
    /// A share of the memory.
    #[must_use]
    pub fn piece(&self) -> Piece {
        let memory = Arc::clone(self.memory);
        Piece { memory, pointer: self.pointer, bytes: self.len() * size_of::<T>() }
    }
}
