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

use super::{Attention, AttentionError, Partial};
use crate::cache::{EncodedBlock, KvStore, Tail};
use crate::comm::{Comm, Message};
use crate::plan::Span;
use crate::tensor::{Backend, HeadShape, KvPrecision, Part, PartMut, Segment, Sequence};
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
}

impl<B: Backend> NewKeys<'_, B> {
    fn segments(&self, layer: usize) -> Vec<Segment<'_, B>> {
        match self {
            Self::Tail(tail) => tail.segments(layer),
            Self::Store(store) => store.segments(layer),
            Self::Other { own, .. } => own.segments(layer),
        }
    }
}

/// The rows of one sequence in a forward pass, on the query host.
pub struct SequenceRows<'a, B: Backend> {
    /// Positions of its tokens.
    pub span: Span,
    /// The encoded blocks of its context that this host holds.
    pub blocks: &'a [Arc<EncodedBlock<B>>],
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

/// The rows of each of `spans` in a pass that has them one after the other.
fn rows(spans: impl Iterator<Item = Span>) -> impl Iterator<Item = Range<usize>> {
    spans.scan(0, |next, span| {
        let rows = *next..*next + span.len;
        *next = rows.end;
        Some(rows)
    })
}

/// The rows of each of `spans` with the keys that they see.
fn sequences<'a, B: Backend>(
    spans: impl Iterator<Item = Span> + Clone,
    segments: &'a [Vec<Segment<'a, B>>],
) -> Vec<Sequence<'a, B>> {
    rows(spans.clone())
        .zip(spans)
        .zip(segments)
        .map(|((rows, span), segments)| Sequence { rows, positions: Positions::From(span.start), segments })
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
        let Self { backend, comm, shape, .. } = *self;
        let all = rows(self.sequences.iter().map(|sequence| sequence.span)).collect::<Vec<_>>();
        for (sequence, rows) in self.sequences.iter_mut().zip(all) {
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
            }
        }
        Ok(())
    }

    fn attend(
        &mut self,
        layer: usize,
        q: Part<'_, B::Rows>,
        mut out: PartMut<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        let Self { backend, comm, shape, .. } = *self;
        // Queries go out before this host attends over its own keys, so that all work at once.
        if comm.size() > 1 {
            comm.send_to_others(&Message::Rows(Arc::new(backend.copy_rows(q)?)))?;
        }
        let tokens = q.len / shape.q_width();
        let mut lse = PartMut::new(&mut self.lse, 0..tokens * shape.heads);
        let spans = self.sequences.iter().map(|sequence| sequence.span);
        let segments: Vec<Vec<_>> = self
            .sequences
            .iter()
            .map(|sequence| {
                let blocks = sequence.blocks.iter().flat_map(|block| block.segments(layer));
                blocks.chain(sequence.new.segments(layer)).collect()
            })
            .collect();
        let own = sequences(spans, &segments);
        backend.attend(q, shape, &own, out.reborrow(), lse.reborrow())?;
        for from in (0..comm.size()).filter(|from| *from != comm.rank()) {
            let part = comm.recv_rows(from, out.len)?;
            let part_lse = comm.recv_sums(from, lse.len)?;
            let (part, part_lse) =
                (Part::new(&*part, 0..out.len), Part::new(&*part_lse, 0..lse.len));
            backend.merge(out.reborrow(), lse.reborrow(), part, part_lse)?;
        }
        Ok(())
    }
}

/// A forward pass of the query host, as another host takes part in it.
pub struct OthersPass<'a, B: Backend> {
    /// The layers that run.
    pub layers: Range<usize>,
    /// How many layers attend: all of a question's, all but the last of a context's.
    pub attending: usize,
    /// Positions of each sequence's rows and the encoded blocks of its context that this host
    /// holds.
    pub sequences: &'a [(Span, &'a [Arc<EncodedBlock<B>>])],
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
    let OthersPass { layers, attending, sequences: parts, mut share } = pass;
    let tokens: usize = parts.iter().map(|(span, _)| span.len).sum();
    for layer in layers {
        if let Some((store, true)) = &mut share {
            let (keys, values) = (comm.recv_kv(0)?, comm.recv_kv(0)?);
            store.extend(backend, layer, &keys, &values)?;
        }
        if layer >= attending {
            continue;
        }
        let q = comm.recv_rows(0, tokens * shape.q_width())?;
        let segments: Vec<Vec<_>> = parts
            .iter()
            .map(|(_, blocks)| {
                let blocks = blocks.iter().flat_map(|block| block.segments(layer));
                blocks.chain(share.iter().flat_map(|(store, _)| store.segments(layer))).collect()
            })
            .collect();
        let own = sequences(parts.iter().map(|(span, _)| *span), &segments);
        let q = Part::new(&*q, 0..tokens * shape.q_width());
        let part = Partial::of(backend, q, shape, &own)?;
        comm.send(0, Message::Rows(Arc::new(part.out)))?;
        comm.send(0, Message::Sums(Arc::new(part.lse)))?;
    }
    Ok(())
}
