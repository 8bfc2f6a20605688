//! Attention of rows over the keys they see, and what joins parts of it.

use super::Buffers;
use crate::{HeadShape, Part, PartMut, TensorError};
use std::ops::Range;

/// Keys and values of tokens at consecutive positions.
pub struct Segment<'a, B: Buffers> {
    /// `[tokens, kv_heads, head_dim]`, or what is `kept` of them, `[rows, head_dim]`
    pub keys: Part<'a, B::Kv>,
    /// As `keys`.
    pub values: Part<'a, B::Kv>,
    /// Number of tokens.
    pub tokens: usize,
    /// Position of the first token.
    pub start: usize,
    /// `[tokens]`: which keys no query sees, whatever its position; none if it is missing.
    pub hidden: Option<&'a B::Flags>,
    /// Which tokens' keys each head has; those of all if it is missing.
    pub kept: Option<&'a B::Kept>,
}

/// Where the rows of a sequence stand.
pub enum Positions<'a, B: Buffers> {
    /// At consecutive positions, from this one on.
    From(usize),
    /// At these, one for each row.
    Listed(&'a B::Listed),
}

impl<B: Buffers> Clone for Positions<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Buffers> Copy for Positions<'_, B> {}

/// Some consecutive rows of queries and the keys they see.
pub struct Sequence<'a, B: Buffers> {
    /// Which of all tokens of the queries.
    pub rows: Range<usize>,
    /// Where they stand.
    pub positions: Positions<'a, B>,
    /// Keys and values, in any number of segments.
    pub segments: &'a [Segment<'a, B>],
}

/// How the softmax weights that several rows give to a key become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MassOver {
    /// They are added up.
    Sum,
    /// The largest is taken.
    Max,
}

/// Attention over all keys that rows see.
pub trait Attention: Buffers {
    /// Attention of the rows of `q [tokens, heads, head_dim]` that belong to `sequences`, each over
    /// the keys of its own segments: a query sees a key that is not hidden and whose position is
    /// not greater than its own. Fills their rows of `out [tokens, heads, head_dim]` with the
    /// normalised output and of `lse [tokens, heads]` with the log-sum-exp of the scaled scores; a
    /// row that sees no key gets zeros and minus infinity. Rows of no sequence may hold anything
    /// afterwards.
    ///
    /// What comes out for a sequence does not depend, to the last bit, on the others of the call;
    /// and of sequences of one token each, as in decoding, not on how many there are.
    ///
    /// # Errors
    /// If the processor fails.
    ///
    /// # Panics
    /// If sequences share rows or are not in the order of their rows, or a row has no position.
    fn attend(
        &self,
        q: Part<'_, Self::Rows>,
        shape: HeadShape,
        sequences: &[Sequence<'_, Self>],
        out: PartMut<'_, Self::Rows>,
        lse: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// Softmax weight of each key, `over` the rows of `sequence` in `q [tokens, heads, head_dim]`
    /// and the query heads that share a KV head: their sum or their largest. Fills `sums [kv_heads,
    /// keys]`, the tokens of all segments one after the other, with 0 for a key that no row sees or
    /// that a head does not have. `lse [tokens, heads]` is that of attention over all keys that
    /// count, be they of other calls, as [`Self::attend`] and [`Self::merge`] give it.
    ///
    /// # Errors
    /// If the processor fails.
    fn mass(
        &self,
        q: Part<'_, Self::Rows>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        lse: Part<'_, Self::Sums>,
        over: MassOver,
        sums: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// Merges the partial attention `(part, part_lse)` into `(out, lse)`: the result is attention
    /// over the keys of both (the paper's equation for phase 2). Outputs are `[rows, head_dim]`,
    /// normalised; log-sum-exps `[rows]`. A part that saw no key (minus infinity) changes nothing.
    ///
    /// # Errors
    /// If the processor fails.
    fn merge(
        &self,
        out: PartMut<'_, Self::Rows>,
        lse: PartMut<'_, Self::Sums>,
        part: Part<'_, Self::Rows>,
        part_lse: Part<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// Merges `count` partial attentions, `parts [count, rows, head_dim]` with log-sum-exps `lse
    /// [count, rows]`, as [`Self::merge`] would one after the other, into `out [rows,
    /// head_dim]`; zeros for a row that saw no key in any of them.
    ///
    /// # Errors
    /// If the processor fails.
    fn merge_all(
        &self,
        count: usize,
        parts: Part<'_, Self::Rows>,
        lse: Part<'_, Self::Sums>,
        out: PartMut<'_, Self::Rows>,
    ) -> Result<(), TensorError>;
}
