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

/// A vector of numbers whose first lies at a multiple of 64 bytes. `Vec` promises only the alignment
/// of its element: every 64-byte load of a tile row or a register would touch two cache lines, which
/// halves the rate at which the first-level cache feeds the multipliers.
#[derive(Debug, Clone)]
pub struct Aligned<T> {
    lines: Vec<Line>,
    len: usize,
    of: PhantomData<T>,
}

impl<T: Pod> Aligned<T> {
    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let lines = vec![Line([0; 64]); (len * size_of::<T>()).div_ceil(64)];
        Self { lines, len, of: PhantomData }
    }

    /// The first `len` elements, grown by zeros if there are fewer; what was there stays.
    pub fn at_least(&mut self, len: usize) -> &mut [T] {
        if self.len < len {
            self.lines.resize((len * size_of::<T>()).div_ceil(64), Line([0; 64]));
            self.len = len;
        }
        &mut self[..len]
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
}
