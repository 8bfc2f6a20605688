//! Attention of a question that also notes how much softmax weight it gives to each token of its
//! context.

use super::{Attention, AttentionError, ContextKeys, Partial, others};
use crate::cache::Tail;
use crate::comm::{Comm, Message};
use crate::plan::Span;
use crate::tensor::{
    Backend, HeadShape, MassOver, Memory, Part, PartMut, Positions, Sequence, TensorError,
};
use std::sync::Arc;

/// How much a question looks at each key of its context on one host: softmax weight, added up over
/// its tokens and heads, and over layers unless these are wanted by themselves.
pub struct Weights<B: Backend> {
    /// `[rows, keys]`
    sums: B::Sums,
    keys: usize,
    /// `[rows]`: one row for all layers, or one for each. Whether there is something in it.
    begun: Vec<bool>,
}

impl<B: Backend> Weights<B> {
    /// None yet, for `keys` keys, in `rows` rows: one for all layers, or one for each.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn new(backend: &B, rows: usize, keys: usize) -> Result<Self, TensorError> {
        let mut sums = B::Sums::default();
        backend.sums_at_least(&mut sums, rows * keys)?;
        Ok(Self { sums, keys, begun: vec![false; rows] })
    }

    /// Adds what the rows of `sequence` in `q [tokens, heads, head_dim]`, of layer `layer`, give to
    /// its keys. `lse [tokens, heads]` is that of the keys which share a weight of 1.
    ///
    /// # Errors
    /// If the backend fails.
    pub fn add(
        &mut self,
        backend: &B,
        layer: usize,
        q: Part<'_, B::Rows>,
        shape: HeadShape,
        sequence: &Sequence<'_, B>,
        lse: Part<'_, B::Sums>,
    ) -> Result<(), TensorError> {
        let row = if self.begun.len() == 1 { 0 } else { layer };
        let len = shape.kv_heads * self.keys;
        let mut of_heads = B::Sums::default(); // [kv_heads, keys]
        backend.sums_at_least(&mut of_heads, len)?;
        let to = PartMut::new(&mut of_heads, 0..len);
        backend.mass(q, shape, sequence, lse, MassOver::Sum, to)?;
        let sums = PartMut::new(&mut self.sums, row * self.keys..(row + 1) * self.keys);
        let is_first = !std::mem::replace(&mut self.begun[row], true);
        backend.add_rows(Part::new(&of_heads, 0..len), sums, is_first)
    }

    /// All of them, `[rows, keys]`.
    ///
    /// # Errors
    /// If the backend failed since it was last waited for.
    pub fn read(&self, backend: &B) -> Result<Vec<f32>, TensorError> {
        let mut weights = vec![0.0; self.begun.len() * self.keys];
        for row in (0..self.begun.len()).filter(|row| self.begun[*row] && self.keys > 0) {
            let range = row * self.keys..(row + 1) * self.keys;
            backend.read(Part::new(&self.sums, range.clone()), &mut weights[range])?;
        }
        Ok(weights)
    }
}

/// Attention of a question on the query host: as [`GlobalAttention`](super::GlobalAttention), and
/// every host notes the weight of its keys among all keys of the context.
pub struct WeighingAttention<'a, B: Backend> {
    /// Compute backend.
    pub backend: &'a B,
    /// This host's end of the network.
    pub comm: &'a dyn Comm<B>,
    /// Heads of the model.
    pub shape: HeadShape,
    /// Positions of the question's tokens.
    pub span: Span,
    /// What this host holds of the context, with keys that were computed anew before.
    pub context: ContextKeys<'a, B>,
    /// The question's own keys, opened for the tokens.
    pub tail: &'a mut Tail<B>,
    /// Of the context's keys, those that were computed anew last.
    pub weights: &'a mut Weights<B>,
}

impl<B: Backend> Attention<B> for WeighingAttention<'_, B> {
    fn keep(
        &mut self,
        layer: usize,
        k: Part<'_, B::Rows>,
        v: Part<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        Ok(self.tail.append(self.backend, layer, k, v)?)
    }

    fn attend(
        &mut self,
        layer: usize,
        q: Part<'_, B::Rows>,
        mut out: PartMut<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        let (backend, comm, shape) = (self.backend, self.comm, self.shape);
        others::ask(backend, comm, q)?;
        let (rows, positions) = (0..self.span.len, Positions::From(self.span.start));
        let segments = self.context.segments(layer);
        let of_context = Sequence { rows: rows.clone(), positions, segments: &segments };
        let all_lse = self.span.len * shape.heads;
        let Partial { out: mut seen, mut lse } =
            Partial::of(backend, q, shape, std::slice::from_ref(&of_context))?;
        let to = PartMut::new(&mut seen, 0..out.len);
        others::merge(backend, comm, to, PartMut::new(&mut lse, 0..all_lse))?;
        let lse = Arc::new(lse);
        if comm.size() > 1 {
            comm.send_to_others(&Message::Sums(Arc::clone(&lse)))?;
        }
        let of_all = Part::new(&*lse, 0..all_lse);
        self.weights.add(backend, layer, q, shape, &of_context, of_all)?;
        // The question's own keys, and then those of the context beside them.
        let segments = self.tail.segments(layer);
        let own = Sequence { rows, positions, segments: &segments };
        let mut own_lse = B::Sums::default();
        backend.sums_at_least(&mut own_lse, all_lse)?;
        let mut own_lse = PartMut::new(&mut own_lse, 0..all_lse);
        backend.attend(q, shape, &[own], out.reborrow(), own_lse.reborrow())?;
        Ok(backend.merge(out, own_lse, Part::new(&seen, 0..seen.len()), of_all)?)
    }
}
