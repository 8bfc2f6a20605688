//! From tokens to logits and to the next token: the network, its weights, its positions.
//!
//! * [`Decoder`]: the one implementation of the decoder-only transformer, for every family
//! * [`Sampler`]: from logits to the next token
//! * [`Team`]: hosts that divide the weights of decode steps
//! * [`StageTimes`]: where the time of forward passes goes

mod decoder;
mod error;
mod head;
mod pass;
mod rope;
mod sampler;
mod shared;
mod stages;
mod team;
mod weights;
mod workspace;

pub use decoder::{Decoder, Precisions};
pub use error::ForwardError;
pub use rope::RopeTable;
pub use sampler::{Draws, Sampler};
pub use stages::{Stage, StageTimes};
pub use team::Team;
pub use workspace::Workspace;
