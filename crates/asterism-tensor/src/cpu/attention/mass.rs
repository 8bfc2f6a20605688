//! How much softmax weight queries give to each key: what is kept of a context, and where an answer
//! comes from, is decided by it.

#![allow(unsafe_code)]

use super::few::FewScratch;
use super::queries::Queries;
use super::{AttentionScratch, KeyRange, KvSegment, KvSequence};
use crate::cpu::Cpu;
use crate::cpu::kernels::FewRows;
use crate::cpu::shared::SharedMut;
use crate::{HeadShape, MassOver};

/// Keys of one task: those of all heads stay in the second-level cache while queries pass by.
const KEYS: usize = 256;

/// Rows of queries per KV head whose scores are computed at a time.
const ROWS: usize = 16;

impl Cpu {
    /// Softmax weight of each key of `sequence`, `over` its rows of `q [tokens, heads, head_dim]`
    /// and the query heads that share a KV head: their sum or their largest. Fills `sums [kv_heads,
    /// keys]`, the tokens of all segments one after the other. `lse [tokens, heads]` is that of
    /// attention over all keys that count. A key that no row sees gets 0, and so does a token whose
    /// key a head does not have.
    ///
    /// # Panics
    /// If a segment of one head is not among those of all heads, in their order.
    pub fn mass(
        &self,
        q: &[f32],
        shape: HeadShape,
        sequence: &KvSequence<'_>,
        lse: &[f32],
        over: MassOver,
        sums: &mut [f32],
    ) {
        let KvSequence { rows, positions, segments } = sequence;
        let (keys, places) = places(segments, shape.kv_heads);
        assert_eq!(sums.len(), shape.kv_heads * keys, "sums must be [kv_heads, keys]");
        assert_eq!(lse.len() * shape.head_dim, q.len(), "lse must be [tokens, heads]");
        sums.fill(0.0);
        let q = &q[rows.start * shape.q_width()..rows.end * shape.q_width()];
        let lse = &lse[rows.start * shape.heads..rows.end * shape.heads];
        // Tiles with the column of their segment, or of their first key.
        let mut tiles = Vec::new();
        for (segment, place) in segments.iter().zip(places) {
            let own = std::slice::from_ref(segment);
            let all = KeyRange { segments: own, head: None, range: 0..segment.tokens };
            for tile in all.tiles(shape, KEYS, usize::MAX - 1) {
                let within = if tile.head.is_some() { 0 } else { tile.start - segment.start };
                tiles.push((place + within, tile));
            }
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
                    let last = weights.len() - 1;
                    let (from, len) = (tile.token(0), tile.token(last) + 1 - tile.token(0));
                    // SAFETY: of this head, the tokens from this tile's first key to its last are
                    // this task's alone.
                    let sums = unsafe { sums.slice(head * keys + key + from, len) };
                    match (over, tile.head) {
                        (MassOver::Sum, None) => (self.kernels.add_scaled)(sums, 1.0, weights),
                        (MassOver::Sum, Some(_)) => {
                            for (i, weight) in weights.iter().enumerate() {
                                sums[tile.token(i) - from] += weight;
                            }
                        }
                        (MassOver::Max, _) => {
                            for (i, weight) in weights.iter().enumerate() {
                                let most = &mut sums[tile.token(i) - from];
                                *most = most.max(*weight);
                            }
                        }
                    }
                });
            }
        });
    }

    /// Calls `add` for each row with the KV head, the number of the row among all `[tokens,
    /// heads]`, and the weights of the first keys of `tile`.
    pub(super) fn weigh_tile<'q>(
        &self,
        queries: impl Fn(usize) -> Queries<'q>,
        tile: KvSegment<'_>,
        lse: &[f32],
        scratch: &mut AttentionScratch,
        mut add: impl FnMut(usize, usize, &[f32]),
    ) {
        let Queries { shape, .. } = queries(0);
        let (rows, count, heads) = (queries(0).rows(), tile.tokens, tile.heads(shape));
        let few = FewRows { kv_heads: heads.len(), rows, dim: shape.head_dim };
        let FewScratch { q, scores, .. } = &mut scratch.few;
        q.clear();
        for queries in heads.clone().map(&queries) {
            queries.push_scaled(q);
        }
        scores.resize(scores.len().max(heads.len() * rows * count), 0.0);
        let scores = &mut scores[..heads.len() * rows * count];
        self.score_few(few, q, tile.keys, scores);
        for (row, scores) in scores.chunks_exact_mut(count).enumerate() {
            let (head, r) = (heads.start + row / rows, row % rows);
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

/// The columns of all segments, and the first one of each: segments of single heads, which follow
/// one another, share theirs.
fn places(segments: &[KvSegment<'_>], kv_heads: usize) -> (usize, Vec<usize>) {
    let (mut next, mut head) = (0, 0);
    let mut places = Vec::with_capacity(segments.len());
    for segment in segments {
        places.push(next);
        match segment.head {
            Some(of) => {
                assert_eq!(of.head, head, "segments of heads in another order");
                head = (head + 1) % kv_heads;
                next += if head == 0 { of.among } else { 0 };
            }
            None => {
                assert_eq!(head, 0, "segments of fewer heads than there are");
                next += segment.tokens;
            }
        }
    }
    (next, places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cached, held};
    use crate::{Isa, KeptKeys, KvPrecision, RowPositions};
    use proptest::prelude::*;

    /// The definition, in f64, over keys `[tokens, kv_heads, head_dim]` at `positions`.
    fn naive(
        q: &[f32],
        start: usize,
        shape: HeadShape,
        keys: &[f32],
        positions: &[usize],
        unseen: impl Fn(usize, usize) -> bool,
        over: MassOver,
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
            let sees = |t: &usize| positions[*t] <= start + token && !unseen(head, *t);
            let seen: Vec<usize> = (0..positions.len()).filter(sees).collect();
            let total: f64 = seen.iter().map(|t| score(*t).exp()).sum();
            lse.push(total.ln() as f32);
            for t in seen {
                let weight: &mut f64 = &mut sums[head * positions.len() + t];
                *weight = match over {
                    MassOver::Sum => *weight + score(t).exp() / total,
                    MassOver::Max => weight.max(score(t).exp() / total),
                };
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
            lengths in proptest::collection::vec(0usize..400, 1..4),
            precision in prop_oneof![
                Just(KvPrecision::F32), Just(KvPrecision::Bf16), Just(KvPrecision::Int8)
            ],
            hides in prop_oneof![Just(0.0f32), Just(0.6), Just(1.0)],
            keeps in prop_oneof![Just(1.0f32), Just(0.4)],
            over in prop_oneof![Just(MassOver::Sum), Just(MassOver::Max)], seed in any::<u64>()
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
            // One row before those of the sequence, and one behind.
            let q = numbers((tokens + 2) * shape.q_width());
            let (mut stored, mut all) = (Vec::new(), Vec::new());
            let (mut positions, mut hidden, mut position) = (Vec::new(), Vec::new(), 0);
            let mut gone = vec![Vec::new(); kv_heads];
            for (number, len) in lengths.into_iter().enumerate() {
                let k = held(precision, dim, &numbers(len * shape.kv_width()));
                let flags: Vec<bool> = numbers(len).iter().map(|x| x.abs() / 2.0 < hides).collect();
                positions.extend(position..position + len);
                hidden.extend(&flags);
                let chosen: Vec<Vec<u32>> = gone.iter_mut().map(|gone| {
                    let all = number % 2 == 1 || keeps == 1.0;
                    let lost: Vec<bool> =
                        numbers(len).iter().map(|x| !all && x.abs() / 2.0 > keeps).collect();
                    gone.extend(&lost);
                    (0..len as u32).filter(|t| !lost[*t as usize]).collect()
                }).collect();
                let kept = KeptKeys::new(len, &chosen).unwrap();
                let row = |row: u32| k[row as usize * dim..][..dim].to_vec();
                let rows: Vec<f32> = if kept.rows() == len * kv_heads {
                    k.clone()
                } else {
                    kept.rows_of_all().into_iter().flat_map(row).collect()
                };
                stored.push((cached(precision, dim, &rows), kept, position, flags));
                all.extend(k);
                position += len + 7;
            }
            let segments: Vec<KvSegment<'_>> = stored.iter().flat_map(|(k, kept, start, flags)| {
                let keys = k.view(0..k.len());
                let hidden = (hides > 0.0).then_some(flags.as_slice());
                let (tokens, start) = (kept.tokens(), *start);
                if kept.rows() == tokens * kv_heads {
                    vec![KvSegment { keys, values: keys, tokens, start, hidden, head: None }]
                } else {
                    KvSegment::of_kept(kept, [keys, keys], start, hidden).collect()
                }
            }).collect();
            let rows = 1..tokens + 1;
            let width = shape.q_width();
            let own = &q[width..(tokens + 1) * width];
            let unseen = |head: usize, t: usize| hidden[t] || gone[head][t];
            let (expected, own_lse) =
                naive(own, start, shape, &all, &positions, unseen, over);
            let mut lse = vec![f32::NAN; (tokens + 2) * shape.heads];
            lse[shape.heads..(tokens + 1) * shape.heads].copy_from_slice(&own_lse);
            for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
                let cpu = Cpu::new(2, Some(isa)).unwrap();
                let mut sums = vec![f32::NAN; expected.len()];
                let positions = RowPositions::From(start);
                let sequence = KvSequence { rows: rows.clone(), positions, segments: &segments };
                cpu.mass(&q, shape, &sequence, &lse, over, &mut sums);
                for (i, (found, expected)) in sums.iter().zip(&expected).enumerate() {
                    let error = (f64::from(*found) - expected).abs();
                    prop_assert!(error <= 1e-5 * (1.0 + expected), "{isa} {i}: {found}, {expected}");
                    prop_assert!(*expected > 0.0 || *found == 0.0);
                }
            }
        }
    }
}
