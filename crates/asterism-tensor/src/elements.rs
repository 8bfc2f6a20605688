//! A vector of numbers in one of the two precisions that weights are kept in, and mostly
//! cached keys.
//!
//! Arithmetic is always in f32: bf16 halves the memory and the traffic, not the accuracy of sums.

use super::Aligned;
use half::bf16;
use half::slice::HalfFloatSliceExt;

/// The precision in which weights and the KV cache are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit IEEE float: for comparisons with other implementations.
    F32,
    /// bfloat16: what checkpoints are published in.
    Bf16,
}

impl Precision {
    /// Bytes of one element.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        })
    }
}

/// A growable vector of f32 or bf16.
#[derive(Debug, Clone, PartialEq)]
pub enum Elements {
    /// 32-bit floats.
    F32(Aligned<f32>),
    /// bfloat16.
    Bf16(Aligned<bf16>),
}

/// A borrowed range of [`Elements`].
#[derive(Debug, Clone, Copy)]
pub enum ElementsView<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// bfloat16.
    Bf16(&'a [bf16]),
}

impl Elements {
    /// An empty vector with room for `capacity` elements.
    #[must_use]
    pub fn with_capacity(precision: Precision, capacity: usize) -> Self {
        match precision {
            Precision::F32 => Self::F32(Aligned::with_capacity(capacity)),
            Precision::Bf16 => Self::Bf16(Aligned::with_capacity(capacity)),
        }
    }

    /// `len` zeros.
    #[must_use]
    pub fn zeros(precision: Precision, len: usize) -> Self {
        match precision {
            Precision::F32 => Self::F32(Aligned::zeros(len)),
            Precision::Bf16 => Self::Bf16(Aligned::zeros(len)),
        }
    }

    /// The values of `source`, rounded (to nearest even) where the precision asks for it.
    #[must_use]
    pub fn from_f32(precision: Precision, source: &[f32]) -> Self {
        let mut elements = Self::with_capacity(precision, source.len());
        elements.extend_from_f32(source);
        elements
    }

    /// The precision the elements are stored in.
    #[must_use]
    pub fn precision(&self) -> Precision {
        match self {
            Self::F32(_) => Precision::F32,
            Self::Bf16(_) => Precision::Bf16,
        }
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::Bf16(v) => v.len(),
        }
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes the elements occupy (not the spare capacity).
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.len() * self.precision().bytes()
    }

    /// Appends `source`, rounded to this vector's precision.
    pub fn extend_from_f32(&mut self, source: &[f32]) {
        match self {
            Self::F32(v) => v.extend_from_slice(source),
            Self::Bf16(v) => {
                let start = v.len();
                v.resize(start + source.len());
                v[start..].convert_from_f32_slice(source);
            }
        }
    }

    /// Appends elements of the same precision.
    ///
    /// # Panics
    /// If the precisions differ: one session stores everything in one precision.
    pub fn extend_from(&mut self, source: ElementsView<'_>) {
        match (self, source) {
            (Self::F32(v), ElementsView::F32(s)) => v.extend_from_slice(s),
            (Self::Bf16(v), ElementsView::Bf16(s)) => v.extend_from_slice(s),
            _ => panic!("elements of two precisions in one session"),
        }
    }

    /// Appends elements of the same precision from their bytes in memory.
    ///
    /// # Panics
    /// If these are not whole elements.
    pub(crate) fn extend_from_bytes(&mut self, bytes: &[u8]) {
        fn extend<T: bytemuck::Pod>(to: &mut Aligned<T>, bytes: &[u8]) {
            assert_eq!(bytes.len() % size_of::<T>(), 0, "{} bytes are no elements", bytes.len());
            let start = to.len();
            to.resize(start + bytes.len() / size_of::<T>());
            bytemuck::cast_slice_mut(&mut to[start..]).copy_from_slice(bytes);
        }
        match self {
            Self::F32(v) => extend(v, bytes),
            Self::Bf16(v) => extend(v, bytes),
        }
    }

    /// Keeps the first `len` elements.
    pub fn truncate(&mut self, len: usize) {
        match self {
            Self::F32(v) => v.resize(v.len().min(len)),
            Self::Bf16(v) => v.resize(v.len().min(len)),
        }
    }

    /// Borrows `range`.
    #[must_use]
    pub fn view(&self, range: std::ops::Range<usize>) -> ElementsView<'_> {
        match self {
            Self::F32(v) => ElementsView::F32(&v[range]),
            Self::Bf16(v) => ElementsView::Bf16(&v[range]),
        }
    }
}

impl<'a> ElementsView<'a> {
    /// The precision the elements are stored in.
    #[must_use]
    pub fn precision(self) -> Precision {
        match self {
            Self::F32(_) => Precision::F32,
            Self::Bf16(_) => Precision::Bf16,
        }
    }

    /// Number of elements.
    #[must_use]
    pub fn len(self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::Bf16(v) => v.len(),
        }
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// A part of this view.
    #[must_use]
    pub fn slice(self, range: std::ops::Range<usize>) -> ElementsView<'a> {
        match self {
            Self::F32(v) => ElementsView::F32(&v[range]),
            Self::Bf16(v) => ElementsView::Bf16(&v[range]),
        }
    }

    /// The elements, if they are f32.
    #[must_use]
    pub fn f32(self) -> Option<&'a [f32]> {
        if let Self::F32(elements) = self { Some(elements) } else { None }
    }

    /// The elements, if they are bf16.
    #[must_use]
    pub fn bf16(self) -> Option<&'a [bf16]> {
        if let Self::Bf16(elements) = self { Some(elements) } else { None }
    }

    /// Their bytes in memory.
    pub(crate) fn as_bytes(self) -> &'a [u8] {
        match self {
            Self::F32(v) => bytemuck::cast_slice(v),
            Self::Bf16(v) => bytemuck::cast_slice(v),
        }
    }

    /// An owned copy.
    #[must_use]
    pub fn to_elements(self) -> Elements {
        match self {
            Self::F32(v) => Elements::F32(v.iter().copied().collect()),
            Self::Bf16(v) => Elements::Bf16(v.iter().copied().collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounds_to_nearest_even() {
        // 1 + 2^-8 lies half-way between two bf16 values: the even one is 1.
        let elements = Elements::from_f32(Precision::Bf16, &[1.0 + 1.0 / 256.0, 3.0]);
        assert_eq!(elements.view(0..2).bf16().unwrap(), [bf16::ONE, bf16::from_f32(3.0)]);
        assert_eq!(elements.bytes(), 4);
    }

    #[test]
    fn bytes_give_the_same_elements() {
        for precision in [Precision::F32, Precision::Bf16] {
            let elements = Elements::from_f32(precision, &[1.5, -2.0, 0.25]);
            let mut again = Elements::from_f32(precision, &[7.0]);
            // From a place that no element could stand at.
            let bytes = [&[0], elements.view(1..3).as_bytes()].concat();
            again.extend_from_bytes(&bytes[1..]);
            assert_eq!(again, Elements::from_f32(precision, &[7.0, -2.0, 0.25]));
        }
    }

    #[test]
    fn views_and_truncation_keep_the_front() {
        let mut elements = Elements::from_f32(Precision::F32, &[1.0, 2.0, 3.0]);
        elements.extend_from(ElementsView::F32(&[4.0]));
        elements.truncate(3);
        assert_eq!(elements.view(1..3).to_elements().view(0..2).f32().unwrap(), [2.0, 3.0]);
    }
}
