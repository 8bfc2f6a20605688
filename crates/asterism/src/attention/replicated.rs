//! Phase 2 as the paper has it: every host runs the query through the whole model. In each layer it
//! attends over the keys that it holds, and gets what all others found: one exchange, where a query
//! that one host leads takes two. For hosts with a processor of their own, which would wait
//! otherwise.

use super::{Attention, AttentionError, SequenceRows, exchange, global};
use crate::comm::Comm;
use crate::tensor::{Backend, HeadShape, Part, PartMut, Positions, TensorError};
use std::ops::Range;

/// What all hosts found in a layer: buffers of a pass, kept between passes.
pub struct Gathered<B: Backend> {
    /// `[hosts, tokens, heads, head_dim]`
    out: B::Rows,
    /// `[hosts, tokens, heads]`
    lse: B::Sums,
}

impl<B: Backend> Gathered<B> {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { out: B::Rows::default(), lse: B::Sums::default() }
    }

    /// Makes room for passes of `tokens` tokens on `hosts` hosts, which must not be done while a
    /// step is recorded.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn reserve(
        &mut self,
        backend: &B,
        hosts: usize,
        tokens: usize,
        shape: HeadShape,
    ) -> Result<(), TensorError> {
        backend.rows_at_least(&mut self.out, hosts * tokens * shape.q_width())?;
        backend.sums_at_least(&mut self.lse, hosts * tokens * shape.heads)
    }
}

impl<B: Backend> Default for Gathered<B> {
    fn default() -> Self {
        Self::new()
    }
}

/// Attention on every host of a pass that all of them run. All end with the same numbers, to the
/// last bit, since each merges the same parts in the order of ranks.
pub struct ReplicatedAttention<'a, B: Backend> {
    /// Compute backend.
    pub backend: &'a B,
    /// This host's end of the network.
    pub comm: &'a dyn Comm<B>,
    /// Heads of the model.
    pub shape: HeadShape,
    /// The sequences whose rows are in the pass, with the keys that this host holds. One host keeps
    /// those of their own tokens.
    pub sequences: Vec<SequenceRows<'a, B>>,
    /// With room for the pass.
    pub gathered: &'a mut Gathered<B>,
}

/// The place of host `rank` among places of `len` elements.
fn place(rank: usize, len: usize) -> Range<usize> {
    rank * len..(rank + 1) * len
}

impl<B: Backend> Attention<B> for ReplicatedAttention<'_, B> {
    fn keep(
        &mut self,
        layer: usize,
        k: Part<'_, B::Rows>,
        v: Part<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        global::keep(self.backend, self.comm, self.shape, &mut self.sequences, layer, [k, v])
    }

    fn attend(
        &mut self,
        layer: usize,
        q: Part<'_, B::Rows>,
        out: PartMut<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        let (backend, comm, shape) = (self.backend, self.comm, self.shape);
        let (hosts, rank) = (comm.size(), comm.rank());
        let (rows, sums) = (q.len, q.len / shape.head_dim);
        let segments = global::segments(&self.sequences, layer);
        let at = |sequence: &SequenceRows<'_, B>| {
            (sequence.span.len, Positions::From(sequence.span.start))
        };
        let own = global::sequences(self.sequences.iter().map(at), &segments);
        let Gathered { out: all, lse } = &mut *self.gathered;
        let to = PartMut::new(&mut *all, place(rank, rows));
        backend.attend(q, shape, &own, to, PartMut::new(&mut *lse, place(rank, sums)))?;
        let all = PartMut::new(all, 0..hosts * rows);
        let lse = PartMut::new(lse, 0..hosts * sums);
        exchange::gather_all(backend, comm, Some(all), Some(lse))?;
        let Gathered { out: all, lse } = &*self.gathered;
        let (all, lse) = (Part::new(all, 0..hosts * rows), Part::new(lse, 0..hosts * sums));
        Ok(backend.merge_all(hosts, all, lse, out)?)
    }
}
