//! The files of a model: where they come from, and the tensors in them.
//!
//! * [`ModelSource`]: where the files are (in the binary, in a folder, on the Hub); [`ModelFiles`]:
//!   the files
//! * [`Checkpoint`]: the weights of safetensors files, checked; [`TensorView`]: one of them

mod checkpoint;
mod directory;
mod fetch;
mod fingerprint;
#[cfg(feature = "hub")]
mod hub;
#[cfg(feature = "nano")]
mod nano;
mod shard_index;
mod source;
mod tensor_view;

pub use checkpoint::Checkpoint;
pub use fetch::{FetchOptions, FetchProgress};
pub use source::ModelSource;
pub use tensor_view::{DType, TensorView};

use crate::tensor::Bytes;
use std::fmt;

/// The name of the built-in model.
const NANO: &str = "nano";

/// The files of one model.
pub struct ModelFiles {
    /// What to call the model: `nano`, the folder, or `org/name[@revision]`.
    pub name: String,
    /// `config.json`.
    pub config: Vec<u8>,
    /// `generation_config.json`.
    pub generation_config: Option<Vec<u8>>,
    /// `tokenizer.json`.
    pub tokenizer: Vec<u8>,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<Vec<u8>>,
    /// `chat_template.jinja`; older models have the template in `tokenizer_config.json`.
    pub chat_template: Option<String>,
    /// File names and contents of the weights, for [`Checkpoint::open`](super::Checkpoint::open).
    pub weights: Vec<(String, Bytes)>,
    /// `model.safetensors.index.json`, where the weights are in several files.
    pub weight_index: Option<Vec<u8>>,
}

/// Name and sizes: the contents may be gigabytes.
impl fmt::Debug for ModelFiles {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = self.weights.iter().map(|(name, bytes)| (name, bytes.len()));
        out.debug_struct("ModelFiles")
            .field("name", &self.name)
            .field("weights", &sizes.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
