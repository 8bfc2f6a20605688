//! Star's mask with blocks before the own one in sight: a query sees the first `anchor` keys, its
//! own block and the `previous` blocks before it. Where blocks are tiles, no more; behind an anchor
//! of other tokens tiles are kept whole, as every pattern has them.

use super::Layout;
use crate::tensor::TileMask;

/// The mask, the same for all heads.
pub(super) fn mask(layout: &Layout, block: usize, anchor: usize, previous: usize) -> TileMask {
    TileMask::new(1, layout.query_tiles(), layout.key_tiles(), |_, tile, list| {
        let own = layout.own(tile);
        if anchor > 0 {
            list.extend(layout.tiles(0..anchor.min(own.end)));
        }
        let first = (own.start / block).saturating_sub(previous) * block;
        list.extend(layout.tiles(first..own.end));
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tiles_are_those_with_a_key_that_a_query_sees(
            before in 0usize..400, rows in 1usize..1500, block in 1usize..4, anchor in 0usize..4,
            previous in 0usize..4,
        ) {
            let (block, anchor) = (128 * block, 128 * anchor);
            let layout = Layout::new([before, rows], rows);
            let mask = mask(&layout, block, anchor, previous);
            for tile in 0..layout.query_tiles() {
                let sees = |i: usize, j: usize| {
                    j <= i && (j < anchor || i / block - j / block <= previous)
                };
                let mut expected: Vec<u32> = (0..layout.keys())
                    .filter(|j| layout.own(tile).any(|i| sees(i, *j)))
                    .map(|j| layout.tile(j) as u32)
                    .collect();
                expected.dedup();
                prop_assert_eq!(mask.tiles(0, tile), expected);
                if before == 0 {
                    // Whole tiles: nothing is seen that should not be.
                    let in_mask = |j| mask.tiles(0, tile).contains(&(layout.tile(j) as u32));
                    let mut pairs = layout.own(tile).flat_map(|i| (0..=i).map(move |j| (i, j)));
                    prop_assert!(pairs.all(|(i, j)| sees(i, j) == in_mask(j)));
                }
            }
        }
    }
}
