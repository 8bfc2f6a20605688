//! What queries and keys are like, for those who choose the keys worth keeping.

use super::Buffers;
use crate::{HeadShape, Part, TensorError};

/// Statistics of queries and keys, which end where the program runs.
pub trait Statistics: Buffers {
    /// What the queries `q [tokens, heads, head_dim]` are like: of each head their sum and then the
    /// sum of their products with each other, `[heads, head_dim + 1, head_dim]`. The tokens stand
    /// at `start` and behind; they are turned back to what they were before they were rotated by
    /// `frequencies [head_dim / 2]`, radians per position. Waits for what computes them.
    ///
    /// # Errors
    /// If the processor failed since it was last waited for, or has no kernel for such heads.
    fn moments(
        &self,
        q: Part<'_, Self::Rows>,
        shape: HeadShape,
        start: usize,
        frequencies: &[f32],
    ) -> Result<Vec<f32>, TensorError>;

    /// The logarithm of what queries of a normal distribution are expected to give each of `keys
    /// [tokens, kv_heads, head_dim]`, `m·k / sqrt(head_dim) + k·S k / (2 head_dim)`: `[heads,
    /// tokens]`. Of each head's `queries [heads, head_dim + 1, head_dim]` the first row is the mean
    /// m, the others are the covariance S, which is symmetric. Waits for what computes them.
    ///
    /// # Errors
    /// As [`Self::moments`].
    fn expected_scores(
        &self,
        keys: Part<'_, Self::Kv>,
        shape: HeadShape,
        queries: &[f32],
    ) -> Result<Vec<f32>, TensorError>;

    /// The lengths of the keys, or values, `kv [tokens, kv_heads, head_dim]`: `[kv_heads, tokens]`.
    /// Waits for what computes them.
    ///
    /// # Errors
    /// As [`Self::moments`].
    fn norms(&self, kv: Part<'_, Self::Kv>, shape: HeadShape) -> Result<Vec<f32>, TensorError>;
}
