//! The model: from a checkpoint on disk, on the Hub or in the binary to logits.
//!
//! * [`ModelSource`]: where the files are; [`ModelFiles`]: the files
//! * [`ModelConfig`]: config.json, checked; [`Checkpoint`]: safetensors, checked
//! * [`Decoder`]: the one implementation of the decoder-only transformer, for every family
//! * [`Sampler`]: from logits to the next token

mod checkpoint;
mod config;
mod decoder;
mod directory;
#[cfg(feature = "hub")]
mod download;
mod error;
mod fetch;
mod fields;
#[cfg(feature = "hub")]
mod hub;
#[cfg(feature = "hub")]
mod hub_client;
#[cfg(feature = "hub")]
mod hub_settings;
#[cfg(feature = "hub")]
mod meter;
#[cfg(feature = "nano")]
mod nano;
mod random;
mod refusals;
mod rope;
mod rope_config;
mod sampler;
mod shape;
mod shard_index;
mod size;
mod source;
mod stages;
mod tensor_view;
mod weights;

pub use checkpoint::Checkpoint;
pub use config::{Family, ModelConfig};
pub use decoder::{Decoder, ForwardError, LoadError, Workspace};
pub use error::ModelError;
pub use fetch::{FetchOptions, FetchProgress};
pub use random::random_model;
pub use rope::RopeTable;
pub use rope_config::{RopeConfig, RopeScaling};
pub use sampler::Sampler;
pub use shape::{Shape, UnknownShape};
pub use source::{ModelFiles, ModelSource};
pub use stages::{Stage, StageTimes};
pub use tensor_view::{DType, TensorView};
