//! The keys of an encoded context as one question sees them.

use crate::cache::{EncodedBlock, KvStore};
use crate::tensor::{Backend, Segment};
use std::sync::Arc;

/// What a host holds of a context, as a question sees it.
pub struct ContextKeys<'a, B: Backend> {
    /// The encoded blocks, which questions share.
    pub blocks: &'a [Arc<EncodedBlock<B>>],
    /// For each block, if any, `[tokens]`: which of its keys the question does not see, because
    /// they were computed anew.
    pub hidden: Option<&'a [Option<B::Flags>]>,
    /// Those keys, on the host that has them.
    pub anew: Option<&'a KvStore<B>>,
}

impl<B: Backend> Clone for ContextKeys<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for ContextKeys<'_, B> {}

impl<'a, B: Backend> ContextKeys<'a, B> {
    /// All keys of `blocks`.
    #[must_use]
    pub fn of(blocks: &'a [Arc<EncodedBlock<B>>]) -> Self {
        Self { blocks, hidden: None, anew: None }
    }

    /// The keys and values of `layer`.
    #[must_use]
    pub fn segments(&self, layer: usize) -> Vec<Segment<'a, B>> {
        let hidden = self.hidden.unwrap_or_default();
        let of_block = |(index, block): (usize, &'a Arc<EncodedBlock<B>>)| {
            let hidden = hidden.get(index).and_then(Option::as_ref);
            block.segments(layer).into_iter().map(move |segment| Segment { hidden, ..segment })
        };
        let blocks = self.blocks.iter().enumerate().flat_map(of_block);
        blocks.chain(self.anew.into_iter().flat_map(|anew| anew.segments(layer))).collect()
    }
}
