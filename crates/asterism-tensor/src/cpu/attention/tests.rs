//! The attention kernels against the definition, over random shapes, positions and splits.

use super::*;
use crate::cpu::Kv;
use crate::testing::{cached, held, relative_error};
use crate::{Isa, KeptKeys, KvPrecision};
use half::bf16;
use proptest::prelude::*;
use std::ops::Range;

/// Softmax attention by its definition, in f64: returns (out, lse). `unseen` says of a KV head and
/// a token that no query sees its key.
fn naive(
    q: &[f32],
    places: &[usize],
    shape: HeadShape,
    keys: &[f32],
    values: &[f32],
    positions: &[usize],
    unseen: impl Fn(usize, usize) -> bool,
) -> (Vec<f32>, Vec<f32>) {
    let (mut out, mut lse) = (Vec::new(), Vec::new());
    let dim = shape.head_dim;
    for (row, q) in q.chunks(dim).enumerate() {
        let (token, kv_head) = (row / shape.heads, (row % shape.heads) / shape.group());
        let at = |t: usize| t * shape.kv_width() + kv_head * dim;
        let seen: Vec<usize> = (0..positions.len())
            .filter(|t| positions[*t] <= places[token] && !unseen(kv_head, *t))
            .collect();
        let scores: Vec<f64> = seen
            .iter()
            .map(|t| {
                let k = &keys[at(*t)..][..dim];
                q.iter().zip(k).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
                    / (dim as f64).sqrt()
            })
            .collect();
        let sum: f64 = scores.iter().map(|s| s.exp()).sum();
        lse.push(sum.ln() as f32);
        for d in 0..dim {
            let total: f64 = seen
                .iter()
                .zip(&scores)
                .map(|(t, s)| s.exp() * f64::from(values[at(*t) + d]))
                .sum();
            out.push(if seen.is_empty() { 0.0 } else { (total / sum) as f32 });
        }
    }
    (out, lse)
}

fn random(seed: &mut u64, len: usize) -> Vec<f32> {
    (0..len)
        .map(|_| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (*seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// Values up to 2 that bf16 represents exactly: storage must not change the expected result.
fn exact(seed: &mut u64, len: usize) -> Vec<f32> {
    random(seed, len).into_iter().map(|x| bf16::from_f32(x * 2.0).to_f32()).collect()
}

/// What the CPU caches keys in.
const PRECISIONS: [KvPrecision; 3] = [KvPrecision::F32, KvPrecision::Bf16, KvPrecision::Int8];

/// One sequence, all of whose rows are in `q`.
fn one(
    cpu: &Cpu,
    q: &[f32],
    positions: RowPositions<'_>,
    shape: HeadShape,
    segments: &[KvSegment<'_>],
    out: &mut [f32],
    lse: &mut [f32],
) {
    let all = KvSequence { rows: 0..q.len() / shape.q_width(), positions, segments };
    cpu.attend(q, shape, &[all], out, lse);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn attention_matches_the_definition(
        kv_heads in 1usize..3, group in 1usize..4, dim in prop_oneof![Just(8usize), Just(20), Just(64)],
        tokens in prop_oneof![1usize..4, 1usize..90], start in 0usize..400,
        lengths in proptest::collection::vec(0usize..300, 1..4), gap in 0usize..50,
        precision in prop::sample::select(&PRECISIONS[..]),
        hides in prop_oneof![Just(0.0f32), Just(0.5), Just(0.98)],
        gaps in prop::option::of(prop::collection::vec(0u32..9, 90)),
        keeps in prop_oneof![Just(1.0f32), Just(0.5), Just(0.1)],
        mut seed in any::<u64>()
    ) {
        let shape = HeadShape { heads: kv_heads * group, kv_heads, head_dim: dim };
        let q = random(&mut seed, tokens * shape.q_width());
        // Segments at increasing positions with gaps, as anchor and block have.
        let mut position = 0;
        let mut stored = Vec::new();
        let (mut all_keys, mut all_values, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        let (mut hidden, mut gone) = (Vec::new(), vec![Vec::new(); kv_heads]);
        for (number, len) in lengths.into_iter().enumerate() {
            let mut numbers = || held(precision, dim, &exact(&mut seed, len * shape.kv_width()));
            let (k, v) = (numbers(), numbers());
            positions.extend(position..position + len);
            let flags: Vec<bool> = random(&mut seed, len).iter().map(|x| x.abs() < hides).collect();
            hidden.extend(&flags);
            // Of every other segment each head keeps some keys, a head perhaps none.
            let chosen: Vec<Vec<u32>> = gone.iter_mut().map(|gone| {
                let all = number % 2 == 1 || keeps == 1.0;
                let lost: Vec<bool> =
                    random(&mut seed, len).iter().map(|x| !all && x.abs() > keeps).collect();
                gone.extend(&lost);
                (0..len as u32).filter(|t| !lost[*t as usize]).collect()
            }).collect();
            let kept = KeptKeys::new(len, &chosen).unwrap();
            let is_whole = kept.rows() == len * kv_heads;
            let rows = |all: &[f32]| -> Vec<f32> {
                let row = |row: u32| all[row as usize * dim..][..dim].to_vec();
                if is_whole { all.to_vec() } else { kept.rows_of_all().into_iter().flat_map(row).collect() }
            };
            let [ke, ve] = [&k, &v].map(|all| cached(precision, dim, &rows(all)));
            stored.push((ke, ve, kept, position, flags));
            all_keys.extend(k);
            all_values.extend(v);
            position += len + gap;
        }
        let segments: Vec<KvSegment<'_>> = stored.iter().flat_map(|(k, v, kept, start, flags)| {
            let (keys, values) = (k.view(0..k.len()), v.view(0..v.len()));
            let (tokens, start) = (kept.tokens(), *start);
            let hidden = (hides > 0.0).then_some(flags.as_slice());
            if kept.rows() == tokens * kv_heads {
                vec![KvSegment { keys, values, tokens, start, hidden, head: None }]
            } else {
                KvSegment::of_kept(kept, [keys, values], start, hidden).collect()
            }
        }).collect();
        // Rows stand one after the other, or with gaps.
        let listed: Option<Vec<u32>> = gaps.map(|gaps| {
            let mut next = start as u32;
            gaps[..tokens].iter().map(|gap| { next += 1 + gap; next }).collect()
        });
        let places: Vec<usize> = match &listed {
            Some(listed) => listed.iter().map(|place| *place as usize).collect(),
            None => (start..start + tokens).collect(),
        };
        let at = listed.as_deref().map_or(RowPositions::From(start), RowPositions::Listed);
        let (expected, expected_lse) =
            naive(&q, &places, shape, &all_keys, &all_values, &positions, |head, t| {
                hidden[t] || gone[head][t]
            });
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            let cpu = Cpu::new(2, Some(isa)).unwrap();
            // On tiles, queries and weights are rounded to bf16 too. Values reach 2.
            let rounded = precision != KvPrecision::F32 && cpu.kernels.tiles.is_some();
            let tolerance = if rounded { 2e-2 } else { 2e-5 };
            let check = |out: &[f32], lse: &[f32], what: &str| {
                for (i, (o, e)) in out.iter().zip(&expected).enumerate() {
                    assert!((o - e).abs() < tolerance, "{isa} {what} out[{i}] {o} instead of {e}");
                }
                for (l, e) in lse.iter().zip(&expected_lse) {
                    assert!(l == e || (l - e).abs() < tolerance, "{isa} {what} lse {l} instead of {e}");
                }
            };
            let mut out = vec![f32::NAN; q.len()];
            let mut lse = vec![f32::NAN; tokens * shape.heads];
            one(&cpu, &q, at, shape, &segments, &mut out, &mut lse);
            check(&out, &lse, "whole");
            // The same keys in three parts, merged.
            out.fill(0.0);
            lse.fill(f32::NEG_INFINITY);
            for part in 0..3 {
                let part: Vec<_> =
                    KeyRange::part(&segments, None, (part, 3)).tiles(shape, 1000, usize::MAX - 1).collect();
                let mut part_out = vec![f32::NAN; q.len()];
                let mut part_lse = vec![f32::NAN; lse.len()];
                one(&cpu, &q, at, shape, &part, &mut part_out, &mut part_lse);
                cpu.merge(&mut out, &mut lse, &part_out, &part_lse);
            }
            check(&out, &lse, "merged");
        }
    }
}

#[test]
fn few_queries_over_many_keys_are_split_between_threads() {
    let shape = HeadShape { heads: 4, kv_heads: 2, head_dim: 16 };
    let (mut seed, n) = (7, 5000);
    let size = n * shape.kv_width();
    let (k, v) = (exact(&mut seed, size), exact(&mut seed, size));
    let positions: Vec<usize> = (0..n).collect();
    // One token, and more whose rows are fewer than four threads could share.
    for tokens in [1, 9, 40, 150] {
        let (q, start) = (random(&mut seed, tokens * shape.q_width()), n - tokens);
        let (expected, expected_lse) =
            naive(&q, &positions[start..], shape, &k, &v, &positions, |_, _| false);
        for (precision, allowed) in [(KvPrecision::F32, 1e-5), (KvPrecision::Bf16, 1e-2)] {
            let stored = |values: &[f32]| cached(precision, shape.head_dim, values);
            let (ke, ve) = (stored(&k), stored(&v));
            let (keys, values) = (ke.view(0..size), ve.view(0..size));
            let segment = KvSegment { keys, values, tokens: n, start: 0, hidden: None, head: None };
            for threads in [1, 2, 4] {
                let cpu = Cpu::new(threads, None).unwrap();
                let mut out = vec![f32::NAN; q.len()];
                let mut lse = vec![f32::NAN; tokens * shape.heads];
                let at = RowPositions::From(start);
                one(&cpu, &q, at, shape, &[segment], &mut out, &mut lse);
                let named = format!("{tokens} tokens, {precision:?}, {threads} threads");
                for (found, expected) in [(&out, &expected), (&lse, &expected_lse)] {
                    let pairs = found.iter().zip(expected);
                    let error = relative_error(pairs.map(|(a, b)| (f64::from(*a), f64::from(*b))));
                    assert!(error < allowed, "{named}: {error}");
                }
            }
        }
    }
}

/// Keys and values of `tokens` tokens, in segments of `page` tokens each.
struct Paged {
    keys: Kv,
    values: Kv,
    tokens: usize,
    page: usize,
}

impl Paged {
    fn new(
        seed: &mut u64,
        shape: HeadShape,
        precision: KvPrecision,
        tokens: usize,
        page: usize,
    ) -> Self {
        let mut stored =
            || cached(precision, shape.head_dim, &random(seed, tokens * shape.kv_width()));
        Self { keys: stored(), values: stored(), tokens, page }
    }

    fn segments(&self, shape: HeadShape) -> Vec<KvSegment<'_>> {
        let width = shape.kv_width();
        (0..self.tokens)
            .step_by(self.page)
            .map(|start| {
                let end = (start + self.page).min(self.tokens);
                let range = start * width..end * width;
                let (keys, values) = (self.keys.view(range.clone()), self.values.view(range));
                let tokens = end - start;
                KvSegment { keys, values, tokens, start, hidden: None, head: None }
            })
            .collect()
    }
}

#[test]
fn a_sequence_gives_the_same_bits_whatever_else_is_in_the_call() {
    let mut seed = 11;
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        for (precision, head_dim) in PRECISIONS.into_iter().zip([20, 64, 64]) {
            let shape = HeadShape { heads: 4, kv_heads: 2, head_dim };
            let cpu = Cpu::new(3, Some(isa)).unwrap();
            // Keys that are split between threads, few, none, and pages; most rows are of sequences
            // that decode, every eighth sequence is a chunk of many rows.
            let lengths = [1800, 1, 300, 0, 4097];
            let all: Vec<Paged> = (0..17)
                .map(|i| {
                    let page = if i % 3 == 0 { 64 } else { 5000 };
                    Paged::new(&mut seed, shape, precision, lengths[i % 5] + i, page)
                })
                .collect();
            let segments: Vec<_> = all.iter().map(|paged| paged.segments(shape)).collect();
            let tokens = |i: usize| if i % 8 == 7 { 40 } else { 1 };
            let q = random(&mut seed, (0..17).map(tokens).sum::<usize>() * shape.q_width());
            let run = |chosen: &[usize]| {
                let (mut queries, mut sequences) = (Vec::new(), Vec::new());
                let mut row = 0;
                for &i in chosen {
                    let first = (0..i).map(tokens).sum::<usize>();
                    let width = shape.q_width();
                    queries.extend(&q[first * width..(first + tokens(i)) * width]);
                    let rows = row..row + tokens(i);
                    row = rows.end;
                    let start = (all[i].tokens + 3).saturating_sub(tokens(i));
                    let positions = RowPositions::From(start);
                    sequences.push(KvSequence { rows, positions, segments: &segments[i] });
                }
                let mut out = vec![f32::NAN; queries.len()];
                let mut lse = vec![f32::NAN; row * shape.heads];
                cpu.attend(&queries, shape, &sequences, &mut out, &mut lse);
                let width = shape.q_width();
                let of = |s: &KvSequence<'_>| {
                    let out = &out[s.rows.start * width..s.rows.end * width];
                    let lse = &lse[s.rows.start * shape.heads..s.rows.end * shape.heads];
                    out.iter().chain(lse).map(|x| x.to_bits()).collect::<Vec<u32>>()
                };
                sequences.iter().map(of).collect::<Vec<_>>()
            };
            let alone: Vec<_> = (0..17).map(|i| run(&[i]).remove(0)).collect();
            for count in [2, 3, 5, 8, 17] {
                let chosen: Vec<usize> = (17 - count..17).collect();
                for (found, i) in run(&chosen).into_iter().zip(chosen) {
                    assert!(found == alone[i], "{isa} {precision:?}: sequence {i} of {count}");
                }
            }
        }
    }
}

/// Bits of the outputs and log-sum-exps of sequences of one token, with a row of `q` each: `all`
/// has their positions and keys.
fn decoded(
    cpu: &Cpu,
    shape: HeadShape,
    q: &[&[f32]],
    all: &[(usize, &[KvSegment<'_>])],
) -> Vec<Vec<u32>> {
    let sequences: Vec<_> = all
        .iter()
        .enumerate()
        .map(|(row, (position, segments))| {
            let positions = RowPositions::From(*position);
            KvSequence { rows: row..row + 1, positions, segments }
        })
        .collect();
    let mut out = vec![f32::NAN; all.len() * shape.q_width()];
    let mut lse = vec![f32::NAN; all.len() * shape.heads];
    cpu.attend(&q.concat(), shape, &sequences, &mut out, &mut lse);
    let rows = out.chunks(shape.q_width()).zip(lse.chunks(shape.heads));
    rows.map(|(out, lse)| out.iter().chain(lse).map(|x| x.to_bits()).collect()).collect()
}

#[test]
fn questions_about_one_context_read_its_keys_once_and_give_the_same_bits_as_alone() {
    let mut seed = 17;
    let (context, count) = (4500, 17);
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        for (precision, head_dim) in PRECISIONS.into_iter().zip([20, 64, 64]) {
            let shape = HeadShape { heads: 6, kv_heads: 2, head_dim };
            let mut keys = |tokens, page| Paged::new(&mut seed, shape, precision, tokens, page);
            let book = keys(context, 4000);
            let tails: Vec<_> = (0..count).map(|i| keys(1 + 37 * i, 64)).collect();
            let hidden: Vec<bool> = (0..context).map(|t| t % 5 == 0).collect();
            let segments: Vec<Vec<_>> = (0..count)
                .map(|i| {
                    let mut all = book.segments(shape);
                    if i % 4 == 3 {
                        let flags = all.iter().map(|s| &hidden[s.start..s.start + s.tokens]);
                        let flags: Vec<_> = flags.collect();
                        all.iter_mut().zip(flags).for_each(|(s, flags)| s.hidden = Some(flags));
                    }
                    let tail = tails[i].segments(shape).into_iter();
                    all.extend(tail.map(|s| KvSegment { start: s.start + context, ..s }));
                    all
                })
                .collect();
            // The sixth stands in the middle of the book.
            let position = |i: usize| if i == 5 { 2345 } else { context + tails[i].tokens };
            let q = random(&mut seed, count * shape.q_width());
            let q: Vec<&[f32]> = q.chunks(shape.q_width()).collect();
            let all: Vec<_> = (0..count).map(|i| (position(i), &segments[i][..])).collect();
            for threads in [1, 3] {
                let cpu = Cpu::new(threads, Some(isa)).unwrap();
                let alone: Vec<_> =
                    (0..count).flat_map(|i| decoded(&cpu, shape, &q[i..=i], &all[i..=i])).collect();
                for from in [0, 9, 12, 14, 15] {
                    let found = decoded(&cpu, shape, &q[from..], &all[from..]);
                    for (i, (found, alone)) in found.iter().zip(&alone[from..]).enumerate() {
                        assert!(found == alone, "{isa} {precision:?} {threads}: {i} from {from}");
                    }
                }
            }
        }
    }
}

#[test]
fn rows_of_no_sequence_stay_as_they_are() {
    let shape = HeadShape { heads: 2, kv_heads: 1, head_dim: 16 };
    let (mut seed, cpu) = (3, Cpu::new(2, None).unwrap());
    let paged = Paged::new(&mut seed, shape, KvPrecision::Bf16, 50, 64);
    let segments = paged.segments(shape);
    let q = random(&mut seed, 5 * shape.q_width());
    let (mut out, mut lse) = (vec![7.0; q.len()], vec![7.0; 5 * shape.heads]);
    let positions = RowPositions::From(50);
    let sequence = |rows: Range<usize>| KvSequence { positions, segments: &segments, rows };
    cpu.attend(&q, shape, &[sequence(1..2), sequence(4..5)], &mut out, &mut lse);
    for row in 0..5 {
        let untouched = out[row * shape.q_width()..][..shape.q_width()].iter().all(|x| *x == 7.0);
        assert_eq!(untouched, row != 1 && row != 4, "row {row}");
        assert_eq!(lse[2 * row] == 7.0, untouched);
    }
    let overlap = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cpu.attend(&q, shape, &[sequence(0..3), sequence(2..5)], &mut out, &mut lse);
    }));
    assert!(overlap.is_err());
}

#[test]
fn keys_in_8_bits_are_the_numbers_they_stand_for() {
    let shape = HeadShape { heads: 6, kv_heads: 2, head_dim: 64 };
    let (mut seed, n) = (13, 1300);
    let size = n * shape.kv_width();
    // Some keys are much longer than others, and some zero.
    let mut numbers = || -> Vec<f32> {
        let scales = random(&mut seed, n * shape.kv_heads);
        let all = random(&mut seed, size);
        let scaled = all.iter().zip(0..).map(|(x, i)| {
            let scale = scales[i / shape.head_dim];
            if scale > 0.9 { 0.0 } else { x * (2.0 * scale).exp2() }
        });
        scaled.collect()
    };
    let (k, v) = (numbers(), numbers());
    let [ke, ve] = [&k, &v].map(|all| cached(KvPrecision::Int8, shape.head_dim, all));
    let [k, v] = [&k, &v].map(|all| held(KvPrecision::Int8, shape.head_dim, all));
    let (keys, values) = (ke.view(0..size), ve.view(0..size));
    let segment = KvSegment { keys, values, tokens: n, start: 0, hidden: None, head: None };
    let positions: Vec<usize> = (0..n).collect();
    for tokens in [1, 3, 70] {
        let (q, start) = (random(&mut seed, tokens * shape.q_width()), n - tokens);
        let (expected, expected_lse) =
            naive(&q, &positions[start..], shape, &k, &v, &positions, |_, _| false);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            let cpu = Cpu::new(2, Some(isa)).unwrap();
            // Of few rows nothing is rounded but sums; tiles round queries and weights, too.
            let is_few = tokens * shape.group() < FEW_ROWS;
            let allowed = if is_few || cpu.kernels.tiles.is_none() { 1e-5 } else { 5e-3 };
            let mut out = vec![f32::NAN; q.len()];
            let mut lse = vec![f32::NAN; tokens * shape.heads];
            one(&cpu, &q, RowPositions::From(start), shape, &[segment], &mut out, &mut lse);
            for (found, expected) in [(&out, &expected), (&lse, &expected_lse)] {
                let pairs = found.iter().zip(expected);
                let error = relative_error(pairs.map(|(a, b)| (f64::from(*a), f64::from(*b))));
                assert!(error < allowed, "{tokens} tokens, {isa}: {error}");
            }
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn times_of_one_query_over_many_segments() {
    let shape = HeadShape { heads: 32, kv_heads: 8, head_dim: 128 };
    let (mut seed, tokens) = (5, 16 * 1024);
    let cpu = Cpu::new(2, None).unwrap();
    let mut all =
        PRECISIONS.map(|precision| Paged::new(&mut seed, shape, precision, tokens, tokens));
    let q = random(&mut seed, shape.q_width());
    let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; shape.heads]);
    // In turns: other load on the machine then slows all alike.
    let pages = [tokens, 512, 256, 128, 64];
    let mut times = vec![Vec::new(); all.len() * pages.len()];
    for _ in 0..25 {
        for (i, times) in times.iter_mut().enumerate() {
            let paged = &mut all[i / pages.len()];
            paged.page = pages[i % pages.len()];
            let segments = paged.segments(shape);
            let start = std::time::Instant::now();
            let at = RowPositions::From(tokens);
            one(&cpu, &q, at, shape, &segments, &mut out, &mut lse);
            times.push(start.elapsed());
        }
    }
    for (i, times) in times.iter_mut().enumerate() {
        times.sort();
        let (precision, page) = (PRECISIONS[i / pages.len()], pages[i % pages.len()]);
        let (middle, least) = (times[12], times[0]);
        println!("{tokens} keys in {precision}, segments of {page}: {middle:?}, least {least:?}");
    }
}
