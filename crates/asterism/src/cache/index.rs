//! Encoded blocks, found again by what they were computed from.

use super::{BlockKey, EncodedBlock};
use crate::tensor::Backend;
use std::collections::HashMap;
use std::sync::Arc;

/// The encoded blocks of one host. A block that a context holds is pinned; of the others at most
/// `spare` bytes are kept, those used last.
pub struct Index<B: Backend> {
    entries: HashMap<BlockKey, Entry<B>>,
    /// Bytes of blocks that no context holds which may be kept.
    spare: u64,
    /// Counts uses: the entry with the lowest number is the longest unused.
    clock: u64,
}

struct Entry<B: Backend> {
    block: Arc<EncodedBlock<B>>,
    used: u64,
}

impl<B: Backend> Entry<B> {
    /// Whether a context or a question holds the block, beside the index.
    fn is_pinned(&self) -> bool {
        Arc::strong_count(&self.block) > 1
    }

    fn bytes(&self) -> u64 {
        self.block.bytes() as u64
    }
}

impl<B: Backend> Index<B> {
    /// An empty index that keeps up to `spare` bytes of blocks that no context holds.
    #[must_use]
    pub fn new(spare: u64) -> Self {
        Self { entries: HashMap::new(), spare, clock: 0 }
    }

    /// The block computed from what `key` says, if it is there.
    pub fn find(&mut self, key: BlockKey) -> Option<Arc<EncodedBlock<B>>> {
        self.clock += 1;
        let entry = self.entries.get_mut(&key)?;
        entry.used = self.clock;
        Some(Arc::clone(&entry.block))
    }

    /// Adds a block, to be found by later contexts.
    pub fn insert(&mut self, block: Arc<EncodedBlock<B>>) {
        self.clock += 1;
        self.entries.insert(block.key(), Entry { block, used: self.clock });
    }

    /// Gives up blocks that no context holds, the longest unused first, until at most `spare` bytes
    /// of them are left. Call it when contexts end.
    pub fn trim(&mut self) {
        self.keep_at_most(self.spare);
    }

    /// Gives up blocks that no context holds, the longest unused first, of at least `bytes` bytes
    /// or as many as there are. Returns the bytes that became free.
    pub fn give_up(&mut self, bytes: u64) -> u64 {
        let unpinned = self.unpinned_bytes();
        self.keep_at_most(unpinned.saturating_sub(bytes));
        unpinned - self.unpinned_bytes()
    }

    /// Bytes of the blocks that no context holds.
    #[must_use]
    pub fn unpinned_bytes(&self) -> u64 {
        self.entries.values().filter(|entry| !entry.is_pinned()).map(Entry::bytes).sum()
    }

    fn keep_at_most(&mut self, bytes: u64) {
        let mut left = self.unpinned_bytes();
        while left > bytes {
            let unpinned = self.entries.iter().filter(|(_, entry)| !entry.is_pinned());
            let Some((key, size)) =
                unpinned.min_by_key(|(_, entry)| entry.used).map(|(key, e)| (*key, e.bytes()))
            else {
                return;
            };
            self.entries.remove(&key);
            left -= size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{KvStore, Ledger};
    use crate::plan::Span;
    use crate::tensor::{Aligned, Cpu, HeadShape, KvPrecision, Part};

    /// A block of `tokens` tokens, 8 bytes each.
    fn block(cpu: &Cpu, tokens: usize, ledger: &Ledger) -> Arc<EncodedBlock<Cpu>> {
        let shape = HeadShape { heads: 1, kv_heads: 1, head_dim: 1 };
        let mut store = KvStore::new(cpu, 1, shape, KvPrecision::F32, tokens).unwrap();
        store.open(Span::new(0..tokens));
        let mut rows = Aligned::default();
        rows.at_least(tokens);
        let rows = Part::new(&rows, 0..tokens);
        store.append(cpu, 0, rows, rows).unwrap();
        let key = BlockKey::of("test", 0, &[], Span::new(0..tokens), &vec![7; tokens]);
        let reservation = ledger.reserve(8 * tokens as u64).unwrap();
        Arc::new(EncodedBlock::new(key, store, reservation))
    }

    #[test]
    fn blocks_that_contexts_hold_stay_and_of_the_others_the_last_used() {
        let (cpu, ledger) = (Cpu::new(1, None).unwrap(), Ledger::new(None));
        let mut index = Index::new(8 * 5);
        let blocks: Vec<_> = (1..=4).map(|tokens| block(&cpu, tokens, &ledger)).collect();
        let keys: Vec<BlockKey> = blocks.iter().map(|block| block.key()).collect();
        blocks.iter().for_each(|block| index.insert(Arc::clone(block)));
        index.trim();
        assert_eq!(ledger.reserved(), 8 * 10, "all are pinned");
        let held = blocks[3].clone();
        drop(blocks);
        assert!(index.find(keys[0]).is_some(), "used: now the last that would go");
        index.trim();
        // Of 1 + 2 + 3 tokens, 5 may stay: the longest unused, of 2 tokens, goes.
        assert!(index.find(keys[1]).is_none());
        assert!(index.find(keys[2]).is_some() && index.find(keys[0]).is_some());
        assert_eq!(ledger.reserved(), 8 * (1 + 3 + 4));
        assert_eq!(index.give_up(1), 8 * 3);
        assert_eq!(index.give_up(u64::MAX), 8);
        assert_eq!(ledger.reserved(), 8 * 4);
        assert!(index.find(held.key()).is_some());
    }
}
