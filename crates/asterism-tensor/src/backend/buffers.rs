//! What a processor holds: weights, rows of activations, and lists of tokens or positions.

use crate::{ElementsView, KeptKeys, Part, PartMut, Precision, TensorError};
use std::sync::Arc;

/// Buffers of a backend.
pub trait Memory: Send + Sync + 'static {
    /// Number of elements.
    fn len(&self) -> usize;

    /// Bytes they occupy.
    fn bytes(&self) -> usize;

    /// Whether there is no element.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Reads row `r` of a table as f32: the embedding, straight from a mapped file.
pub type RowReader = Arc<dyn Fn(usize, &mut [f32]) + Send + Sync>;

/// What the rows of a forward pass are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Tokens of one text. They take the fastest arithmetic for their number.
    Prefill,
    /// Single tokens of any number of sequences. What comes out for a row does not depend, to the
    /// last bit, on the others or on how many there are, and one row of a [`Pass::Prefill`] comes
    /// out the same; weights are read once for many rows.
    Decode,
}

/// The memory of a processor: what there is of it, how it is filled and read. All its operations
/// are about these types, so every trait of operations builds on this one.
pub trait Buffers: Send + Sync + Sized + 'static {
    /// The precision of [`Self::Rows`], in which this backend computes.
    const ROWS: Precision;

    /// Queries, keys, values and outputs of attention, in precision [`Self::ROWS`].
    type Rows: Memory + Default;
    /// f32: the residual stream, log-sum-exps, logits, angles.
    type Sums: Memory + Default;
    /// Cached keys or values; grows.
    type Kv: Memory;
    /// What goes into a linear layer.
    type Activations: Send;
    /// Tokens and their positions.
    type Ids: Send + Default;
    /// A yes or no for each of some things: tokens of a vocabulary, keys of a segment.
    type Flags: Send + Sync;
    /// Positions in ascending order.
    type Listed: Send + Sync;
    /// Which keys each head has.
    type Kept: AsRef<KeptKeys> + Send + Sync;
    /// A step that can be run again: see [`Replaying`](super::Replaying).
    type Recording: Send;
    /// Weights of a linear layer.
    type Matrix: Memory;
    /// A moment in the order of its work.
    type Mark: Send;
    /// Weights of a norm, or biases.
    type Vector: Send + Sync;
    /// The embedding.
    type Embedding: Send + Sync;

    /// Matrices `[outputs, inputs]`, stacked along the outputs.
    ///
    /// # Errors
    /// If there is no memory for them.
    fn matrix(
        &self,
        parts: &[ElementsView<'_>],
        inputs: usize,
    ) -> Result<Self::Matrix, TensorError>;

    /// Two matrices `[outputs, inputs]` for a [gated layer](super::Linear::linear_gated).
    ///
    /// # Errors
    /// As [`Self::matrix`].
    fn pair(
        &self,
        gate: ElementsView<'_>,
        up: ElementsView<'_>,
        inputs: usize,
    ) -> Result<Self::Matrix, TensorError>;

    /// Weights of a norm, biases, or frequencies.
    ///
    /// # Errors
    /// As [`Self::matrix`].
    fn vector(&self, values: &[f32]) -> Result<Self::Vector, TensorError>;

    /// An embedding of `vocab` rows of `hidden` elements.
    ///
    /// # Errors
    /// As [`Self::matrix`].
    fn embedding(
        &self,
        rows: RowReader,
        vocab: usize,
        hidden: usize,
    ) -> Result<Self::Embedding, TensorError>;

    /// No activations yet; for layers with weights in `precision`, in passes of one kind.
    fn activations(&self, precision: Precision, pass: Pass) -> Self::Activations;

    /// Grows `rows` to `len` elements if it has fewer; what was there may be lost.
    ///
    /// # Errors
    /// As [`Self::matrix`].
    fn rows_at_least(&self, rows: &mut Self::Rows, len: usize) -> Result<(), TensorError>;

    /// Grows `sums` to `len` elements if it has fewer; what was there may be lost.
    ///
    /// # Errors
    /// As [`Self::matrix`].
    fn sums_at_least(&self, sums: &mut Self::Sums, len: usize) -> Result<(), TensorError>;

    /// A copy of `rows`.
    ///
    /// # Errors
    /// As [`Self::matrix`].
    fn copy_rows(&self, rows: Part<'_, Self::Rows>) -> Result<Self::Rows, TensorError>;

    /// Copies `rows` to a place in another buffer, of the same length.
    ///
    /// # Errors
    /// If the processor fails.
    fn put_rows(
        &self,
        rows: Part<'_, Self::Rows>,
        to: PartMut<'_, Self::Rows>,
    ) -> Result<(), TensorError>;

    /// Copies `sums` to a place in another buffer, of the same length.
    ///
    /// # Errors
    /// If the processor fails.
    fn put_sums(
        &self,
        sums: Part<'_, Self::Sums>,
        to: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// Copies `rows` to the program, as f32 and of the same length; waits for what computes them.
    ///
    /// # Errors
    /// If the processor failed since it was last waited for.
    fn read_rows(&self, rows: Part<'_, Self::Rows>, to: &mut [f32]) -> Result<(), TensorError>;

    /// Copies `sums` to the program, of the same length; waits for what computes them.
    ///
    /// # Errors
    /// If the processor failed since it was last waited for.
    fn read(&self, sums: Part<'_, Self::Sums>, to: &mut [f32]) -> Result<(), TensorError>;

    /// Flags that are set as `flags` are.
    ///
    /// # Errors
    /// As [`Self::matrix`].
    fn flags(&self, flags: &[bool]) -> Result<Self::Flags, TensorError>;

    /// `positions`, which ascend.
    ///
    /// # Errors
    /// As [`Self::matrix`].
    fn listed(&self, positions: &[u32]) -> Result<Self::Listed, TensorError>;
}
