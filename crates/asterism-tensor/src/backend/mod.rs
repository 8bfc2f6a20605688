//! What a machine must be able to do to run the model: the one interface behind which processors
//! differ. The decoder, the attention strategies and the cache are written against it once.
//!
//! * [`Processor`]: what it is, how fast, and when its work is done
//! * [`Buffers`]: what it holds; all others name these types
//! * [`Caching`]: keys and values
//! * [`Tokens`]: embeddings and rotation
//! * [`Linear`]: products with weights
//! * [`Attention`], and [`SparseAttention`] over some tiles of the keys
//! * [`Statistics`]: what queries and keys are like
//! * [`Choosing`]: which token comes next
//! * [`Replaying`]: steps recorded once

mod attention;
mod buffers;
mod caching;
mod choosing;
mod linear;
mod processor;
mod replaying;
mod sparse;
mod statistics;
mod tokens;

pub use attention::{Attention, MassOver, Positions, Segment, Sequence};
pub use buffers::{Buffers, Memory, Pass, RowReader};
pub use caching::Caching;
pub use choosing::{Choice, Choosing};
pub use linear::Linear;
pub use processor::{LayerWidths, Peak, Processor};
pub use replaying::Replaying;
pub use sparse::SparseAttention;
pub use statistics::Statistics;
pub use tokens::{Rotation, SplitQkv, Tokens};

/// A processor with its memory and the operations of a transformer on it. All in-process hosts
/// share one; its operations may be called from any thread. They may return before the work is
/// done, and then run in the order they were called in.
pub trait Backend:
    Processor
    + Buffers
    + Caching
    + Tokens
    + Linear
    + Attention
    + SparseAttention
    + Statistics
    + Choosing
    + Replaying
{
}

impl<T> Backend for T where
    T: Processor
        + Buffers
        + Caching
        + Tokens
        + Linear
        + Attention
        + SparseAttention
        + Statistics
        + Choosing
        + Replaying
{
}
