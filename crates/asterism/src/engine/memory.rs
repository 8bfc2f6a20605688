//! What a context takes of a processor's memory, and whether it fits: asked before any work.

use super::EngineError;
use super::loaded::Loaded;
use crate::cache::{Index, Ledger, Reservation};
use crate::model::ModelConfig;
use crate::plan::{Cost, HostCost, Method, Plan, PlanSpec, RevisitBy};
use crate::tensor::{Backend, HeadShape, KvPrecision, MASK_TILE, Precision};

/// Bytes that a context takes of a processor's memory beside the weights, all hosts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Cached keys and values.
    pub keys: u64,
    /// Buffers of the forward passes.
    pub activations: u64,
}

/// What is spoken for of a processor's memory, beside the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryUse {
    /// Bytes of encoded contexts, of blocks that are kept, and of questions that run.
    pub reserved: u64,
    /// Bytes that are free now, where the processor or its system says so.
    pub free: Option<u64>,
}

impl MemoryNeed {
    /// Counts `plan` for a model in bf16 whose keys are cached in `precision`, with room for
    /// `reserve` tokens of question and answer.
    #[cfg(feature = "cuda")]
    #[must_use]
    pub fn of(config: &ModelConfig, precision: KvPrecision, plan: &Plan, reserve: usize) -> Self {
        Self::on::<crate::tensor::Cuda>(config, precision, plan, reserve)
    }

    /// The same, on any kind of processor.
    pub(super) fn on<B: Backend>(
        config: &ModelConfig,
        precision: KvPrecision,
        plan: &Plan,
        reserve: usize,
    ) -> Self {
        let size = config.size(precision, Precision::Bf16);
        let widths = config.widths();
        let token = size.kv_bytes(size.layers);
        let hosts = Cost::of(plan, &size).hosts;
        let bytes = |h: &HostCost| h.kv_bytes + h.anchor_bytes + h.unpressed_bytes;
        let keys = hosts.iter().map(bytes).sum::<u64>();
        let passes: u64 = (0..plan.hosts.len())
            .map(|host| {
                let tokens = match plan.spec.method {
                    // The whole shard passes through a layer before the next.
                    Method::Ring | Method::Zigzag => plan.host_tokens(host),
                    // And so may a block from all of which a pattern is chosen.
                    method if method.sparse().is_some() => plan.longest_block(host),
                    // And so may an anchor that others wait for.
                    _ if host == 0 => {
                        let most = B::most_chunk_tokens();
                        plan.host_tokens(0).min(most.max(plan.first_pass(most)))
                    }
                    _ => plan.host_tokens(host).min(B::most_chunk_tokens()),
                };
                B::pass_bytes(widths, tokens)
            })
            .sum();
        // Keys of an anchor and its block, or of a shard on its way, are copied into one run; keys
        // in fp8 are unpacked.
        let run = match plan.spec.method {
            _ if precision == KvPrecision::Fp8 => plan.tokens,
            Method::Star(star) => plan.anchor + star.block.min(plan.tokens),
            _ if plan.hosts.len() > 1 => plan.tokens,
            _ => 0,
        };
        let run = (2 * run * KvPrecision::Bf16.row_bytes(widths.shape)) as u64;
        let chosen: u64 = match plan.spec.method.sparse() {
            Some(_) => (0..plan.hosts.len())
                .map(|host| plan.longest_block(host))
                .map(|block| choosing::<B>(widths.shape, block, block + plan.anchor))
                .sum(),
            None => 0,
        };
        Self { keys: keys + reserve as u64 * token, activations: passes + run + chosen }
    }

    /// Both together.
    #[must_use]
    pub fn total(self) -> u64 {
        self.keys + self.activations
    }
}

/// Bytes that choosing a pattern for `rows` queries and `keys` keys takes at most: log-sum-exps,
/// weights by key, distance and tile, and what these are computed from.
fn choosing<B: Backend>(shape: HeadShape, rows: usize, keys: usize) -> u64 {
    /// Scores that a GPU has of a coarse grid at a time.
    const SCORES: u64 = 256 << 20;
    let tiles = rows.div_ceil(MASK_TILE) * keys.div_ceil(MASK_TILE);
    let sums = size_of::<f32>() * shape.heads * (rows + 4 * keys + 2 * tiles);
    let coarse = size_of::<f32>() * shape.head_dim * (rows + keys);
    (sums + coarse) as u64 + if B::shares_memory() { 0 } else { SCORES }
}

/// Bytes of the keys and values of `tokens` tokens, in all layers.
pub(super) fn keys<B: Backend>(loaded: &Loaded<B>, tokens: usize) -> u64 {
    let config = loaded.decoder.config();
    let size = config.size(loaded.kv_precision(), loaded.decoder.precision());
    (tokens as u64).saturating_mul(size.kv_bytes(size.layers))
}

/// Bytes of the keys and values that are kept of a block of `tokens` tokens of `plan`.
pub(super) fn kept<B: Backend>(loaded: &Loaded<B>, plan: &Plan, tokens: usize) -> u64 {
    let config = loaded.decoder.config();
    config.size(loaded.kv_precision(), loaded.decoder.precision()).kept_bytes(plan, tokens)
}

/// Bytes that the query host needs to compute `count` tokens of a context of `plan` anew: their
/// keys and the passes.
pub(super) fn revisit<B: Backend>(loaded: &Loaded<B>, plan: &Plan, count: usize) -> u64 {
    if count == 0 {
        return 0;
    }
    // To choose by values, all tokens pass.
    let most = if plan.revisit_by() == RevisitBy::Values { plan.tokens } else { count };
    let passes =
        B::pass_bytes(loaded.decoder.config().widths(), most.min(loaded.backend.chunk_tokens()));
    keys(loaded, count).saturating_add(passes)
}

/// Bytes of what is noted of every token of `plan` for a question that weighs its context: how much
/// the question looks at it, in all layers or in each of so many, and whether it sees its key.
pub(super) fn noted(plan: &Plan, layers: usize) -> u64 {
    (plan.tokens * (layers * size_of::<f32>() + size_of::<bool>())) as u64
}

/// Bytes that host `rank` needs only while it encodes `plan`: activations, the anchor's keys, and
/// keys that are not pressed yet.
pub(super) fn pass<B: Backend>(loaded: &Loaded<B>, plan: &Plan, rank: usize) -> u64 {
    let (config, precision) = (loaded.decoder.config(), loaded.kv_precision());
    let size = config.size(precision, loaded.decoder.precision());
    let HostCost { anchor_bytes, unpressed_bytes, .. } = Cost::of(plan, &size).hosts[rank];
    let activations = MemoryNeed::on::<B>(config, precision, plan, 0).activations;
    anchor_bytes + unpressed_bytes + activations / plan.hosts.len() as u64
}

/// Reserves `bytes` for a part of `plan`, giving up blocks of `index` that no context holds if
/// that is what it takes.
///
/// # Errors
/// [`EngineError::NoMemory`], with what would fit.
pub(super) fn reserve<B: Backend>(
    loaded: &Loaded<B>,
    ledger: &Ledger,
    index: &mut Index<B>,
    plan: &Plan,
    bytes: u64,
) -> Result<Reservation, EngineError> {
    let mut reserved = ledger.reserve(bytes);
    if let Err(left) = reserved
        && index.give_up(bytes - left) > 0
    {
        reserved = ledger.reserve(bytes);
    }
    reserved.map_err(|free| {
        let (config, precision) = (loaded.decoder.config(), loaded.kv_precision());
        let need = |plan: &Plan| MemoryNeed::on::<B>(config, precision, plan, 0).total();
        let fits = longest(plan.spec, plan.tokens, |plan| need(plan) <= free);
        // The room of a question, which is asked for with it, may be what is too much.
        let needed = need(plan).max(bytes);
        let is_gpu = !B::shares_memory();
        EngineError::NoMemory { tokens: plan.tokens, needed, free, fits, is_gpu }
    })
}

/// The most tokens, below `tokens`, whose plan passes `fits`; 0 if none does.
fn longest(spec: PlanSpec, tokens: usize, fits: impl Fn(&Plan) -> bool) -> usize {
    let (mut low, mut high) = (0, tokens);
    while low + 1 < high {
        let middle = low.midpoint(high);
        match Plan::new(spec, middle) {
            Ok(plan) if fits(&plan) => low = middle,
            _ => high = middle,
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "nano")]
    use crate::{
        engine::{Engine, EngineOptions, compute::On},
        model::{Checkpoint, FetchOptions, ModelSource},
        tensor::Cpu,
    };
    #[cfg(feature = "nano")]
    use std::{ops::ControlFlow, sync::Arc};

    /// nano on the CPU, on a machine where `free` bytes are free.
    #[cfg(feature = "nano")]
    fn engine(free: u64) -> Arc<Engine> {
        let files = || ModelSource::Nano.resolve(&FetchOptions::default()).unwrap();
        let options = EngineOptions::default();
        let mut engine = Engine::load(files(), &options).unwrap();
        let checkpoint = Arc::new(Checkpoint::open(files().weights, None).unwrap());
        let (cpu, config) = (Cpu::new(1, None).unwrap(), engine.config().clone());
        let mut compute = On::load(cpu, config, &checkpoint, &options, &|_, _| ()).unwrap();
        compute.set_ledger(Ledger::shared(move || Some(free)));
        engine.compute = Box::new(compute);
        Arc::new(engine)
    }

    #[test]
    #[cfg(feature = "nano")]
    fn a_context_beyond_the_machines_memory_is_refused_before_any_work() {
        let text = "The sky is blue. ".repeat(1000);
        let encode = |free, hosts| {
            let mut heard = false;
            let engine = engine(free);
            let begun = engine.context(&text).star(1024).hosts(hosts).room(16, 16);
            let encoded = begun.on_progress(|_| {
                heard = true;
                ControlFlow::Continue(())
            });
            (encoded.encode().map(|context| context.tokens().len()), heard)
        };
        for hosts in [1, 2] {
            let (refused, heard) = encode(1 << 20, hosts);
            let error = refused.unwrap_err();
            let EngineError::NoMemory { needed, free, fits, tokens, is_gpu } = error else {
                panic!("{error}")
            };
            assert!(needed > free && free <= 1 << 20 && fits < tokens && !is_gpu && !heard);
            let words = error.to_string();
            assert!(
                words.contains("of the machine's memory") && words.contains("1 MiB"),
                "{words}"
            );
            let (encoded, heard) = encode(needed + (64 << 20), hosts);
            assert!(encoded.unwrap() == tokens && heard);
        }
    }

    #[test]
    fn the_longest_context_that_fits_is_found() {
        let spec = PlanSpec::star(64).hosts(1);
        assert_eq!(longest(spec, 100_000, |plan| plan.tokens <= 777), 777);
        assert_eq!(longest(spec, 1000, |_| false), 0);
        assert_eq!(longest(spec, 1000, |_| true), 999);
    }
}
