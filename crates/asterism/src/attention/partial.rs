//! Attention over a part of the keys.

use crate::tensor::{Backend, HeadShape, Part, PartMut, Segment, TensorError};
use std::ops::Range;

/// Normalised attention over some keys and the log-sum-exp of their scores: enough to merge it with
/// attention over other keys into attention over both.
pub struct Partial<B: Backend> {
    /// `[tokens, heads, head_dim]`
    pub out: B::Rows,
    /// `[tokens, heads]`; minus infinity where no key was seen
    pub lse: B::Sums,
}

impl<B: Backend> Partial<B> {
    /// Room for the attention of `tokens` tokens, not filled in yet.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn empty(backend: &B, tokens: usize, shape: HeadShape) -> Result<Self, TensorError> {
        let (mut out, mut lse) = (B::Rows::default(), B::Sums::default());
        backend.rows_at_least(&mut out, tokens * shape.q_width())?;
        backend.sums_at_least(&mut lse, tokens * shape.heads)?;
        Ok(Self { out, lse })
    }

    /// Fills the token rows `rows` with the attention of `q [rows, heads, head_dim]`, standing at
    /// `start..`, over `segments`.
    ///
    /// # Errors
    /// If the backend fails.
    pub fn attend(
        &mut self,
        backend: &B,
        q: Part<'_, B::Rows>,
        start: usize,
        shape: HeadShape,
        segments: &[Segment<'_, B>],
        rows: &Range<usize>,
    ) -> Result<(), TensorError> {
        let range = |width: usize| rows.start * width..rows.end * width;
        let out = PartMut::new(&mut self.out, range(shape.q_width()));
        let lse = PartMut::new(&mut self.lse, range(shape.heads));
        backend.attend(q, start, shape, segments, out, lse)
    }

    /// Attention of `q [tokens, heads, head_dim]`, standing at `start..`, over `segments`.
    ///
    /// # Errors
    /// If the backend fails.
    pub fn of(
        backend: &B,
        q: Part<'_, B::Rows>,
        start: usize,
        shape: HeadShape,
        segments: &[Segment<'_, B>],
    ) -> Result<Self, TensorError> {
        let tokens = q.len / shape.q_width();
        let mut part = Self::empty(backend, tokens, shape)?;
        part.attend(backend, q, start, shape, segments, &(0..tokens))?;
        Ok(part)
    }
}
