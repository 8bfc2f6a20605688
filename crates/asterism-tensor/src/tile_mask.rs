//! Which keys each tile of queries sees in block-sparse attention: whole tiles of keys and, beside
//! them, single keys.

/// Rows of a tile of queries, and keys of a tile of keys.
pub const MASK_TILE: usize = 128;

/// What block-sparse attention of one sequence computes.
///
/// Rows of the sequence are cut into tiles of [`MASK_TILE`] from its first row on, each of its
/// segments of keys into tiles from its first key on: a tile never reaches from one segment into
/// the next. Tiles of keys are numbered through all segments. A *slot* is the place of a key:
/// `MASK_TILE` times its tile, plus its place in the tile.
///
/// A row sees the keys of the tiles that are listed for its head and tile of rows, as far as they
/// do not stand behind it. It also sees the *columns* of its head: single keys, as far as they do
/// not stand behind the first row of its tile and their tile is not listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TileMask {
    /// 1: what is said counts for all heads.
    heads: usize,
    query_tiles: usize,
    key_tiles: usize,
    /// `[heads * query_tiles + 1]`: where each list begins.
    starts: Vec<u32>,
    /// Ascending in each list.
    tiles: Vec<u32>,
    /// `[heads + 1]`
    column_starts: Vec<u32>,
    /// Slots, ascending for each head.
    columns: Vec<u32>,
}

impl TileMask {
    /// A mask for `heads` heads, or for any number of heads alike if that is 1: `list` adds, for a
    /// head and a tile of queries, the tiles of keys, in any order.
    ///
    /// # Panics
    /// If a tile is none of `key_tiles`, or there are 2^32 tiles in all lists.
    pub fn new(
        heads: usize,
        query_tiles: usize,
        key_tiles: usize,
        mut list: impl FnMut(usize, usize, &mut Vec<u32>),
    ) -> Self {
        let (mut starts, mut tiles) = (vec![0], Vec::new());
        let mut own = Vec::new();
        for head in 0..heads {
            for query in 0..query_tiles {
                own.clear();
                list(head, query, &mut own);
                own.sort_unstable();
                own.dedup();
                assert!(own.last().is_none_or(|tile| (*tile as usize) < key_tiles), "{own:?}");
                tiles.extend_from_slice(&own);
                starts.push(u32::try_from(tiles.len()).expect("tiles of a mask fit in 32 bits"));
            }
        }
        let column_starts = vec![0; heads + 1];
        Self { heads, query_tiles, key_tiles, starts, tiles, column_starts, columns: Vec::new() }
    }

    /// The mask of several heads, from one of each that is the same for all heads.
    ///
    /// # Panics
    /// If they are for other numbers of tiles, or there are none.
    #[must_use]
    pub fn joined(masks: &[Self]) -> Self {
        let Self { query_tiles, key_tiles, .. } = masks[0];
        let (mut joined, mut columns) =
            (Self::new(0, query_tiles, key_tiles, |_, _, _| {}), Vec::new());
        joined.heads = masks.len();
        joined.starts.reserve(masks.len() * query_tiles);
        joined.tiles.reserve(masks.iter().map(|mask| mask.tiles.len()).sum());
        for mask in masks {
            let tiles = (mask.heads, mask.query_tiles, mask.key_tiles);
            assert_eq!(tiles, (1, query_tiles, key_tiles), "heads and tiles of a part");
            let before = u32::try_from(joined.tiles.len()).expect("tiles of a mask fit in 32 bits");
            joined.starts.extend(mask.starts[1..].iter().map(|start| before + start));
            joined.tiles.extend_from_slice(&mask.tiles);
            columns.push(mask.columns.clone());
        }
        joined.with_columns(columns)
    }

    /// Tiles of keys in segments of so many keys.
    #[must_use]
    pub fn key_tiles_of(tokens: impl IntoIterator<Item = usize>) -> usize {
        tokens.into_iter().map(|tokens| tokens.div_ceil(MASK_TILE)).sum()
    }

    /// With the single keys at the slots `columns` of each of its heads.
    ///
    /// # Panics
    /// If these are not as many lists as heads, or a slot is in none of its tiles.
    #[must_use]
    pub fn with_columns(mut self, columns: Vec<Vec<u32>>) -> Self {
        assert_eq!(columns.len(), self.heads, "columns of each head");
        (self.column_starts, self.columns) = (vec![0], Vec::new());
        for mut own in columns {
            own.sort_unstable();
            own.dedup();
            let inside = |slot: &u32| (*slot as usize) < self.key_tiles * MASK_TILE;
            assert!(own.last().is_none_or(inside), "columns {own:?}");
            self.columns.extend(own);
            self.column_starts.push(self.columns.len() as u32);
        }
        self
    }

    /// The number of heads that it tells apart: 1 if it is the same for all.
    #[must_use]
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Tiles of queries.
    #[must_use]
    pub fn query_tiles(&self) -> usize {
        self.query_tiles
    }

    /// Tiles of keys.
    #[must_use]
    pub fn key_tiles(&self) -> usize {
        self.key_tiles
    }

    /// The tiles of keys that a tile of queries of a head sees, ascending.
    #[must_use]
    pub fn tiles(&self, head: usize, query_tile: usize) -> &[u32] {
        let list = head % self.heads * self.query_tiles + query_tile;
        &self.tiles[self.starts[list] as usize..self.starts[list + 1] as usize]
    }

    /// The slots of the single keys that a head sees, ascending.
    #[must_use]
    pub fn columns(&self, head: usize) -> &[u32] {
        let head = head % self.heads;
        &self.columns[self.column_starts[head] as usize..self.column_starts[head + 1] as usize]
    }

    /// Tiles of keys in all lists, those of single keys (gathered, [`MASK_TILE`] to a tile) among
    /// them: what it costs, of `heads` heads.
    #[must_use]
    pub fn computed(&self, heads: usize) -> u64 {
        let gathered: usize = (0..self.heads)
            .map(|head| self.columns(head).len().div_ceil(MASK_TILE) * self.query_tiles)
            .sum();
        ((self.tiles.len() + gathered) * heads / self.heads) as u64
    }

    /// `starts`, `tiles`, where columns start, and `columns`: what a processor is told.
    #[cfg(feature = "cuda")]
    pub(crate) fn lists(&self) -> [&[u32]; 4] {
        [&self.starts, &self.tiles, &self.column_starts, &self.columns]
    }
}

/// How the softmax weight of a tile of keys for a tile of queries is estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    /// From sums along antidiagonals, of `stride` by `stride` scores each (XAttention, arXiv
    /// 2503.16428). `stride` divides [`MASK_TILE`]; with 1 nothing is estimated.
    ///
    /// ```text
    /// score(i, j) = sum over s < stride of
    ///     q[i stride + stride - 1 - s] . k[j stride + s] / (sqrt(head_dim) stride)
    /// ```
    Antidiagonal {
        /// Rows and keys of one score.
        stride: usize,
    },
    /// From the mean query and the mean key of each tile (FlexPrefill, arXiv 2502.20766).
    Mean,
}

impl Grain {
    /// Rows, or keys, of one score.
    #[must_use]
    pub fn stride(self) -> usize {
        match self {
            Self::Antidiagonal { stride } => stride,
            Self::Mean => MASK_TILE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_heads_may_share_one() {
        let mask = TileMask::new(1, 2, 3, |_, query, list| list.extend([2, 0, query as u32, 0]))
            .with_columns(vec![vec![300, 7, 7]]);
        assert_eq!(mask.tiles(5, 0), [0, 2]);
        assert_eq!(mask.tiles(0, 1), [0, 1, 2]);
        assert_eq!(mask.columns(3), [7, 300]);
        assert_eq!(mask.computed(4), 4 * (5 + 2));
        assert_eq!(TileMask::key_tiles_of([1, 128, 129]), 4);
    }
}
