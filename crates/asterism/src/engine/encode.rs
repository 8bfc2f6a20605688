//! Phase 1 of one context on one host: a list of forward passes, run a layer at a time, so that
//! other work can be done in between.

use super::command::{AnchorNews, EncodingState};
use super::loaded::Loaded;
use super::pace::Pace;
use super::passes::{Pass, passes};
use super::phase1::Progress;
use super::{EngineError, memory, share};
use crate::attention::{
    AnchorCopy, AnchorKeys, BlockAttention, ContextKeys, GlobalAttention, NewKeys, OthersPass,
    OthersRows, Publish, RingAttention, SequenceRows, serve,
};
use crate::cache::{BlockKey, EncodedBlock, Index, KvStore, Ledger, Reservation};
use crate::cancel::Cancel;
use crate::comm::Comm;
use crate::model::Workspace;
use crate::plan::{Plan, Span};
use crate::tensor::{self, Backend, Positions};
use std::collections::VecDeque;
use std::sync::Arc;

/// A context that is being encoded, as one host sees it.
pub(super) struct Encoding<B: Backend> {
    rank: usize,
    plan: Arc<Plan>,
    /// `[plan.tokens]`
    context: Arc<[u32]>,
    cancel: Cancel,
    work: Workspace<B>,
    /// Passes that are left, in order.
    passes: VecDeque<Pass>,
    /// Layers of the first of them that have run.
    layers_done: usize,
    /// The share or block that is being encoded, from its first pass to its last.
    store: Option<KvStore<B>>,
    anchor: Anchor<B>,
    /// Whether the anchor's keys went out to all who need them.
    anchor_sent: bool,
    /// What each of the host's blocks is computed from.
    keys: Vec<BlockKey>,
    /// Blocks that are complete, in order; `None` for those that are still to come.
    blocks: Vec<Option<Arc<EncodedBlock<B>>>>,
    reused: Vec<usize>,
    /// Memory of the blocks to come, and of the passes.
    reservation: Reservation,
    /// Reports of work that the processor may not have done yet.
    unreported: Vec<Progress>,
    pace: Pace<B>,
}

/// What a host is asked to encode.
pub(super) struct Asked {
    pub(super) plan: Arc<Plan>,
    /// `[plan.tokens]`
    pub(super) context: Arc<[u32]>,
    /// Tokens of question and answer that this host must have memory for beside it.
    pub(super) room: usize,
    pub(super) cancel: Cancel,
}

/// The anchor's keys on a host that does not have the first block.
enum Anchor<B: Backend> {
    None,
    /// Sent by the first host.
    Received(AnchorCopy<B>),
    /// Being recomputed for the next block.
    Growing(KvStore<B>),
    /// Recomputed for this block.
    Computed(AnchorCopy<B>),
}

/// What an [`Encoding`] works with: its host's, not its own.
pub(super) struct Tools<'a, B: Backend> {
    pub(super) loaded: &'a Loaded<B>,
    pub(super) comm: &'a dyn Comm<B>,
    pub(super) index: &'a mut Index<B>,
}

impl<B: Backend> Encoding<B> {
    /// Plans the passes of this host for what its index does not hold already, and reserves memory
    /// for them.
    ///
    /// # Errors
    /// [`EngineError::NoMemory`].
    pub(super) fn open(
        tools: &mut Tools<'_, B>,
        ledger: &Ledger,
        asked: Asked,
    ) -> Result<Self, EngineError> {
        let Asked { plan, context, room, cancel } = asked;
        let (rank, loaded) = (tools.comm.rank(), tools.loaded);
        let vocab = loaded.decoder.config().vocab;
        let keys = share::keys(&plan, &context, vocab, rank);
        let mut blocks: Vec<_> = keys.iter().map(|key| tools.index.find(*key)).collect();
        if plan.spec.method.as_star().is_none() && plan.hosts.len() > 1 {
            // All hosts take part in every pass, so shares can be reused only if all hosts have
            // theirs; they are computed again instead of asking.
            blocks.iter_mut().for_each(|block| *block = None);
        }
        let reused: Vec<usize> =
            (0..blocks.len()).filter(|block| blocks[*block].is_some()).collect();
        let missing = |block: &usize| blocks[*block].is_none();
        let chunk = loaded.backend.chunk_tokens();
        let passes = passes(&plan, rank, chunk, (0..keys.len()).filter(missing).collect());
        let spans = share::blocks(&plan, rank);
        let missing_tokens: usize = (0..blocks.len())
            .filter(missing)
            .flat_map(|block| &spans[block])
            .map(|span| span.len)
            .sum();
        let bytes = memory::keys(loaded, missing_tokens) + memory::pass(loaded, &plan, rank);
        let room = memory::keys(loaded, room);
        let mut reservation =
            memory::reserve(loaded, ledger, tools.index, &plan, bytes.saturating_add(room))?;
        // The question reserves its room itself, when it comes.
        drop(reservation.split(room));
        let unreported = reused
            .iter()
            .map(|block| Progress {
                host: rank,
                work: (share::work(&plan, &spans[*block]) * loaded.layers()) as u64,
                finished_block: Some(*block),
                is_reused: true,
            })
            .collect();
        Ok(Self {
            rank,
            plan,
            context,
            cancel,
            work: loaded.decoder.workspace(&loaded.backend, tensor::Pass::Prefill),
            passes,
            layers_done: 0,
            store: None,
            anchor: Anchor::None,
            anchor_sent: false,
            keys,
            blocks,
            reused,
            reservation,
            unreported,
            pace: Pace::new(),
        })
    }

    /// What stops it.
    pub(super) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// How far this host has come.
    pub(super) fn state(&self, loaded: &Loaded<B>) -> EncodingState {
        let (anchor_comes, anchor_tokens) = self.anchor_comes(loaded);
        EncodingState {
            finished: self.passes.is_empty(),
            needs_anchor: self.needs_anchor(),
            anchor_comes,
            anchor_tokens,
            anchor_sent: self.anchor_sent,
            kv_bytes: self.blocks.iter().flatten().map(|block| block.bytes() as u64).sum(),
            reused: self.reused.clone(),
        }
    }

    /// Reports of work that is really done.
    pub(super) fn take_progress(&mut self) -> Vec<Progress> {
        let keep = usize::from(self.pace.is_ahead() && !self.passes.is_empty());
        let done = self.unreported.len().saturating_sub(keep);
        self.unreported.drain(..done).collect()
    }

    /// The context's blocks on this host, in order, once all are there.
    pub(super) fn into_blocks(self) -> Vec<Arc<EncodedBlock<B>>> {
        self.blocks.into_iter().flatten().collect()
    }

    /// Whether this host waits for the anchor's keys from the first host.
    fn needs_anchor(&self) -> bool {
        self.plan.shares_anchor() && self.rank > 0 && !self.passes.is_empty()
    }

    /// Messages with keys of the anchor that this host sends during its next slice, and the tokens
    /// in each of them.
    fn anchor_comes(&self, loaded: &Loaded<B>) -> (usize, usize) {
        let layers = loaded.decoder.config().context_layers();
        let first = self.blocks.first().is_some_and(Option::is_some);
        match self.passes.front() {
            _ if self.rank > 0 || self.anchor_sent || !self.plan.shares_anchor() => (0, 0),
            _ if first => (layers, self.plan.anchor),
            Some(Pass::Block { block: 0, chunk, .. }) => {
                let tokens = self.plan.anchor.saturating_sub(chunk.start).min(chunk.len);
                (usize::from(tokens > 0 && self.layers_done < layers), tokens)
            }
            _ => (0, 0),
        }
    }

    /// Runs the next layer of the current pass.
    pub(super) fn advance(
        &mut self,
        tools: &mut Tools<'_, B>,
        anchor: &AnchorNews,
    ) -> Result<(), EngineError> {
        let backend = &tools.loaded.backend;
        let needs_anchor = self.needs_anchor();
        // What came before is enough for a layer that came before. What comes now is on its way
        // meanwhile.
        if !needs_anchor || anchor.sent || self.has_anchor() {
            self.advance_pass(tools, &anchor.to)?;
        }
        if needs_anchor {
            self.receive_anchor(tools, anchor)?;
        }
        Ok(self.pace.layer(backend, self.passes.is_empty())?)
    }

    /// Whether the anchor's keys are here for the next layer of the current pass.
    fn has_anchor(&self) -> bool {
        match &self.anchor {
            Anchor::Received(copy) => copy.has(self.layers_done, self.plan.anchor),
            _ => false,
        }
    }

    /// Runs the next layer of the current pass; the first host also sends the anchor's keys in it,
    /// down the chain of hosts `anchor_to`.
    fn advance_pass(
        &mut self,
        tools: &mut Tools<'_, B>,
        anchor_to: &[usize],
    ) -> Result<(), EngineError> {
        self.send_stored_anchor(tools, anchor_to)?;
        let Some(pass) = self.passes.front().cloned() else { return Ok(()) };
        let (tokens, ends) = pass.reported(self.rank, &self.plan);
        self.run_layer(tools, &pass, anchor_to)?;
        self.layers_done += 1;
        let finished = self.layers_done == tools.loaded.layers();
        self.unreported.push(Progress {
            host: self.rank,
            work: tokens as u64,
            finished_block: ends.filter(|_| finished && tokens > 0),
            is_reused: false,
        });
        if finished {
            self.layers_done = 0;
            self.passes.pop_front();
            self.finish(tools, &pass)?;
        }
        Ok(())
    }

    /// Takes the messages with keys of the anchor that come during this command from the host
    /// before this one in their chain, and passes them on to the one behind it.
    fn receive_anchor(
        &mut self,
        tools: &Tools<'_, B>,
        news: &AnchorNews,
    ) -> Result<(), EngineError> {
        let Tools { loaded, comm, .. } = *tools;
        let AnchorNews { ref to, comes: count, tokens, .. } = *news;
        let place = to.iter().position(|host| *host == self.rank).unwrap_or(0);
        let before = place.checked_sub(1).map_or(0, |before| to[before]);
        let neighbours = (before, to.get(place + 1).copied());
        if count > 0 && matches!(self.anchor, Anchor::None) {
            let (layers, precision) =
                (loaded.decoder.config().context_layers(), loaded.kv_precision());
            let (backend, shape) = (&loaded.backend, loaded.shape());
            let copy = AnchorCopy::received(backend, layers, shape, precision, self.plan.anchor)?;
            self.anchor = Anchor::Received(copy);
        }
        if let Anchor::Received(copy) = &mut self.anchor {
            (0..count).try_for_each(|_| copy.receive(&loaded.backend, comm, tokens, neighbours))?;
        }
        Ok(())
    }

    /// Sends the anchor's keys from the first block, if this host found that instead of encoding
    /// it.
    fn send_stored_anchor(
        &mut self,
        tools: &Tools<'_, B>,
        anchor_to: &[usize],
    ) -> Result<(), EngineError> {
        if self.rank > 0 || self.anchor_sent || anchor_to.is_empty() {
            return Ok(());
        }
        let Some(Some(first)) = self.blocks.first() else { return Ok(()) };
        let Loaded { backend, .. } = tools.loaded;
        let publish = publish(&self.plan, tools.loaded, anchor_to);
        publish.stored(backend, tools.comm, tools.loaded.shape(), first)?;
        self.anchor_sent = true;
        Ok(())
    }

    /// One layer of `pass`; the first one also begins it.
    fn run_layer(
        &mut self,
        tools: &Tools<'_, B>,
        pass: &Pass,
        anchor_to: &[usize],
    ) -> Result<(), EngineError> {
        match pass {
            Pass::Anchor { block, chunk, .. } => self.anchor_layer(tools, *block, *chunk),
            Pass::Block { block, chunk, .. } => self.block_layer(tools, *block, *chunk, anchor_to),
            Pass::Shard => self.shard_layer(tools),
            Pass::Dense { owner, chunk, .. } if self.rank == 0 => {
                self.dense_layer(tools, *owner, *chunk)
            }
            Pass::Dense { owner, chunk, .. } => self.others_layer(tools, *owner, *chunk),
        }
    }

    /// What follows the last layer of a pass.
    fn finish(&mut self, tools: &mut Tools<'_, B>, pass: &Pass) -> Result<(), EngineError> {
        let complete = match pass {
            Pass::Anchor { ends, .. } => {
                if *ends
                    && let Anchor::Growing(store) =
                        std::mem::replace(&mut self.anchor, Anchor::None)
                {
                    self.anchor =
                        Anchor::Computed(AnchorCopy::computed(store, tools.loaded.shape()));
                }
                None
            }
            Pass::Block { block, chunk, ends } => {
                let is_first = self.rank == 0 && *block == 0;
                self.anchor_sent |= is_first && chunk.end() >= self.plan.anchor;
                ends.then_some(*block)
            }
            Pass::Shard => Some(0),
            // Every host's share ends with the last pass: until then all of them are read.
            Pass::Dense { .. } => (self.passes.is_empty() && !self.blocks.is_empty()).then_some(0),
        };
        if let Some(block) = complete
            && let Some(store) = self.store.take()
        {
            let key = self.keys[block];
            let reservation = self.reservation.split(store.bytes() as u64);
            let encoded = Arc::new(EncodedBlock::new(key, store, reservation));
            tools.index.insert(Arc::clone(&encoded));
            self.blocks[block] = Some(encoded);
            if matches!(self.anchor, Anchor::Computed(_)) {
                self.anchor = Anchor::None;
            }
        }
        Ok(())
    }

    /// The recomputed anchor of a block: encoded like a block of its own.
    fn anchor_layer(
        &mut self,
        tools: &Tools<'_, B>,
        block: usize,
        chunk: Span,
    ) -> Result<(), EngineError> {
        let Tools { loaded, comm, .. } = *tools;
        let block = share::blocks(&self.plan, self.rank)[block][0];
        let span = self.plan.anchor_positions(block);
        if !matches!(self.anchor, Anchor::Growing(_)) {
            self.anchor = Anchor::Growing(loaded.store(span.len)?);
        }
        let Anchor::Growing(store) = &mut self.anchor else { return Ok(()) };
        if self.layers_done == 0 {
            let vocab = loaded.decoder.config().vocab;
            let tokens = self.plan.anchor_tokens(&self.context, block, vocab);
            let tokens = &tokens[chunk.start - span.start..][..chunk.len];
            begin(loaded, tokens, &[chunk], &mut self.work)?;
            store.open(chunk);
        }
        let mut attention = BlockAttention {
            backend: &loaded.backend,
            comm,
            shape: loaded.shape(),
            store,
            anchor: AnchorKeys::None,
            chunk,
            publish: None,
        };
        layer(loaded, &mut attention, &self.cancel, &mut self.work)
    }

    /// A chunk of a block, behind the anchor.
    fn block_layer(
        &mut self,
        tools: &Tools<'_, B>,
        block: usize,
        chunk: Span,
        anchor_to: &[usize],
    ) -> Result<(), EngineError> {
        let Tools { loaded, comm, .. } = *tools;
        let span = share::blocks(&self.plan, self.rank)[block][0];
        let is_first = span.start == 0;
        let (backend, shape) = (&loaded.backend, loaded.shape());
        if self.store.is_none() {
            self.store = Some(loaded.store(span.len)?);
        }
        let Some(store) = &mut self.store else { return Ok(()) };
        if self.layers_done == 0 {
            begin(loaded, self.plan.tokens_at(&self.context, chunk), &[chunk], &mut self.work)?;
            store.open(chunk);
        }
        let anchor = match &mut self.anchor {
            _ if is_first || self.plan.anchor == 0 => AnchorKeys::None,
            Anchor::Received(copy) | Anchor::Computed(copy) => AnchorKeys::Copy(copy),
            _ => match self.blocks.first() {
                Some(Some(first)) => AnchorKeys::First(first, self.plan.anchor),
                _ => AnchorKeys::None,
            },
        };
        let publish =
            (is_first && self.plan.shares_anchor()).then(|| publish(&self.plan, loaded, anchor_to));
        let mut attention = BlockAttention { backend, comm, shape, store, anchor, chunk, publish };
        layer(loaded, &mut attention, &self.cancel, &mut self.work)
    }

    /// Ring and zigzag: one layer of the whole shard, in step with the other hosts.
    fn shard_layer(&mut self, tools: &Tools<'_, B>) -> Result<(), EngineError> {
        let Tools { loaded, comm, .. } = *tools;
        let spans = &self.plan.hosts[self.rank];
        if self.store.is_none() {
            let mut store = loaded.store(self.plan.host_tokens(self.rank))?;
            spans.iter().for_each(|span| store.open(*span));
            self.store = Some(store);
            let tokens: Vec<u32> =
                spans.iter().flat_map(|span| &self.context[span.range()]).copied().collect();
            begin(loaded, &tokens, spans, &mut self.work)?;
        }
        let Some(store) = &mut self.store else { return Ok(()) };
        let mut attention = RingAttention {
            backend: &loaded.backend,
            comm,
            shape: loaded.shape(),
            precision: loaded.kv_precision(),
            store,
            shards: &self.plan.hosts,
            cancel: &self.cancel,
        };
        layer(loaded, &mut attention, &self.cancel, &mut self.work)
    }

    /// This host's share of a context that is encoded densely, with `chunk` opened in it if it owns
    /// the chunk and the pass begins.
    fn share(
        &mut self,
        loaded: &Loaded<B>,
        owner: usize,
        chunk: Span,
    ) -> Result<KvStore<B>, EngineError> {
        let mut store = match self.store.take() {
            Some(store) => store,
            None => loaded.store(self.plan.host_tokens(self.rank))?,
        };
        if self.layers_done == 0 && owner == self.rank {
            store.open(chunk);
        }
        Ok(store)
    }

    /// Dense, on the query host: a chunk over the keys of all hosts.
    fn dense_layer(
        &mut self,
        tools: &Tools<'_, B>,
        owner: usize,
        chunk: Span,
    ) -> Result<(), EngineError> {
        let Tools { loaded, comm, .. } = *tools;
        let mut store = self.share(loaded, owner, chunk)?;
        if self.layers_done == 0 {
            begin(loaded, &self.context[chunk.range()], &[chunk], &mut self.work)?;
        }
        let new = match owner {
            0 => NewKeys::Store(&mut store),
            host => NewKeys::Other { host, precision: loaded.kv_precision(), own: &store },
        };
        let rows = vec![SequenceRows { span: chunk, context: ContextKeys::of(&[]), new }];
        let mut attention = GlobalAttention::new(&loaded.backend, comm, loaded.shape(), rows)?;
        layer(loaded, &mut attention, &self.cancel, &mut self.work)?;
        drop(attention);
        self.store = Some(store);
        Ok(())
    }

    /// Dense, on every other host.
    fn others_layer(
        &mut self,
        tools: &Tools<'_, B>,
        owner: usize,
        chunk: Span,
    ) -> Result<(), EngineError> {
        let Tools { loaded, comm, .. } = *tools;
        let mut store = self.share(loaded, owner, chunk)?;
        let pass = OthersPass {
            layers: self.layers_done..self.layers_done + 1,
            attending: loaded.decoder.config().context_layers(),
            sequences: &[OthersRows {
                tokens: chunk.len,
                positions: Positions::From(chunk.start),
                context: ContextKeys::of(&[]),
            }],
            weights: None,
            share: Some((&mut store, owner == self.rank)),
        };
        serve(&loaded.backend, comm, loaded.shape(), pass)?;
        self.store = Some(store);
        Ok(())
    }
}

/// Begins a pass of a context's tokens.
fn begin<B: Backend>(
    loaded: &Loaded<B>,
    tokens: &[u32],
    spans: &[Span],
    work: &mut Workspace<B>,
) -> Result<(), EngineError> {
    let attending = loaded.decoder.config().context_layers();
    let positions: Vec<u32> = spans.iter().copied().flat_map(Span::positions).collect();
    Ok(loaded.decoder.begin(&loaded.backend, tokens, &positions, attending, work)?)
}

/// Runs the next layer of a pass.
fn layer<B: Backend>(
    loaded: &Loaded<B>,
    attention: &mut dyn crate::attention::Attention<B>,
    cancel: &Cancel,
    work: &mut Workspace<B>,
) -> Result<(), EngineError> {
    loaded.decoder.advance(&loaded.backend, 1, attention, cancel, work)?;
    Ok(())
}

/// What the first host sends of the anchor.
fn publish<'a, B: Backend>(plan: &Plan, loaded: &Loaded<B>, to: &'a [usize]) -> Publish<'a> {
    Publish {
        anchor: plan.anchor,
        to,
        precision: loaded.kv_precision(),
        layers: loaded.decoder.config().context_layers(),
    }
}
