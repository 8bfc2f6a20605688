//! Attention of tokens whose keys will be pressed.

use super::{Attention, AttentionError};
use crate::plan::Span;
use crate::press::Scorer;
use crate::tensor::{Backend, Part, PartMut};

/// The attention of another strategy, of whose keys and queries a [`Scorer`] notes what it scores
/// keys by.
pub struct ObservedAttention<'a, B: Backend> {
    /// Compute backend.
    pub backend: &'a B,
    /// What attends.
    pub inner: &'a mut dyn Attention<B>,
    /// What sees it.
    pub scorer: &'a mut Scorer<B>,
    /// Positions of the tokens of this pass.
    pub chunk: Span,
}

impl<B: Backend> Attention<B> for ObservedAttention<'_, B> {
    fn keep(
        &mut self,
        layer: usize,
        k: Part<'_, B::Rows>,
        v: Part<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        self.scorer.keys(self.backend, layer, self.chunk, k)?;
        self.inner.keep(layer, k, v)
    }

    fn attend(
        &mut self,
        layer: usize,
        q: Part<'_, B::Rows>,
        out: PartMut<'_, B::Rows>,
    ) -> Result<(), AttentionError> {
        self.scorer.queries(self.backend, layer, self.chunk, q)?;
        self.inner.attend(layer, q, out)
    }

    fn pass_by(&mut self, layer: usize, q: Part<'_, B::Rows>) -> Result<(), AttentionError> {
        Ok(self.scorer.queries(self.backend, layer, self.chunk, q)?)
    }
}
