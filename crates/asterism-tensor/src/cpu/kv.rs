//! Cached keys and values: floats, or in 8 bits.
//!
//! In 8 bits a head of a token is its scale and behind it its codes, whole numbers that the scale
//! is multiplied by. So they are read from memory, and sent to other hosts, as one run of bytes.

use crate::{Aligned, Elements, ElementsView, KvBytes, KvPrecision, Precision};
use half::bf16;
use std::ops::Range;

/// Bytes of a scale.
const SCALE: usize = size_of::<f32>();

/// Bytes of a head of `dim` elements in 8 bits.
pub(crate) const fn int8_bytes(dim: usize) -> usize {
    SCALE + dim
}

/// Keys (or values) of tokens as they are cached.
#[derive(Debug, Clone, PartialEq)]
pub enum Kv {
    /// `[tokens, kv_heads, head_dim]`
    Floats(Elements),
    /// In 8 bits.
    Int8(Int8),
}

/// Keys (or values) in 8 bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Int8 {
    /// `[tokens, kv_heads, 4 + head_dim]`: of each head its scale (f32), then its codes (i8)
    bytes: Aligned<u8>,
    head_dim: usize,
}

/// Some cached keys (or values).
#[derive(Debug, Clone, Copy)]
pub enum KvView<'a> {
    /// `[tokens, kv_heads, head_dim]`
    F32(&'a [f32]),
    /// `[tokens, kv_heads, head_dim]`
    Bf16(&'a [bf16]),
    /// In 8 bits.
    Int8(Int8View<'a>),
}

/// Some keys (or values) in 8 bits: whole heads.
#[derive(Debug, Clone, Copy)]
pub struct Int8View<'a> {
    /// As those of [`Int8`].
    bytes: &'a [u8],
    head_dim: usize,
}

impl Kv {
    /// Nothing, with room for `capacity` elements, in floats.
    #[must_use]
    pub fn floats(precision: Precision, capacity: usize) -> Self {
        Self::Floats(Elements::with_capacity(precision, capacity))
    }

    /// Nothing, with room for `capacity` elements, in 8 bits and heads of `head_dim`.
    #[must_use]
    pub fn int8(head_dim: usize, capacity: usize) -> Self {
        let heads = capacity / head_dim.max(1);
        let bytes = Aligned::with_capacity(heads * int8_bytes(head_dim));
        Self::Int8(Int8 { bytes, head_dim })
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Floats(all) => all.len(),
            Self::Int8(all) => all.view().len(),
        }
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes they occupy, scales among them (not the spare capacity).
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.as_bytes().len()
    }

    /// Borrows the elements `range`, in 8 bits of whole heads.
    #[must_use]
    pub fn view(&self, range: Range<usize>) -> KvView<'_> {
        match self {
            Self::Floats(all) => all.view(range).into(),
            Self::Int8(all) => KvView::Int8(all.view()).slice(range),
        }
    }

    /// Appends elements of the same precision.
    ///
    /// # Panics
    /// If the precisions differ: one session stores everything in one precision.
    pub fn extend_from(&mut self, source: KvView<'_>) {
        match (self, source) {
            (Self::Floats(all), KvView::F32(new)) => all.extend_from(ElementsView::F32(new)),
            (Self::Floats(all), KvView::Bf16(new)) => all.extend_from(ElementsView::Bf16(new)),
            (Self::Int8(all), KvView::Int8(new)) if all.head_dim == new.head_dim => {
                all.bytes.extend_from_slice(new.bytes);
            }
            _ => panic!("keys of two precisions in one session"),
        }
    }

    /// Keeps the first `len` elements.
    pub fn truncate(&mut self, len: usize) {
        match self {
            Self::Floats(all) => all.truncate(len),
            Self::Int8(all) => {
                let bytes = all.view().at(len).min(all.bytes.len());
                all.bytes.resize(bytes);
            }
        }
    }

    /// Their bytes in memory: elements, or each head's scale and codes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Floats(all) => all.view(0..all.len()).as_bytes(),
            Self::Int8(all) => &all.bytes,
        }
    }

    /// Appends what [`KvView::to_bytes`] gave of keys of the same precision and head dimension.
    ///
    /// # Panics
    /// If these are not whole elements, or not as many scales as belong to them.
    pub(super) fn extend_bytes(&mut self, KvBytes { elements, scales }: &KvBytes) {
        match self {
            Self::Floats(all) => {
                assert!(scales.is_empty(), "floats with scales");
                all.extend_from_bytes(elements);
            }
            Self::Int8(all) => {
                let (dim, heads) = (all.head_dim, scales.len() / SCALE);
                let expected = (heads * SCALE, heads * dim);
                assert_eq!((scales.len(), elements.len()), expected, "scales of other keys");
                let heads = all.grow(heads).chunks_exact_mut(int8_bytes(dim));
                let sources = scales.chunks_exact(SCALE).zip(elements.chunks_exact(dim));
                for (head, (scale, codes)) in heads.zip(sources) {
                    head[..SCALE].copy_from_slice(scale);
                    head[SCALE..].copy_from_slice(codes);
                }
            }
        }
    }
}

impl Int8 {
    /// Elements of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// The memory of all heads, to be filled with what [`Kv::as_bytes`] gave of others.
    pub fn bytes_mut(&mut self) -> &mut Aligned<u8> {
        &mut self.bytes
    }

    /// Room for so many more heads, behind those that are there.
    pub(super) fn grow(&mut self, heads: usize) -> &mut [u8] {
        let start = self.bytes.len();
        self.bytes.resize(start + heads * int8_bytes(self.head_dim));
        &mut self.bytes[start..]
    }

    fn view(&self) -> Int8View<'_> {
        Int8View { bytes: &self.bytes, head_dim: self.head_dim }
    }
}

impl<'a> KvView<'a> {
    /// Number of elements.
    #[must_use]
    pub fn len(self) -> usize {
        match self {
            Self::F32(all) => all.len(),
            Self::Bf16(all) => all.len(),
            Self::Int8(all) => all.len(),
        }
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// A part of this view, in 8 bits of whole heads.
    #[must_use]
    pub fn slice(self, range: Range<usize>) -> Self {
        match self {
            Self::F32(all) => Self::F32(&all[range]),
            Self::Bf16(all) => Self::Bf16(&all[range]),
            Self::Int8(all) => {
                let bytes = &all.bytes[all.at(range.start)..all.at(range.end)];
                Self::Int8(Int8View { bytes, ..all })
            }
        }
    }

    /// Where the first one lies in memory.
    pub(super) fn address(self) -> usize {
        match self {
            Self::F32(all) => all.as_ptr().addr(),
            Self::Bf16(all) => all.as_ptr().addr(),
            Self::Int8(all) => all.bytes.as_ptr().addr(),
        }
    }

    /// What they are cached in.
    pub(super) fn precision(self) -> KvPrecision {
        match self {
            Self::F32(_) => KvPrecision::F32,
            Self::Bf16(_) => KvPrecision::Bf16,
            Self::Int8(_) => KvPrecision::Int8,
        }
    }

    /// Whether these are f32.
    pub(super) fn is_f32(self) -> bool {
        matches!(self, Self::F32(_))
    }

    /// Nothing, with room for `capacity` elements like these.
    pub(super) fn none_like(self, capacity: usize) -> Kv {
        match self {
            Self::F32(_) => Kv::floats(Precision::F32, capacity),
            Self::Bf16(_) => Kv::floats(Precision::Bf16, capacity),
            Self::Int8(all) => Kv::int8(all.head_dim, capacity),
        }
    }

    /// A copy, codes and scales apart.
    pub(super) fn to_bytes(self) -> KvBytes {
        let floats = |bytes: &[u8]| KvBytes { elements: bytes.to_vec(), scales: Vec::new() };
        match self {
            Self::F32(all) => floats(bytemuck::cast_slice(all)),
            Self::Bf16(all) => floats(bytemuck::cast_slice(all)),
            Self::Int8(all) => {
                let mut stored = KvBytes::default();
                for head in all.bytes.chunks_exact(int8_bytes(all.head_dim)) {
                    stored.scales.extend(&head[..SCALE]);
                    stored.elements.extend(&head[SCALE..]);
                }
                stored
            }
        }
    }
}

impl<'a> From<ElementsView<'a>> for KvView<'a> {
    fn from(elements: ElementsView<'a>) -> Self {
        match elements {
            ElementsView::F32(all) => Self::F32(all),
            ElementsView::Bf16(all) => Self::Bf16(all),
        }
    }
}

impl<'a> Int8View<'a> {
    /// `[tokens, kv_heads, 4 + head_dim]`
    pub(super) fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Number of heads, of all tokens.
    pub(super) fn heads(self) -> usize {
        self.bytes.len() / int8_bytes(self.head_dim)
    }

    /// Number of elements.
    fn len(self) -> usize {
        self.heads() * self.head_dim
    }

    /// The byte at which element `element` begins, the first of a head, with its scale.
    pub(super) fn at(self, element: usize) -> usize {
        debug_assert!(element.is_multiple_of(self.head_dim), "element {element} within a head");
        element / self.head_dim * int8_bytes(self.head_dim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cpu, KvPrecision};

    /// Heads of three elements whose codes are 127, -127 and 0 and 64, 0 and -1.
    fn two_heads(cpu: &Cpu) -> Kv {
        let mut kv = Kv::int8(3, 6);
        cpu.append(&mut kv, &[254.0, -254.0, 0.0, 32.0, 0.0, -63.5]);
        kv
    }

    #[test]
    fn heads_are_a_scale_and_codes() {
        let cpu = Cpu::new(1, None).unwrap();
        let kv = two_heads(&cpu);
        assert_eq!((kv.len(), kv.bytes()), (6, 14));
        let scales = [2.0f32, 0.5].map(f32::to_le_bytes);
        let second = [&scales[1][..], &[64, 0, 0x81]].concat();
        assert_eq!(kv.as_bytes(), [&scales[0][..], &[127, 0x81, 0], &second].concat());
        let KvView::Int8(view) = kv.view(3..6) else { panic!("not in 8 bits") };
        assert_eq!(view.bytes(), second);
        let stored = kv.view(0..6).to_bytes();
        assert_eq!(stored.to_f32(KvPrecision::Int8, 3), [254.0, -254.0, 0.0, 32.0, 0.0, -63.5]);
    }

    #[test]
    fn what_is_stored_comes_back() {
        let cpu = Cpu::new(1, None).unwrap();
        let kv = two_heads(&cpu);
        let mut again = kv.view(0..6).none_like(0);
        again.extend_bytes(&kv.view(3..6).to_bytes());
        again.extend_from(kv.view(0..3));
        assert_eq!((again.len(), again.view(3..6).to_bytes()), (6, kv.view(0..3).to_bytes()));
        again.truncate(3);
        assert_eq!(again.view(0..3).to_bytes(), kv.view(3..6).to_bytes());
        again.truncate(9);
        assert_eq!(again.len(), 3);
    }
}
