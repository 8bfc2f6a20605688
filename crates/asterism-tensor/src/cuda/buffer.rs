//! Elements in a device's memory.

#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use super::allocation::Allocation;
use super::device::Device;
use super::error::CudaError;
use super::view::{Element, View, ViewMut};

/// `len` elements in a device's memory. Dropping it frees them behind the work enqueued so far,
/// unless a recorded step uses them: then they live as long as the recording.
pub struct Buffer<T: Element> {
    memory: Arc<Allocation>,
    len: usize,
    _elements: PhantomData<T>,
}

impl<T: Element> Buffer<T> {
    /// `len` elements of no particular value: whatever the memory held before.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`], or the driver's.
    pub fn uninit(device: &Arc<Device>, len: usize) -> Result<Self, CudaError> {
        Ok(Self::of(Allocation::new(device, len.saturating_mul(size_of::<T>()))?, len))
    }

    /// All of `memory`, which has room for `len` elements.
    pub(super) fn of(memory: Arc<Allocation>, len: usize) -> Self {
        debug_assert_eq!(memory.bytes, len.saturating_mul(size_of::<T>()));
        Self { memory, len, _elements: PhantomData }
    }

    /// `len` zeros.
    ///
    /// # Errors
    /// As [`Self::uninit`].
    pub fn zeros(device: &Arc<Device>, len: usize) -> Result<Self, CudaError> {
        let mut buffer = Self::uninit(device, len)?;
        buffer.view_mut().fill_bytes(0)?;
        Ok(buffer)
    }

    /// A copy of `host`; waits until it is done.
    ///
    /// # Errors
    /// As [`Self::uninit`].
    pub fn from_slice(device: &Arc<Device>, host: &[T]) -> Result<Self, CudaError> {
        let mut buffer = Self::uninit(device, host.len())?;
        buffer.view_mut().write(host)?;
        Ok(buffer)
    }

    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The device it is on.
    pub fn device(&self) -> &Arc<Device> {
        &self.memory.device
    }

    /// All its elements, to read.
    pub fn view(&self) -> View<'_, T> {
        // SAFETY: `uninit` allocated `len` elements, which live as long as `self`.
        unsafe { View::new(self.memory.pointer, self.len, &self.memory) }
    }

    /// All its elements, to write.
    pub fn view_mut(&mut self) -> ViewMut<'_, T> {
        // SAFETY: as in `view`, and `self` is borrowed for writing.
        unsafe { ViewMut::new(self.memory.pointer, self.len, &self.memory) }
    }

    /// The elements of `range`, to read.
    ///
    /// # Errors
    /// [`CudaError::Range`].
    pub fn slice(&self, range: Range<usize>) -> Result<View<'_, T>, CudaError> {
        self.view().slice(range)
    }

    /// The elements of `range`, to write.
    ///
    /// # Errors
    /// [`CudaError::Range`].
    pub fn slice_mut(&mut self, range: Range<usize>) -> Result<ViewMut<'_, T>, CudaError> {
        self.view_mut().slice(range)
    }

    /// Its elements on the host; waits for the work before.
    ///
    /// # Errors
    /// The driver's, for the copy or for work before it.
    pub fn to_vec(&self) -> Result<Vec<T>, CudaError> {
        self.view().to_vec()
    }
}
