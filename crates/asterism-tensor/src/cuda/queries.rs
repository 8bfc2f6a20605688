//! Queries of a call of attention, where they stand, and keys that they see.

use super::kv::KvView;
use super::view::same_length;
use super::{Buffer, Cuda, CudaError, Device, View};
use crate::{HeadShape, Positions};
use half::bf16;
use std::ops::Range;
use std::sync::Arc;

/// The keys of one segment that some query sees; `K` is a view of them.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a, K> {
    /// `[tokens, kv_heads, head_dim]`
    pub(super) keys: K,
    /// `[tokens, kv_heads, head_dim]`
    pub(super) values: K,
    pub(super) tokens: usize,
    /// Position of the first.
    pub(super) start: usize,
    /// `[tokens]`: not 0 for a key that no query sees; none if it is missing.
    pub(super) hidden: Option<View<'a, u8>>,
}

impl<'a> Keys<'a, View<'a, bf16>> {
    /// The same, as our kernels take them.
    pub(super) fn stored(&self) -> Keys<'a, KvView<'a>> {
        let [keys, values] = [self.keys, self.values].map(KvView::Bf16);
        Keys { keys, values, tokens: self.tokens, start: self.start, hidden: self.hidden }
    }

    /// Those of some of its tokens.
    pub(super) fn slice(&self, tokens: Range<usize>, shape: HeadShape) -> Result<Self, CudaError> {
        let width = shape.kv_width();
        let elements = tokens.start * width..tokens.end * width;
        Ok(Self {
            keys: self.keys.slice(elements.clone())?,
            values: self.values.slice(elements)?,
            tokens: tokens.len(),
            start: self.start + tokens.start,
            hidden: self.hidden.map(|hidden| hidden.slice(tokens)).transpose()?,
        })
    }
}

/// Where queries stand.
#[derive(Clone, Copy)]
pub(super) struct Places<'a> {
    /// Position of the first.
    pub(super) first: usize,
    /// The position after the last one's.
    pub(super) end: usize,
    /// `[tokens]`; none if they are consecutive.
    pub(super) listed: Option<View<'a, u32>>,
}

impl<'a> Places<'a> {
    /// Of `tokens` queries at consecutive positions.
    pub(super) fn from(first: usize, tokens: usize) -> Self {
        Self { first, end: first + tokens, listed: None }
    }

    /// Of `tokens` queries.
    pub(super) fn of(positions: Positions<'a, Cuda>, tokens: usize) -> Result<Self, CudaError> {
        let listed = match positions {
            Positions::From(first) => return Ok(Self::from(first, tokens)),
            Positions::Listed(listed) => listed,
        };
        same_length("positions", tokens, listed.positions.len())?;
        let listed_at = Some(listed.positions.view());
        Ok(Self { first: listed.first, end: listed.end, listed: listed_at })
    }
}

/// Positions in ascending order, on the device.
pub struct Listed {
    /// `[tokens]`
    positions: Buffer<u32>,
    first: usize,
    end: usize,
}

impl Listed {
    pub(super) fn new(device: &Arc<Device>, positions: &[u32]) -> Result<Self, CudaError> {
        let first = positions.first().map_or(0, |first| *first as usize);
        let end = positions.last().map_or(first, |last| *last as usize + 1);
        Ok(Self { positions: Buffer::from_slice(device, positions)?, first, end })
    }
}

/// Queries of one call.
#[derive(Clone, Copy)]
pub(super) struct Queries<'a> {
    /// `[tokens, heads, head_dim]`
    pub(super) q: View<'a, bf16>,
    pub(super) tokens: usize,
    pub(super) places: Places<'a>,
    pub(super) shape: HeadShape,
}
