//! How much softmax weight queries give to each key: what is kept of a context, and where an answer
//! comes from, is decided by it.

#![allow(unsafe_code)]

use super::queries::Queries;
use super::{AttentionScratch, KeyRange, KvSegment, KvSequence};
use crate::cpu::Cpu;
use crate::cpu::kernels::FewRows;
use crate::cpu::shared::SharedMut;
use crate::{ElementsView, HeadShape};

/// Keys of one task: those of all heads stay in the second-level cache while queries pass by.
const KEYS: usize = 256;

/// Rows of queries per KV head whose scores are computed at a time.
const ROWS: usize = 16;

impl Cpu {
    /// Softmax weight of each key of `sequence`, summed over its rows of `q [tokens, heads,
    /// head_dim]` and over the query heads that share a KV head: fills `sums [kv_heads, keys]`, the
    /// keys of all segments one after the other. `lse [tokens, heads]` is that of attention over
    /// all keys that count. A key that no row sees gets 0.
    pub fn mass(
        &self,
        q: &[f32],
        shape: HeadShape,
        sequence: &KvSequence<'_>,
        lse: &[f32],
        sums: &mut [f32],
    ) {
        let KvSequence { rows, positions, segments } = sequence;
        let keys: usize = segments.iter().map(|s| s.tokens).sum();
        assert_eq!(sums.len(), shape.kv_heads * keys, "sums must be [kv_heads, keys]");
        assert_eq!(lse.len() * shape.head_dim, q.len(), "lse must be [tokens, heads]");
        sums.fill(0.0);
        let q = &q[rows.start * shape.q_width()..rows.end * shape.q_width()];
        let lse = &lse[rows.start * shape.heads..rows.end * shape.heads];
        // Tiles with the number of their first key.
        let all = KeyRange { segments, range: 0..keys };
        let mut first = 0;
        let mut tiles = Vec::new();
        for tile in all.tiles(shape, KEYS, usize::MAX - 1) {
            tiles.push((first, tile));
            first += tile.tokens;
        }
        let sums = SharedMut::new(sums);
        let step = (ROWS / shape.group()).max(1);
        self.for_each_with(tiles.len(), |scratch, task| {
            let (key, tile) = tiles[task];
            for first in (0..rows.len()).step_by(step) {
                let tokens = step.min(rows.len() - first);
                let positions = *positions;
                let queries = |kv_head| Queries::new(q, positions, shape, kv_head, (first, tokens));
                self.weigh_tile(queries, tile, lse, &mut scratch.attention, |head, _, weights| {
                    // SAFETY: these keys are this task's alone.
                    let sums = unsafe { sums.slice(head * keys + key, weights.len()) };
                    (self.kernels.add_scaled)(sums, 1.0, weights);
                });
            }
        });
    }

    /// Calls `add` for each row with the KV head, the number of the row among all `[tokens, heads]`,
    /// and the weights of the first keys of `tile`.
    pub(super) fn weigh_tile<'q>(
        &self,
        queries: impl Fn(usize) -> Queries<'q>,
        tile: KvSegment<'_>,
        lse: &[f32],
        scratch: &mut AttentionScratch,
        mut add: impl FnMut(usize, usize, &[f32]),
    ) {
        let Queries { shape, .. } = queries(0);
        let (rows, count) = (queries(0).rows(), tile.tokens);
        let few = FewRows { kv_heads: shape.kv_heads, rows, dim: shape.head_dim };
        let (q, scores) = (&mut scratch.few.q, &mut scratch.few.scores);
        q.clear();
        for queries in (0..shape.kv_heads).map(&queries) {
            for r in 0..rows {
                q.extend(queries.row(r).iter().map(|v| v * queries.scale()));
            }
        }
        scores.resize(scores.len().max(shape.kv_heads * rows * count), 0.0);
        let scores = &mut scores[..shape.kv_heads * rows * count];
        match tile.keys {
            ElementsView::F32(k) => (self.kernels.score_f32)(few, q, k, scores),
            ElementsView::Bf16(k) => (self.kernels.score_bf16)(few, q, k, scores),
        }
        for (row, scores) in scores.chunks_exact_mut(count).enumerate() {
            let (head, r) = (row / rows, row % rows);
            let queries = queries(head);
            let (visible, lse) = (tile.visible(queries.position(r)), lse[queries.index(r)]);
            if visible == 0 || lse == f32::NEG_INFINITY {
                continue;
            }
            let weights = &mut scores[..visible];
            tile.hide(weights);
            // Relative to the log-sum-exp, which no score exceeds but by rounding.
            (self.kernels.softmax_row)(weights, lse * std::f32::consts::LOG2_E);
            tile.drop_hidden(weights);
            add(head, queries.index(r), weights);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Elements, Isa, Precision, RowPositions};
    use proptest::prelude::*;

    /// The definition, in f64, over keys `[tokens, kv_heads, head_dim]` at `positions`.
    fn naive(
        q: &[f32],
        start: usize,
        shape: HeadShape,
        keys: &[f32],
        positions: &[usize],
        hidden: &[bool],
    ) -> (Vec<f64>, Vec<f32>) {
        let dim = shape.head_dim;
        let mut sums = vec![0.0; shape.kv_heads * positions.len()];
        let mut lse = Vec::new();
        for (row, q) in q.chunks(dim).enumerate() {
            let (token, head) = (row / shape.heads, row % shape.heads / shape.group());
            let score = |t: usize| -> f64 {
                let k = &keys[(t * shape.kv_heads + head) * dim..][..dim];
                let dot: f64 = q.iter().zip(k).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                dot / (dim as f64).sqrt()
            };
            let sees = |t: &usize| positions[*t] <= start + token && !hidden[*t];
            let seen: Vec<usize> = (0..positions.len()).filter(sees).collect();
            let total: f64 = seen.iter().map(|t| score(*t).exp()).sum();
            lse.push(total.ln() as f32);
            for t in seen {
                sums[head * positions.len() + t] += score(t).exp() / total;
            }
        }
        (sums, lse)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn mass_is_that_of_the_definition(
            kv_heads in 1usize..3, group in 1usize..5, dim in prop_oneof![Just(20usize), Just(64)],
            tokens in prop_oneof![1usize..3, 10usize..40], start in 0usize..500,
            lengths in proptest::collection::vec(0usize..400, 1..4), bf16 in any::<bool>(),
            hides in prop_oneof![Just(0.0f32), Just(0.6), Just(1.0)], seed in any::<u64>()
        ) {
            let mut state = seed | 1;
            let mut numbers = |len: usize| -> Vec<f32> {
                (0..len).map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let x = (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
                    half::bf16::from_f32(2.0 * x).to_f32()
                }).collect()
            };
            let shape = HeadShape { heads: kv_heads * group, kv_heads, head_dim: dim };
            let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
            // One row before those of the sequence, and one behind.
            let q = numbers((tokens + 2) * shape.q_width());
            let (mut stored, mut all) = (Vec::new(), Vec::new());
            let (mut positions, mut hidden, mut position) = (Vec::new(), Vec::new(), 0);
            for len in lengths {
                let k = numbers(len * shape.kv_width());
                let flags: Vec<bool> = numbers(len).iter().map(|x| x.abs() / 2.0 < hides).collect();
                positions.extend(position..position + len);
                hidden.extend(&flags);
                stored.push((Elements::from_f32(precision, &k), len, position, flags));
                all.extend(k);
                position += len + 7;
            }
            let segments: Vec<KvSegment<'_>> = stored.iter().map(|(k, tokens, start, flags)| {
                let keys = k.view(0..k.len());
                let hidden = (hides > 0.0).then_some(flags.as_slice());
                KvSegment { keys, values: keys, tokens: *tokens, start: *start, hidden }
            }).collect();
            let rows = 1..tokens + 1;
            let width = shape.q_width();
            let own = &q[width..(tokens + 1) * width];
            let (expected, own_lse) = naive(own, start, shape, &all, &positions, &hidden);
            let mut lse = vec![f32::NAN; (tokens + 2) * shape.heads];
            lse[shape.heads..(tokens + 1) * shape.heads].copy_from_slice(&own_lse);
            for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
                let cpu = Cpu::new(2, Some(isa)).unwrap();
                let mut sums = vec![f32::NAN; expected.len()];
                let positions = RowPositions::From(start);
                let sequence = KvSequence { rows: rows.clone(), positions, segments: &segments };
                cpu.mass(&q, shape, &sequence, &lse, &mut sums);
                for (i, (found, expected)) in sums.iter().zip(&expected).enumerate() {
                    let error = (f64::from(*found) - expected).abs();
                    prop_assert!(error <= 1e-5 * (1.0 + expected), "{isa} {i}: {found}, {expected}");
                    prop_assert!(*expected > 0.0 || *found == 0.0);
                }
            }
        }
    }
}
