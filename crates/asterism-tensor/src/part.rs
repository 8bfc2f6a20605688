//! Ranges of buffers, of whatever backend.

use std::ops::Range;

/// Some consecutive elements of a buffer.
#[derive(Debug)]
pub struct Part<'a, T> {
    /// The buffer.
    pub of: &'a T,
    /// Its first element that counts.
    pub start: usize,
    /// How many count.
    pub len: usize,
}

impl<T> Clone for Part<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Part<'_, T> {}

impl<'a, T> Part<'a, T> {
    /// The elements `range` of `of`.
    pub fn new(of: &'a T, range: Range<usize>) -> Self {
        Self { of, start: range.start, len: range.len() }
    }

    /// Some of the elements of this part.
    ///
    /// # Panics
    /// If `range` ends outside this part.
    #[must_use]
    pub fn slice(self, range: Range<usize>) -> Self {
        assert!(range.end <= self.len, "{range:?} of a part of {}", self.len);
        Self { of: self.of, start: self.start + range.start, len: range.len() }
    }

    /// The elements of the buffer that count.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

/// Some consecutive elements of a buffer, to be written.
#[derive(Debug)]
pub struct PartMut<'a, T> {
    /// The buffer.
    pub of: &'a mut T,
    /// Its first element that counts.
    pub start: usize,
    /// How many count.
    pub len: usize,
}

impl<'a, T> PartMut<'a, T> {
    /// The elements `range` of `of`.
    pub fn new(of: &'a mut T, range: Range<usize>) -> Self {
        Self { start: range.start, len: range.len(), of }
    }

    /// Some of the elements of this part, for a shorter while.
    ///
    /// # Panics
    /// If `range` ends outside this part.
    pub fn slice(&mut self, range: Range<usize>) -> PartMut<'_, T> {
        assert!(range.end <= self.len, "{range:?} of a part of {}", self.len);
        PartMut { of: self.of, start: self.start + range.start, len: range.len() }
    }

    /// The same elements, to be read.
    #[must_use]
    pub fn as_part(&self) -> Part<'_, T> {
        Part { of: self.of, start: self.start, len: self.len }
    }

    /// The same elements for a shorter while.
    pub fn reborrow(&mut self) -> PartMut<'_, T> {
        PartMut { of: self.of, start: self.start, len: self.len }
    }

    /// The elements of the buffer that count.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_parts_keep_their_place() {
        let mut buffer = [0u8; 10];
        let part = Part::new(&buffer, 2..8);
        assert_eq!(part.slice(1..4).range(), 3..6);
        let mut part = PartMut::new(&mut buffer, 4..9);
        assert_eq!(part.slice(0..2).range(), 4..6);
        assert_eq!(part.reborrow().range(), 4..9);
    }
}
