//! Arguments that several commands have, and the values they take.

use asterism::engine::DeviceChoice;
use asterism::model::ModelConfig;
use asterism::plan::words::{MethodName, Size, keep, named, revisit, tokens};
use asterism::plan::{AnchorKv, HeadBudget, ModelSize, PressBy, Revisit, SlicedToken, Sparse};
use asterism::tensor::{KvPrecision, Precision};
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// nano (built in), a folder in Hugging Face layout, or org/name[@revision] on the Hub.
    #[arg(short, long, value_name = "MODEL", default_value = "nano", env = "ASTERISM_MODEL")]
    pub(crate) model: String,
    /// Use only files that were downloaded before.
    #[arg(long, env = "ASTERISM_OFFLINE")]
    pub(crate) offline: bool,
    /// Precision of weights, and of cached keys unless --kv-dtype says otherwise.
    #[arg(long, value_enum, default_value_t = Dtype::Bf16, env = "ASTERISM_DTYPE")]
    pub(crate) dtype: Dtype,
    /// Precision of cached keys: bf16, f32 (CPU), int8 (CPU: half of bf16's memory), or fp8 (GPU:
    /// half the memory, slower decoding).
    #[arg(long, value_name = "DTYPE", env = "ASTERISM_KV_DTYPE")]
    pub(crate) kv_dtype: Option<KvPrecision>,
    /// What computes: auto (a GPU if there is one), cpu, or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "auto", env = "ASTERISM_DEVICE")]
    pub(crate) device: DeviceChoice,
    /// Which hosts read the weights for the tokens of an answer, where there are several.
    #[arg(long, value_enum, default_value_t = DecodeWeightsName::Auto,
          env = "ASTERISM_DECODE_WEIGHTS")]
    pub(crate) decode_weights: DecodeWeightsName,
    /// Compute threads; all cores if not given.
    #[arg(long, value_name = "N", env = "ASTERISM_THREADS",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
    /// Instruction set: auto, amx, avx512bf16, avx512, avx2, portable or tiles (the slow reference
    /// of the first two).
    #[arg(long, value_name = "ISA", default_value = "auto", env = "ASTERISM_CPU")]
    pub(crate) cpu: String,
}

impl ModelArgs {
    /// The precision of cached keys.
    pub(crate) fn kv_precision(&self) -> KvPrecision {
        self.kv_dtype.unwrap_or(Precision::from(self.dtype).into())
    }

    /// The sizes of `model`, as the cost of a plan depends on them where it would compute.
    pub(crate) fn size(&self, model: &ModelConfig) -> ModelSize {
        model.size(self.kv_precision(), self.device.row_precision(self.dtype.into()))
    }

    /// What a token of an answer sends where `hosts` hosts divide the weights, if they are to.
    pub(crate) fn sliced_token(&self, model: &ModelConfig, hosts: usize) -> Option<SlicedToken> {
        let is_sliced = matches!(self.decode_weights, DecodeWeightsName::Sliced) && hosts > 1;
        is_sliced.then(|| {
            let weights = Precision::from(self.dtype);
            let element = self.device.row_precision(weights).bytes();
            let slices = self.device.slices(model, weights, hosts);
            slices.token(model.widths(), model.layers, element, hosts)
        })
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Method")]
pub(crate) struct MethodArgs {
    /// How the context is encoded: star (independent blocks behind an anchor); ring, zigzag or
    /// dense (exact); or by a pattern that leaves keys out, with its settings: streaming,
    /// minference, flexprefill, xattention or blocks, as in flexprefill:gamma=0.9.
    #[arg(long, value_name = "METHOD", value_parser = MethodName::parse,
          default_value_t = MethodName::Star, env = "ASTERISM_METHOD")]
    pub(crate) method: MethodName,
    /// Tokens of a block (star).
    #[arg(long, value_name = "N", value_parser = tokens, default_value = "4k", env = "ASTERISM_BLOCK")]
    pub(crate) block: usize,
    /// Tokens of the anchor (star): a number up to the block, full, or none.
    #[arg(long, value_name = "N|full|none", value_parser = anchor, default_value = "full",
          env = "ASTERISM_ANCHOR")]
    pub(crate) anchor: Size,
    /// Compute the anchor's keys once, or again for every block as the paper's code does (star).
    #[arg(long, value_name = "shared|recompute|auto", value_parser = anchor_kv,
          default_value = "shared", env = "ASTERISM_ANCHOR_KV")]
    pub(crate) anchor_kv: AnchorKv,
    /// Tokens of the context that are computed anew for every question, those it looks at (star): a
    /// number, a share such as 5%, auto (a fifth, at most 2k), or none.
    #[arg(long, value_name = "N|P%|auto|none", value_parser = revisit, default_value = "none",
          env = "ASTERISM_REVISIT")]
    pub(crate) revisit: Revisit,
    /// A pattern that leaves keys out within blocks (star), with its settings: streaming,
    /// minference, flexprefill, xattention or blocks, as in xattention:stride=16.
    #[arg(long, value_name = "PATTERN", value_parser = Sparse::parse, env = "ASTERISM_SPARSE")]
    pub(crate) sparse: Option<Sparse>,
    /// Keys and values of the context that are kept, once it is encoded: a share of each block, for
    /// every head the best. Of star on any hosts, and of dense on one.
    #[arg(long, value_name = "P%", value_parser = keep, default_value = "100%",
          env = "ASTERISM_KEEP")]
    pub(crate) keep: u32,
    /// By which score the best keys are found, if not all are kept: kvzip, expected, compactor,
    /// snapkv, streaming, knorm or random.
    #[arg(long, value_name = "SCORE", value_parser = press_by, default_value = "kvzip",
          env = "ASTERISM_PRESS")]
    pub(crate) press: PressBy,
    /// Whether every head keeps as many keys (even), or a layer the best of all its heads (layer).
    #[arg(long, value_name = "even|layer", value_parser = head_budget, default_value = "even",
          env = "ASTERISM_PRESS_HEADS")]
    pub(crate) press_heads: HeadBudget,
    /// Hosts that share the work: threads of this process, or the processes started together.
    #[arg(long, value_name = "N", default_value_t = 1, env = "ASTERISM_HOSTS",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) hosts: u16,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Generation")]
pub(crate) struct GenerationArgs {
    /// Tokens of the answer at most.
    #[arg(long, value_name = "N", value_parser = tokens, default_value = "128",
          env = "ASTERISM_MAX_TOKENS")]
    pub(crate) max_tokens: usize,
    /// 0 always takes the likeliest token; higher values draw more freely.
    #[arg(long, value_name = "T", default_value_t = 0.0, env = "ASTERISM_TEMPERATURE")]
    pub(crate) temperature: f32,
    /// Draw only from the K likeliest tokens; 0 for all (needs a temperature).
    #[arg(long, value_name = "K", default_value_t = 0, env = "ASTERISM_TOP_K")]
    pub(crate) top_k: usize,
    /// Draw only from the likeliest tokens that together reach P (needs a temperature).
    #[arg(long, value_name = "P", default_value_t = 1.0, env = "ASTERISM_TOP_P")]
    pub(crate) top_p: f32,
    /// Draw only from tokens at least P times as likely as the likeliest (needs a temperature).
    #[arg(long, value_name = "P", default_value_t = 0.0, env = "ASTERISM_MIN_P")]
    pub(crate) min_p: f32,
    /// Make tokens of the prompt and the answer less likely; 1 for no change.
    #[arg(long, value_name = "F", default_value_t = 1.0, env = "ASTERISM_REPETITION_PENALTY")]
    pub(crate) repetition_penalty: f32,
    /// The same seed gives the same answer.
    #[arg(long, value_name = "N", default_value_t = 0, env = "ASTERISM_SEED")]
    pub(crate) seed: u64,
    /// End the answer before this text; may be given several times.
    #[arg(long, value_name = "TEXT", env = "ASTERISM_STOP")]
    pub(crate) stop: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum DecodeWeightsName {
    /// All hosts that have a GPU each; else one.
    Auto,
    /// The first: it asks the others in every layer.
    One,
    /// Every host: they exchange what they found in every layer.
    Replicated,
    /// Every host a slice of them: more exchanges, fewer weights to read.
    Sliced,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Dtype {
    /// bfloat16.
    Bf16,
    /// 32-bit float.
    F32,
}

/// Of a context that a plan is made for: it is kept block by block.
pub(crate) const MOST_PLANNED: usize = 16 << 20;

/// The length of a context to plan or to measure.
pub(crate) fn context_tokens(text: &str) -> Result<usize, String> {
    match tokens(text)? {
        count if count <= MOST_PLANNED => Ok(count),
        _ => Err(format!("contexts have at most {}m tokens", MOST_PLANNED >> 20)),
    }
}

/// `100m`, `2.5g` or `400G` bits per second.
pub(crate) fn bits_per_second(text: &str) -> Result<f64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let factor = |suffix| match suffix {
        'm' => Some(1e6),
        'g' => Some(1e9),
        't' => Some(1e12),
        _ => None,
    };
    let (digits, factor) = match lower.chars().last().and_then(factor) {
        Some(factor) => (&lower[..lower.len() - 1], factor),
        None => (lower.as_str(), 1.0),
    };
    match digits.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number * factor),
        _ => Err("expected bits per second such as 100m, 25g or 1t".to_owned()),
    }
}

/// A time that is not negative.
pub(crate) fn microseconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err("expected microseconds such as 25 or 2.5".to_owned()),
    }
}

/// `1k`, `full` or `none`.
fn anchor(text: &str) -> Result<Size, String> {
    match text {
        "full" => Ok(Size::ALL),
        "none" => Ok(Size::NOTHING),
        number => {
            tokens(number).map(Size::Tokens).map_err(|error| format!("{error}, or full, or none"))
        }
    }
}

/// Where the anchor's keys come from.
fn anchor_kv(text: &str) -> Result<AnchorKv, String> {
    named(&AnchorKv::ALL, AnchorKv::name, text)
}

/// The name of a score.
pub(crate) fn press_by(text: &str) -> Result<PressBy, String> {
    named(&PressBy::ALL, PressBy::name, text)
}

/// How what is kept is shared out over heads.
pub(crate) fn head_budget(text: &str) -> Result<HeadBudget, String> {
    named(&HeadBudget::ALL, HeadBudget::name, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_as_fast_as_they_say() {
        assert_eq!(bits_per_second("100m"), Ok(1e8));
        assert_eq!(bits_per_second("2.5G"), Ok(2.5e9));
        assert_eq!(bits_per_second("1t"), Ok(1e12));
        for wrong in ["", "g", "0", "-1g", "nan", "25gb", "1e400", "ä"] {
            assert!(bits_per_second(wrong).is_err(), "{wrong}");
        }
        assert!(microseconds("-1").is_err() && microseconds("x").is_err());
    }

    #[test]
    fn anchors_have_names_for_the_ends() {
        assert_eq!(anchor("full"), Ok(Size::ALL));
        assert_eq!(anchor("none"), Ok(Size::NOTHING));
        assert_eq!(anchor("1k"), Ok(Size::Tokens(1024)));
        assert!(anchor("half").unwrap_err().contains("none"));
    }
}
