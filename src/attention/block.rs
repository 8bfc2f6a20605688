//! Phase 1 of Star Attention: the tokens of a block see the anchor and the earlier tokens of their
//! own block, nothing else (paper, section 2.1).

use super::{Attention, AttentionError};
use crate::cache::KvStore;
use crate::comm::{Comm, Message};
use crate::plan::Span;
use crate::tensor::{Cpu, Elements, HeadShape, KvSegment, Precision};

/// Where the anchor's keys are.
pub enum AnchorKeys<'a, 'c> {
    /// There is no anchor, or the block is the first and contains it.
    None,
    /// The first tokens of this host's own store: it encoded the first block.
    Own(usize),
    /// A copy from the first host, or the host's own recomputation.
    Copy(&'a mut AnchorCopy<'c>),
}

impl<'c> AnchorKeys<'_, 'c> {
    /// The same keys for a shorter while: one chunk of several.
    pub fn reborrow(&mut self) -> AnchorKeys<'_, 'c> {
        match self {
            Self::None => AnchorKeys::None,
            Self::Own(tokens) => AnchorKeys::Own(*tokens),
            Self::Copy(copy) => AnchorKeys::Copy(copy),
        }
    }
}

/// The anchor's keys on a host other than the first. They arrive chunk by chunk and, within a
/// chunk, layer by layer; waiting only for the layer that is needed lets this host start a layer
/// while the first host still works on the next.
pub struct AnchorCopy<'a> {
    store: KvStore,
    tokens: usize,
    layers: usize,
    arrived: usize,
    comm: Option<&'a dyn Comm>,
    shape: HeadShape,
}

impl<'a> AnchorCopy<'a> {
    /// A copy of `tokens` tokens that host 0 will send over `comm`.
    #[must_use]
    pub fn received(
        comm: &'a dyn Comm,
        layers: usize,
        shape: HeadShape,
        precision: Precision,
        tokens: usize,
    ) -> Self {
        let store = KvStore::new(layers, shape, precision, tokens);
        Self { store, tokens, layers, arrived: 0, comm: Some(comm), shape }
    }

    /// Keys that this host computed itself.
    #[must_use]
    pub fn computed(store: KvStore, layers: usize, shape: HeadShape) -> Self {
        let tokens = store.tokens();
        Self { store, tokens, layers, arrived: 0, comm: None, shape }
    }

    /// The anchor's keys of one layer, waiting for them if necessary.
    fn layer(&mut self, layer: usize) -> Result<Vec<KvSegment<'_>>, AttentionError> {
        while let Some(comm) = self.comm
            && self.store.layer_tokens(layer) < self.tokens
        {
            let keys = comm.recv_elements(0)?;
            let values = comm.recv_elements(0)?;
            let tokens = keys.len() / self.shape.kv_width();
            let target = self.arrived % self.layers;
            if target == 0 {
                let start = self.store.tokens();
                self.store.open(Span { start, len: tokens });
            }
            let (keys, values) = (keys.view(0..keys.len()), values.view(0..values.len()));
            self.store.append_elements(target, keys, values);
            self.arrived += 1;
        }
        Ok(self.store.segments(layer))
    }
}

/// Sends the anchor's keys to the hosts that need them, as the first host computes them.
#[derive(Clone, Copy)]
pub struct Publish<'a> {
    /// The first host's end of the network.
    pub comm: &'a dyn Comm,
    /// Tokens of the anchor.
    pub anchor: usize,
    /// Hosts with blocks to encode behind the anchor.
    pub to: &'a [usize],
    /// What the keys are rounded to.
    pub precision: Precision,
}

/// Attention within one block and its anchor.
pub struct BlockAttention<'a, 'c> {
    /// Compute backend.
    pub cpu: &'a Cpu,
    /// Heads of the model.
    pub shape: HeadShape,
    /// The host's keys, with the chunk already opened.
    pub store: &'a mut KvStore,
    /// Where the anchor's keys are.
    pub anchor: AnchorKeys<'a, 'c>,
    /// Position of the block's first token.
    pub block_start: usize,
    /// The tokens of this forward pass.
    pub chunk: Span,
    /// Set on the first host while it encodes the first block for others too.
    pub publish: Option<Publish<'a>>,
}

impl BlockAttention<'_, '_> {
    fn publish(&self, k: &[f32], v: &[f32]) -> Result<(), AttentionError> {
        let Some(Publish { comm, anchor, to, precision }) = self.publish else { return Ok(()) };
        let tokens = anchor.saturating_sub(self.chunk.start).min(self.chunk.len);
        if tokens == 0 {
            return Ok(());
        }
        let part = tokens * self.shape.kv_width();
        let keys = Elements::from_f32(precision, &k[..part]);
        let values = Elements::from_f32(precision, &v[..part]);
        for host in to {
            comm.send(*host, Message::Elements(keys.clone()))?;
            comm.send(*host, Message::Elements(values.clone()))?;
        }
        Ok(())
    }
}

impl Attention for BlockAttention<'_, '_> {
    fn attend(
        &mut self,
        layer: usize,
        q: &[f32],
        k: &[f32],
        v: &[f32],
        out: &mut [f32],
    ) -> Result<(), AttentionError> {
        self.store.append(self.cpu, layer, k, v);
        self.publish(k, v)?;
        let mut segments = match &mut self.anchor {
            AnchorKeys::None => Vec::new(),
            AnchorKeys::Own(tokens) => {
                self.store.segment(layer, Span::new(0..*tokens)).into_iter().collect()
            }
            AnchorKeys::Copy(copy) => copy.layer(layer)?,
        };
        segments.extend(self.store.segment(layer, Span::new(self.block_start..self.chunk.end())));
        let mut lse = vec![0.0; self.chunk.len * self.shape.heads];
        self.cpu.attend(q, self.chunk.start, self.shape, &segments, out, &mut lse);
        Ok(())
    }
}
