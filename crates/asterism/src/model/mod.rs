//! The model: from a checkpoint on disk, on the Hub or in the binary to logits.
//!
//! * `files`: where the files of a model come from, and the tensors in them
//! * `config`: what the model computes, as its `config.json` states it
//! * `network`: the computation, from tokens to logits and to the next token
//! * [`random_model`]: files with random weights, to measure without a model

mod config;
mod error;
mod fields;
mod files;
mod network;
mod random;

pub use config::{Family, ModelConfig, RopeConfig, RopeScaling, Shape, UnknownShape};
pub use error::ModelError;
pub use files::{FetchOptions, FetchProgress, ModelFiles, ModelSource};
pub use network::{Stage, StageTimes};
pub use random::random_model;

// Public for what is built around the engine in this repository; they may change at any time.
#[doc(hidden)]
pub use error::LoadError;
#[doc(hidden)]
pub use files::{Checkpoint, DType, TensorView};
#[doc(hidden)]
pub use network::{Decoder, Draws, ForwardError, Precisions, RopeTable, Sampler, Team, Workspace};
