//! Pairs of a query and a key that it sees: what attention costs.

use super::{Plan, Span, Sparse};
use std::ops::Range;

/// Pairs (query, visible key) of a span whose queries also see `before` earlier keys.
pub(super) fn causal_pairs(span: Span, before: usize) -> u128 {
    let n = span.len as u128;
    n * before as u128 + n * (n + 1) / 2
}

/// The least and the most pairs that a pattern computes of `dense`, its estimates (half a pair for
/// a score) among them. Anchors that are recomputed count as dense.
pub(super) fn sparse_pairs(
    plan: &Plan,
    sparse: Sparse,
    blocks: &[Span],
    dense: u128,
) -> (u128, u128) {
    /// Keys of a tile: a query sees the tiles of its own keys and of its first at least.
    const TILE: u128 = 128;
    let (mut least, mut most) = (0, dense);
    for block in blocks {
        let before = if block.start == 0 { 0 } else { plan.anchor };
        let (rows, pairs) = (block.len as u128, causal_pairs(*block, before));
        let keys = rows + before as u128;
        let of = |seen: u128| (rows * seen.min(keys)).min(pairs);
        let (seen, estimate) = match sparse {
            Sparse::Streaming { sink, window } => (of((sink + window) as u128), 0),
            // Nearest distances, and single keys.
            Sparse::Minference { vertical, slash } => {
                (of((vertical + slash.min(TILE as usize)) as u128), 2 * 64 * keys)
            }
            // A tile of each kind, or as many as the least.
            Sparse::Flexprefill { min, .. } => (of(2 * TILE.max(min as u128)), 2 * 128 * keys),
            Sparse::Xattention { stride, .. } => (of(2 * TILE), pairs / (2 * stride as u128)),
            Sparse::Blocks { block: size, anchor, previous } => {
                (seen_in_blocks(before..before + block.len, size, anchor, previous), 0)
            }
        };
        least += seen + estimate;
        most += estimate;
    }
    match sparse {
        // It is known beforehand.
        Sparse::Streaming { .. } | Sparse::Blocks { .. } => (least, least),
        _ => (least.min(most), most),
    }
}

/// Pairs of the queries `rows` and the keys they see of the first `anchor`, of their own block of
/// `block` keys and of the `previous` blocks before it.
fn seen_in_blocks(rows: Range<usize>, block: usize, anchor: usize, previous: usize) -> u128 {
    let first_key = |index: usize| index.saturating_sub(previous) * block;
    let pairs = |index: usize| {
        let own = rows.start.max(index * block)..rows.end.min((index + 1) * block);
        let (first, rows) = (first_key(index), own.len() as u128);
        let anchor = anchor.min(first) as u128;
        rows * (anchor + (own.start - first) as u128) + rows * (rows + 1) / 2
    };
    (rows.start / block..rows.end.div_ceil(block)).map(pairs).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_cost_what_their_mask_has(
            before in 0usize..500, rows in 1usize..2000, block in 1usize..5, anchor in 0usize..9,
            previous in 0usize..5,
        ) {
            let (block, anchor) = (128 * block, 128 * anchor);
            let sees = |i: usize, j: usize| j < anchor || i / block - j / block <= previous;
            let seen = |i: usize| (0..=i).filter(|j| sees(i, *j)).count() as u128;
            let expected: u128 = (before..before + rows).map(seen).sum();
            let found = seen_in_blocks(before..before + rows, block, anchor, previous);
            prop_assert_eq!(found, expected);
        }
    }
}
