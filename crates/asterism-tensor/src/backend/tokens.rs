//! What depends on which token stands where: its embedding, and the rotation by its position.

use super::Buffers;
use crate::{HeadShape, Part, PartMut, TensorError};

/// What happens to queries and keys between projection and attention.
pub struct Rotation<'a, B: Buffers> {
    /// Weights of the norms of each head of q and of k, `[head_dim]` (Qwen3), and their epsilon.
    pub norms: Option<(&'a B::Vector, &'a B::Vector, f32)>,
    /// `[tokens, head_dim]`: cosines of the angles of a token's pairs, then their sines
    pub angles: Part<'a, B::Sums>,
}

/// Queries, keys and values of some tokens, apart.
pub struct SplitQkv<'a, B: Buffers> {
    /// `[tokens, heads, head_dim]`
    pub q: PartMut<'a, B::Rows>,
    /// `[tokens, kv_heads, head_dim]`
    pub k: PartMut<'a, B::Rows>,
    /// `[tokens, kv_heads, head_dim]`
    pub v: PartMut<'a, B::Rows>,
}

/// From tokens to the rows of a pass, and from their positions to rotated queries and keys.
pub trait Tokens: Buffers {
    /// Says which tokens stand at which positions, for [`Self::embed`] and [`Self::angles`].
    ///
    /// # Errors
    /// As [`Buffers::matrix`].
    fn set_ids(
        &self,
        ids: &mut Self::Ids,
        tokens: &[u32],
        positions: &[u32],
    ) -> Result<(), TensorError>;

    /// Fills `x [tokens, hidden]` with the embeddings of the tokens, each below the vocabulary's
    /// size.
    ///
    /// # Errors
    /// If the processor fails.
    fn embed(
        &self,
        table: &Self::Embedding,
        ids: &Self::Ids,
        x: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// Fills `out [tokens, head_dim]` with the cosines, then the sines, of all pairs of each
    /// position. The angle is `position * frequency` in f32, as in Transformers: at position
    /// 100,000 that rounding is visible. `frequencies` is `[head_dim / 2]`, radians per position.
    ///
    /// # Errors
    /// If the processor fails.
    fn angles(
        &self,
        frequencies: &Self::Vector,
        ids: &Self::Ids,
        out: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// Takes the rows of `qkv [tokens, (heads + 2 kv_heads) * head_dim]` apart, normalises the
    /// heads of q and k if the model does, and rotates them by the angles of their token.
    ///
    /// # Errors
    /// If the processor fails.
    fn split_and_rotate(
        &self,
        qkv: Part<'_, Self::Rows>,
        shape: HeadShape,
        rotation: Rotation<'_, Self>,
        out: SplitQkv<'_, Self>,
    ) -> Result<(), TensorError>;
}
