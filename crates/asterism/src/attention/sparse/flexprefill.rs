//! FlexPrefill (arXiv 2502.20766; `flex_prefill_attention.py` at a24b27b). Per head, from the last
//! 128 queries: how many of the keys, and of the distances, hold the share `gamma` of their weight;
//! that many whole tiles of keys, and diagonals of tiles, are kept, the heaviest, for all queries.
//! In heads where the weights of tiles, foretold from mean query and mean keys, are nearer to the
//! true ones than `tau` (square root of the Jensen-Shannon divergence, natural logarithms), the
//! tiles of that map that hold `gamma` of it, over the whole map and not row by row, are kept
//! instead, beside the least number of lines.
//!
//! As in its code: everything is dense up to `max(256, min)` keys; the number of tiles is the
//! number of lines, divided by 128, plus one.

use super::choose::{for_heads, largest, within};
use super::{Layout, Lines};
use crate::plan::Share;
use crate::tensor::{MASK_TILE, TileMask};

/// Queries whose weights decide.
pub(super) const ROWS: usize = MASK_TILE;

/// Tiles up to which a text is dense whatever the settings.
const DENSE_TILES: usize = 2;

/// The settings of a call.
#[derive(Clone, Copy)]
pub(super) struct Settings {
    pub(super) gamma: Share,
    /// Tiles that every tile of queries sees at least, of each kind.
    pub(super) least: usize,
}

impl Settings {
    pub(super) fn new(gamma: Share, min: usize) -> Self {
        Self { gamma, least: min.div_ceil(MASK_TILE) }
    }

    /// Whether nothing is to be estimated.
    pub(super) fn is_dense(self, layout: &Layout) -> bool {
        self.gamma >= Share::ALL || layout.keys() <= DENSE_TILES.max(self.least) * MASK_TILE
    }
}

/// Which heads go by the map of means: `foretold [heads, key tiles]` are the weights of tiles for
/// the mean of the last queries, `lines` the true weights.
pub(super) fn aware(layout: &Layout, lines: &Lines, foretold: &[f32], tau: Share) -> Vec<bool> {
    let of_head = |head: usize| {
        let truth = by_tile(layout, lines.vertical(head));
        let foretold = &foretold[head * layout.key_tiles()..][..layout.key_tiles()];
        distance(&truth, foretold) < tau.get()
    };
    (0..lines.heads).map(of_head).collect()
}

/// The mask; `map [heads, query tiles, key tiles]` is needed, for heads that go by it.
pub(super) fn mask(
    layout: &Layout,
    lines: &Lines,
    aware: &[bool],
    map: &[f32],
    settings: Settings,
) -> TileMask {
    let Settings { gamma, least, .. } = settings;
    let masks = for_heads(lines.heads, |head| {
        let (mut columns, mut diagonals) = (least, least);
        if !aware[head] {
            columns = tiles_for(lines.vertical(head), gamma).max(least);
            diagonals = tiles_for(lines.slash(head), gamma).max(least);
        }
        let mut by_column = by_tile(layout, lines.vertical(head));
        by_column[0] = f32::INFINITY;
        let columns = largest(&by_column, columns);
        let mut by_diagonal: Vec<f32> =
            lines.slash(head).chunks(MASK_TILE).map(|chunk| chunk.iter().sum()).collect();
        by_diagonal[0] = f32::INFINITY;
        let diagonals = largest(&by_diagonal, diagonals);
        let size = layout.query_tiles() * layout.key_tiles();
        let chosen = if aware[head] {
            of_map(layout, &map[head * size..][..size], gamma)
        } else {
            Vec::new()
        };
        TileMask::new(1, layout.query_tiles(), layout.key_tiles(), |_, tile, list| {
            let causal = layout.causal(tile);
            list.extend(columns.iter().filter(|column| causal.contains(column)));
            list.extend(layout.diagonal(tile));
            let last = causal.end - 1;
            list.extend(diagonals.iter().filter_map(|back| last.checked_sub(*back)));
            if let Some(chosen) = chosen.get(tile) {
                list.extend(chosen);
            }
        })
    });
    TileMask::joined(&masks)
}

/// How many tiles are worth as many lines as hold `gamma` of all weight.
fn tiles_for(weights: &[f32], gamma: Share) -> usize {
    let all: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    let lines = (within(&mut weights.to_vec(), gamma.get() * all) + 1).min(weights.len());
    lines / MASK_TILE + 1
}

/// The sums of `weights [keys]` by tile.
fn by_tile(layout: &Layout, weights: &[f32]) -> Vec<f32> {
    let mut sums = vec![0.0; layout.key_tiles()];
    for (key, weight) in weights.iter().enumerate() {
        sums[layout.tile(key)] += weight;
    }
    sums
}

/// Square root of the Jensen-Shannon divergence of two distributions, which need not add up to 1.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let sum = |x: &[f32]| x.iter().map(|x| f64::from(*x)).sum::<f64>().max(f64::MIN_POSITIVE);
    let (all_a, all_b) = (sum(a), sum(b));
    let towards = |x: f64, middle: f64| if x > 0.0 { x * (x / middle).ln() } else { 0.0 };
    let divergence: f64 = a
        .iter()
        .zip(b)
        .map(|(a, b)| {
            let (a, b) = (f64::from(*a) / all_a, f64::from(*b) / all_b);
            let middle = f64::midpoint(a, b);
            f64::midpoint(towards(a, middle), towards(b, middle))
        })
        .sum();
    divergence.max(0.0).sqrt()
}

/// Per tile of queries, the tiles of keys among the heaviest of the whole map that hold `gamma` of
/// it.
fn of_map(layout: &Layout, map: &[f32], gamma: Share) -> Vec<Vec<u32>> {
    let all: f64 = map.iter().map(|weight| f64::from(*weight)).sum();
    let count = within(&mut map.to_vec(), gamma.get() * all);
    let mut lists = vec![Vec::new(); layout.query_tiles()];
    for entry in largest(map, count) {
        let (tile, key_tile) =
            (entry as usize / layout.key_tiles(), entry % layout.key_tiles() as u32);
        if layout.causal(tile).contains(&key_tile) {
            lists[tile].push(key_tile);
        }
    }
    lists
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::sparse::tests::{Random, random_lines};
    use proptest::prelude::*;

    /// As the published code has it: everything sorted, everything counted.
    fn naive(
        layout: &Layout,
        lines: &Lines,
        foretold: &[f32],
        map: &[f32],
        (settings, tau): (Settings, Share),
        head: usize,
    ) -> Vec<Vec<u32>> {
        let tiles = layout.key_tiles();
        let descending = |weights: &[f32]| {
            let mut order: Vec<usize> = (0..weights.len()).collect();
            order.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]).then(a.cmp(b)));
            order
        };
        let number = |weights: &[f32]| {
            let all: f64 = weights.iter().map(|w| f64::from(*w)).sum();
            let (mut sum, mut count) = (0.0, 0);
            for i in descending(weights) {
                sum += f64::from(weights[i]);
                count += usize::from(sum <= settings.gamma.get() * all);
            }
            count
        };
        let mut truth = vec![0.0; tiles];
        for (key, weight) in lines.vertical(head).iter().enumerate() {
            truth[layout.tile(key)] += weight;
        }
        let is_aware = distance(&truth, &foretold[head * tiles..][..tiles]) < tau.get();
        let blocks = |weights: &[f32]| {
            let lines = (number(weights) + 1).min(weights.len());
            if is_aware { settings.least } else { (lines / 128 + 1).max(settings.least) }
        };
        let (columns, diagonals) = (blocks(lines.vertical(head)), blocks(lines.slash(head)));
        truth[0] = f32::INFINITY;
        let mut slash = vec![0.0; layout.keys().div_ceil(128)];
        for (distance, weight) in lines.slash(head).iter().enumerate() {
            slash[distance / 128] += weight;
        }
        slash[0] = f32::INFINITY;
        let columns: Vec<usize> = descending(&truth).into_iter().take(columns).collect();
        let diagonals: Vec<usize> = descending(&slash).into_iter().take(diagonals).collect();
        let map = &map[head * layout.query_tiles() * tiles..][..layout.query_tiles() * tiles];
        let kept: Vec<usize> = descending(map).into_iter().take(number(map)).collect();
        (0..layout.query_tiles())
            .map(|tile| {
                let last = layout.causal(tile).end as usize - 1;
                (0..=last)
                    .filter(|t| {
                        columns.contains(t)
                            || diagonals.contains(&(last - t))
                            || layout.diagonal(tile).contains(&(*t as u32))
                            || is_aware && kept.contains(&(tile * tiles + t))
                    })
                    .map(|t| t as u32)
                    .collect()
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_mask_is_that_of_the_definition(
            anchor in 0usize..300, rows in 1usize..900, gamma in 0u16..10_000,
            tau in prop_oneof![Just(0u16), Just(10_000), 0u16..5000], least in 0usize..600,
            seed in any::<u64>(),
        ) {
            let layout = Layout::new([anchor, rows], rows);
            let lines = random_lines(3, layout.keys(), seed);
            let mut random = Random(seed ^ 77);
            let tiles = layout.key_tiles();
            let foretold = random.weights(3 * tiles);
            let map = random.weights(3 * layout.query_tiles() * tiles);
            let (gamma, tau) = (Share::of(gamma).unwrap(), Share::of(tau).unwrap());
            let settings = Settings::new(gamma, least);
            let aware = aware(&layout, &lines, &foretold, tau);
            let mask = mask(&layout, &lines, &aware, &map, settings);
            for head in 0..3 {
                let expected = naive(&layout, &lines, &foretold, &map, (settings, tau), head);
                for (tile, expected) in expected.iter().enumerate() {
                    prop_assert_eq!(mask.tiles(head, tile), expected);
                }
            }
        }
    }
}
