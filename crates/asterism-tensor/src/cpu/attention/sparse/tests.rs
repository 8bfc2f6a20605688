//! Block-sparse attention and the estimates for it against their definitions, in f64.

use crate::cpu::Kv;
use crate::cpu::attention::{KvSegment, KvSequence, RowPositions};
use crate::testing::{cached, held, relative_error};
use crate::{Cpu, Grain, HeadShape, Isa, KvPrecision, MASK_TILE, TileMask};
use half::bf16;
use proptest::prelude::*;

struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// Values up to 2 that bf16 represents exactly.
    fn exact(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| bf16::from_f32(2.0 * self.next()).to_f32()).collect()
    }
}

/// Keys and values in segments, and the rows of a sequence that stands behind all but its own.
struct Case {
    shape: HeadShape,
    /// Tokens and first position of each segment.
    segments: Vec<(usize, usize)>,
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    stored: Vec<(Kv, Kv)>,
    rows: usize,
    q: Vec<f32>,
}

impl Case {
    fn new(
        random: &mut Random,
        shape: HeadShape,
        segments: Vec<(usize, usize)>,
        rows: usize,
        precision: KvPrecision,
    ) -> Self {
        let width = shape.kv_width();
        let mut all = || -> Vec<Vec<f32>> {
            let numbers = |(tokens, _): &(usize, usize)| random.exact(tokens * width);
            let held = |x: Vec<f32>| held(precision, shape.head_dim, &x);
            segments.iter().map(numbers).map(held).collect()
        };
        let (keys, values) = (all(), all());
        let store = |x: &Vec<f32>| cached(precision, shape.head_dim, x);
        let stored = keys.iter().zip(&values).map(|(k, v)| (store(k), store(v))).collect();
        let q = random.exact(rows * shape.q_width()).iter().map(|x| x / 2.0).collect();
        Self { shape, segments, keys, values, stored, rows, q }
    }

    fn views(&self) -> Vec<KvSegment<'_>> {
        let all = self.stored.iter().zip(&self.segments);
        all.map(|((k, v), (tokens, start))| {
            let (keys, values) = (k.view(0..k.len()), v.view(0..v.len()));
            KvSegment { keys, values, tokens: *tokens, start: *start, hidden: None, head: None }
        })
        .collect()
    }

    /// The rows are the last of the last segment.
    fn first(&self) -> usize {
        let (tokens, start) = self.segments.last().unwrap();
        start + tokens - self.rows
    }

    fn key_tiles(&self) -> usize {
        TileMask::key_tiles_of(self.segments.iter().map(|(tokens, _)| *tokens))
    }

    /// Of each key: its slot, its position, its segment, its place there.
    fn places(&self) -> Vec<(usize, usize, usize, usize)> {
        let (mut places, mut tile) = (Vec::new(), 0);
        for (s, (tokens, start)) in self.segments.iter().enumerate() {
            places.extend((0..*tokens).map(|t| (tile * MASK_TILE + t, start + t, s, t)));
            tile += tokens.div_ceil(MASK_TILE);
        }
        places
    }

    fn score(&self, row: usize, head: usize, (_, _, s, t): (usize, usize, usize, usize)) -> f64 {
        let (dim, kv_head) = (self.shape.head_dim, head / self.shape.group());
        let q = &self.q[(row * self.shape.heads + head) * dim..][..dim];
        let k = &self.keys[s][t * self.shape.kv_width() + kv_head * dim..][..dim];
        let dot: f64 = q.iter().zip(k).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        dot / (dim as f64).sqrt()
    }

    /// Attention by its definition over the keys for which `sees(row, head, slot)`.
    fn naive(&self, sees: impl Fn(usize, usize, usize, usize) -> bool) -> (Vec<f64>, Vec<f64>) {
        let (mut out, mut lse) = (Vec::new(), Vec::new());
        let (dim, places) = (self.shape.head_dim, self.places());
        for row in 0..self.rows {
            for head in 0..self.shape.heads {
                let own = self.first() + row;
                let seen: Vec<_> = places
                    .iter()
                    .filter(|(slot, at, ..)| *at <= own && sees(row, head, *slot, *at))
                    .map(|place| (*place, self.score(row, head, *place).exp()))
                    .collect();
                let sum: f64 = seen.iter().map(|(_, weight)| weight).sum();
                lse.push(sum.ln());
                let at = head / self.shape.group() * dim;
                for d in 0..dim {
                    let value = |s: usize, t: usize| {
                        f64::from(self.values[s][t * self.shape.kv_width() + at + d])
                    };
                    let total: f64 =
                        seen.iter().map(|((_, _, s, t), weight)| weight * value(*s, *t)).sum();
                    out.push(if seen.is_empty() { 0.0 } else { total / sum });
                }
            }
        }
        (out, lse)
    }

    fn masked(&self, mask: &TileMask) -> (Vec<f64>, Vec<f64>) {
        self.naive(|row, head, slot, at| {
            let listed = mask.tiles(head, row / MASK_TILE).contains(&((slot / MASK_TILE) as u32));
            let first = self.first() + row / MASK_TILE * MASK_TILE;
            listed || mask.columns(head).contains(&(slot as u32)) && at <= first
        })
    }

    fn run(&self, cpu: &Cpu, mask: &TileMask) -> (Vec<f32>, Vec<f32>) {
        let views = self.views();
        // A row of no sequence before and behind.
        let width = self.shape.q_width();
        let pad = vec![f32::NAN; width];
        let q = [&pad[..], &self.q, &pad].concat();
        let (mut out, mut lse) =
            (vec![f32::NAN; q.len()], vec![f32::NAN; q.len() / self.shape.head_dim]);
        let (rows, positions) = (1..self.rows + 1, RowPositions::From(self.first()));
        let sequence = KvSequence { rows, positions, segments: &views };
        cpu.attend_tiles(&q, self.shape, &sequence, mask, &mut out, &mut lse);
        let heads = self.shape.heads;
        (out[width..out.len() - width].to_vec(), lse[heads..lse.len() - heads].to_vec())
    }
}

fn cpus() -> impl Iterator<Item = Cpu> {
    Isa::ALL.into_iter().filter(|isa| isa.available()).map(|isa| Cpu::new(2, Some(isa)).unwrap())
}

fn pairs(found: &[f32], expected: &[f64]) -> f64 {
    let finite = |x: f64| if x == f64::NEG_INFINITY { -1e3 } else { x };
    assert_eq!(found.len(), expected.len());
    relative_error(found.iter().zip(expected).map(|(a, b)| (finite(f64::from(*a)), finite(*b))))
}

fn shapes() -> impl Strategy<Value = HeadShape> {
    (1usize..3, 1usize..4, prop_oneof![Just(8usize), Just(20), Just(64)]).prop_map(
        |(kv_heads, group, head_dim)| HeadShape { heads: kv_heads * group, kv_heads, head_dim },
    )
}

fn precisions() -> impl Strategy<Value = KvPrecision> {
    prop_oneof![Just(KvPrecision::F32), Just(KvPrecision::Bf16), Just(KvPrecision::Int8)]
}

/// Whether tiles round what is multiplied with keys in `precision`.
fn rounds(precision: KvPrecision) -> bool {
    precision != KvPrecision::F32
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn random_masks_and_columns_are_those_of_the_definition(
        shape in shapes(), rows in 1usize..300, before in 0usize..300, anchor in 0usize..300,
        gap in 0usize..100, density in 0.0f32..1.0, single in 0usize..60, shared in any::<bool>(),
        precision in precisions(), seed in any::<u64>(),
    ) {
        let mut random = Random(seed);
        let own = (before + rows, anchor + gap);
        let segments = if anchor > 0 { vec![(anchor, 0), own] } else { vec![own] };
        let case = Case::new(&mut random, shape, segments, rows, precision);
        let heads = if shared { 1 } else { shape.heads };
        let mask = TileMask::new(heads, rows.div_ceil(MASK_TILE), case.key_tiles(), |_, _, list| {
            list.extend((0..case.key_tiles() as u32).filter(|_| random.next() < 2.0 * density - 1.0));
        });
        let slots = case.places();
        let columns = (0..heads)
            .map(|_| (0..single).map(|_| {
                slots[((random.next() + 1.0) / 2.0 * slots.len() as f32) as usize % slots.len()].0 as u32
            }).collect())
            .collect();
        let mask = mask.with_columns(columns);
        let (out, lse) = case.masked(&mask);
        for cpu in cpus() {
            let (found, found_lse) = case.run(&cpu, &mask);
            let most = if rounds(precision) { 1e-2 } else { 1e-5 };
            prop_assert!(pairs(&found, &out) < most || out.iter().all(|x| *x == 0.0), "{:?}", cpu);
            prop_assert!(pairs(&found_lse, &lse) < most, "{:?}", cpu);
        }
    }

    #[test]
    fn all_tiles_are_dense_attention_and_parts_merge_into_it(
        shape in shapes(), rows in 1usize..400, anchor in 0usize..200, precision in precisions(),
        seed in any::<u64>(),
    ) {
        // Star's phase 1: tiles of the anchor and of the block, causal.
        let mut random = Random(seed);
        let segments = [(anchor, 0), (rows, anchor + 1000)];
        let segments = segments[usize::from(anchor == 0)..].to_vec();
        let case = Case::new(&mut random, shape, segments, rows, precision);
        let (queries, keys) = (rows.div_ceil(MASK_TILE), case.key_tiles() as u32);
        let all = TileMask::new(1, queries, keys as usize, |_, _, list| list.extend(0..keys));
        let side: Vec<bool> = (0..keys).map(|_| random.next() < 0.0).collect();
        let part = |which: bool| {
            let kept: Vec<u32> = (0..keys).filter(|t| side[*t as usize] == which).collect();
            TileMask::new(1, queries, keys as usize, |_, _, list| list.extend(&kept))
        };
        for cpu in cpus() {
            let (out, lse) = case.run(&cpu, &all);
            let views = case.views();
            let (mut dense, mut dense_lse) = (vec![f32::NAN; out.len()], vec![f32::NAN; lse.len()]);
            let positions = RowPositions::From(case.first());
            let sequence = KvSequence { rows: 0..rows, positions, segments: &views };
            cpu.attend(&case.q, shape, &[sequence], &mut dense, &mut dense_lse);
            let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|x| f64::from(*x)).collect() };
            let most = if rounds(precision) { 1e-2 } else { 1e-5 };
            prop_assert!(pairs(&out, &wide(&dense)) < most && pairs(&lse, &wide(&dense_lse)) < most);
            let (mut a, mut a_lse) = case.run(&cpu, &part(false));
            let (b, b_lse) = case.run(&cpu, &part(true));
            cpu.merge(&mut a, &mut a_lse, &b, &b_lse);
            prop_assert!(pairs(&a, &wide(&out)) < most && pairs(&a_lse, &wide(&lse)) < most);
        }
    }

    #[test]
    fn lines_are_those_of_the_definition(
        shape in shapes(), rows in 1usize..130, before in 0usize..500, anchor in 0usize..200,
        precision in precisions(), seed in any::<u64>(),
    ) {
        let mut random = Random(seed);
        let own = (before + rows, anchor + 77);
        let segments = if anchor > 0 { vec![(anchor, 0), own] } else { vec![own] };
        let case = Case::new(&mut random, shape, segments, rows, precision);
        let (_, lse) = case.naive(|_, _, _, _| true);
        let (places, heads) = (case.places(), shape.heads);
        let keys = places.len();
        let (mut vertical, mut slash) = (vec![0.0; heads * keys], vec![0.0; heads * keys]);
        for row in 0..rows {
            for head in 0..heads {
                let own = keys - rows + row;
                for (key, place) in places.iter().enumerate().take(own + 1) {
                    let weight = (case.score(row, head, *place) - lse[row * heads + head]).exp();
                    vertical[head * keys + key] += weight;
                    slash[head * keys + own - key] += weight;
                }
            }
        }
        let views = case.views();
        let lse: Vec<f32> = lse.iter().map(|x| *x as f32).collect();
        for cpu in cpus() {
            let (mut v, mut s) = (vec![f32::NAN; heads * keys], vec![f32::NAN; heads * keys]);
            let positions = RowPositions::From(case.first());
            let sequence = KvSequence { rows: 0..rows, positions, segments: &views };
            cpu.lines(&case.q, shape, &sequence, &lse, &mut v, &mut s);
            prop_assert!(pairs(&v, &vertical) < 1e-4, "{:?}", cpu);
            prop_assert!(pairs(&s, &slash) < 1e-4, "{:?}", cpu);
        }
    }

    #[test]
    fn weights_of_tiles_are_those_of_the_definition(
        shape in shapes(), rows in 1usize..400, anchor in 0usize..300, before in 0usize..200,
        grain in prop_oneof![
            Just(Grain::Mean), (0u32..6).prop_map(|s| Grain::Antidiagonal { stride: 1 << s }),
        ],
        precision in precisions(), seed in any::<u64>(),
    ) {
        let mut random = Random(seed);
        let own = (before + rows, anchor + 77);
        let segments = if anchor > 0 { vec![(anchor, 0), own] } else { vec![own] };
        let case = Case::new(&mut random, shape, segments, rows, precision);
        let expected = naive_tile_mass(&case, grain);
        let views = case.views();
        for cpu in cpus() {
            let mut sums = vec![f32::NAN; expected.len()];
            let positions = RowPositions::From(case.first());
            let sequence = KvSequence { rows: 0..rows, positions, segments: &views };
            cpu.tile_mass(&case.q, shape, &sequence, grain, &mut sums);
            let most = if rounds(precision) && cpu.kernels.tiles.is_some() { 1e-2 } else { 1e-4 };
            prop_assert!(pairs(&sums, &expected) < most, "{:?}: {}", cpu, pairs(&sums, &expected));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_heaviest_tiles_are_those_of_a_sort(
        query_tiles in 1usize..9, before in 0usize..40, share in 0.0f32..0.999, seed in any::<u64>(),
    ) {
        let mut random = Random(seed);
        let key_tiles = before + query_tiles;
        let own: Vec<_> = (0..query_tiles as u32)
            .map(|tile| (before as u32 + tile).saturating_sub(1)..before as u32 + tile + 1)
            .collect();
        let mut weights = vec![0.0; 2 * query_tiles * key_tiles];
        for (row, weights) in weights.chunks_mut(key_tiles).enumerate() {
            let seen = own[row % query_tiles].end as usize;
            weights[..seen].iter_mut().for_each(|x| *x = (4.0 * random.next()).exp());
        }
        let words = key_tiles.div_ceil(32);
        for cpu in cpus() {
            let bits = cpu.heaviest(&weights, 2, key_tiles, &own, share);
            for (row, weights) in weights.chunks(key_tiles).enumerate() {
                let own = &own[row % query_tiles];
                let forced = |t: &u32| *t == 0 || own.contains(t);
                let kept = |t: &u32| {
                    bits[row * words + *t as usize / 32] >> (t % 32) & 1 == 1
                };
                let weight = |t: &u32| f64::from(weights[*t as usize]);
                let all: f64 = (0..key_tiles as u32).map(|t| weight(&t)).sum();
                let mut expected: Vec<u32> = (0..own.end).filter(forced).collect();
                let mut others: Vec<u32> = (0..own.end).filter(|t| !forced(t)).collect();
                others.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
                let mut sum: f64 = expected.iter().map(weight).sum();
                for other in others {
                    if sum >= f64::from(share) * all {
                        break;
                    }
                    sum += weight(&other);
                    expected.push(other);
                }
                let found: Vec<u32> = (0..key_tiles as u32).filter(kept).collect();
                let mass: f64 = found.iter().map(weight).sum();
                // Rounding may decide about the last.
                prop_assert!(mass >= f64::from(share) * all - 1e-4 * all);
                prop_assert!(found.len().abs_diff(expected.len()) <= 1, "{found:?}, {expected:?}");
                prop_assert!((0..own.end).filter(forced).all(|t| kept(&t)));
            }
        }
    }
}

/// Coarse scores one by one, their softmax, and its sums by tile. With a stride of 1 the sums are
/// those of the weights themselves.
fn naive_tile_mass(case: &Case, grain: Grain) -> Vec<f64> {
    let Case { shape, rows, .. } = *case;
    let (stride, dim) = (grain.stride(), shape.head_dim);
    let (query_tiles, key_tiles) = (rows.div_ceil(MASK_TILE), case.key_tiles());
    let mut sums = vec![0.0; shape.heads * query_tiles * key_tiles];
    let query = |row: usize, head: usize, d: usize| {
        let at = (row * shape.heads + head) * dim + d;
        if row < rows { f64::from(case.q[at]) } else { 0.0 }
    };
    let key = |s: usize, token: usize, head: usize, d: usize| {
        let at = token * shape.kv_width() + head / shape.group() * dim + d;
        if token < case.segments[s].0 { f64::from(case.keys[s][at]) } else { 0.0 }
    };
    for head in 0..shape.heads {
        for i in 0..rows.div_ceil(stride) {
            let last = case.first() + (i * stride + stride - 1).min(rows - 1);
            let (mut scores, mut first_tile) = (Vec::new(), 0);
            for (s, (tokens, start)) in case.segments.iter().enumerate() {
                for j in 0..tokens.div_ceil(stride) {
                    if start + j * stride > last {
                        continue;
                    }
                    let score: f64 = match grain {
                        Grain::Antidiagonal { .. } => {
                            (0..stride * dim)
                                .map(|n| (n / dim, n % dim))
                                .map(|(n, d)| {
                                    query(i * stride + stride - 1 - n, head, d)
                                        * key(s, j * stride + n, head, d)
                                })
                                .sum::<f64>()
                                / stride as f64
                        }
                        Grain::Mean => {
                            let own = stride.min(rows - i * stride) as f64;
                            let theirs = stride.min(tokens - j * stride) as f64;
                            (0..dim)
                                .map(|d| {
                                    let q: f64 =
                                        (0..stride).map(|n| query(i * stride + n, head, d)).sum();
                                    let k: f64 =
                                        (0..stride).map(|n| key(s, j * stride + n, head, d)).sum();
                                    q / own * k / theirs
                                })
                                .sum()
                        }
                    };
                    let tile = first_tile + j * stride / MASK_TILE;
                    scores.push((tile, (score / (dim as f64).sqrt()).exp()));
                }
                first_tile += tokens.div_ceil(MASK_TILE);
            }
            let total: f64 = scores.iter().map(|(_, weight)| weight).sum();
            let row = head * query_tiles + i * stride / MASK_TILE;
            for (tile, weight) in scores {
                sums[row * key_tiles + tile] += weight / total;
            }
        }
    }
    sums
}

/// `cargo test --release -p asterism-tensor --lib -- --ignored --nocapture rate_of_tiles`
#[test]
#[ignore = "a measurement, for a machine that does nothing else"]
fn rate_of_tiles() {
    let shape = HeadShape { heads: 8, kv_heads: 2, head_dim: 128 };
    let mut random = Random(1);
    let rows = 8192;
    let case = Case::new(&mut random, shape, vec![(rows, 0)], rows, KvPrecision::Bf16);
    let cpu = Cpu::new(2, None).unwrap();
    let tiles = rows / MASK_TILE;
    let views = case.views();
    let sequence = KvSequence { rows: 0..rows, positions: RowPositions::From(0), segments: &views };
    let (mut out, mut lse) = (vec![0.0; case.q.len()], vec![0.0; rows * shape.heads]);
    let mut best = |run: &mut dyn FnMut(&mut [f32], &mut [f32])| {
        let time = |_| {
            let start = std::time::Instant::now();
            run(&mut out, &mut lse);
            start.elapsed().as_secs_f64()
        };
        (0..3).map(time).fold(f64::INFINITY, f64::min)
    };
    let all = (tiles * (tiles + 1) / 2 * shape.heads) as f64;
    let dense = best(&mut |out, lse| {
        cpu.attend(&case.q, shape, std::slice::from_ref(&sequence), out, lse);
    });
    println!("{:?}: dense {:.3} s, {:.2} us a tile", cpu.isa(), dense, dense / all * 1e6);
    for (heads, share) in [(1, 1.0), (1, 0.25), (shape.heads, 1.0), (shape.heads, 0.25)] {
        let mask = TileMask::new(heads, tiles, tiles, |_, query, list| {
            let own = query as u32;
            list.push(own);
            list.extend((0..own).filter(|_| random.next() < 2.0 * share - 1.0));
        });
        let time = best(&mut |out, lse| {
            cpu.attend_tiles(&case.q, shape, &sequence, &mask, out, lse);
        });
        let rate = dense / all / (time / mask.computed(shape.heads) as f64);
        println!("mask of {heads} heads, share {share}: {time:.3} s, rate {rate:.2} of dense's");
    }
    for grain in
        [Grain::Antidiagonal { stride: 8 }, Grain::Antidiagonal { stride: 16 }, Grain::Mean]
    {
        let mut sums = vec![0.0; shape.heads * tiles * tiles];
        let time = best(&mut |_, _| cpu.tile_mass(&case.q, shape, &sequence, grain, &mut sums));
        println!("{grain:?}: {:.3} of dense's time", time / dense);
    }
}
