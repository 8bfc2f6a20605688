//! A slice that several tasks write to at once, each its own disjoint part.

#![allow(unsafe_code)]

use std::marker::PhantomData;

/// A mutable slice handed to tasks that promise to write disjoint ranges of it.
///
/// Tiles of a row-major matrix are strided, so `chunks_mut` cannot split them; this can.
pub(crate) struct SharedMut<'a, T> {
    ptr: *mut T,
    len: usize,
    _borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: the pointer comes from an exclusive borrow that lives for 'a; `slice` is unsafe and asks
// its caller for disjoint ranges, so no two threads reach the same element.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}
// SAFETY: as above; T itself may move between threads.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { ptr: slice.as_mut_ptr(), len: slice.len(), _borrow: PhantomData }
    }

    /// The elements `start..start + len`.
    ///
    /// # Safety
    /// While the returned slice lives, no other task may hold a slice that overlaps the elements
    /// this task really touches.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "{start}+{len} of {}", self.len);
        // SAFETY: in bounds (checked above), and disjoint by this function's contract.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(start), len) }
    }

    /// The first of `rows` rows of `width` elements, `stride` apart, from element `start` on.
    ///
    /// # Panics
    /// If the last row ends outside the slice.
    pub(crate) fn rows(&self, start: usize, rows: usize, width: usize, stride: usize) -> *mut T {
        let end = start + (rows - 1) * stride + width;
        assert!(end <= self.len, "rows end at {end} of {}", self.len);
        self.ptr.wrapping_add(start)
    }
}
