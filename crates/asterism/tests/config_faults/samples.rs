//! Configurations to start from.

use asterism::model::{ModelConfig, ModelError};
use serde_json::{Value, json};

/// A Llama 3.1 8B as Transformers 4 writes it.
pub(crate) fn llama() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "hidden_act": "silu",
        "attention_bias": false, "mlp_bias": false, "tie_word_embeddings": false,
        "rope_theta": 500000.0, "pretraining_tp": 1,
        "rope_scaling": {
            "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3"
        },
        "bos_token_id": 128000, "eos_token_id": 128001,
    })
}

/// The fewest fields that a configuration of the architecture may have.
pub(crate) fn minimal(architecture: &str) -> Value {
    json!({
        "architectures": [architecture], "hidden_size": 2048, "intermediate_size": 5632,
        "num_hidden_layers": 2, "num_attention_heads": 32, "vocab_size": 1000,
    })
}

/// `config` with the fields of `changes` set; `null` is set, not removed.
pub(crate) fn with(mut config: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        config[name] = value.clone();
    }
    config
}

pub(crate) fn parse(config: &Value) -> Result<ModelConfig, ModelError> {
    ModelConfig::parse(config.to_string().as_bytes(), None)
}
