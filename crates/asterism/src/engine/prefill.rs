//! Phase 1: every host encodes its part of the context, as the plan's method says.

use super::compute::Loaded;
use super::{EngineError, hosts};
use crate::attention::{
    AnchorCopy, AnchorKeys, BlockAttention, GlobalAttention, Publish, RingAttention, Step,
    announce_end, serve,
};
use crate::cache::KvStore;
use crate::cancel::Cancel;
use crate::comm::Comm;
use crate::model::Workspace;
use crate::plan::{AnchorKv, Method, Plan, Span, Star};
use crate::tensor::Backend;
use std::time::{Duration, Instant};

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
        let recomputed = match plan.spec.method {
            Method::Star(Star { anchor_kv: AnchorKv::Recompute, .. }) => {
                (plan.blocks() - 1) * plan.anchor
            }
            _ => 0,
        };
        ((plan.tokens + recomputed) * layers) as u64
    }
}

/// What every host needs to know about the run.
pub(super) struct Run<'a, B: Backend> {
    pub(super) loaded: &'a Loaded<B>,
    pub(super) plan: &'a Plan,
    pub(super) context: &'a [u32],
    pub(super) progress: &'a (dyn Fn(Progress) + Sync),
    pub(super) cancel: &'a Cancel,
}

/// A block or an anchor to be encoded on one host.
struct Part<'a, 'c, B: Backend> {
    host: usize,
    /// `[span.len]`
    tokens: &'a [u32],
    span: Span,
    anchor: AnchorKeys<'a, 'c, B>,
    publish: Option<Publish<'a, B>>,
    /// Not so for an anchor that is encoded only to serve a block.
    is_block: bool,
}

impl<B: Backend> Run<'_, B> {
    /// Encodes the context as the plan says. Returns one store of keys per host; that of the query
    /// host has room for `reserve` more tokens.
    pub(super) fn encode(&self, reserve: usize) -> Result<(Vec<KvStore<B>>, Phase1), EngineError> {
        let start = Instant::now();
        let Loaded { backend, decoder } = self.loaded;
        let mut stores = (0..self.plan.hosts.len())
            .map(|host| {
                // The query host also keeps the keys of questions and answers.
                let extra = if host == 0 { reserve } else { 0 };
                self.store(self.plan.host_tokens(host) + extra)
            })
            .collect::<Result<Vec<_>, EngineError>>()?;
        let ((), bytes_sent) = match self.plan.spec.method {
            Method::Star(star) => {
                let work = |c: &dyn Comm<B>, s: &mut KvStore<B>| self.star(star, c, s);
                hosts::run(&mut stores, work, work)?
            }
            Method::Ring | Method::Zigzag => {
                hosts::run(&mut stores, |c, s| self.ring(c, s), |c, s| self.ring(c, s))?
            }
            Method::Dense => hosts::run(
                &mut stores,
                |c, s| self.dense(c, s),
                |c, s| Ok(serve(backend, c, self.layers(), decoder.shape(), s)?),
            )?,
        };
        backend.synchronize()?;
        let kv_bytes = stores.iter().map(|store| store.bytes() as u64).sum();
        let tokens = self.context.len();
        Ok((stores, Phase1 { tokens, time: start.elapsed(), bytes_sent, kv_bytes }))
    }

    /// An empty store with room for `capacity` tokens.
    fn store(&self, capacity: usize) -> Result<KvStore<B>, EngineError> {
        let Loaded { backend, decoder } = self.loaded;
        let (shape, precision) = (decoder.shape(), decoder.kv_precision());
        Ok(KvStore::new(backend, self.layers(), shape, precision, capacity)?)
    }

    /// Reports work that is really done.
    fn report(
        &self,
        host: usize,
        tokens: usize,
        layers: usize,
        finished_block: bool,
    ) -> Result<(), EngineError> {
        self.loaded.backend.synchronize()?;
        (self.progress)(Progress { host, work: (tokens * layers) as u64, finished_block });
        Ok(())
    }

    fn layers(&self) -> usize {
        self.loaded.decoder.config().layers
    }

    /// The tokens of one part, chunk by chunk, with block attention.
    fn encode_block(
        &self,
        part: Part<'_, '_, B>,
        store: &mut KvStore<B>,
        work: &mut Workspace<B>,
    ) -> Result<(), EngineError> {
        let Loaded { backend, decoder } = self.loaded;
        let Part { host, tokens, span, mut anchor, publish, is_block } = part;
        for chunk in span.chunks(backend.chunk_tokens()) {
            store.open(chunk);
            let mut attention = BlockAttention {
                backend,
                shape: decoder.shape(),
                store,
                anchor: anchor.reborrow(),
                block_start: span.start,
                chunk,
                publish,
            };
            let tokens = &tokens[chunk.start - span.start..][..chunk.len];
            decoder.encode(backend, tokens, &[chunk], &mut attention, self.cancel, work)?;
            let finished = is_block && chunk.end() == span.end();
            self.report(host, chunk.len, self.layers(), finished)?;
        }
        Ok(())
    }

    /// Star: this host's blocks, each behind the anchor.
    fn star(
        &self,
        star: Star,
        comm: &dyn Comm<B>,
        store: &mut KvStore<B>,
    ) -> Result<(), EngineError> {
        let Loaded { backend, decoder } = self.loaded;
        let (shape, precision) = (decoder.shape(), decoder.kv_precision());
        let (rank, anchor) = (comm.rank(), self.plan.anchor);
        let layers = decoder.config().context_layers();
        let shared = star.anchor_kv == AnchorKv::Shared;
        let others: Vec<usize> =
            (1..comm.size()).filter(|host| !self.plan.hosts[*host].is_empty()).collect();
        let publish = (shared && rank == 0).then_some(Publish {
            comm,
            anchor,
            to: &others,
            precision,
            layers,
        });
        let receives = shared && others.contains(&rank);
        let expected = if receives { anchor } else { 0 };
        let mut received = AnchorCopy::received(backend, comm, layers, shape, precision, expected)?;
        let mut work = decoder.workspace(backend);
        for block in &self.plan.hosts[rank] {
            let tokens = &self.context[block.range()];
            let part = |anchor| {
                let (span, publish) = (*block, None);
                Part { host: rank, tokens, span, anchor, publish, is_block: true }
            };
            let own = part(AnchorKeys::None);
            if block.start == 0 {
                self.encode_block(Part { publish, ..own }, store, &mut work)?;
            } else if anchor == 0 {
                self.encode_block(own, store, &mut work)?;
            } else if !shared {
                let mut copy = self.store(anchor)?;
                let vocab = decoder.config().vocab;
                let tokens = &self.plan.anchor_tokens(self.context, *block, vocab);
                let span = self.plan.anchor_positions(*block);
                let ahead = Part { tokens, span, is_block: false, ..own };
                self.encode_block(ahead, &mut copy, &mut work)?;
                let mut copy = AnchorCopy::computed(copy, shape);
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
    fn ring(&self, comm: &dyn Comm<B>, store: &mut KvStore<B>) -> Result<(), EngineError> {
        let Loaded { backend, decoder } = self.loaded;
        let rank = comm.rank();
        let spans = &self.plan.hosts[rank];
        spans.iter().for_each(|span| store.open(*span));
        let tokens: Vec<u32> =
            spans.iter().flat_map(|span| &self.context[span.range()]).copied().collect();
        let mut attention = RingAttention {
            backend,
            comm,
            shape: decoder.shape(),
            precision: decoder.kv_precision(),
            store,
            shards: &self.plan.hosts,
            cancel: self.cancel,
            progress: &|tokens| {
                let work = tokens as u64;
                (self.progress)(Progress { host: rank, work, finished_block: false });
            },
        };
        let mut work = decoder.workspace(backend);
        decoder.encode(backend, &tokens, spans, &mut attention, self.cancel, &mut work)?;
        // Attention has reported the other layers.
        spans.iter().try_for_each(|span| self.report(rank, span.len, 1, true))
    }

    /// Dense, on the query host: chunk after chunk, over the keys of all hosts.
    fn dense(&self, comm: &dyn Comm<B>, store: &mut KvStore<B>) -> Result<(), EngineError> {
        let Loaded { backend, decoder } = self.loaded;
        let mut work = decoder.workspace(backend);
        for (owner, spans) in self.plan.hosts.iter().enumerate() {
            for chunk in spans.iter().flat_map(|span| span.chunks(backend.chunk_tokens())) {
                let (shape, precision) = (decoder.shape(), decoder.kv_precision());
                let step = Step { chunk, owner, attending: decoder.config().context_layers() };
                let mut attention =
                    GlobalAttention::begin(backend, comm, shape, store, precision, step)?;
                let tokens = &self.context[chunk.range()];
                let cancel = self.cancel;
                decoder.encode(backend, tokens, &[chunk], &mut attention, cancel, &mut work)?;
                let finished = spans.iter().any(|span| span.end() == chunk.end());
                self.report(owner, chunk.len, self.layers(), finished)?;
            }
        }
        Ok(announce_end(comm)?)
    }
}
