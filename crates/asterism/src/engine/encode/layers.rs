//! One layer of a pass, as its method computes it.

use super::anchor::{Anchor, publish};
use super::{Encoding, Tools};
use crate::attention::{
    AnchorKeys, Attention, BlockAttention, ContextKeys, GlobalAttention, NewKeys,
    ObservedAttention, OthersPass, OthersRows, RingAttention, SequenceRows, serve,
};
use crate::cache::KvStore;
use crate::cancel::Cancel;
use crate::engine::loaded::Loaded;
use crate::engine::{EngineError, share};
use crate::model::Workspace;
use crate::plan::Span;
use crate::press::Scorer;
use crate::tensor::{Backend, Positions};

impl<B: Backend> Encoding<B> {
    /// The recomputed anchor of a block: encoded like a block of its own.
    pub(super) fn anchor_layer(
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
        let sparse = self.plan.spec.method.sparse();
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
            sparse: sparse.map(|sparse| (sparse, &mut self.sparsity)),
        };
        layer(loaded, &mut attention, &self.cancel, &mut self.work)
    }

    /// A chunk of a block, behind the anchor.
    pub(super) fn block_layer(
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
        let mut scorer = self.take_scorer(loaded, span);
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
            Anchor::Received(copy) | Anchor::Computed(copy) | Anchor::Kept(copy) => {
                AnchorKeys::Copy(copy)
            }
            _ => match self.blocks.first() {
                Some(Some(first)) => AnchorKeys::First(first, self.plan.anchor),
                _ => AnchorKeys::None,
            },
        };
        let publish =
            (is_first && self.plan.shares_anchor()).then(|| publish(&self.plan, loaded, anchor_to));
        let sparse = self.plan.spec.method.sparse();
        let sparse = sparse.map(|sparse| (sparse, &mut self.sparsity));
        let mut attention =
            BlockAttention { backend, comm, shape, store, anchor, chunk, publish, sparse };
        observed(loaded, &mut attention, (&mut scorer, chunk), &self.cancel, &mut self.work)?;
        self.scorer = scorer;
        Ok(())
    }

    /// Ring and zigzag: one layer of the whole shard, in step with the other hosts.
    pub(super) fn shard_layer(&mut self, tools: &Tools<'_, B>) -> Result<(), EngineError> {
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
    pub(super) fn dense_layer(
        &mut self,
        tools: &Tools<'_, B>,
        owner: usize,
        chunk: Span,
    ) -> Result<(), EngineError> {
        let Tools { loaded, comm, .. } = *tools;
        // Only where one host has all of the context are its keys pressed.
        let mut scorer = self.take_scorer(loaded, Span::new(0..self.plan.tokens));
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
        observed(loaded, &mut attention, (&mut scorer, chunk), &self.cancel, &mut self.work)?;
        drop(attention);
        (self.store, self.scorer) = (Some(store), scorer);
        Ok(())
    }

    /// Dense, on every other host.
    pub(super) fn others_layer(
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
pub(super) fn begin<B: Backend>(
    loaded: &Loaded<B>,
    tokens: &[u32],
    spans: &[Span],
    work: &mut Workspace<B>,
) -> Result<(), EngineError> {
    let attending = loaded.decoder.config().context_layers();
    let positions: Vec<u32> = spans.iter().copied().flat_map(Span::positions).collect();
    Ok(loaded.decoder.begin(&loaded.backend, tokens, &positions, attending, work)?)
}

/// Runs the next layer of a pass over the tokens `chunk`, seen by what scores their keys, if that
/// is wanted.
fn observed<B: Backend>(
    loaded: &Loaded<B>,
    inner: &mut dyn Attention<B>,
    (scorer, chunk): (&mut Option<Scorer<B>>, Span),
    cancel: &Cancel,
    work: &mut Workspace<B>,
) -> Result<(), EngineError> {
    let Some(scorer) = scorer else { return layer(loaded, inner, cancel, work) };
    let mut attention = ObservedAttention { backend: &loaded.backend, inner, scorer, chunk };
    layer(loaded, &mut attention, cancel, work)
}

/// Runs the next layer of a pass.
pub(super) fn layer<B: Backend>(
    loaded: &Loaded<B>,
    attention: &mut dyn Attention<B>,
    cancel: &Cancel,
    work: &mut Workspace<B>,
) -> Result<(), EngineError> {
    loaded.decoder.advance(&loaded.backend, 1, attention, cancel, work)?;
    Ok(())
}
