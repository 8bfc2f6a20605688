//! Exact attention over the keys of all hosts: phase 2 of Star Attention (paper, section 2.2), and
//! dense prefill with keys spread over hosts.
//!
//! The query host (rank 0) runs the model. In each layer that attends ([`Step`]) it sends the
//! queries to the other hosts, which attend over the keys they hold and send back a [`Partial`];
//! the query host merges. The paper runs the query through the model on every host instead; the
//! result is the same, and running it once leaves the other hosts' cores and memory bandwidth free.
//!
//! What a query sees is decided by positions alone, on every host alike.

use super::{Attention, AttentionError, Partial};
use crate::cache::KvStore;
use crate::comm::{Comm, CommError, Message};
use crate::plan::Span;
use crate::tensor::{Backend, HeadShape, KvPrecision, Memory, Part, PartMut};
use std::sync::Arc;

/// A forward pass on the query host, as the other hosts must know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Its tokens.
    pub chunk: Span,
    /// The host that keeps their keys.
    pub owner: usize,
    /// How many layers attend: all of a question's, all but the last of a context's.
    pub attending: usize,
}

impl Step {
    fn to_words(self) -> Vec<u64> {
        let Self { chunk, owner, attending } = self;
        [chunk.start, chunk.len, owner, attending].map(|word| word as u64).to_vec()
    }

    /// `None` if `words` are not a step's.
    fn of_words(words: &[u64]) -> Option<Self> {
        let words: [u64; 4] = words.try_into().ok()?;
        let [start, len, owner, attending] = words.map(|word| word as usize);
        Some(Self { chunk: Span { start, len }, owner, attending })
    }
}

/// Attention on the query host.
pub struct GlobalAttention<'a, B: Backend> {
    backend: &'a B,
    comm: &'a dyn Comm<B>,
    shape: HeadShape,
    store: &'a mut KvStore<B>,
    precision: KvPrecision,
    step: Step,
    /// `[tokens, heads]`: of the keys merged so far
    lse: B::Sums,
}

impl<'a, B: Backend> GlobalAttention<'a, B> {
    /// Begins a forward pass and tells the other hosts.
    ///
    /// # Errors
    /// If another host stopped.
    pub fn begin(
        backend: &'a B,
        comm: &'a dyn Comm<B>,
        shape: HeadShape,
        store: &'a mut KvStore<B>,
        precision: KvPrecision,
        step: Step,
    ) -> Result<Self, AttentionError> {
        comm.send_to_others(&Message::Words(step.to_words()))?;
        if step.owner == comm.rank() {
            store.open(step.chunk);
        }
        let mut lse = B::Sums::default();
        backend.sums_at_least(&mut lse, step.chunk.len * shape.heads)?;
        Ok(Self { backend, comm, shape, store, precision, step, lse })
    }
}

impl<B: Backend> Attention<B> for GlobalAttention<'_, B> {
    fn keep(
        &mut self,
        layer: usize,
        k: Part<'_, B::Rows>,
        v: Part<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        let Self { backend, comm, shape, .. } = *self;
        if self.step.owner == comm.rank() {
            return Ok(self.store.append(backend, layer, k, v)?);
        }
        for message in Message::rounded(backend, self.precision, shape, [k, v])? {
            comm.send(self.step.owner, message)?;
        }
        Ok(())
    }

    fn attend(
        &mut self,
        layer: usize,
        q: Part<'_, B::Rows>,
        mut out: PartMut<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        let Self { backend, comm, shape, step: Step { chunk, .. }, .. } = *self;
        // Queries go out before this host attends over its own keys, so that all work at once.
        if comm.size() > 1 {
            comm.send_to_others(&Message::Rows(Arc::new(backend.copy_rows(q)?)))?;
        }
        let segments = self.store.segments(layer);
        let mut lse = PartMut::new(&mut self.lse, 0..chunk.len * shape.heads);
        backend.attend(q, chunk.start, shape, &segments, out.reborrow(), lse.reborrow())?;
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

/// Tells the other hosts that there is no further forward pass: [`serve`] returns.
///
/// # Errors
/// If another host stopped.
pub fn announce_end<B: Backend>(comm: &dyn Comm<B>) -> Result<(), CommError> {
    comm.send_to_others(&Message::Words(Vec::new()))
}

/// What every host but the query host does: keeps the keys that are its own and attends over them,
/// for each forward pass in the layers that its [`Step`] says, until the query host says that it is
/// done.
///
/// # Errors
/// If another host stopped, or the query host sends something else than expected.
pub fn serve<B: Backend>(
    backend: &B,
    comm: &dyn Comm<B>,
    layers: usize,
    shape: HeadShape,
    store: &mut KvStore<B>,
) -> Result<(), AttentionError> {
    loop {
        let (rank, words) = (comm.rank(), comm.recv_words(0)?);
        if words.is_empty() {
            return Ok(());
        }
        let Some(Step { chunk, owner, attending }) = Step::of_words(&words) else {
            return Err(CommError::Unexpected { rank, from: 0, expected: "a step" }.into());
        };
        let owns = owner == rank;
        if owns {
            store.open(chunk);
        }
        for layer in 0..layers {
            if owns {
                let (keys, values) = (comm.recv_kv(0)?, comm.recv_kv(0)?);
                store.extend(backend, layer, &keys, &values)?;
            }
            if layer >= attending {
                continue;
            }
            let q = comm.recv_rows(0, chunk.len * shape.q_width())?;
            let q = Part::new(&*q, 0..q.len());
            let part = Partial::of(backend, q, chunk.start, shape, &store.segments(layer))?;
            comm.send(0, Message::Rows(Arc::new(part.out)))?;
            comm.send(0, Message::Sums(Arc::new(part.lse)))?;
        }
    }
}
