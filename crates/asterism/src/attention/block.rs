//! Phase 1 of Star Attention: the tokens of a block see the anchor and the earlier tokens of their
//! own block, nothing else (paper, section 2.1).

use super::{Attention, AttentionError};
use crate::cache::KvStore;
use crate::comm::{Comm, Message};
use crate::plan::Span;
use crate::tensor::{Backend, HeadShape, KvPrecision, Memory, Part, PartMut, Segment, TensorError};

/// Where the anchor's keys are.
pub enum AnchorKeys<'a, 'c, B: Backend> {
    /// There is no anchor, or the block is the first and contains it.
    None,
    /// The first tokens of this host's own store: it encoded the first block.
    Own(usize),
    /// A copy from the first host, or the host's own recomputation.
    Copy(&'a mut AnchorCopy<'c, B>),
}

impl<'c, B: Backend> AnchorKeys<'_, 'c, B> {
    /// The same keys for a shorter while: one chunk of several.
    pub fn reborrow(&mut self) -> AnchorKeys<'_, 'c, B> {
        match self {
            Self::None => AnchorKeys::None,
            Self::Own(tokens) => AnchorKeys::Own(*tokens),
            Self::Copy(copy) => AnchorKeys::Copy(copy),
        }
    }
}

/// A copy of the anchor's keys, of all layers in which blocks attend to them.
///
/// From the first host they arrive chunk by chunk and, within a chunk, layer by layer; waiting only
/// for the layer that is needed lets this host start a layer while the first host still works on
/// the next.
pub struct AnchorCopy<'a, B: Backend> {
    store: KvStore<B>,
    tokens: usize,
    /// Layers of chunks that have arrived.
    arrived: usize,
    comm: Option<&'a dyn Comm<B>>,
    shape: HeadShape,
}

impl<'a, B: Backend> AnchorCopy<'a, B> {
    /// The keys of `tokens` tokens in `layers` layers, which host 0 will send over `comm`.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn received(
        backend: &B,
        comm: &'a dyn Comm<B>,
        layers: usize,
        shape: HeadShape,
        precision: KvPrecision,
        tokens: usize,
    ) -> Result<Self, TensorError> {
        let store = KvStore::new(backend, layers, shape, precision, tokens)?;
        Ok(Self { store, tokens, arrived: 0, comm: Some(comm), shape })
    }

    /// Keys that this host computed itself.
    #[must_use]
    pub fn computed(store: KvStore<B>, shape: HeadShape) -> Self {
        let tokens = store.tokens();
        Self { store, tokens, arrived: 0, comm: None, shape }
    }

    /// The anchor's keys of one layer, waiting for them if necessary.
    fn layer(&mut self, backend: &B, layer: usize) -> Result<Vec<Segment<'_, B>>, AttentionError> {
        while let Some(comm) = self.comm
            && self.store.layer_tokens(layer) < self.tokens
        {
            let keys = comm.recv_kv(0)?;
            let values = comm.recv_kv(0)?;
            let tokens = keys.len() / self.shape.kv_width();
            let target = self.arrived % self.store.layers();
            if target == 0 {
                let start = self.store.tokens();
                self.store.open(Span { start, len: tokens });
            }
            self.store.extend(backend, target, &keys, &values)?;
            self.arrived += 1;
        }
        Ok(self.store.segments(layer))
    }
}

/// Sends the anchor's keys to the hosts that need them, as the first host computes them.
pub struct Publish<'a, B: Backend> {
    /// The first host's end of the network.
    pub comm: &'a dyn Comm<B>,
    /// Tokens of the anchor.
    pub anchor: usize,
    /// Hosts with blocks to encode behind the anchor.
    pub to: &'a [usize],
    /// What the keys are rounded to.
    pub precision: KvPrecision,
    /// Layers in which blocks attend to the anchor: only their keys are sent.
    pub layers: usize,
}

impl<B: Backend> Clone for Publish<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for Publish<'_, B> {}

/// Attention within one block and its anchor.
pub struct BlockAttention<'a, 'c, B: Backend> {
    /// Compute backend.
    pub backend: &'a B,
    /// Heads of the model.
    pub shape: HeadShape,
    /// The host's keys, with the chunk already opened.
    pub store: &'a mut KvStore<B>,
    /// Where the anchor's keys are.
    pub anchor: AnchorKeys<'a, 'c, B>,
    /// Position of the block's first token.
    pub block_start: usize,
    /// The tokens of this forward pass.
    pub chunk: Span,
    /// Set on the first host while it encodes the first block for others too.
    pub publish: Option<Publish<'a, B>>,
}

impl<B: Backend> BlockAttention<'_, '_, B> {
    fn publish(
        &self,
        layer: usize,
        k: Part<'_, B::Rows>,
        v: Part<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        let Some(publish) = self.publish else { return Ok(()) };
        let Publish { comm, anchor, to, precision, layers } = publish;
        let tokens = anchor.saturating_sub(self.chunk.start).min(self.chunk.len);
        if tokens == 0 || layer >= layers {
            return Ok(());
        }
        let part = tokens * self.shape.kv_width();
        let (k, v) = (k.slice(0..part), v.slice(0..part));
        let [keys, values] = Message::rounded(self.backend, precision, self.shape, [k, v])?;
        for host in to {
            comm.send(*host, keys.clone())?;
            comm.send(*host, values.clone())?;
        }
        Ok(())
    }
}

impl<B: Backend> Attention<B> for BlockAttention<'_, '_, B> {
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
        let mut segments = match &mut self.anchor {
            AnchorKeys::None => Vec::new(),
            AnchorKeys::Own(tokens) => {
                self.store.segment(layer, Span::new(0..*tokens)).into_iter().collect()
            }
            AnchorKeys::Copy(copy) => copy.layer(self.backend, layer)?,
        };
        segments.extend(self.store.segment(layer, Span::new(self.block_start..self.chunk.end())));
        // One host has all the keys: nothing is merged, and nobody needs the log-sum-exps.
        let rows = self.chunk.len * self.shape.heads;
        let mut lse = B::Sums::default();
        self.backend.sums_at_least(&mut lse, rows)?;
        let lse = PartMut::new(&mut lse, 0..rows);
        Ok(self.backend.attend(q, self.chunk.start, self.shape, &segments, out, lse)?)
    }
}
