//! Phase 1 of Star Attention: the tokens of a block see the anchor and the earlier tokens of their
//! own block, nothing else (paper, section 2.1).

use super::sparse::{Block, Sparsity};
use super::{Attention, AttentionError};
use crate::cache::{EncodedBlock, KvStore};
use crate::comm::{Comm, Message};
use crate::plan::{Span, Sparse};
use crate::tensor::{
    Backend, HeadShape, KvPrecision, Part, PartMut, Positions, Segment, Sequence, TensorError,
};
use std::sync::Arc;

/// Where the anchor's keys are.
pub enum AnchorKeys<'a, B: Backend> {
    /// There is no anchor, or the block is the first and contains it.
    None,
    /// The first tokens, as many as given, of the first block, which this host holds.
    First(&'a EncodedBlock<B>, usize),
    /// A copy from the first host, or the host's own recomputation.
    Copy(&'a AnchorCopy<B>),
}

impl<B: Backend> AnchorKeys<'_, B> {
    /// The anchor's keys of one layer.
    #[must_use]
    pub fn segments(&self, layer: usize) -> Vec<Segment<'_, B>> {
        match self {
            Self::None => Vec::new(),
            Self::First(block, tokens) => {
                block.segment(layer, Span::new(0..*tokens)).into_iter().collect()
            }
            Self::Copy(copy) => copy.layer(layer),
        }
    }
}

/// A copy of the anchor's keys, of all layers in which blocks attend to them.
///
/// From the first host they arrive chunk by chunk and, within a chunk, layer by layer.
pub struct AnchorCopy<B: Backend> {
    store: KvStore<B>,
    /// Layers of chunks that have arrived.
    arrived: usize,
    shape: HeadShape,
}

impl<B: Backend> AnchorCopy<B> {
    /// The keys of `tokens` tokens in `layers` layers, which host 0 will send.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn received(
        backend: &B,
        layers: usize,
        shape: HeadShape,
        precision: KvPrecision,
        tokens: usize,
    ) -> Result<Self, TensorError> {
        let store = KvStore::new(backend, layers, shape, precision, tokens)?;
        Ok(Self { store, arrived: 0, shape })
    }

    /// Keys that this host computed itself.
    #[must_use]
    pub fn computed(store: KvStore<B>, shape: HeadShape) -> Self {
        Self { store, arrived: 0, shape }
    }

    /// The first `tokens` tokens of the first block, whose own keys will be pressed.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn of_first(
        backend: &B,
        first: &KvStore<B>,
        layers: usize,
        shape: HeadShape,
        precision: KvPrecision,
        tokens: usize,
    ) -> Result<Self, TensorError> {
        let mut store = KvStore::new(backend, layers, shape, precision, tokens)?;
        store.open(Span::new(0..tokens));
        for layer in 0..layers {
            if let Some(anchor) = first.segment(layer, Span::new(0..tokens)) {
                store.extend_parts(backend, layer, [anchor.keys, anchor.values])?;
            }
        }
        Ok(Self { store, arrived: 0, shape })
    }

    /// Waits for the keys and values of the next layer, or of the first layer of the next chunk, of
    /// `tokens` tokens. They go down a chain of hosts: they come from the one before this one in
    /// it, and go on to the one behind it, so that none sends them more than once.
    ///
    /// # Errors
    /// If another host stopped, or there is no memory for them.
    pub fn receive(
        &mut self,
        backend: &B,
        comm: &dyn Comm<B>,
        tokens: usize,
        (before, behind): (usize, Option<usize>),
    ) -> Result<(), AttentionError> {
        let len = tokens * self.shape.kv_width();
        let keys = comm.recv_kv(before, len)?;
        let values = comm.recv_kv(before, len)?;
        if let Some(behind) = behind {
            comm.send(behind, Message::Kv(Arc::clone(&keys)))?;
            comm.send(behind, Message::Kv(Arc::clone(&values)))?;
        }
        let layer = self.arrived % self.store.layers();
        if layer == 0 {
            let start = self.store.tokens();
            self.store.open(Span { start, len: tokens });
        }
        self.store.extend(backend, layer, &keys, &values)?;
        self.arrived += 1;
        Ok(())
    }

    /// Whether all keys of an anchor of `tokens` tokens have arrived for layer `layer`: where it
    /// comes in several chunks, they have for no layer before the last chunk begins.
    #[must_use]
    pub fn has(&self, layer: usize, tokens: usize) -> bool {
        let arrived = self.arrived % self.store.layers();
        self.store.tokens() == tokens && (arrived == 0 || layer < arrived)
    }

    /// The anchor's keys of one layer.
    #[must_use]
    pub fn layer(&self, layer: usize) -> Vec<Segment<'_, B>> {
        self.store.segments(layer)
    }
}

/// Who needs the anchor's keys, and which: sent by the first host as it computes them, or from the
/// first block if that is there already.
#[derive(Clone, Copy)]
pub struct Publish<'a> {
    /// Tokens of the anchor.
    pub anchor: usize,
    /// Hosts with blocks to encode behind the anchor: a chain, down which they pass it.
    pub to: &'a [usize],
    /// What the keys are rounded to.
    pub precision: KvPrecision,
    /// Layers in which blocks attend to the anchor: only their keys are sent.
    pub layers: usize,
}

impl Publish<'_> {
    fn send<B: Backend>(
        &self,
        comm: &dyn Comm<B>,
        [keys, values]: [Message<B>; 2],
    ) -> Result<(), AttentionError> {
        if let Some(first) = self.to.first() {
            comm.send(*first, keys)?;
            comm.send(*first, values)?;
        }
        Ok(())
    }

    /// Sends the anchor's keys from the first block, which was encoded before.
    ///
    /// # Errors
    /// If there is no memory for a copy, or another host stopped.
    pub fn stored<B: Backend>(
        &self,
        backend: &B,
        comm: &dyn Comm<B>,
        shape: HeadShape,
        first: &EncodedBlock<B>,
    ) -> Result<(), AttentionError> {
        let copy = |part: Part<'_, B::Kv>| {
            let mut kv = backend.kv(self.precision, shape, part.len)?;
            backend.extend(&mut kv, part)?;
            Ok::<_, TensorError>(Message::Kv(Arc::new(kv)))
        };
        for layer in 0..self.layers {
            let Some(anchor) = first.segment(layer, Span::new(0..self.anchor)) else { continue };
            self.send(comm, [copy(anchor.keys)?, copy(anchor.values)?])?;
        }
        Ok(())
    }
}

/// Attention within one block and its anchor.
pub struct BlockAttention<'a, B: Backend> {
    /// Compute backend.
    pub backend: &'a B,
    /// This host's end of the network.
    pub comm: &'a dyn Comm<B>,
    /// Heads of the model.
    pub shape: HeadShape,
    /// The block's keys, with the chunk already opened.
    pub store: &'a mut KvStore<B>,
    /// Where the anchor's keys are.
    pub anchor: AnchorKeys<'a, B>,
    /// The tokens of this forward pass.
    pub chunk: Span,
    /// Set on the first host while it encodes the first block for others too.
    pub publish: Option<Publish<'a>>,
    /// The pattern by which keys are left out, and where to note what it kept; the chunk is the
    /// whole block then.
    pub sparse: Option<(Sparse, &'a mut Sparsity)>,
}

impl<B: Backend> BlockAttention<'_, B> {
    fn publish(
        &self,
        layer: usize,
        k: Part<'_, B::Rows>,
        v: Part<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        let Some(publish) = self.publish else { return Ok(()) };
        let tokens = publish.anchor.saturating_sub(self.chunk.start).min(self.chunk.len);
        if tokens == 0 || layer >= publish.layers || publish.to.is_empty() {
            return Ok(());
        }
        let part = tokens * self.shape.kv_width();
        let (k, v) = (k.slice(0..part), v.slice(0..part));
        let messages = Message::rounded(self.backend, publish.precision, self.shape, [k, v])?;
        publish.send(self.comm, messages)
    }
}

impl<B: Backend> Attention<B> for BlockAttention<'_, B> {
    fn keep(
        &mut self,
        layer: usize,
        k: Part<'_, B::Rows>,
        v: Part<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        self.store.append(self.backend, layer, k, v)?;
        self.publish(layer, k, v)
    }

    fn attend(
        &mut self,
        layer: usize,
        q: Part<'_, B::Rows>,
        out: PartMut<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        let mut segments = self.anchor.segments(layer);
        segments.extend(self.store.segments(layer));
        // A block's keys are all on this host, so nothing is merged; `attend` writes log-sum-exps
        // regardless, and they are dropped.
        let (backend, shape, mut out) = (self.backend, self.shape, out);
        let mut lse = B::Sums::default();
        if let Some((sparse, found)) = &mut self.sparse {
            let rows = self.chunk.len * shape.heads;
            backend.sums_at_least(&mut lse, rows)?;
            let block = Block { backend, shape, q, start: self.chunk.start, segments: &segments };
            return Ok(block.attend(*sparse, out, PartMut::new(&mut lse, 0..rows), found)?);
        }
        let most = backend.chunk_tokens();
        backend.sums_at_least(&mut lse, self.chunk.len.min(most) * shape.heads)?;
        // A pass over an anchor that others wait for may have more tokens than attend at once.
        for chunk in self.chunk.chunks(most) {
            let first = chunk.start - self.chunk.start;
            let range = first * shape.q_width()..(first + chunk.len) * shape.q_width();
            let positions = Positions::From(chunk.start);
            let all = Sequence { rows: 0..chunk.len, positions, segments: &segments };
            let lse = PartMut::new(&mut lse, 0..chunk.len * shape.heads);
            backend.attend(q.slice(range.clone()), shape, &[all], out.slice(range), lse)?;
        }
        Ok(())
    }
}
