//! The model that is compiled into the binary, so that everything can be tried without a network.
//!
//! Receives nothing; gives the files of `models/nano/`, which has the layout of a Hub repository:
//! a Llama of 14 million weights in two shards.

use super::{ModelFiles, NANO};

/// A file of `models/nano/`.
macro_rules! embedded {
    ($file:literal) => {
        include_bytes!(concat!("../../../../../models/nano/", $file))
    };
}

/// A weight file of `models/nano/` with its name.
macro_rules! shard {
    ($file:literal) => {
        ($file.to_owned(), embedded!($file)[..].into())
    };
}

/// The model's files. The weights stay where they are in the binary.
pub(super) fn files() -> ModelFiles {
    ModelFiles {
        name: NANO.to_owned(),
        config: embedded!("config.json").to_vec(),
        generation_config: Some(embedded!("generation_config.json").to_vec()),
        tokenizer: embedded!("tokenizer.json").to_vec(),
        tokenizer_config: Some(embedded!("tokenizer_config.json").to_vec()),
        chat_template: None,
        weights: vec![
            shard!("model-00001-of-00002.safetensors"),
            shard!("model-00002-of-00002.safetensors"),
        ],
        weight_index: Some(embedded!("model.safetensors.index.json").to_vec()),
    }
}
