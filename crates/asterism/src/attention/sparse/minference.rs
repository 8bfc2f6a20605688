//! MInference's vertical-slash pattern (arXiv 2407.02490; `minference_forward.py` at fb56c91): from
//! the softmax weights of the last 64 queries, per head, the keys that they weigh most (verticals)
//! and the distances between query and key at which most weight lies (slashes). The first 30 keys
//! and the 100 smallest distances are always among them.
//!
//! Slashes are widened to tiles of 128 keys, where MInference's kernel has 64; verticals stay
//! single keys. Both counts are raised to the least that MInference has, 30 and 50.

use super::choose::{for_heads, largest};
use super::{Layout, Lines};
use crate::tensor::TileMask;

/// Queries whose weights decide.
pub(super) const ROWS: usize = 64;

const LEAST_VERTICAL: usize = 30;
const LEAST_SLASH: usize = 50;

/// First keys that are always seen.
const FIRST: usize = 30;
/// Smallest distances that are always seen.
const NEAREST: usize = 100;

/// The mask by the weights `lines` of the last rows.
pub(super) fn mask(layout: &Layout, lines: &Lines, vertical: usize, slash: usize) -> TileMask {
    let keys = layout.keys();
    let count = |wanted: usize, least: usize| wanted.max(least).min(keys);
    let (vertical, slash) = (count(vertical, LEAST_VERTICAL), count(slash, LEAST_SLASH));
    let masks = for_heads(lines.heads, |head| {
        if vertical == keys || slash == keys {
            return super::all(layout);
        }
        let mut weights = lines.vertical(head).to_vec();
        weights[..FIRST.min(keys)].fill(f32::INFINITY);
        let columns = largest(&weights, vertical);
        weights.copy_from_slice(lines.slash(head));
        weights[..NEAREST.min(keys)].fill(f32::INFINITY);
        let mut distances = largest(&weights, slash);
        distances.sort_unstable();
        let columns = columns.iter().map(|key| layout.slot(*key as usize)).collect();
        slashes(layout, &distances).with_columns(vec![columns])
    });
    TileMask::joined(&masks)
}

/// The tiles that the rising `distances` cross.
fn slashes(layout: &Layout, distances: &[u32]) -> TileMask {
    TileMask::new(1, layout.query_tiles(), layout.key_tiles(), |_, tile, list| {
        let own = layout.own(tile);
        list.extend(layout.diagonal(tile));
        // Keys ascend as distances fall; neighbours cross the same tiles.
        let mut last = None;
        for distance in distances.iter().rev().map(|distance| *distance as usize) {
            if distance >= own.end {
                continue;
            }
            let tiles = layout.tiles(own.start.saturating_sub(distance)..own.end - distance);
            if last.as_ref() != Some(&tiles) {
                list.extend(tiles.clone());
                last = Some(tiles);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::sparse::tests::random_lines;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_mask_is_that_of_the_definition(
            anchor in 0usize..300, rows in 1usize..600, vertical in 0usize..200,
            slash in 0usize..200, seed in any::<u64>(),
        ) {
            let layout = Layout::new([anchor, rows], rows);
            let lines = random_lines(2, layout.keys(), seed);
            let mask = mask(&layout, &lines, vertical, slash);
            let keys = layout.keys();
            let (v, s) = (vertical.max(30).min(keys), slash.max(50).min(keys));
            for head in 0..2 {
                // Sorted as torch.topk would, with what is forced in front.
                let top = |weights: &[f32], forced: usize, count: usize| -> Vec<usize> {
                    let mut order: Vec<usize> = (0..keys).collect();
                    order.sort_by(|a, b| {
                        (*a >= forced).cmp(&(*b >= forced))
                            .then(if *a < forced && *b < forced {
                                a.cmp(b)
                            } else {
                                weights[*b].total_cmp(&weights[*a]).then(a.cmp(b))
                            })
                    });
                    order[..count].to_vec()
                };
                let columns = top(lines.vertical(head), 30, v);
                let distances = top(lines.slash(head), 100, s);
                let dense = v == keys || s == keys;
                for tile in 0..layout.query_tiles() {
                    let mut expected: Vec<u32> = layout.own(tile)
                        .flat_map(|i| distances.iter().filter(move |d| **d <= i).map(move |d| i - d))
                        .map(|j| layout.tile(j) as u32)
                        .collect();
                    if dense {
                        expected = layout.causal(tile).collect();
                    }
                    expected.sort_unstable();
                    expected.dedup();
                    prop_assert_eq!(mask.tiles(head, tile), expected);
                }
                let mut expected: Vec<u32> = columns.iter().map(|j| layout.slot(*j)).collect();
                expected.sort_unstable();
                prop_assert_eq!(mask.columns(head), if dense { Vec::new() } else { expected });
            }
        }
    }
}
