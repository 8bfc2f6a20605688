//! Where the rows and keys of a block stand among tiles.

use crate::tensor::MASK_TILE;
use std::ops::Range;

/// The keys of a block: runs of consecutive keys (an anchor, then the block's own), counted through
/// all of them, of which the last are also its queries. Patterns count distances by this number:
/// an anchor counts as if it stood right before its block.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// Of each run: its first key, its first tile.
    runs: Vec<(usize, usize)>,
    keys: usize,
    tiles: usize,
    rows: usize,
}

impl Layout {
    /// `rows` queries at the end of runs of so many keys.
    ///
    /// # Panics
    /// If there are more queries than keys.
    #[must_use]
    pub(super) fn new(runs: impl IntoIterator<Item = usize>, rows: usize) -> Self {
        let mut layout = Self { runs: Vec::new(), keys: 0, tiles: 0, rows };
        for tokens in runs {
            layout.runs.push((layout.keys, layout.tiles));
            layout.keys += tokens;
            layout.tiles += tokens.div_ceil(MASK_TILE);
        }
        assert!(rows <= layout.keys, "{rows} queries of {} keys", layout.keys);
        layout
    }

    /// Keys in all runs.
    #[must_use]
    pub(super) fn keys(&self) -> usize {
        self.keys
    }

    /// Tiles of keys.
    #[must_use]
    pub(super) fn key_tiles(&self) -> usize {
        self.tiles
    }

    /// Tiles of queries.
    #[must_use]
    pub(super) fn query_tiles(&self) -> usize {
        self.rows.div_ceil(MASK_TILE)
    }

    /// The keys of the queries of tile `tile`.
    #[must_use]
    pub(super) fn own(&self, tile: usize) -> Range<usize> {
        let first = self.keys - self.rows + tile * MASK_TILE;
        first..(first + MASK_TILE).min(self.keys)
    }

    /// The place of key `key`: tile, and key in the tile.
    fn place(&self, key: usize) -> (usize, usize) {
        let run = self.runs.partition_point(|(first, _)| *first <= key) - 1;
        let (first_key, first_tile) = self.runs[run];
        (first_tile + (key - first_key) / MASK_TILE, (key - first_key) % MASK_TILE)
    }

    /// The tile of key `key`.
    #[must_use]
    pub(super) fn tile(&self, key: usize) -> usize {
        self.place(key).0
    }

    /// The [slot](crate::tensor::TileMask) of key `key`.
    #[must_use]
    pub(super) fn slot(&self, key: usize) -> u32 {
        let (tile, key) = self.place(key);
        (tile * MASK_TILE + key) as u32
    }

    /// The tiles that hold the keys `keys`, of which there is one at least.
    #[must_use]
    pub(super) fn tiles(&self, keys: Range<usize>) -> Range<u32> {
        self.tile(keys.start) as u32..self.tile(keys.end - 1) as u32 + 1
    }

    /// The tiles of which the queries of tile `tile` may see a key.
    #[must_use]
    pub(super) fn causal(&self, tile: usize) -> Range<u32> {
        self.tiles(0..self.own(tile).end)
    }

    /// The tiles with keys of these queries themselves: every pattern has them.
    #[must_use]
    pub(super) fn diagonal(&self, tile: usize) -> Range<u32> {
        self.tiles(self.own(tile))
    }

    /// Tiles that dense attention computes, of one head.
    #[must_use]
    pub(super) fn causal_tiles(&self) -> u64 {
        (0..self.query_tiles()).map(|tile| self.causal(tile).len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_do_not_reach_from_one_run_into_the_next() {
        let layout = Layout::new([130, 300], 300);
        assert_eq!((layout.keys(), layout.key_tiles(), layout.query_tiles()), (430, 5, 3));
        assert_eq!((layout.tile(129), layout.tile(130), layout.slot(131)), (1, 2, 257));
        assert_eq!(layout.own(2), 386..430);
        assert_eq!(layout.tiles(100..131), 0..3);
        assert_eq!((layout.causal(1), layout.diagonal(1)), (0..4, 3..4));
        assert_eq!(layout.causal_tiles(), 3 + 4 + 5);
    }
}
