//! Shapes of well-known models, for measurements that need a model's sizes but not its knowledge.

use super::{Family, ModelConfig};
use crate::model::ModelError;
use crate::tensor::Precision;
use serde_json::json;
use std::str::FromStr;

/// Special tokens of nano, whose tokenizer stands in for the shape's own.
const BOS: u32 = 4088;
const EOS: [u32; 2] = [4089, 4092];

/// The sizes of a model without its weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Name, such as `llama-8b`.
    pub name: &'static str,
    /// Number of decoder layers.
    pub layers: usize,
    pub(in crate::model) family: Family,
    pub(in crate::model) hidden: usize,
    pub(in crate::model) intermediate: usize,
    pub(in crate::model) heads: usize,
    pub(in crate::model) kv_heads: usize,
    pub(in crate::model) head_dim: usize,
    pub(in crate::model) vocab: usize,
    /// Whether the output projection is the embedding table.
    pub(in crate::model) tied: bool,
    pub(in crate::model) max_positions: usize,
    pub(in crate::model) rope_theta: f64,
    /// Factor of the llama3 rule, where the model scales its rotary embedding.
    pub(in crate::model) rope_factor: Option<f64>,
    pub(in crate::model) rms_norm_eps: f64,
}

/// Llama-3.1-8B.
const LLAMA_8B: Shape = Shape {
    name: "llama-8b",
    layers: 32,
    family: Family::Llama,
    hidden: 4096,
    intermediate: 14_336,
    heads: 32,
    kv_heads: 8,
    head_dim: 128,
    vocab: 128_256,
    tied: false,
    max_positions: 131_072,
    rope_theta: 500_000.0,
    rope_factor: Some(8.0),
    rms_norm_eps: 1e-5,
};

/// Llama-3.2-1B.
const LLAMA_1B: Shape = Shape {
    name: "llama-1b",
    layers: 16,
    hidden: 2048,
    intermediate: 8192,
    head_dim: 64,
    tied: true,
    rope_factor: Some(32.0),
    ..LLAMA_8B
};

/// Qwen2.5-7B.
const QWEN_7B: Shape = Shape {
    name: "qwen-7b",
    layers: 28,
    family: Family::Qwen2,
    hidden: 3584,
    intermediate: 18_944,
    heads: 28,
    kv_heads: 4,
    head_dim: 128,
    vocab: 152_064,
    tied: false,
    max_positions: 131_072,
    rope_theta: 1_000_000.0,
    rope_factor: None,
    rms_norm_eps: 1e-6,
};

/// Small enough that other programs are measured quickly too.
const SMALL: Shape = Shape {
    name: "small",
    layers: 8,
    hidden: 512,
    intermediate: 1408,
    heads: 8,
    kv_heads: 4,
    head_dim: 64,
    vocab: 8192,
    rope_theta: 10_000.0,
    rope_factor: None,
    ..LLAMA_8B
};

impl Shape {
    /// Every known shape.
    pub const ALL: [Self; 4] = [LLAMA_8B, LLAMA_1B, QWEN_7B, SMALL];

    /// The shape with another number of layers.
    #[must_use]
    pub fn with_layers(self, layers: usize) -> Self {
        Self { layers, ..self }
    }

    /// The shape with at least `positions` positions.
    #[must_use]
    pub fn with_positions(self, positions: usize) -> Self {
        Self { max_positions: self.max_positions.max(positions), ..self }
    }

    /// The shape as the `config.json` that Transformers would write.
    #[must_use]
    pub fn config_json(&self) -> Vec<u8> {
        let mut config = json!({
            "architectures": [self.family.architecture()],
            "model_type": if self.family == Family::Qwen2 { "qwen2" } else { "llama" },
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab,
            "max_position_embeddings": self.max_positions,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.rms_norm_eps,
            "hidden_act": "silu",
            "tie_word_embeddings": self.tied,
            "torch_dtype": "bfloat16",
            "bos_token_id": BOS,
            "eos_token_id": EOS,
        });
        if let Some(factor) = self.rope_factor {
            config["rope_scaling"] = json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            });
        }
        format!("{config:#}\n").into_bytes()
    }

    /// The shape as a checked configuration.
    ///
    /// # Errors
    /// If `layers` is out of the range that [`ModelConfig::parse`] accepts.
    pub fn config(&self) -> Result<ModelConfig, ModelError> {
        ModelConfig::parse(&self.config_json(), None)
    }

    /// Bytes of the weights in a bf16 checkpoint.
    ///
    /// # Errors
    /// As [`Shape::config`].
    pub fn checkpoint_bytes(&self) -> Result<u64, ModelError> {
        Ok(2 * self.config()?.parameters())
    }

    /// Bytes of memory that an engine with random weights of this shape holds: the checkpoint (the
    /// embedding is read from it) and the matrices packed in `precision`.
    ///
    /// # Errors
    /// As [`Shape::config`].
    pub fn engine_bytes(&self, precision: Precision) -> Result<u64, ModelError> {
        let matrices = self.config()?.size(precision.into(), precision).linear_weights
            + self.vocab as u64 * self.hidden as u64;
        Ok(self.checkpoint_bytes()? + matrices * precision.bytes() as u64)
    }
}

/// A name that no shape has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown shape `{name}`: expected one of {}", Shape::ALL.map(|shape| shape.name).join(", "))]
pub struct UnknownShape {
    /// The name.
    pub name: String,
}

impl FromStr for Shape {
    type Err = UnknownShape;

    fn from_str(name: &str) -> Result<Self, UnknownShape> {
        let found = Self::ALL.into_iter().find(|shape| shape.name == name);
        found.ok_or_else(|| UnknownShape { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_published_models() {
        let weights = |name: &str| name.parse::<Shape>().unwrap().config().unwrap().parameters();
        assert_eq!(weights("llama-8b"), 8_030_261_248);
        assert_eq!(weights("llama-1b"), 1_235_814_400);
        assert_eq!(weights("qwen-7b"), 7_615_616_512);
        let small = "small".parse::<Shape>().unwrap().config().unwrap();
        assert_eq!((small.head_dim, small.max_positions, small.vocab), (64, 131_072, 8192));
        assert!(!small.tie_embeddings && small.rope.theta == 10_000.0);
    }

    #[test]
    fn an_unknown_shape_lists_the_known_ones() {
        let message = "llama-9b".parse::<Shape>().unwrap_err().to_string();
        for word in ["llama-9b", "llama-8b", "llama-1b", "qwen-7b", "small"] {
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn memory_counts_the_checkpoint_and_the_packed_matrices() {
        let shape = "llama-8b".parse::<Shape>().unwrap();
        let file = shape.checkpoint_bytes().unwrap();
        assert_eq!(file, 16_060_522_496);
        let engine = |precision| shape.engine_bytes(precision).unwrap();
        assert!(engine(Precision::Bf16) > file * 19 / 10);
        assert!(engine(Precision::F32) > file * 28 / 10);
    }
}
