//! Keys and values, kept from when they are computed to when they are asked.

use super::Buffers;
use crate::{HeadShape, KeptKeys, KvBytes, KvPrecision, Part, TensorError};

/// Cached keys and values: how they grow, shrink, and are copied.
pub trait Caching: Buffers {
    /// No keys (or values) yet, with room for `capacity` elements of heads of `shape`.
    ///
    /// # Errors
    /// As [`Buffers::matrix`], or if this backend cannot keep them in `precision`.
    fn kv(
        &self,
        precision: KvPrecision,
        shape: HeadShape,
        capacity: usize,
    ) -> Result<Self::Kv, TensorError>;

    /// Appends new keys and values, rounded to the precision of what is cached.
    ///
    /// # Errors
    /// As [`Buffers::matrix`].
    fn append(
        &self,
        cached: [&mut Self::Kv; 2],
        new: [Part<'_, Self::Rows>; 2],
    ) -> Result<(), TensorError>;

    /// Appends keys of the same precision.
    ///
    /// # Errors
    /// As [`Buffers::matrix`].
    fn extend(&self, kv: &mut Self::Kv, other: Part<'_, Self::Kv>) -> Result<(), TensorError>;

    /// A copy of keys (or values) as they are stored; waits for what computes them.
    ///
    /// # Errors
    /// If the processor failed since it was last waited for.
    fn kv_bytes(&self, kv: Part<'_, Self::Kv>) -> Result<KvBytes, TensorError>;

    /// Appends what [`Self::kv_bytes`] gave of keys of the same precision and shape.
    ///
    /// # Errors
    /// As [`Buffers::matrix`].
    ///
    /// # Panics
    /// If they are not whole elements, or not as many scales as belong to them.
    fn extend_bytes(&self, kv: &mut Self::Kv, stored: &KvBytes) -> Result<(), TensorError>;

    /// Keeps the first `len` elements.
    fn truncate(&self, kv: &mut Self::Kv, len: usize);

    /// Makes room for `len` more elements, as an [`Self::append`] would leave them: a step that
    /// is [replayed](super::Replaying) fills it. False, and nothing done, if there is no room.
    fn advance(&self, kv: &mut Self::Kv, len: usize) -> bool;

    /// The keys (or values) of the `chosen` tokens of `kv [tokens, kv_heads, head_dim]`, in that
    /// order, as they are stored.
    ///
    /// # Errors
    /// As [`Buffers::matrix`].
    ///
    /// # Panics
    /// If a chosen token is not one of them.
    fn gather(
        &self,
        kv: Part<'_, Self::Kv>,
        shape: HeadShape,
        chosen: &[u32],
    ) -> Result<Self::Kv, TensorError>;

    /// `kept`, for [`Segment::kept`](super::Segment::kept).
    ///
    /// # Errors
    /// As [`Buffers::matrix`].
    fn kept(&self, kept: KeptKeys) -> Result<Self::Kept, TensorError>;
}
