//! Attention over a part of the keys.

use crate::tensor::{Backend, HeadShape, Part, PartMut, Sequence, TensorError};

/// Normalised attention over some keys and the log-sum-exp of their scores: enough to merge it with
/// attention over other keys into attention over both.
pub struct Partial<B: Backend> {
    /// `[tokens, heads, head_dim]`
    pub out: B::Rows,
    /// `[tokens, heads]`; minus infinity where no key was seen
    pub lse: B::Sums,
}

impl<B: Backend> Partial<B> {
    /// Attention of the rows of `q [tokens, heads, head_dim]`, which all belong to `sequences`.
    ///
    /// # Errors
    /// If the backend fails.
    pub fn of(
        backend: &B,
        q: Part<'_, B::Rows>,
        shape: HeadShape,
        sequences: &[Sequence<'_, B>],
    ) -> Result<Self, TensorError> {
        let rows = q.len / shape.head_dim;
        let (mut out, mut lse) = (B::Rows::default(), B::Sums::default());
        backend.rows_at_least(&mut out, q.len)?;
        backend.sums_at_least(&mut lse, rows)?;
        let (o, l) = (PartMut::new(&mut out, 0..q.len), PartMut::new(&mut lse, 0..rows));
        backend.attend(q, shape, sequences, o, l)?;
        Ok(Self { out, lse })
    }
}
