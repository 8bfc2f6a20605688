//! What a configuration may ask for, and this engine does not compute.
//!
//! Receives the fields of `config.json`; gives an error where they change the computation of the
//! decoder. (The kinds of rotary embedding are judged where they are read.)

use super::Family;
use crate::model::ModelError;
use crate::model::fields::{self, Fields};

/// Refuses quantized weights and activations other than SiLU.
pub(super) fn other_computations(config: &Fields<'_>) -> Result<(), ModelError> {
    if let Some(quantization) = config.nested("quantization_config", "quantization_config.")? {
        let method = quantization.get("quant_method");
        let found = method.map_or_else(|| "(unnamed)".to_owned(), fields::excerpt);
        return Err(config.unsupported(
            "quantization_config",
            found,
            "use the checkpoint in bfloat16, float16 or float32",
        ));
    }
    match config.text("hidden_act")? {
        None | Some("silu") => Ok(()),
        Some(other) => {
            let found = fields::excerpt(&other.into());
            Err(config.unsupported("hidden_act", found, "supported is silu"))
        }
    }
}

/// Refuses models whose layers attend to a window of the context. Star Attention replaces full
/// attention; in place of a window it would compute something else than the model does.
pub(super) fn sliding_window(
    config: &Fields<'_>,
    family: Family,
    max_positions: usize,
) -> Result<(), ModelError> {
    let layers = config.list("layer_types")?.unwrap_or_default();
    if let Some(other) = layers.iter().find(|kind| kind.as_str() != Some("full_attention")) {
        let advice = "every layer must be full_attention";
        return Err(config.unsupported("layer_types", fields::excerpt(other), advice));
    }
    match family {
        Family::Llama => Ok(()),
        Family::Mistral => {
            let window = match config.size("sliding_window", usize::MAX)? {
                None if !config.has("sliding_window") => Some(4096),
                window => window,
            };
            match window.filter(|window| *window < max_positions) {
                None => Ok(()),
                Some(window) => Err(config.unsupported(
                    "sliding_window",
                    format!("{window} (4096 where absent)"),
                    format!(
                        "the engine attends to the full context: set it to null if the model was \
                         trained that way, or lower max_position_embeddings ({max_positions}) to it"
                    ),
                )),
            }
        }
        Family::Qwen2 | Family::Qwen3 => {
            if config.flag("use_sliding_window", false)? {
                let advice = "the engine attends to the full context: set it to false if the model was \
                              trained that way";
                return Err(config.unsupported("use_sliding_window", "true", advice));
            }
            Ok(())
        }
    }
}
