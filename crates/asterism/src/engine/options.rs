//! How the engine computes.

use super::DeviceChoice;
use crate::tensor::{Isa, KvPrecision, Precision};
use crate::world::World;
use std::sync::Arc;

/// Which hosts read the weights to decode: answers are the same up to rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DecodeWeights {
    /// All, where each has a processor of its own that would wait otherwise; else one.
    #[default]
    Auto,
    /// The first, which sends the queries of each layer to the others: two messages in turn.
    One,
    /// Every host, as the paper has it: one exchange in each layer.
    Replicated,
    /// Every host a [slice](crate::plan::Slices) of what all have, and runs the query with what the
    /// others found: fewer weights to read, more exchanges.
    Sliced,
}

/// How the engine computes.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Compute threads, shared by all in-process hosts.
    pub threads: usize,
    /// Precision of weights.
    pub precision: Precision,
    /// Precision of cached keys and values; that of the weights if `None`.
    pub kv_precision: Option<KvPrecision>,
    /// Instruction set; the best of this machine if `None`.
    pub isa: Option<Isa>,
    /// What computes: the CPU unless another is asked for.
    pub device: DeviceChoice,
    /// Note where the time of forward passes goes, for
    /// [`Engine::take_stages`](super::Engine::take_stages).
    pub time_stages: bool,
    /// Bytes of encoded blocks that may be kept when no context holds them, for contexts to come
    /// that begin with, or contain, the same blocks.
    pub cache_bytes: u64,
    /// Which hosts run the model over the tokens of an answer.
    pub decode_weights: DecodeWeights,
    /// The processes that are its hosts, each with an engine of its own; otherwise hosts are
    /// threads. Rank 0 [leads](super::Engine), the others [serve](super::Engine::serve) it; what
    /// `cache_bytes` is, rank 0 says.
    pub processes: Option<Arc<World>>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            threads,
            precision: Precision::Bf16,
            kv_precision: None,
            isa: None,
            device: DeviceChoice::Cpu,
            time_stages: false,
            cache_bytes: 1 << 30,
            decode_weights: DecodeWeights::Auto,
            processes: None,
        }
    }
}
