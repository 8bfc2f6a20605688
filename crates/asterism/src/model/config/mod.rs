//! What a model computes, as its `config.json` states it.
//!
//! * [`ModelConfig`]: the file, checked; [`Family`]: whose defaults hold
//! * [`Shape`]: the sizes of well-known models, to measure without their weights

mod family;
mod model_config;
mod refusals;
mod rope;
mod shape;
mod size;

pub use family::Family;
pub use model_config::ModelConfig;
pub use rope::{RopeConfig, RopeScaling};
pub use shape::{Shape, UnknownShape};
