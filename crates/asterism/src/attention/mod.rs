//! Attention as a strategy: the decoder hands over queries, keys and values of a layer and gets the
//! outputs back; where the other keys live, and which of them count, is known only here.
//!
//! * [`BlockAttention`]: phase 1 of Star Attention, a block behind its anchor on one host
//! * [`GlobalAttention`]: exact attention over the keys of all hosts: phase 2, and dense prefill
//! * [`ReplicatedAttention`]: the same where every host runs the query
//! * [`ObservedAttention`]: of tokens whose keys will be pressed, noting what that depends on
//! * [`RepeatAttention`]: of a text that is repeated to score its keys
//! * [`WeighingAttention`]: the same of a question, noting where it looks
//! * [`RevisitAttention`]: tokens of a context that are computed anew for a question
//! * [`CompareAttention`]: tokens of a context that see all before them in its first layer, to find
//!   whose values change
//! * [`RingAttention`]: exact attention while keys travel round the hosts
//! * `exchange`: what every host has a part of, brought to all
//! * `sparse`: a block over some of its keys only
//! * [`Partial`]: attention over some of the keys, and the merge that makes the parts whole

mod block;
mod compare;
mod context;
mod exchange;
mod global;
mod observed;
mod others;
mod partial;
mod repeat;
mod replicated;
mod revisit;
mod ring;
mod sparse;
mod weigh;

pub use block::{AnchorCopy, AnchorKeys, BlockAttention, Publish};
pub use compare::{CompareAttention, changes, compared_layer};
pub use context::ContextKeys;
pub use exchange::{Pieces, collect_sums, columns, gather_all, share_rows};
pub use global::{GlobalAttention, NewKeys, OthersPass, OthersRows, SequenceRows, serve};
pub use observed::ObservedAttention;
pub use partial::Partial;
pub use repeat::RepeatAttention;
pub use replicated::{Gathered, ReplicatedAttention};
pub use revisit::RevisitAttention;
pub use ring::RingAttention;
pub use sparse::Sparsity;
pub use weigh::{WeighingAttention, Weights};

use crate::comm::CommError;
use crate::tensor::{Backend, Part, PartMut, TensorError};

/// Why attention stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttentionError {
    /// A message did not arrive.
    #[error(transparent)]
    Comm(#[from] CommError),
    /// The backend.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The user asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// What the decoder asks of attention, layer after layer: to keep the keys and values of its
/// tokens, and then, in layers whose outputs are needed, to attend.
pub trait Attention<B: Backend> {
    /// Keeps the keys and values `k`, `v [tokens, kv_heads, head_dim]` of one layer; `k` is already
    /// rotated to its positions.
    ///
    /// # Errors
    /// See [`AttentionError`].
    fn keep(
        &mut self,
        layer: usize,
        k: Part<'_, B::Rows>,
        v: Part<'_, B::Rows>,
    ) -> Result<(), AttentionError>;

    /// Fills `out [tokens, heads, head_dim]` for the queries `q [tokens, heads, head_dim]` of one
    /// layer, already rotated to their positions, whose own keys and values are kept.
    ///
    /// # Errors
    /// See [`AttentionError`].
    fn attend(
        &mut self,
        layer: usize,
        q: Part<'_, B::Rows>,
        out: PartMut<'_, B::Rows>,
    ) -> Result<(), AttentionError>;

    /// Sees the queries `q [tokens, heads, head_dim]` of a layer whose outputs are not needed.
    ///
    /// # Errors
    /// See [`AttentionError`].
    fn pass_by(&mut self, _layer: usize, _q: Part<'_, B::Rows>) -> Result<(), AttentionError> {
        Ok(())
    }
}
