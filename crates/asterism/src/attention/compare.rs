//! Attention of tokens of a context that see all before them in its first layer, to find whose
//! values change in the second.

use super::{Attention, AttentionError, ContextKeys, GlobalAttention, NewKeys, SequenceRows};
use crate::cache::EncodedBlock;
use crate::comm::{Comm, Message};
use crate::plan::Span;
use crate::tensor::{Backend, HeadShape, KvPrecision, Part, PartMut, TensorError};
use std::sync::Arc;

/// The layer whose values are compared, the second: those of the first are the same whatever a
/// token sees.
const COMPARED: usize = 1;

/// How many layers attend before values are compared, of so many.
#[must_use]
pub const fn compared_layer(layers: usize) -> usize {
    if layers > COMPARED { COMPARED } else { 0 }
}

/// Attention of tokens of a context on the query host, over cached keys: those of the first layer
/// are right already.
pub struct CompareAttention<'a, B: Backend> {
    attention: GlobalAttention<'a, B>,
    backend: &'a B,
    comm: &'a dyn Comm<B>,
    shape: HeadShape,
    precision: KvPrecision,
    layer: usize,
    owner: usize,
    /// The new values, rounded as cached ones are, if this host has the old ones.
    values: Option<B::Kv>,
}

impl<'a, B: Backend> CompareAttention<'a, B> {
    /// Attention of the tokens at `span` of `context`, whose values of `layer` go to the host
    /// `owner`, rounded to what keys are cached in.
    ///
    /// # Errors
    /// If there is no memory for the log-sum-exps.
    pub fn new(
        backend: &'a B,
        comm: &'a dyn Comm<B>,
        shape: HeadShape,
        precision: KvPrecision,
        (span, context): (Span, ContextKeys<'a, B>),
        (layer, owner): (usize, usize),
    ) -> Result<Self, AttentionError> {
        let rows = vec![SequenceRows { span, context, new: NewKeys::Elsewhere }];
        let attention = GlobalAttention::new(backend, comm, shape, rows)?;
        Ok(Self { attention, backend, comm, shape, precision, layer, owner, values: None })
    }

    /// The new values `[tokens, kv_heads, head_dim]`, if this host has the old ones.
    #[must_use]
    pub fn into_values(self) -> Option<B::Kv> {
        self.values
    }
}

impl<B: Backend> Attention<B> for CompareAttention<'_, B> {
    fn keep(
        &mut self,
        layer: usize,
        k: Part<'_, B::Rows>,
        v: Part<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        if layer == self.layer {
            let kv = || self.backend.kv(self.precision, self.shape, v.len);
            let (mut keys, mut values) = (kv()?, kv()?);
            self.backend.append([&mut keys, &mut values], [k, v])?;
            if self.owner == self.comm.rank() {
                self.values = Some(values);
            } else {
                self.comm.send(self.owner, Message::Kv(Arc::new(values)))?;
            }
        }
        Ok(())
    }

    fn attend(
        &mut self,
        layer: usize,
        q: Part<'_, B::Rows>,
        out: PartMut<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        self.attention.attend(layer, q, out)
    }
}

/// By how much `values [tokens, kv_heads, head_dim]`, of the tokens at `span`, differ from those
/// that one of `blocks` has of `layer`: squares, added up by token. `None` if no block has them.
///
/// # Errors
/// If the processor failed since it was last waited for.
pub fn changes<B: Backend>(
    backend: &B,
    shape: HeadShape,
    precision: KvPrecision,
    blocks: &[Arc<EncodedBlock<B>>],
    (layer, span): (usize, Span),
    values: Part<'_, B::Kv>,
) -> Result<Option<Vec<f32>>, TensorError> {
    let mut segments = blocks.iter().filter_map(|block| block.segment(layer, span));
    let Some(old) = segments.find(|segment| segment.tokens == span.len) else { return Ok(None) };
    let read = |kv| Ok::<_, TensorError>(backend.kv_bytes(kv)?.to_f32(precision, shape.head_dim));
    let (old, new) = (read(old.values)?, read(values)?);
    let width = shape.kv_width();
    let change = |(old, new): (&[f32], &[f32])| {
        old.iter().zip(new).map(|(old, new)| (old - new).powi(2)).sum()
    };
    Ok(Some(old.chunks(width).zip(new.chunks(width)).map(change).collect()))
}
