//! From tokens to logits and to the next token: the network, its weights, its positions.
//!
//! * [`Decoder`]: the one implementation of the decoder-only transformer, for every family
//! * [`Sampler`]: from logits to the next token
//! * [`Team`]: hosts that divide the weights of decode steps
//! * [`StageTimes`]: where the time of forward passes goes

mod decoder;
mod rope;
mod sampler;
mod stages;
mod team;
mod weights;

pub use decoder::{Decoder, ForwardError, Precisions, Workspace};
pub use rope::RopeTable;
pub use sampler::{Draws, Sampler};
pub use stages::{Stage, StageTimes};
pub use team::Team;
