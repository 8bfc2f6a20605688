//! Exact attention over the keys of all hosts: phase 2 of Star Attention (paper, section 2.2), and
//! dense prefill with keys spread over hosts.
//!
//! The query host (rank 0) runs the model. In each layer that attends it sends the queries to the
//! other hosts, which attend over the keys they hold and send back a [`Partial`]; the query host
//! merges. The paper runs the query through the model on every host instead; the result is the
//! same, and running it once leaves the other hosts' cores and memory bandwidth free.
//!
//! A pass may have rows of several sequences. What a query sees is decided by its sequence and by
//! positions alone, on every host alike.

use super::{Attention, AttentionError, ContextKeys, Partial, Weights, others};
use crate::cache::{KvStore, Tail};
use crate::comm::{Comm, Message};
use crate::plan::Span;
use crate::tensor::{Backend, HeadShape, KvPrecision, Part, PartMut, Positions, Segment, Sequence};
use std::ops::Range;
use std::sync::Arc;

/// Where the keys of a sequence's new tokens go.
pub enum NewKeys<'a, B: Backend> {
    /// Into the tail of a question.
    Tail(&'a mut Tail<B>),
    /// Into this host's share of a context.
    Store(&'a mut KvStore<B>),
    /// To another host, rounded to what it caches; this host's share is what it attends to.
    Other {
        /// That host.
        host: usize,
        /// What keys are rounded to.
        precision: KvPrecision,
        /// This host's share of the context.
        own: &'a KvStore<B>,
    },
    /// Nowhere: another host computes and keeps them as well.
    Elsewhere,
}

impl<B: Backend> NewKeys<'_, B> {
    fn segments(&self, layer: usize) -> Vec<Segment<'_, B>> {
        match self {
            Self::Tail(tail) => tail.segments(layer),
            Self::Store(store) => store.segments(layer),
            Self::Other { own, .. } => own.segments(layer),
            Self::Elsewhere => Vec::new(),
        }
    }
}

/// The rows of one sequence in a forward pass, on the query host.
pub struct SequenceRows<'a, B: Backend> {
    /// Positions of its tokens.
    pub span: Span,
    /// What this host holds of its context.
    pub context: ContextKeys<'a, B>,
    /// Where the keys of its tokens go, opened for them.
    pub new: NewKeys<'a, B>,
}

/// Attention on the query host.
pub struct GlobalAttention<'a, B: Backend> {
    backend: &'a B,
    comm: &'a dyn Comm<B>,
    shape: HeadShape,
    sequences: Vec<SequenceRows<'a, B>>,
    /// `[tokens, heads]`: of the keys merged so far
    lse: B::Sums,
}

impl<'a, B: Backend> GlobalAttention<'a, B> {
    /// Attention of a pass whose rows are those of `sequences`, one after the other.
    ///
    /// # Errors
    /// If there is no memory for the log-sum-exps.
    pub fn new(
        backend: &'a B,
        comm: &'a dyn Comm<B>,
        shape: HeadShape,
        sequences: Vec<SequenceRows<'a, B>>,
    ) -> Result<Self, AttentionError> {
        let rows: usize = sequences.iter().map(|sequence| sequence.span.len).sum();
        let mut lse = B::Sums::default();
        backend.sums_at_least(&mut lse, rows * shape.heads)?;
        Ok(Self { backend, comm, shape, sequences, lse })
    }
}

/// The rows of sequences of so many `tokens` in a pass that has them one after the other.
fn rows(tokens: impl Iterator<Item = usize>) -> impl Iterator<Item = Range<usize>> {
    tokens.scan(0, |next, tokens| {
        let rows = *next..*next + tokens;
        *next = rows.end;
        Some(rows)
    })
}

/// Keeps the keys and values `[tokens, kv_heads, head_dim]` of the rows of `sequences` in one layer
/// where they belong.
pub(super) fn keep<B: Backend>(
    backend: &B,
    comm: &dyn Comm<B>,
    shape: HeadShape,
    sequences: &mut [SequenceRows<'_, B>],
    layer: usize,
    [k, v]: [Part<'_, B::Rows>; 2],
) -> Result<(), AttentionError> {
    let all = rows(sequences.iter().map(|sequence| sequence.span.len)).collect::<Vec<_>>();
    for (sequence, rows) in sequences.iter_mut().zip(all) {
        let range = elements(&rows, shape.kv_width());
        let (k, v) = (k.slice(range.clone()), v.slice(range));
        match &mut sequence.new {
            NewKeys::Tail(tail) => tail.append(backend, layer, k, v)?,
            NewKeys::Store(store) => store.append(backend, layer, k, v)?,
            NewKeys::Other { host, precision, .. } => {
                for message in Message::rounded(backend, *precision, shape, [k, v])? {
                    comm.send(*host, message)?;
                }
            }
            NewKeys::Elsewhere => {}
        }
    }
    Ok(())
}

/// The keys that each of `sequences` sees on this host in one layer.
pub(super) fn segments<'s, B: Backend>(
    sequences: &'s [SequenceRows<'_, B>],
    layer: usize,
) -> Vec<Vec<Segment<'s, B>>> {
    let of = |sequence: &'s SequenceRows<'_, B>| {
        let mut segments = sequence.context.segments(layer);
        segments.extend(sequence.new.segments(layer));
        segments
    };
    sequences.iter().map(of).collect()
}

/// Sequences of so many tokens at such positions, with the keys that they see.
pub(super) fn sequences<'a, B: Backend>(
    all: impl Iterator<Item = (usize, Positions<'a, B>)> + Clone,
    segments: &'a [Vec<Segment<'a, B>>],
) -> Vec<Sequence<'a, B>> {
    rows(all.clone().map(|(tokens, _)| tokens))
        .zip(all)
        .zip(segments)
        .map(|((rows, (_, positions)), segments)| Sequence { rows, positions, segments })
        .collect()
}

/// `rows` of a buffer with `width` elements per row.
fn elements(rows: &Range<usize>, width: usize) -> Range<usize> {
    rows.start * width..rows.end * width
}

impl<B: Backend> Attention<B> for GlobalAttention<'_, B> {
    fn keep(
        &mut self,
        layer: usize,
        k: Part<'_, B::Rows>,
        v: Part<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        keep(self.backend, self.comm, self.shape, &mut self.sequences, layer, [k, v])
    }

    fn attend(
        &mut self,
        layer: usize,
        q: Part<'_, B::Rows>,
        mut out: PartMut<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        let Self { backend, comm, shape, .. } = *self;
        others::ask(backend, comm, q)?;
        let tokens = q.len / shape.q_width();
        let mut lse = PartMut::new(&mut self.lse, 0..tokens * shape.heads);
        let at = |span: Span| (span.len, Positions::From(span.start));
        let all = self.sequences.iter().map(|sequence| at(sequence.span));
        let segments = segments(&self.sequences, layer);
        let own = sequences(all, &segments);
        backend.attend(q, shape, &own, out.reborrow(), lse.reborrow())?;
        others::merge(backend, comm, out, lse)
    }
}

/// The rows of one sequence in a forward pass, as a host without them sees them.
pub struct OthersRows<'a, B: Backend> {
    /// How many tokens it has in the pass.
    pub tokens: usize,
    /// Where they stand.
    pub positions: Positions<'a, B>,
    /// What this host holds of its context.
    pub context: ContextKeys<'a, B>,
}

/// A forward pass of the query host, as another host takes part in it.
pub struct OthersPass<'a, B: Backend> {
    /// The layers that run.
    pub layers: Range<usize>,
    /// How many layers attend: all of a question's, all but the last of a context's.
    pub attending: usize,
    /// The sequences whose rows are in the pass.
    pub sequences: &'a [OthersRows<'a, B>],
    /// Those of the only sequence, if it is a question that weighs its context.
    pub weights: Option<&'a mut Weights<B>>,
    /// This host's share of a context that is being encoded, and whether it gets the keys of this
    /// pass, whose tokens are opened then.
    pub share: Option<(&'a mut KvStore<B>, bool)>,
}

/// What every host but the query host does in a forward pass: keeps the keys that are its own and
/// attends over what it holds.
///
/// # Errors
/// If another host stopped, or the query host sends something else than expected.
pub fn serve<B: Backend>(
    backend: &B,
    comm: &dyn Comm<B>,
    shape: HeadShape,
    pass: OthersPass<'_, B>,
) -> Result<(), AttentionError> {
    let OthersPass { layers, attending, sequences: parts, mut weights, mut share } = pass;
    let tokens: usize = parts.iter().map(|part| part.tokens).sum();
    for layer in layers {
        if let Some((store, true)) = &mut share {
            let len = tokens * shape.kv_width();
            let (keys, values) = (comm.recv_kv(0, len)?, comm.recv_kv(0, len)?);
            store.extend(backend, layer, &keys, &values)?;
        }
        if layer >= attending {
            continue;
        }
        let q = comm.recv_rows(0, tokens * shape.q_width())?;
        let segments: Vec<Vec<_>> = parts
            .iter()
            .map(|part| {
                let mut segments = part.context.segments(layer);
                segments.extend(share.iter().flat_map(|(store, _)| store.segments(layer)));
                segments
            })
            .collect();
        let all = parts.iter().map(|part| (part.tokens, part.positions));
        let own = sequences(all, &segments);
        let q = Part::new(&*q, 0..tokens * shape.q_width());
        let part = Partial::of(backend, q, shape, &own)?;
        comm.send(0, Message::Rows(Arc::new(part.out)))?;
        comm.send(0, Message::Sums(Arc::new(part.lse)))?;
        if let (Some(weights), [sequence]) = (&mut weights, &own[..]) {
            let lse = comm.recv_sums(0, tokens * shape.heads)?;
            let lse = Part::new(&*lse, 0..tokens * shape.heads);
            weights.add(backend, layer, q, shape, sequence, lse)?;
        }
    }
    Ok(())
}
