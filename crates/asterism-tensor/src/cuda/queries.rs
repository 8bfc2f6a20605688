//! Queries of a call of attention, where they stand, and keys that they see.

use super::kv::KvView;
use super::view::same_length;
use super::{Buffer, Cuda, CudaError, Device, View};
use crate::{HeadShape, KeptKeys, Positions};
use half::bf16;
use std::ops::Range;
use std::sync::Arc;

/// The keys of one segment that some query sees; `K` is a view of them.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a, K> {
    /// `[tokens, kv_heads, head_dim]`, or what is kept of them, `[rows, head_dim]`
    pub(super) keys: K,
    /// As `keys`.
    pub(super) values: K,
    pub(super) tokens: usize,
    /// Position of the first.
    pub(super) start: usize,
    /// `[tokens]`: not 0 for a key that no query sees; none if it is missing.
    pub(super) hidden: Option<View<'a, u8>>,
    /// Which tokens' keys each head has; those of all if it is missing.
    pub(super) kept: Option<KeptView<'a>>,
}

/// Which tokens' keys each head has.
#[derive(Clone, Copy)]
pub(super) struct KeptView<'a> {
    /// `[kv_heads + 1]`: the first row of each head.
    pub(super) offsets: View<'a, u32>,
    /// `[rows]`: the token of each row.
    pub(super) indices: View<'a, u32>,
    /// The most rows of a head.
    pub(super) most: usize,
}

/// Which keys each head has, on the device and in the program's memory.
pub struct Kept {
    keys: KeptKeys,
    offsets: Buffer<u32>,
    indices: Buffer<u32>,
}

impl Kept {
    pub(super) fn new(device: &Arc<Device>, keys: KeptKeys) -> Result<Self, CudaError> {
        let offsets = Buffer::from_slice(device, keys.offsets())?;
        let indices = Buffer::from_slice(device, keys.indices())?;
        Ok(Self { keys, offsets, indices })
    }

    pub(super) fn view(&self) -> KeptView<'_> {
        let of_heads = (0..self.keys.kv_heads()).map(|head| self.keys.range(head).len());
        let most = of_heads.max().unwrap_or(0);
        KeptView { offsets: self.offsets.view(), indices: self.indices.view(), most }
    }
}

impl AsRef<KeptKeys> for Kept {
    fn as_ref(&self) -> &KeptKeys {
        &self.keys
    }
}

impl<K> Keys<'_, K> {
    /// How many keys a head has, on average.
    pub(super) fn of_a_head(&self) -> usize {
        self.kept.map_or(self.tokens, |kept| {
            let heads = kept.offsets.len() - 1;
            kept.indices.len().div_ceil(heads.max(1))
        })
    }
}

impl<'a> Keys<'a, View<'a, bf16>> {
    /// The same, as our kernels take them.
    pub(super) fn stored(&self) -> Keys<'a, KvView<'a>> {
        let [keys, values] = [self.keys, self.values].map(KvView::Bf16);
        let Self { tokens, start, hidden, kept, .. } = *self;
        Keys { keys, values, tokens, start, hidden, kept }
    }

    /// Those of some of its tokens, if all their keys are there.
    pub(super) fn slice(&self, tokens: Range<usize>, shape: HeadShape) -> Result<Self, CudaError> {
        let width = shape.kv_width();
        let elements = tokens.start * width..tokens.end * width;
        Ok(Self {
            keys: self.keys.slice(elements.clone())?,
            values: self.values.slice(elements)?,
            tokens: tokens.len(),
            start: self.start + tokens.start,
            hidden: self.hidden.map(|hidden| hidden.slice(tokens)).transpose()?,
            kept: None,
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
