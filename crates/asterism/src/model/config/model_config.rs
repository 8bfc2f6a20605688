//! The architecture of a model, as its `config.json` states it.
//!
//! Receives `config.json` and, where there is one, `generation_config.json`, both in the form that
//! Hugging Face Transformers writes (versions 4 and 5); gives a checked [`ModelConfig`]. What the
//! file leaves out gets the default of the family's Transformers class. Whatever would make the
//! computation another one than this engine's (other activations, sliding windows, quantization,
//! other rotary scalings) is an error here rather than a wrong answer later.

use std::fmt;

use super::family::{FILE, Family, MAX_POSITIONS};
use super::refusals;
use super::rope::{RopeConfig, RopeScaling};
use crate::model::ModelError;
use crate::model::fields::{self, Fields};

const GENERATION_FILE: &str = "generation_config.json";

// Upper bounds, far above any model: with them no product of sizes overflows 63 bits.
const MAX_LAYERS: usize = 1 << 12;
const MAX_HEADS: usize = 1 << 12;
const MAX_HEAD_DIM: usize = 1 << 12;
const MAX_HIDDEN: usize = 1 << 20;
const MAX_INTERMEDIATE: usize = 1 << 22;
const MAX_VOCAB: usize = 1 << 24;

/// The sizes and switches that fix a model's computation.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Which family's rules hold.
    pub family: Family,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the MLP's inner layer.
    pub intermediate: usize,
    /// Number of decoder layers.
    pub layers: usize,
    /// Query heads per layer; a multiple of `kv_heads`.
    pub heads: usize,
    /// Key/value heads per layer.
    pub kv_heads: usize,
    /// Elements per head; even. `heads * head_dim` need not be `hidden`.
    pub head_dim: usize,
    /// Rows of the embedding table.
    pub vocab: usize,
    /// Longest context the model was made for, in tokens.
    pub max_positions: usize,
    /// Rotary position embedding.
    pub rope: RopeConfig,
    /// Added to the mean square in every RMS norm.
    pub rms_norm_eps: f32,
    /// Whether the output projection is the embedding table (then there is no `lm_head.weight`).
    pub tie_embeddings: bool,
    /// Whether the query, key and value projections have a bias.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub o_bias: bool,
    /// Whether the MLP's three projections have a bias.
    pub mlp_bias: bool,
    /// Whether queries and keys are RMS-normalised per head before the rotation.
    pub qk_norm: bool,
    /// Beginning-of-sequence token. Not checked against `vocab`.
    pub bos: Option<u32>,
    /// Tokens that end an answer. Not checked against `vocab`; may be empty.
    pub eos: Vec<u32>,
}

impl ModelConfig {
    /// Reads and checks a configuration.
    ///
    /// The end-of-sequence tokens of `generation_config.json` win over those of `config.json`:
    /// chat models list their end-of-turn token only there.
    ///
    /// # Errors
    /// Files that are not JSON objects; missing fields; sizes that are zero, absurd or do not
    /// divide; architectures and features that are not supported. The error names file, field
    /// and value.
    pub fn parse(config_json: &[u8], generation_config: Option<&[u8]>) -> Result<Self, ModelError> {
        let map = fields::object(FILE, config_json)?;
        let config = Fields::new(FILE, &map);
        let family = Family::read(&config)?;
        refusals::other_computations(&config)?;

        let hidden = config.required_size("hidden_size", MAX_HIDDEN)?;
        let heads = config.required_size("num_attention_heads", MAX_HEADS)?;
        let kv_heads = kv_heads(&config, family, heads)?;
        let max_positions =
            config.size("max_position_embeddings", MAX_POSITIONS)?.unwrap_or(match family {
                Family::Llama => 2048,
                Family::Mistral => 131_072,
                Family::Qwen2 | Family::Qwen3 => 32_768,
            });
        refusals::sliding_window(&config, family, max_positions)?;
        let attention_bias = match family {
            Family::Llama | Family::Qwen3 => config.flag("attention_bias", false)?,
            // These two have no such switch: their biases are fixed.
            Family::Mistral | Family::Qwen2 => false,
        };
        let (bos, eos) = special_tokens(&config, family, generation_config)?;
        Ok(Self {
            family,
            hidden,
            intermediate: config.required_size("intermediate_size", MAX_INTERMEDIATE)?,
            layers: config.required_size("num_hidden_layers", MAX_LAYERS)?,
            heads,
            kv_heads,
            head_dim: head_dim(&config, family, hidden, heads)?,
            vocab: config.required_size("vocab_size", MAX_VOCAB)?,
            max_positions,
            rope: RopeConfig::read(&config)?,
            rms_norm_eps: rms_norm_eps(&config)?,
            tie_embeddings: config.flag("tie_word_embeddings", false)?,
            qkv_bias: attention_bias || family == Family::Qwen2,
            o_bias: attention_bias,
            mlp_bias: family == Family::Llama && config.flag("mlp_bias", false)?,
            qk_norm: family == Family::Qwen3,
            bos,
            eos,
        })
    }

    /// Layers in which tokens of a context attend: of the last layer, later tokens read only the
    /// keys and values, so its attention and its MLP need not run.
    #[must_use]
    pub fn context_layers(&self) -> usize {
        self.layers - 1
    }

    /// Number of weights: every tensor of the checkpoint counted once.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let size = |n: usize| n as u64;
        let bias = |on: bool, n: u64| if on { n } else { 0 };
        let (hidden, inner) = (size(self.hidden), size(self.intermediate));
        let query = size(self.heads) * size(self.head_dim);
        let kv = size(self.kv_heads) * size(self.head_dim);
        let attention = 2 * hidden * (query + kv)
            + bias(self.qkv_bias, query + 2 * kv)
            + bias(self.o_bias, hidden)
            + bias(self.qk_norm, 2 * size(self.head_dim));
        let mlp = 3 * hidden * inner + bias(self.mlp_bias, 2 * inner + hidden);
        let tables = if self.tie_embeddings { 1 } else { 2 };
        size(self.layers) * (attention + mlp + 2 * hidden)
            + tables * size(self.vocab) * hidden
            + hidden
    }
}

/// One line for people: family, shape, context and number of weights.
impl fmt::Display for ModelConfig {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{}, {} layers, hidden {}, MLP {}, {} query and {} key/value heads of {}, \
             vocabulary {}, {} positions (rope theta {}",
            self.family,
            self.layers,
            self.hidden,
            self.intermediate,
            self.heads,
            self.kv_heads,
            self.head_dim,
            self.vocab,
            self.max_positions,
            self.rope.theta,
        )?;
        match self.rope.scaling {
            RopeScaling::None => {}
            RopeScaling::Linear { factor } => write!(out, ", linear x{factor}")?,
            RopeScaling::Llama3 { factor, .. } => write!(out, ", llama3 x{factor}")?,
        }
        let millions = self.parameters() as f64 / 1e6;
        if millions < 1000.0 {
            write!(out, "), {millions:.1} M weights")
        } else {
            write!(out, "), {:.2} G weights", millions / 1000.0)
        }
    }
}

fn kv_heads(config: &Fields<'_>, family: Family, heads: usize) -> Result<usize, ModelError> {
    let kv_heads = match config.size("num_key_value_heads", MAX_HEADS)? {
        Some(kv_heads) => kv_heads,
        None if config.has("num_key_value_heads") => heads,
        None => match family {
            Family::Llama => heads,
            Family::Mistral => 8,
            Family::Qwen2 | Family::Qwen3 => 32,
        },
    };
    if heads.is_multiple_of(kv_heads) {
        return Ok(kv_heads);
    }
    Err(config.bad(
        "num_key_value_heads",
        &kv_heads.into(),
        format!("a divisor of num_attention_heads ({heads})"),
    ))
}

fn head_dim(
    config: &Fields<'_>,
    family: Family,
    hidden: usize,
    heads: usize,
) -> Result<usize, ModelError> {
    let head_dim = match config.size("head_dim", MAX_HEAD_DIM)? {
        Some(head_dim) => head_dim,
        None if family == Family::Qwen3 && !config.has("head_dim") => 128,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            let expected = format!("a multiple of num_attention_heads ({heads}), or head_dim set");
            return Err(config.bad("hidden_size", &hidden.into(), expected));
        }
    };
    if head_dim.is_multiple_of(2) && head_dim <= MAX_HEAD_DIM {
        return Ok(head_dim);
    }
    let expected = format!("an even number up to {MAX_HEAD_DIM} (the rotation works on pairs)");
    Err(config.bad("head_dim", &head_dim.into(), expected))
}

fn rms_norm_eps(config: &Fields<'_>) -> Result<f32, ModelError> {
    let Some(eps) = config.number("rms_norm_eps")? else {
        return Ok(1e-6);
    };
    if (0.0..1.0).contains(&eps) {
        return Ok(eps as f32);
    }
    Err(config.bad("rms_norm_eps", &eps.into(), "a number from 0 to 1"))
}

fn special_tokens(
    config: &Fields<'_>,
    family: Family,
    generation_config: Option<&[u8]>,
) -> Result<(Option<u32>, Vec<u32>), ModelError> {
    // Llama and Mistral fall back on the ids of the first Llama tokenizer; Qwen has no default.
    let fallback = |name: &str, id: u32| match family {
        Family::Llama | Family::Mistral if !config.has(name) => vec![id],
        _ => Vec::new(),
    };
    let bos = match config.token_ids("bos_token_id")? {
        Some(ids) => ids,
        None => fallback("bos_token_id", 1),
    };
    let generation =
        generation_config.map(|bytes| fields::object(GENERATION_FILE, bytes)).transpose()?;
    let chosen = match &generation {
        Some(map) => Fields::new(GENERATION_FILE, map).token_ids("eos_token_id")?,
        None => None,
    };
    let eos = match chosen {
        Some(ids) => ids,
        None => config.token_ids("eos_token_id")?.unwrap_or_else(|| fallback("eos_token_id", 2)),
    };
    Ok((bos.first().copied(), eos))
}
