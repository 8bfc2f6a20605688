//! Device memory as the model uses it: buffers that grow.

use super::{Buffer, CudaError, Device, Element, Piece, Stream, View, ViewMut};
use crate::{Memory, Part, PartMut};
use std::ops::Range;
use std::sync::Arc;

/// A buffer that only grows, kept between forward passes. Growing loses what was there.
pub struct Grown<T: Element>(Option<Buffer<T>>);

impl<T: Element> Default for Grown<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Element> Memory for Grown<T> {
    fn len(&self) -> usize {
        self.0.as_ref().map_or(0, Buffer::len)
    }

    fn bytes(&self) -> usize {
        Memory::len(self) * size_of::<T>()
    }
}

impl<T: Element> Grown<T> {
    /// `len` elements that `stream` will fill, by way of [`Self::piece`].
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn to_fill(stream: &Stream, len: usize) -> Result<Self, CudaError> {
        Ok(Self(Some(stream.uninit(len)?)))
    }

    /// The memory of the elements of `range`.
    ///
    /// # Errors
    /// [`CudaError::Range`].
    pub fn piece(&self, range: Range<usize>) -> Result<Piece, CudaError> {
        Ok(view(Part::new(self, range))?.piece())
    }

    pub(super) fn at_least(&mut self, device: &Arc<Device>, len: usize) -> Result<(), CudaError> {
        if Memory::len(self) < len {
            // The old one goes back first: both together may not fit.
            self.0 = None;
            self.0 = Some(Buffer::uninit(device, len)?);
        }
        Ok(())
    }

    /// The first `len` elements, to write.
    pub(super) fn first(
        &mut self,
        device: &Arc<Device>,
        len: usize,
    ) -> Result<ViewMut<'_, T>, CudaError> {
        self.at_least(device, len)?;
        view_mut(PartMut::new(self, 0..len))
    }
}

/// A part as a view.
pub(super) fn view<T: Element>(part: Part<'_, Grown<T>>) -> Result<View<'_, T>, CudaError> {
    match &part.of.0 {
        Some(buffer) => buffer.slice(part.range()),
        None => Err(CudaError::Range { range: part.range(), len: 0 }),
    }
}

/// A part as a view to write to.
pub(super) fn view_mut<T: Element>(
    part: PartMut<'_, Grown<T>>,
) -> Result<ViewMut<'_, T>, CudaError> {
    let range = part.range();
    match &mut part.of.0 {
        Some(buffer) => buffer.slice_mut(range),
        None => Err(CudaError::Range { range, len: 0 }),
    }
}

/// Tokens and their positions.
#[derive(Default)]
pub struct Ids {
    pub(super) tokens: Grown<u32>,
    pub(super) positions: Grown<u32>,
    pub(super) count: usize,
}

impl Ids {
    pub(super) fn set(
        &mut self,
        device: &Arc<Device>,
        tokens: &[u32],
        positions: &[u32],
    ) -> Result<(), CudaError> {
        self.count = tokens.len();
        for (to, from) in [(&mut self.tokens, tokens), (&mut self.positions, positions)] {
            match from {
                [] => {}
                // Without waiting: the number travels in the command.
                [one] => to.first(device, 1)?.fill(*one)?,
                many => to.first(device, many.len())?.write(many)?,
            }
        }
        Ok(())
    }
}
