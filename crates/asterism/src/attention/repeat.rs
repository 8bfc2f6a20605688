//! Attention of a text that is repeated: what its tokens look at is what the model needs to say it
//! again (KVzip, arXiv 2505.23416).

use super::{AnchorKeys, Attention, AttentionError, Partial};
use crate::cache::KvStore;
use crate::plan::{Press, Span};
use crate::press::Scorer;
use crate::tensor::{
    Backend, HeadShape, MassOver, Part, PartMut, Positions, Segment, Sequence, TensorError,
};

/// Attention of some tokens of a repetition. They see all of the block, what it is encoded behind,
/// and the repetition so far. A key's score is the most that any of them looks at it, where they
/// look at the chunk they repeat, at the repetition, and at the first tokens of all.
pub struct RepeatAttention<'a, B: Backend> {
    /// Compute backend.
    pub backend: &'a B,
    /// Heads of the model.
    pub shape: HeadShape,
    /// What the block is encoded behind.
    pub anchor: AnchorKeys<'a, B>,
    /// The block, with all its keys.
    pub block: &'a KvStore<B>,
    /// Position of its first token.
    pub start: usize,
    /// What is repeated of it.
    pub chunk: Span,
    /// Keys of the repetition, opened for the tokens of this pass.
    pub own: &'a mut KvStore<B>,
    /// Positions of these tokens, at most as many as attend at once.
    pub rows: Span,
    /// What hears how much they look at each key of the chunk.
    pub scorer: &'a mut Scorer<B>,
}

impl<B: Backend> RepeatAttention<'_, B> {
    fn sequence<'s>(&self, segments: &'s [Segment<'s, B>]) -> Sequence<'s, B> {
        let positions = Positions::From(self.rows.start);
        Sequence { rows: 0..self.rows.len, positions, segments }
    }

    /// The most that the rows look at each key of the chunk in one layer, `[kv_heads, chunk.len]`,
    /// where they look at these, at the repetition, and at `sinks`.
    fn most(
        &self,
        layer: usize,
        q: Part<'_, B::Rows>,
        sinks: Option<Segment<'_, B>>,
    ) -> Result<Vec<f32>, TensorError> {
        let (backend, shape) = (self.backend, self.shape);
        let chunk: Vec<_> = self.block.segment(layer, self.chunk).into_iter().collect();
        let mut compared: Vec<_> = sinks.into_iter().collect();
        compared.extend(self.block.segment(layer, self.chunk));
        compared.extend(self.own.segments(layer));
        let Partial { lse, .. } = Partial::of(backend, q, shape, &[self.sequence(&compared)])?;
        let lse = Part::new(&lse, 0..self.rows.len * shape.heads);
        let len = shape.kv_heads * self.chunk.len;
        let mut most = B::Sums::default();
        backend.sums_at_least(&mut most, len)?;
        let to = PartMut::new(&mut most, 0..len);
        backend.mass(q, shape, &self.sequence(&chunk), lse, MassOver::Max, to)?;
        let mut read = vec![0.0; len];
        backend.read(Part::new(&most, 0..len), &mut read)?;
        Ok(read)
    }

    /// The first keys of all: of the anchor, or of the first block if they are not the chunk's own.
    fn sinks(&self, layer: usize) -> Option<Segment<'_, B>> {
        let anchor = self.anchor.segments(layer).into_iter().next();
        let Some(anchor) = anchor else {
            let before = if self.start == 0 { self.chunk.start.min(Press::SINKS) } else { 0 };
            return self.block.segment(layer, Span::new(0..before));
        };
        let tokens = anchor.tokens.min(Press::SINKS);
        let elements = 0..tokens * self.shape.kv_width();
        let (keys, values) = (anchor.keys.slice(elements.clone()), anchor.values.slice(elements));
        Some(Segment { keys, values, tokens, ..anchor })
    }
}

impl<B: Backend> Attention<B> for RepeatAttention<'_, B> {
    fn keep(
        &mut self,
        layer: usize,
        k: Part<'_, B::Rows>,
        v: Part<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        Ok(self.own.append(self.backend, layer, k, v)?)
    }

    fn attend(
        &mut self,
        layer: usize,
        q: Part<'_, B::Rows>,
        out: PartMut<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        let (backend, shape) = (self.backend, self.shape);
        let mut lse = B::Sums::default();
        backend.sums_at_least(&mut lse, self.rows.len * shape.heads)?;
        let lse = PartMut::new(&mut lse, 0..self.rows.len * shape.heads);
        let mut all = self.anchor.segments(layer);
        all.extend(self.block.segments(layer));
        all.extend(self.own.segments(layer));
        backend.attend(q, shape, &[self.sequence(&all)], out, lse)?;
        let most = self.most(layer, q, self.sinks(layer))?;
        self.scorer.repeated(layer, self.chunk, &most);
        Ok(())
    }

    /// The anchor's keys are not kept in this layer: only a block's own first ones are compared.
    fn pass_by(&mut self, layer: usize, q: Part<'_, B::Rows>) -> Result<(), AttentionError> {
        let sinks = if self.start == 0 { self.sinks(layer) } else { None };
        let most = self.most(layer, q, sinks)?;
        self.scorer.repeated(layer, self.chunk, &most);
        Ok(())
    }
}
