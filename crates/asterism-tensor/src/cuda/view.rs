//! Borrowed parts of a device's memory.

#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::sys::{self as driver, CUdeviceptr};
use half::bf16;

use super::allocation::Allocation;
use super::device::Device;
use super::error::{CudaError, check};

/// What a buffer may hold: plain numbers, for which every pattern of bits is a value.
pub trait Element: bytemuck::Pod + sealed::Sealed + Send + Sync {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! elements {
    ($($type:ty),*) => { $(impl sealed::Sealed for $type {} impl Element for $type {})* };
}
elements!(f32, bf16, u8, u32, i32);

/// Elements of a [`Buffer`](super::Buffer), to read.
#[derive(Clone, Copy)]
pub struct View<'a, T> {
    pub(super) pointer: CUdeviceptr,
    len: usize,
    pub(super) memory: &'a Arc<Allocation>,
    _elements: PhantomData<&'a [T]>,
}

/// Elements of a [`Buffer`](super::Buffer), to write.
pub struct ViewMut<'a, T> {
    pub(super) pointer: CUdeviceptr,
    len: usize,
    pub(super) memory: &'a Arc<Allocation>,
    _elements: PhantomData<&'a mut [T]>,
}

impl<'a, T: Element> View<'a, T> {
    /// # Safety
    /// `pointer` starts `len` elements of `memory`.
    pub(super) unsafe fn new(
        pointer: CUdeviceptr,
        len: usize,
        memory: &'a Arc<Allocation>,
    ) -> Self {
        Self { pointer, len, memory, _elements: PhantomData }
    }

    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The device they are on.
    pub fn device(&self) -> &'a Arc<Device> {
        &self.memory.device
    }

    /// How many more elements lie behind these in the same buffer.
    pub(super) fn behind(&self) -> usize {
        let end = self.pointer + (self.len * size_of::<T>()) as CUdeviceptr;
        self.memory.behind(end) / size_of::<T>()
    }

    /// The elements of `range`.
    ///
    /// # Errors
    /// [`CudaError::Range`] if some are not there.
    pub fn slice(&self, range: Range<usize>) -> Result<View<'a, T>, CudaError> {
        let pointer = part::<T>(self.pointer, self.len, &range)?;
        Ok(Self { pointer, len: range.len(), ..*self })
    }

    /// Copies the elements to the host; waits for the work before.
    ///
    /// # Errors
    /// The driver's, for the copy or for work before it.
    pub fn to_vec(&self) -> Result<Vec<T>, CudaError> {
        let mut host = vec![T::zeroed(); self.len];
        self.read(&mut host)?;
        Ok(host)
    }

    /// Copies the elements into `host`, which has as many; waits for the work before.
    ///
    /// # Errors
    /// [`CudaError::Length`]; the driver's, for the copy or for work before it.
    pub fn read(&self, host: &mut [T]) -> Result<(), CudaError> {
        same_length("the host's slice", self.len, host.len())?;
        if host.is_empty() {
            return Ok(());
        }
        self.device().not_recording("a copy to the host")?;
        self.device().bind()?;
        let bytes = size_of_val(host);
        // SAFETY: both sides hold `bytes` bytes and stay until the copy is done: this waits for it.
        let copied = unsafe {
            driver::cuMemcpyDtoHAsync_v2(
                host.as_mut_ptr().cast(),
                self.pointer,
                bytes,
                self.device().stream(),
            )
        };
        // Waits in any case: part of the copy may be under way.
        let waited = self.device().synchronize();
        check("cuMemcpyDtoHAsync", copied)?;
        waited
    }
}

impl<'a, T: Element> ViewMut<'a, T> {
    /// # Safety
    /// As for [`View::new`], and nothing else uses these elements during `'a`.
    pub(super) unsafe fn new(
        pointer: CUdeviceptr,
        len: usize,
        memory: &'a Arc<Allocation>,
    ) -> Self {
        Self { pointer, len, memory, _elements: PhantomData }
    }

    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The device they are on.
    pub fn device(&self) -> &'a Arc<Device> {
        &self.memory.device
    }

    /// The same elements, to read.
    pub fn view(&self) -> View<'_, T> {
        View { pointer: self.pointer, len: self.len, memory: self.memory, _elements: PhantomData }
    }

    /// The same elements, for a shorter time.
    pub fn reborrow(&mut self) -> ViewMut<'_, T> {
        ViewMut {
            pointer: self.pointer,
            len: self.len,
            memory: self.memory,
            _elements: PhantomData,
        }
    }

    /// The elements of `range`.
    ///
    /// # Errors
    /// [`CudaError::Range`] if some are not there.
    pub fn slice(self, range: Range<usize>) -> Result<ViewMut<'a, T>, CudaError> {
        let pointer = part::<T>(self.pointer, self.len, &range)?;
        Ok(Self { pointer, len: range.len(), ..self })
    }

    /// The first `mid` elements and the others.
    ///
    /// # Errors
    /// [`CudaError::Range`] if there are fewer.
    pub fn split_at(self, mid: usize) -> Result<(Self, Self), CudaError> {
        let rest = part::<T>(self.pointer, self.len, &(mid..self.len.max(mid)))?;
        let (memory, _elements) = (self.memory, PhantomData);
        Ok((
            Self { pointer: self.pointer, len: mid, memory, _elements },
            Self { pointer: rest, len: self.len - mid, memory, _elements },
        ))
    }

    /// Copies `source`, which has as many elements, from the same device. Does not wait.
    ///
    /// # Errors
    /// [`CudaError::Length`], [`CudaError::OtherDevice`]; the driver's.
    pub fn copy_from(&mut self, source: View<'_, T>) -> Result<(), CudaError> {
        same_length("the source", self.len, source.len)?;
        same_device("the source", self.device(), source.device())?;
        if self.len == 0 {
            return Ok(());
        }
        let device = self.device();
        device.bind()?;
        device.keep([self.memory, source.memory]);
        let bytes = self.len * size_of::<T>();
        // SAFETY: both sides hold `bytes` bytes of one device and, one being borrowed for writing,
        // do not overlap. Freeing either is enqueued behind the copy.
        check("cuMemcpyDtoDAsync", unsafe {
            driver::cuMemcpyDtoDAsync_v2(self.pointer, source.pointer, bytes, device.stream())
        })
    }

    /// Copies `host`, which has as many elements; waits until it is done.
    ///
    /// # Errors
    /// [`CudaError::Length`]; the driver's, for the copy or for work before it.
    pub fn write(&mut self, host: &[T]) -> Result<(), CudaError> {
        same_length("the host's slice", self.len, host.len())?;
        if host.is_empty() {
            return Ok(());
        }
        self.device().not_recording("a copy from the host")?;
        self.device().bind()?;
        let (bytes, stream) = (size_of_val(host), self.device().stream());
        // SAFETY: both sides hold `bytes` bytes and stay until the copy is done: this waits for it.
        let copied = unsafe {
            driver::cuMemcpyHtoDAsync_v2(self.pointer, host.as_ptr().cast(), bytes, stream)
        };
        let waited = self.device().synchronize();
        check("cuMemcpyHtoDAsync", copied)?;
        waited
    }

    /// Sets every byte of the elements. Does not wait.
    ///
    /// # Errors
    /// The driver's.
    pub fn fill_bytes(&mut self, byte: u8) -> Result<(), CudaError> {
        if self.len == 0 {
            return Ok(());
        }
        self.device().bind()?;
        self.device().keep([self.memory]);
        let (bytes, stream) = (self.len * size_of::<T>(), self.device().stream());
        // SAFETY: the elements are `bytes` bytes, borrowed for writing.
        check("cuMemsetD8Async", unsafe {
            driver::cuMemsetD8Async(self.pointer, byte, bytes, stream)
        })
    }
}

impl ViewMut<'_, u32> {
    /// Sets every element. Does not wait.
    ///
    /// # Errors
    /// The driver's.
    pub fn fill(&mut self, value: u32) -> Result<(), CudaError> {
        if self.len == 0 {
            return Ok(());
        }
        self.device().bind()?;
        self.device().keep([self.memory]);
        // SAFETY: the elements are 4 bytes each, aligned, and borrowed for writing.
        check("cuMemsetD32Async", unsafe {
            driver::cuMemsetD32Async(self.pointer, value, self.len, self.device().stream())
        })
    }
}

/// The address of `range` of `len` elements at `pointer`.
fn part<T>(
    pointer: CUdeviceptr,
    len: usize,
    range: &Range<usize>,
) -> Result<CUdeviceptr, CudaError> {
    if range.start > range.end || range.end > len {
        return Err(CudaError::Range { range: range.clone(), len });
    }
    Ok(pointer + (range.start * size_of::<T>()) as CUdeviceptr)
}

/// Checks that `what` has exactly `expected` elements.
pub(super) fn same_length(
    what: &'static str,
    expected: usize,
    found: usize,
) -> Result<(), CudaError> {
    if expected == found { Ok(()) } else { Err(CudaError::Length { what, expected, found }) }
}

/// Checks that `what` is on the device (as opened once: another opening has another stream).
pub(super) fn same_device(
    what: &'static str,
    device: &Arc<Device>,
    found: &Arc<Device>,
) -> Result<(), CudaError> {
    if Arc::ptr_eq(device, found) { Ok(()) } else { Err(CudaError::OtherDevice { what }) }
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn parts_stay_inside() {
        assert_eq!(part::<f32>(1000, 10, &(2..10)).unwrap(), 1008);
        assert_eq!(part::<f32>(1000, 10, &(10..10)).unwrap(), 1040);
        for range in [0..11, 11..11] {
            assert!(part::<f32>(1000, 10, &range).is_err(), "{range:?}");
        }
        #[allow(clippy::reversed_empty_ranges)]
        let reversed = 3..2;
        assert!(part::<f32>(1000, 10, &reversed).is_err());
    }
}
