//! What may end a forward pass.

use crate::attention::AttentionError;
use crate::tensor::TensorError;

/// Why a forward pass stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// Attention stopped, or the caller asked to stop.
    #[error(transparent)]
    Attention(#[from] AttentionError),
    /// A token that the vocabulary does not have.
    #[error("token {token} is outside the vocabulary of {vocab}")]
    UnknownToken {
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// The backend.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}
