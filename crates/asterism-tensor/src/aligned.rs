//! Buffers that start at a cache line.

#![allow(unsafe_code)]

use bytemuck::{Pod, Zeroable};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// One cache line, and the widest vector or tile row.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

// SAFETY: an array of bytes of the size of its alignment: no padding, all zeros are valid.
unsafe impl Zeroable for Line {}
// SAFETY: as above; every bit pattern is valid.
unsafe impl Pod for Line {}

/// Buffers of this many bytes are kept in large pages: those of a model's layers lie side by side
/// and fill them together.
const LARGE: usize = 256 << 10;

/// A growable vector of numbers whose first lies at a multiple of 64 bytes. `Vec` promises only the
/// alignment of its element: every 64-byte load of a tile row or a register would touch two cache
/// lines, which halves the rate at which the first-level cache feeds the multipliers.
///
/// Large buffers ask the system for pages of 2 MiB (Linux): weights and keys are streamed, and with
/// pages of 4 KiB the processor spends a quarter of that time on looking up addresses.
#[derive(Debug, Clone)]
pub struct Aligned<T> {
    lines: Vec<Line>,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Pod> Aligned<T> {
    fn lines(len: usize) -> usize {
        (len * size_of::<T>()).div_ceil(size_of::<Line>())
    }

    /// Nothing, with room for `capacity` elements.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let mut aligned = Self::default();
        aligned.reserve(Self::lines(capacity));
        aligned
    }

    /// `len` zeros, which take up memory only when they are touched.
    pub(crate) fn zeros(len: usize) -> Self {
        let lines = bytemuck::zeroed_vec(Self::lines(len));
        ask_for_large_pages(&lines);
        Self { lines, len, of: PhantomData }
    }

    /// Room for `lines` lines in all, at least doubled where there was not enough.
    fn reserve(&mut self, lines: usize) {
        if lines > self.lines.capacity() {
            let lines = lines.max(2 * self.lines.len());
            self.lines.reserve_exact(lines - self.lines.len());
            ask_for_large_pages(&self.lines);
        }
    }

    /// Cut or grown by zeros to `len` elements.
    pub fn resize(&mut self, len: usize) {
        if len > self.len {
            self.reserve(Self::lines(len));
            let old = self.len;
            // Behind the last element its line may hold what was cut off.
            let held = (self.lines.len() * size_of::<Line>() / size_of::<T>()).min(len);
            bytemuck::cast_slice_mut(&mut self.lines)[old..held].fill(T::zeroed());
        }
        self.lines.resize(Self::lines(len), Line([0; 64]));
        self.len = len;
    }

    /// Appends `source`.
    pub fn extend_from_slice(&mut self, source: &[T]) {
        let old = self.len;
        self.resize(old + source.len());
        self[old..].copy_from_slice(source);
    }

    /// The first `len` elements, grown by zeros if there are fewer; what was there stays.
    pub fn at_least(&mut self, len: usize) -> &mut [T] {
        if self.len < len {
            self.resize(len);
        }
        &mut self[..len]
    }
}

/// Asks for the memory of `lines`, which nothing has touched yet, in pages of 2 MiB. A wish: where
/// the system has none to give, or is told not to, nothing changes.
fn ask_for_large_pages(lines: &Vec<Line>) {
    #[cfg(target_os = "linux")]
    if lines.capacity() * size_of::<Line>() >= LARGE {
        // SAFETY: asks for a constant of the system.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(4096) as usize;
        let start = lines.as_ptr() as usize / page * page;
        let end =
            (lines.as_ptr() as usize + lines.capacity() * size_of::<Line>()).next_multiple_of(page);
        // SAFETY: pages that hold some of this allocation, so they are mapped. What they contain
        // and who may read it stays as it is. Whole pages around it let neighbours share a large
        // one.
        unsafe { libc::madvise(start as *mut _, end - start, libc::MADV_HUGEPAGE) };
    }
}

impl<T: Pod> FromIterator<T> for Aligned<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut values = values.into_iter();
        let mut aligned = Self::zeros(values.size_hint().0);
        for (element, value) in aligned.iter_mut().zip(values.by_ref()) {
            *element = value;
        }
        for value in values {
            aligned.extend_from_slice(&[value]);
        }
        aligned
    }
}

impl<T: Pod + PartialEq> PartialEq for Aligned<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Self { lines: Vec::new(), len: 0, of: PhantomData }
    }
}

impl<T: Pod> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl<T: Pod> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_start_at_a_line_and_keep_their_contents() {
        let mut buffer = Aligned::<f32>::default();
        assert!(buffer.is_empty());
        for len in [1, 16, 17, 1000] {
            buffer.at_least(len)[len - 1] = len as f32;
            assert_eq!(buffer.as_ptr() as usize % 64, 0);
        }
        assert_eq!((buffer[0], buffer[15], buffer[16], buffer[17]), (1.0, 16.0, 17.0, 0.0));
        assert_eq!((buffer.at_least(3).len(), buffer.len()), (3, 1000));
        assert!(Aligned::<half::bf16>::zeros(33).iter().all(|v| v.to_f32() == 0.0));
    }

    #[test]
    fn what_was_cut_off_does_not_come_back() {
        let mut buffer: Aligned<f32> = (0..40).map(|i| i as f32 + 1.0).collect();
        assert_eq!((buffer.len(), buffer[39]), (40, 40.0));
        buffer.resize(20);
        buffer.resize(30);
        assert_eq!(buffer[18..22], [19.0, 20.0, 0.0, 0.0]);
        buffer.extend_from_slice(&[7.0; 3]);
        assert_eq!(buffer[29..], [0.0, 7.0, 7.0, 7.0]);
        let empty: Aligned<f32> = std::iter::empty().collect();
        assert_eq!(empty, Aligned::default());
    }

    #[test]
    fn a_buffer_with_room_does_not_move() {
        // Large enough for large pages; appended to in pieces, as keys are.
        let (mut buffer, piece) = (Aligned::<f32>::with_capacity(1 << 20), vec![1.5f32; 1000]);
        buffer.extend_from_slice(&piece);
        let start = buffer.as_ptr();
        for _ in 0..1047 {
            buffer.extend_from_slice(&piece);
        }
        assert_eq!((buffer.as_ptr(), buffer.len()), (start, 1_048_000));
        assert!(buffer.iter().all(|v| *v == 1.5));
    }
}
