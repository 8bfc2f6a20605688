//! Attention of tokens of a context that are computed anew: each sees all of the context before it,
//! and of the tokens that are computed anew their new keys instead of the old ones.

use super::{Attention, AttentionError, ContextKeys, Partial, others};
use crate::cache::KvStore;
use crate::comm::Comm;
use crate::plan::Span;
use crate::tensor::{Backend, HeadShape, Part, PartMut, Positions, Sequence};

/// Attention of revisited tokens on the query host, which keeps their keys.
///
/// They are numbered in the order of their positions. Among themselves the numbers say what is
/// visible as well as positions would, so that keys which stand anywhere in the context lie there
/// as a text of their own.
pub struct RevisitAttention<'a, B: Backend> {
    /// Compute backend.
    pub backend: &'a B,
    /// This host's end of the network.
    pub comm: &'a dyn Comm<B>,
    /// Heads of the model.
    pub shape: HeadShape,
    /// The numbers of the tokens of this pass.
    pub numbers: Span,
    /// Their positions.
    pub positions: &'a B::Listed,
    /// What this host holds of the context, without the keys of tokens that are computed anew.
    pub context: ContextKeys<'a, B>,
    /// Their new keys, by number, opened for the tokens of this pass.
    pub anew: &'a mut KvStore<B>,
}

impl<B: Backend> Attention<B> for RevisitAttention<'_, B> {
    fn keep(
        &mut self,
        layer: usize,
        k: Part<'_, B::Rows>,
        v: Part<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        Ok(self.anew.append(self.backend, layer, k, v)?)
    }

    fn attend(
        &mut self,
        layer: usize,
        q: Part<'_, B::Rows>,
        mut out: PartMut<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        let (backend, comm, shape) = (self.backend, self.comm, self.shape);
        others::ask(backend, comm, q)?;
        let (rows, all_lse) = (0..self.numbers.len, self.numbers.len * shape.heads);
        let segments = self.anew.segments(layer);
        let positions = Positions::From(self.numbers.start);
        let among_themselves = Sequence { rows: rows.clone(), positions, segments: &segments };
        let mut lse = B::Sums::default();
        backend.sums_at_least(&mut lse, all_lse)?;
        let mut lse = PartMut::new(&mut lse, 0..all_lse);
        backend.attend(q, shape, &[among_themselves], out.reborrow(), lse.reborrow())?;
        let segments = self.context.segments(layer);
        if !segments.is_empty() {
            let positions = Positions::Listed(self.positions);
            let of_context = Sequence { rows, positions, segments: &segments };
            let part = Partial::of(backend, q, shape, &[of_context])?;
            let part_lse = Part::new(&part.lse, 0..all_lse);
            let part = Part::new(&part.out, 0..out.len);
            backend.merge(out.reborrow(), lse.reborrow(), part, part_lse)?;
        }
        others::merge(backend, comm, out, lse)
    }
}
