//! What can go wrong between a question and its answer.

use crate::attention::AttentionError;
use crate::comm::CommError;
use crate::model::{ForwardError, LoadError, ModelError};
use crate::plan::PlanError;
use crate::tensor::SamplingError;
use crate::tensor::TensorError;
use crate::text::TextError;

/// Why the engine could not load, encode or answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The checkpoint.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tokenizer or the template.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Blocks, anchor and hosts.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The compute backend.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Sampling settings.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// Messages between hosts.
    #[error(transparent)]
    Comm(#[from] CommError),
    /// The user asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// Context, question and answer need more positions than the model has.
    #[error(
        "{context} context tokens + {query} question tokens + {answer} answer tokens = {} positions, \
         but the model has {max_positions}: shorten the context, or the answer (--max-tokens of ask and batch)",
        context + query + answer
    )]
    TooLong {
        /// Tokens of the context.
        context: usize,
        /// Tokens of the question.
        query: usize,
        /// Tokens the answer may have.
        answer: usize,
        /// Positions of the model.
        max_positions: usize,
    },
    /// The keys and activations of a context do not fit the processor's memory.
    #[error(
        "a context of {tokens} tokens needs {} MiB of GPU memory, and {} MiB are free: {fits} tokens \
         would fit; shorten the context, take smaller blocks, cache keys in half the memory \
         (--kv-dtype fp8), or use --device cpu",
        needed >> 20, free >> 20
    )]
    NoMemory {
        /// Tokens of the context.
        tokens: usize,
        /// Bytes it needs.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// Tokens whose keys and activations fit.
        fits: usize,
    },
    /// A question without a token.
    #[error("the question is empty")]
    EmptyQuery,
    /// The tokenizer made a token that the model has no embedding for.
    #[error(
        "token {token} is outside the model's vocabulary of {vocab}: tokenizer and model do not match"
    )]
    UnknownToken {
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// The model computed NaN or infinity: no text may be made of that.
    #[error(
        "the model's logits are not finite at position {position}: the checkpoint is damaged or needs --dtype f32"
    )]
    NotFinite {
        /// Position of the token they were computed from.
        position: usize,
    },
    /// A host's thread panicked: a bug.
    #[error("host {0} panicked; please report this")]
    HostPanicked(usize),
}

impl From<AttentionError> for EngineError {
    fn from(error: AttentionError) -> Self {
        match error {
            AttentionError::Comm(error) => Self::Comm(error),
            AttentionError::Tensor(error) => Self::Tensor(error),
            AttentionError::Cancelled => Self::Cancelled,
        }
    }
}

impl From<LoadError> for EngineError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Model(error) => Self::Model(error),
            LoadError::Tensor(error) => Self::Tensor(error),
        }
    }
}

impl From<ForwardError> for EngineError {
    fn from(error: ForwardError) -> Self {
        match error {
            ForwardError::Attention(error) => error.into(),
            ForwardError::Cancelled => Self::Cancelled,
            ForwardError::UnknownToken { token, vocab } => Self::UnknownToken { token, vocab },
            ForwardError::Tensor(error) => Self::Tensor(error),
        }
    }
}
