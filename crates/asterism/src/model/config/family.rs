//! The families of models that this engine computes.

use crate::model::ModelError;
use crate::model::fields::{self, Fields};
use std::fmt;

/// The file that names a model's family.
pub(super) const FILE: &str = "config.json";

/// Longest context, in tokens, that a configuration may claim. Like the other upper bounds it is
/// far above any model's: with them no product of sizes overflows 63 bits.
pub(super) const MAX_POSITIONS: usize = 1 << 30;

/// Model families: what they share is the pre-norm decoder with grouped-query attention, rotary
/// positions and a gated SiLU MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `LlamaForCausalLM`: Llama 2 and 3, and the many models of the same shape.
    Llama,
    /// `MistralForCausalLM`, where it attends to the full context.
    Mistral,
    /// `Qwen2ForCausalLM`: Qwen 2 and 2.5; query, key and value have a bias.
    Qwen2,
    /// `Qwen3ForCausalLM`: queries and keys are normalised per head.
    Qwen3,
}

impl Family {
    const ALL: [Self; 4] = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3];

    /// The family's class name in `architectures`.
    #[must_use]
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    pub(super) fn read(config: &Fields<'_>) -> Result<Self, ModelError> {
        let supported = Self::ALL.map(Self::architecture).join(", ");
        let Some(first) = config.list("architectures")?.and_then(<[_]>::first) else {
            return Err(config.missing("architectures", format!("a list with one of {supported}")));
        };
        Self::ALL
            .into_iter()
            .find(|family| first.as_str() == Some(family.architecture()))
            .ok_or_else(|| ModelError::UnknownArchitecture {
                file: FILE.into(),
                found: first.as_str().map_or_else(|| fields::excerpt(first), fields::shortened),
                supported,
            })
    }
}

impl fmt::Display for Family {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}
