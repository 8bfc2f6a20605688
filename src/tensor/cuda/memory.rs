//! Device memory as the model uses it: buffers that grow, and cached keys.

use super::{Buffer, CudaError, Device, Element, View, ViewMut};
use crate::tensor::{Memory, Part, PartMut};
use half::bf16;
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

/// Cached keys or values, in bf16. Room that is not enough is doubled.
pub struct Kv {
    buffer: Buffer<bf16>,
    len: usize,
}

impl Memory for Kv {
    fn len(&self) -> usize {
        self.len
    }

    fn bytes(&self) -> usize {
        self.len * size_of::<bf16>()
    }
}

impl Kv {
    pub(super) fn with_capacity(device: &Arc<Device>, capacity: usize) -> Result<Self, CudaError> {
        Ok(Self { buffer: Buffer::uninit(device, capacity)?, len: 0 })
    }

    /// Appends `rows`.
    pub(super) fn append(&mut self, rows: View<'_, bf16>) -> Result<(), CudaError> {
        let (all, start) = self.grow(rows.len())?;
        all.slice(start..start + rows.len())?.copy_from(rows)
    }

    /// Makes room for `len` more elements and counts them as there. Returns all the memory, and where
    /// they start.
    pub(super) fn grow(&mut self, len: usize) -> Result<(ViewMut<'_, bf16>, usize), CudaError> {
        let (start, end) = (self.len, self.len + len);
        if end > self.buffer.len() {
            let room = end.max(2 * self.buffer.len());
            let mut larger = Buffer::uninit(self.buffer.device(), room)?;
            larger.slice_mut(0..start)?.copy_from(self.buffer.slice(0..start)?)?;
            self.buffer = larger;
        }
        self.len = end;
        Ok((self.buffer.view_mut(), start))
    }

    /// Counts `len` more elements as there, if there is room for them.
    pub(super) fn advance(&mut self, len: usize) -> bool {
        let has_room = self.len + len <= self.buffer.len();
        if has_room {
            self.len += len;
        }
        has_room
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    pub(super) fn view(part: Part<'_, Self>) -> Result<View<'_, bf16>, CudaError> {
        part.of.buffer.slice(0..part.of.len)?.slice(part.range())
    }
}
