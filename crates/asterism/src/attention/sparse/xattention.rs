//! XAttention (arXiv 2503.16428; `Xattention.py` at e379887): the weight of a tile of keys for a
//! tile of queries is estimated from the sums of scores along the antidiagonals of squares of
//! `stride` by `stride`, and for every tile of queries the heaviest tiles are kept that hold the
//! share `tau`, after the first tile and its own.
//!
//! Scores are divided by the root of the head's size and by the stride, as the code does (the
//! paper's listing has the root of their product).

use super::Layout;
use super::choose::{for_heads, largest, within};
use crate::plan::Share;
use crate::tensor::TileMask;

/// The mask by the estimated weights `sums [heads, query tiles, key tiles]`.
pub(super) fn mask(layout: &Layout, heads: usize, sums: &[f32], tau: Share) -> TileMask {
    let (rows, tiles) = (layout.query_tiles(), layout.key_tiles());
    let masks = for_heads(heads, |head| {
        TileMask::new(1, rows, tiles, |_, tile, list| {
            let weights = &sums[(head * rows + tile) * tiles..][..layout.causal(tile).len()];
            choose(weights, layout.diagonal(tile), tau, list);
        })
    });
    TileMask::joined(&masks)
}

/// The tiles of one tile of queries, whose own are `diagonal`.
fn choose(weights: &[f32], diagonal: std::ops::Range<u32>, tau: Share, list: &mut Vec<u32>) {
    if tau >= Share::ALL {
        list.extend(0..weights.len() as u32);
        return;
    }
    list.push(0);
    list.extend(diagonal);
    let mut others = weights.to_vec();
    let all: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let mut needed = tau.get() * all;
    // What is kept in any case counts first; the rest of them are weighed against each other.
    for (i, tile) in list.iter().enumerate() {
        if !list[..i].contains(tile) {
            needed -= f64::from(std::mem::replace(&mut others[*tile as usize], 0.0));
        }
    }
    if needed > 0.0 {
        // The one with which the sum reaches the share is kept, too; what weighs nothing is not.
        let count = within_and_one_more(&others, needed);
        list.extend(largest(&others, count).into_iter().filter(|t| others[*t as usize] > 0.0));
    }
}

/// How many of the largest it takes to reach `needed`.
fn within_and_one_more(weights: &[f32], needed: f64) -> usize {
    // A sum that is exactly what is needed needs no more.
    let below = f64::from_bits(needed.to_bits() - 1);
    (within(&mut weights.to_vec(), below) + 1).min(weights.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::sparse::tests::Random;
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
            let mask = mask(&layout, 2, &sums, tau);
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
                prop_assert!(mass >= tau.get() * all - 1e-6, "{mass} of {all}");
                if found.len() == expected.len() {
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}
