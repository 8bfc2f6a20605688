//! StreamingLLM's mask as benchmark tables run it ("A-shape"; arXiv 2309.17453): a query sees the
//! first `sink` keys and the `window` keys up to its own, at their own positions; nothing is
//! evicted. Tiles are kept whole: a query sees up to 127 keys more at either end.

use super::Layout;
use crate::tensor::TileMask;

/// The mask, the same for all heads.
pub(super) fn mask(layout: &Layout, sink: usize, window: usize) -> TileMask {
    TileMask::new(1, layout.query_tiles(), layout.key_tiles(), |_, tile, list| {
        let own = layout.own(tile);
        if sink > 0 {
            list.extend(layout.tiles(0..sink.min(own.end)));
        }
        let first = (own.start + 1).saturating_sub(window).min(own.start);
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
            anchor in 0usize..400, rows in 1usize..900, sink in 0usize..300, window in 1usize..600,
        ) {
            let layout = Layout::new([anchor, rows], rows);
            let mask = mask(&layout, sink, window);
            for tile in 0..layout.query_tiles() {
                let sees = |i: usize, j: usize| j <= i && (i - j < window || j < sink);
                let mut expected: Vec<u32> = (0..layout.keys())
                    .filter(|j| layout.own(tile).any(|i| sees(i, *j)))
                    .map(|j| layout.tile(j) as u32)
                    .collect();
                expected.dedup();
                prop_assert_eq!(mask.tiles(0, tile), expected);
            }
        }
    }
}
