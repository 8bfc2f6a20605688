//! XAttention (arXiv 2503.16428; `Xattention.py` at e379887): the weight of a tile of keys for a
//! tile of queries is estimated from the sums of scores along the antidiagonals of squares of
//! `stride` by `stride`, and for every tile of queries the heaviest tiles are kept that hold the
//! share `tau`, after the first tile and its own.
//!
//! Scores are divided by the root of the head's size and by the stride, as the code does (the
//! paper's listing has the root of their product).

use super::Layout;
use super::choose::for_heads;
use crate::tensor::TileMask;
use std::ops::Range;

/// The tiles of each tile of queries that are kept whatever they weigh, beside the first.
pub(super) fn own(layout: &Layout) -> Vec<Range<u32>> {
    (0..layout.query_tiles()).map(|tile| layout.diagonal(tile)).collect()
}

/// The mask of the tiles that are chosen, `bits [heads, query tiles, key tiles / 32]`.
pub(super) fn mask(layout: &Layout, heads: usize, bits: &[u32]) -> TileMask {
    let (rows, tiles) = (layout.query_tiles(), layout.key_tiles());
    let words = tiles.div_ceil(32);
    let masks = for_heads(heads, |head| {
        TileMask::new(1, rows, tiles, |_, tile, list| {
            for (word, bits) in (0..).zip(&bits[(head * rows + tile) * words..][..words]) {
                let mut bits = *bits;
                while bits != 0 {
                    list.push(32 * word + bits.trailing_zeros());
                    bits &= bits - 1;
                }
            }
        })
    });
    TileMask::joined(&masks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::sparse::tests::Random;
    use crate::plan::Share;
    use crate::tensor::Cpu;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_mask_is_that_of_the_definition(
            anchor in 0usize..300, rows in 1usize..900, tau in 0u16..10_000, seed in any::<u64>(),
        ) {
            let layout = Layout::new([anchor, rows], rows);
            let (count, tiles) = (layout.query_tiles(), layout.key_tiles());
            let mut sums = Random(seed).weights(2 * count * tiles);
            for (row, sums) in sums.chunks_mut(tiles).enumerate() {
                sums[layout.causal(row % count).len()..].fill(0.0);
            }
            let tau = Share::of(tau).unwrap();
            let cpu = Cpu::new(1, None).unwrap();
            let bits = cpu.heaviest(&sums, 2, tiles, &own(&layout), tau.get() as f32);
            let mask = mask(&layout, 2, &bits);
            for (row, sums) in sums.chunks(tiles).enumerate() {
                let (head, tile) = (row / count, row % count);
                let causal = layout.causal(tile);
                let all: f64 = sums.iter().map(|weight| f64::from(*weight)).sum();
                let forced = |t: u32| t == 0 || layout.diagonal(tile).contains(&t);
                let mut expected: Vec<u32> = causal.clone().filter(|t| forced(*t)).collect();
                let weight = |t: &u32| f64::from(sums[*t as usize]);
                let mut kept: f64 = expected.iter().map(weight).sum();
                let mut others: Vec<u32> = causal.filter(|t| !forced(*t)).collect();
                others.sort_by(|a, b| weight(b).total_cmp(&weight(a)).then(a.cmp(b)));
                for other in others {
                    if kept >= tau.get() * all {
                        break;
                    }
                    kept += weight(&other);
                    expected.push(other);
                }
                expected.sort_unstable();
                // Rounding may decide about the last.
                let found = mask.tiles(head, tile);
                prop_assert!(found.len().abs_diff(expected.len()) <= 1);
                let mass: f64 = found.iter().map(weight).sum();
                prop_assert!(mass >= tau.get() * all - 1e-5 * all, "{mass} of {all}");
                if found.len() == expected.len() {
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}
