//! Phase 1: every host encodes its part of the context, as the plan's method says.

use super::{Engine, EngineError, hosts};
use crate::attention::{
    AnchorCopy, AnchorKeys, BlockAttention, GlobalAttention, Publish, RingAttention, announce_end,
    serve,
};
use crate::cache::KvStore;
use crate::cancel::Cancel;
use crate::comm::Comm;
use crate::model::Workspace;
use crate::plan::{AnchorKv, Method, Plan, Span};
use std::time::{Duration, Instant};

/// Tokens of one forward pass for `threads` compute threads: enough work for all of them, and no
/// more, since it bounds the memory of activations and how late a cancel is seen.
pub(super) fn chunk_tokens(threads: usize) -> usize {
    (128 * threads).clamp(512, 2048)
}

/// A step of phase 1, reported by whichever host made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Who reports.
    pub host: usize,
    /// Work done since the last report, in tokens times layers; all reports of a run add up to
    /// [`Phase1::work`].
    pub work: u64,
    /// Whether this step finished a block (star) or a shard.
    pub finished_block: bool,
}

/// What phase 1 took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Phase1 {
    /// Tokens of the context.
    pub tokens: usize,
    /// Time of the whole phase.
    pub time: Duration,
    /// Bytes that the hosts sent each other.
    pub bytes_sent: u64,
    /// Bytes of the cached keys and values of all hosts.
    pub kv_bytes: u64,
}

impl Phase1 {
    /// All the work of a plan for a model of `layers` layers, in the unit of [`Progress::work`].
    #[must_use]
    pub fn work(plan: &Plan, layers: usize) -> u64 {
        let recomputed = match (plan.spec.method, plan.spec.anchor_kv) {
            (Method::Star, AnchorKv::Recompute) => (plan.blocks() - 1) * plan.anchor,
            _ => 0,
        };
        ((plan.tokens + recomputed) * layers) as u64
    }
}

/// What every host needs to know about the run.
struct Run<'a> {
    engine: &'a Engine,
    plan: &'a Plan,
    context: &'a [u32],
    progress: &'a (dyn Fn(Progress) + Sync),
    cancel: &'a Cancel,
}

/// Encodes `context` as `plan` says. Returns one store of keys per host.
pub(super) fn encode(
    engine: &Engine,
    plan: &Plan,
    context: &[u32],
    reserve: usize,
    progress: &(dyn Fn(Progress) + Sync),
    cancel: &Cancel,
) -> Result<(Vec<KvStore>, Phase1), EngineError> {
    let start = Instant::now();
    let decoder = &engine.decoder;
    let layers = engine.config().layers;
    let mut stores: Vec<KvStore> = (0..plan.hosts.len())
        .map(|host| {
            // The query host also keeps the keys of questions and answers.
            let extra = if host == 0 { reserve } else { 0 };
            let capacity = plan.host_tokens(host) + extra;
            KvStore::new(layers, decoder.shape(), decoder.precision(), capacity)
        })
        .collect();
    let run = Run { engine, plan, context, progress, cancel };
    let ((), bytes_sent) = match plan.spec.method {
        Method::Star => hosts::run(&mut stores, |c, s| run.star(c, s), |c, s| run.star(c, s))?,
        Method::Ring | Method::Zigzag => {
            hosts::run(&mut stores, |c, s| run.ring(c, s), |c, s| run.ring(c, s))?
        }
        Method::Dense => hosts::run(
            &mut stores,
            |c, s| run.dense(c, s),
            |c, s| Ok(serve(&engine.cpu, c, layers, decoder.shape(), s)?),
        )?,
    };
    let kv_bytes = stores.iter().map(|store| store.bytes() as u64).sum();
    let tokens = context.len();
    Ok((stores, Phase1 { tokens, time: start.elapsed(), bytes_sent, kv_bytes }))
}

/// A block or an anchor to be encoded on one host.
struct Part<'a, 'c> {
    host: usize,
    span: Span,
    anchor: AnchorKeys<'a, 'c>,
    publish: Option<Publish<'a>>,
    /// Not so for an anchor that is encoded only to serve a block.
    is_block: bool,
}

impl Run<'_> {
    fn report(&self, host: usize, tokens: usize, layers: usize, finished_block: bool) {
        (self.progress)(Progress { host, work: (tokens * layers) as u64, finished_block });
    }

    fn layers(&self) -> usize {
        self.engine.config().layers
    }

    /// The tokens of one part, chunk by chunk, with block attention.
    fn encode_block(
        &self,
        part: Part<'_, '_>,
        store: &mut KvStore,
        work: &mut Workspace,
    ) -> Result<(), EngineError> {
        let Engine { cpu, decoder, .. } = self.engine;
        let Part { host, span, mut anchor, publish, is_block } = part;
        for chunk in span.chunks(chunk_tokens(cpu.threads())) {
            store.open(chunk);
            let mut attention = BlockAttention {
                cpu,
                shape: decoder.shape(),
                store,
                anchor: anchor.reborrow(),
                block_start: span.start,
                chunk,
                publish,
            };
            let tokens = &self.context[chunk.range()];
            decoder.forward(cpu, tokens, &[chunk], &mut attention, self.cancel, work)?;
            let finished = is_block && chunk.end() == span.end();
            self.report(host, chunk.len, self.layers(), finished);
        }
        Ok(())
    }

    /// Star: this host's blocks, each behind the anchor.
    fn star(&self, comm: &dyn Comm, store: &mut KvStore) -> Result<(), EngineError> {
        let decoder = &self.engine.decoder;
        let (shape, precision) = (decoder.shape(), decoder.precision());
        let (rank, anchor, layers) = (comm.rank(), self.plan.anchor, self.layers());
        let shared = self.plan.spec.anchor_kv == AnchorKv::Shared;
        let others: Vec<usize> =
            (1..comm.size()).filter(|host| !self.plan.hosts[*host].is_empty()).collect();
        let publish =
            (shared && rank == 0).then_some(Publish { comm, anchor, to: &others, precision });
        let mut received = AnchorCopy::received(comm, layers, shape, precision, anchor);
        let mut work = decoder.workspace();
        for block in &self.plan.hosts[rank] {
            let part =
                |anchor| Part { host: rank, span: *block, anchor, publish: None, is_block: true };
            let own = part(AnchorKeys::None);
            if block.start == 0 {
                self.encode_block(Part { publish, ..own }, store, &mut work)?;
            } else if anchor == 0 {
                self.encode_block(own, store, &mut work)?;
            } else if !shared {
                let mut copy = KvStore::new(layers, shape, precision, anchor);
                let span = Span::new(0..anchor);
                self.encode_block(Part { span, is_block: false, ..own }, &mut copy, &mut work)?;
                let mut copy = AnchorCopy::computed(copy, layers, shape);
                self.encode_block(part(AnchorKeys::Copy(&mut copy)), store, &mut work)?;
            } else if rank == 0 {
                self.encode_block(part(AnchorKeys::Own(anchor)), store, &mut work)?;
            } else {
                self.encode_block(part(AnchorKeys::Copy(&mut received)), store, &mut work)?;
            }
        }
        Ok(())
    }

    /// Ring and zigzag: the whole shard, layer by layer, in step with the other hosts.
    fn ring(&self, comm: &dyn Comm, store: &mut KvStore) -> Result<(), EngineError> {
        let Engine { cpu, decoder, .. } = self.engine;
        let rank = comm.rank();
        let spans = &self.plan.hosts[rank];
        spans.iter().for_each(|span| store.open(*span));
        let tokens: Vec<u32> =
            spans.iter().flat_map(|span| &self.context[span.range()]).copied().collect();
        let mut attention = RingAttention {
            cpu,
            comm,
            shape: decoder.shape(),
            store,
            shards: &self.plan.hosts,
            cancel: self.cancel,
            progress: &|tokens| self.report(rank, tokens, 1, false),
        };
        let mut work = decoder.workspace();
        decoder.forward(cpu, &tokens, spans, &mut attention, self.cancel, &mut work)?;
        spans.iter().for_each(|_| self.report(rank, 0, 0, true));
        Ok(())
    }

    /// Dense, on the query host: chunk after chunk, over the keys of all hosts.
    fn dense(&self, comm: &dyn Comm, store: &mut KvStore) -> Result<(), EngineError> {
        let Engine { cpu, decoder, .. } = self.engine;
        let mut work = decoder.workspace();
        for (owner, spans) in self.plan.hosts.iter().enumerate() {
            for chunk in spans.iter().flat_map(|span| span.chunks(chunk_tokens(cpu.threads()))) {
                let (shape, precision) = (decoder.shape(), decoder.precision());
                let mut attention =
                    GlobalAttention::begin(cpu, comm, shape, store, precision, chunk, owner)?;
                let tokens = &self.context[chunk.range()];
                decoder.forward(cpu, tokens, &[chunk], &mut attention, self.cancel, &mut work)?;
                let finished = spans.iter().any(|span| span.end() == chunk.end());
                self.report(owner, chunk.len, self.layers(), finished);
            }
        }
        Ok(announce_end(comm)?)
    }
}
