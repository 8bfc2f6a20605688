//! Encoded blocks: keys and values that do not change any more.

use super::{KvStore, LayerBytes, Reservation};
use crate::attention::Sparsity;
use crate::plan::Span;
use crate::tensor::{Backend, Segment, TensorError};
use sha2::{Digest, Sha256};

/// What the keys of a block depend on: two blocks with equal keys of this kind have equal cached
/// keys and values, so that one may stand for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockKey([u8; 32]);

impl BlockKey {
    /// The key of the tokens `block`, encoded from position `span.start` by the method that `how`
    /// names, behind `before`, the tokens they see first, which stand at the position
    /// `before_start`.
    ///
    /// What all blocks of an engine have in common (weights, precision of cached keys, layout) is
    /// not part of it: an [`Index`](super::Index) belongs to one engine.
    #[must_use]
    pub fn of(how: &str, before_start: usize, before: &[u32], span: Span, block: &[u32]) -> Self {
        let mut hash = Sha256::new();
        // Every variable part is preceded by its length, so that no two inputs run together.
        for number in [how.len(), before_start, before.len(), span.start, span.len] {
            hash.update((number as u64).to_le_bytes());
        }
        hash.update(how.as_bytes());
        for token in before.iter().chain(block) {
            hash.update(token.to_le_bytes());
        }
        Self(hash.finalize().into())
    }
}

/// In hexadecimal digits.
impl std::fmt::Display for BlockKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Keys and values of a block of a context (star) or of a host's share of it (other methods), for
/// all layers. They never change: questions that run at the same time attend to the same block,
/// each with a [`Tail`](super::Tail) of its own.
pub struct EncodedBlock<B: Backend> {
    key: BlockKey,
    store: KvStore<B>,
    /// What encoding it left out, if it did.
    sparsity: Option<Sparsity>,
    /// Returns the block's memory to the ledger when the block is dropped.
    _reservation: Reservation,
}

impl<B: Backend> EncodedBlock<B> {
    /// Keeps `store`, whose layers are complete.
    #[must_use]
    pub fn new(key: BlockKey, store: KvStore<B>, reservation: Reservation) -> Self {
        Self { key, store, sparsity: None, _reservation: reservation }
    }

    /// The same block, of which `sparsity` says what encoding it left out.
    #[must_use]
    pub fn with_sparsity(self, sparsity: Option<Sparsity>) -> Self {
        Self { sparsity, ..self }
    }

    /// What encoding it left out, if it did and that is known: not of blocks that were read from
    /// disk.
    #[must_use]
    pub fn sparsity(&self) -> Option<Sparsity> {
        self.sparsity
    }

    /// What the block was computed from.
    #[must_use]
    pub fn key(&self) -> BlockKey {
        self.key
    }

    /// Number of tokens.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.store.tokens()
    }

    /// How many keys of all heads each layer keeps; `None` if all are kept.
    #[must_use]
    pub fn kept_rows(&self) -> Option<usize> {
        self.store.kept_rows()
    }

    /// Bytes of its keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.store.bytes()
    }

    /// The keys and values of `layer` as they are stored, in the machine's memory.
    ///
    /// # Errors
    /// If the processor failed since it was last waited for.
    pub fn layer_bytes(&self, backend: &B, layer: usize) -> Result<LayerBytes, TensorError> {
        self.store.layer_bytes(backend, layer)
    }

    /// The keys and values of `layer`: one segment per run of consecutive positions.
    #[must_use]
    pub fn segments(&self, layer: usize) -> Vec<Segment<'_, B>> {
        self.store.segments(layer)
    }

    /// The keys and values of the positions `range`, which lie within one run of the block's.
    #[must_use]
    pub fn segment(&self, layer: usize, range: Span) -> Option<Segment<'_, B>> {
        self.store.segment(layer, range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn another_input_has_another_key(
            how in prop::sample::select(vec!["star", "dense", "ring"]),
            numbers in prop::array::uniform2(0usize..4),
            before in prop::collection::vec(0u32..3, 0..4),
            block in prop::collection::vec(0u32..3, 0..4),
            other in prop::collection::vec(0u32..3, 0..4),
        ) {
            let [start, at] = numbers;
            let span = Span { start, len: block.len() };
            let key = BlockKey::of(how, at, &before, span, &block);
            prop_assert_eq!(key, BlockKey::of(how, at, &before, span, &block));
            prop_assert_ne!(key, BlockKey::of("zigzag", at, &before, span, &block));
            prop_assert_ne!(key, BlockKey::of(how, at + 1, &before, span, &block));
            let later = Span { start: start + 1, ..span };
            prop_assert_ne!(key, BlockKey::of(how, at, &before, later, &block));
            if other != block {
                let span = Span { start, len: other.len() };
                prop_assert_ne!(key, BlockKey::of(how, at, &before, span, &other));
            }
            if before != block {
                let span = Span { start, len: before.len() };
                prop_assert_ne!(key, BlockKey::of(how, at, &block, span, &before));
            }
        }
    }
}
