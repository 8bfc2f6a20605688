//! Attention of several sequences in one call, over any number of segments, some keys of which are
//! hidden: against the CPU's, and to the last bit against each sequence alone.

use super::both::{Both, all, all_mut, all_of, on_both};
use super::{halves, random};
use crate::cuda::Kv;
use crate::{
    Attention, Buffers, Caching, HeadShape, KvPrecision, MassOver, Part, Positions, Segment,
    Sequence,
};
use half::bf16;
use rand_xoshiro::Xoshiro256PlusPlus;

/// Keys and values of a sequence on both sides, in segments of `page` tokens.
struct Keys {
    keys: (Kv, crate::Kv),
    values: (Kv, crate::Kv),
    tokens: usize,
    page: usize,
    /// Of each segment, which keys are hidden.
    hidden: Vec<Vec<bool>>,
}

impl Keys {
    fn new(
        both: &Both,
        random: &mut Xoshiro256PlusPlus,
        precision: KvPrecision,
        shape: HeadShape,
        (tokens, page, hides): (usize, usize, f32),
    ) -> Self {
        let len = tokens * shape.kv_width();
        let (k, v) = (both.rows(&halves(random, len, 2.0)), both.rows(&halves(random, len, 1.0)));
        let gpu = || both.gpu.kv(precision, shape, len).unwrap();
        let cpu = || both.cpu.kv(KvPrecision::F32, shape, len).unwrap();
        let (mut keys, mut values) = ((gpu(), cpu()), (gpu(), cpu()));
        let (gpu, cpu) = ([all(&k.0), all(&v.0)], [all(&k.1), all(&v.1)]);
        Caching::append(&both.gpu, [&mut keys.0, &mut values.0], gpu).unwrap();
        Caching::append(&both.cpu, [&mut keys.1, &mut values.1], cpu).unwrap();
        let hidden = (0..tokens)
            .step_by(page)
            .map(|start| {
                let count = page.min(tokens - start);
                halves(random, count, 1.0).iter().map(|x| x.to_f32().abs() < hides).collect()
            })
            .collect();
        Self { keys, values, tokens, page, hidden }
    }
}

/// Runs the sequences named by `chosen`, each with `tokens` queries at the end of its keys; gives
/// outputs and log-sum-exps of the GPU, of the CPU.
fn run(
    both: &Both,
    shape: HeadShape,
    sequences: &[(Keys, usize, Vec<bf16>)],
    chosen: &[usize],
) -> [(Vec<f32>, Vec<f32>); 2] {
    let q: Vec<bf16> = chosen.iter().flat_map(|i| sequences[*i].2.clone()).collect();
    let q = both.rows(&q);
    let mut out = both.no_rows(q.1.len());
    let mut lse = both.no_sums(q.1.len() / shape.head_dim);
    on_both!(both, |backend, side| {
        let listed: Vec<_> = chosen
            .iter()
            .map(|i| {
                let (keys, tokens, _) = &sequences[*i];
                let places = spread(keys, *tokens).unwrap_or_default();
                backend.listed(&places).unwrap()
            })
            .collect();
        let flags: Vec<Vec<_>> = chosen
            .iter()
            .map(|i| sequences[*i].0.hidden.iter().map(|h| backend.flags(h).unwrap()).collect())
            .collect();
        let segments: Vec<Vec<_>> = chosen
            .iter()
            .zip(&flags)
            .map(|(i, flags)| {
                let keys = &sequences[*i].0;
                let segment = |(s, start): (usize, usize)| {
                    let tokens = keys.page.min(keys.tokens - start);
                    let range = start * shape.kv_width()..(start + tokens) * shape.kv_width();
                    Segment {
                        keys: Part::new(&side!(keys.keys), range.clone()),
                        values: Part::new(&side!(keys.values), range),
                        tokens,
                        start,
                        hidden: keys.hidden[s].contains(&true).then_some(&flags[s]),
                        kept: None,
                    }
                };
                (0..keys.tokens).step_by(keys.page).enumerate().map(segment).collect()
            })
            .collect();
        let mut row = 0;
        let all_of_them: Vec<_> = chosen
            .iter()
            .zip(&segments)
            .zip(&listed)
            .map(|((i, segments), listed)| {
                let (keys, tokens, _) = &sequences[*i];
                let rows = row..row + tokens;
                row = rows.end;
                let positions = match spread(keys, *tokens) {
                    Some(_) => Positions::Listed(listed),
                    None => Positions::From(keys.tokens.saturating_sub(*tokens)),
                };
                Sequence { rows, positions, segments }
            })
            .collect();
        let (out, lse) = (all_mut(&mut side!(out)), all_mut(&mut side!(lse)));
        Attention::attend(backend, all(&side!(q)), shape, &all_of_them, out, lse).unwrap();
    });
    let wide = all_of(&out.0).into_iter().map(bf16::to_f32).collect();
    [(wide, all_of(&lse.0)), (out.1.to_vec(), lse.1.to_vec())]
}

/// Where `tokens` rows stand among keys some of which are hidden: spread over all of them.
fn spread(keys: &Keys, tokens: usize) -> Option<Vec<u32>> {
    let is_spread = tokens > 1 && keys.hidden.iter().flatten().any(|hidden| *hidden);
    let place = |row: usize| ((row + 1) * keys.tokens / tokens - 1) as u32;
    is_spread.then(|| (0..tokens).map(place).collect())
}

#[test]
fn sequences_of_one_call_are_those_of_the_cpu_and_do_not_depend_on_each_other() {
    let Some(both) = Both::open() else { return };
    let mut random = random();
    for (shape, precision) in [
        (HeadShape { heads: 8, kv_heads: 2, head_dim: 128 }, KvPrecision::Bf16),
        (HeadShape { heads: 4, kv_heads: 4, head_dim: 64 }, KvPrecision::Bf16),
        (HeadShape { heads: 6, kv_heads: 1, head_dim: 80 }, KvPrecision::Bf16),
        (HeadShape { heads: 8, kv_heads: 2, head_dim: 128 }, KvPrecision::Fp8),
    ] {
        // Queries; keys, tokens of a segment, share of hidden keys: pages, many segments, keys that
        // are split between blocks of threads, none, and prefills among what decodes.
        let cases = [
            (1, (700, 64, 0.0)),
            (1, (5000, 5000, 0.0)),
            (300, (700, 128, 0.0)),
            (1, (4500, 100, 0.3)),
            (1, (1, 64, 0.0)),
            (2, (3000, 700, 0.9)),
            (1, (40, 8, 1.1)),
            (77, (2500, 64, 0.5)),
            (1, (20_000, 600, 0.0)),
        ];
        let sequences: Vec<_> = cases
            .iter()
            .map(|(tokens, keys)| {
                let q = halves(&mut random, tokens * shape.q_width(), 1.0);
                (Keys::new(&both, &mut random, precision, shape, *keys), *tokens, q)
            })
            .collect();
        let what = format!("{shape:?}, {precision}");
        let alone: Vec<_> = (0..cases.len())
            .map(|i| {
                let [found, expected] = run(&both, shape, &sequences, &[i]);
                let most = if precision == KvPrecision::Fp8 { 0.2 } else { 0.02 };
                let all = found.0.iter().zip(&expected.0).chain(found.1.iter().zip(&expected.1));
                for (at, (a, b)) in all.enumerate() {
                    assert!(a == b || (a - b).abs() < most, "{what}: {i}, {at}: {a} and {b}");
                }
                found
            })
            .collect();
        for chosen in [vec![0, 1], vec![2, 3, 4, 5], (0..cases.len()).collect(), vec![8, 0, 7]] {
            let [found, _] = run(&both, shape, &sequences, &chosen);
            let expected = chosen.iter().flat_map(|i| alone[*i].0.clone());
            let logarithms = chosen.iter().flat_map(|i| alone[*i].1.clone());
            let same = |(a, b): (f32, &f32)| a.to_bits() == b.to_bits();
            assert!(expected.zip(&found.0).all(same), "{what}: {chosen:?}");
            assert!(logarithms.zip(&found.1).all(same), "{what}: {chosen:?}, logarithms");
        }
    }
}

#[test]
fn softmax_weights_are_those_of_the_cpu() {
    let Some(both) = Both::open() else { return };
    let mut random = random();
    for (shape, precision) in [
        (HeadShape { heads: 8, kv_heads: 2, head_dim: 128 }, KvPrecision::Bf16),
        (HeadShape { heads: 3, kv_heads: 1, head_dim: 80 }, KvPrecision::Bf16),
        (HeadShape { heads: 4, kv_heads: 2, head_dim: 64 }, KvPrecision::Fp8),
    ] {
        for (tokens, case) in [(1, (700, 64, 0.0)), (40, (900, 400, 0.4)), (3, (2, 8, 0.0))] {
            let q = halves(&mut random, (tokens + 1) * shape.q_width(), 1.0);
            let (keys, q) = (Keys::new(&both, &mut random, precision, shape, case), both.rows(&q));
            let mut out = both.no_rows(q.1.len());
            let mut lse = both.no_sums(q.1.len() / shape.head_dim);
            let mut sums = both.no_sums(shape.kv_heads * keys.tokens);
            on_both!(both, |backend, side| {
                let flags: Vec<_> =
                    keys.hidden.iter().map(|hidden| backend.flags(hidden).unwrap()).collect();
                let segment = |(s, start): (usize, usize)| {
                    let tokens = keys.page.min(keys.tokens - start);
                    let range = start * shape.kv_width()..(start + tokens) * shape.kv_width();
                    Segment {
                        keys: Part::new(&side!(keys.keys), range.clone()),
                        values: Part::new(&side!(keys.values), range),
                        tokens,
                        start,
                        hidden: Some(&flags[s]),
                        kept: None,
                    }
                };
                let segments: Vec<_> =
                    (0..keys.tokens).step_by(keys.page).enumerate().map(segment).collect();
                // The first row is of no sequence.
                let listed = backend.listed(&spread(&keys, tokens).unwrap_or_default()).unwrap();
                let positions = match spread(&keys, tokens) {
                    Some(_) => Positions::Listed(&listed),
                    None => Positions::From(keys.tokens.saturating_sub(tokens)),
                };
                let sequence = Sequence { rows: 1..tokens + 1, positions, segments: &segments };
                let of = std::slice::from_ref(&sequence);
                let (to, to_lse) = (all_mut(&mut side!(out)), all_mut(&mut side!(lse)));
                Attention::attend(backend, all(&side!(q)), shape, of, to, to_lse).unwrap();
                let (lse, sums) = (all(&side!(lse)), all_mut(&mut side!(sums)));
                let over = MassOver::Sum;
                Attention::mass(backend, all(&side!(q)), shape, &sequence, lse, over, sums)
                    .unwrap();
            });
            let most = if precision == KvPrecision::Fp8 { 0.05 } else { 1e-4 };
            both.check_sums(&sums, most, &format!("{shape:?}, {tokens} over {case:?}"));
        }
    }
}

#[test]
fn chosen_keys_are_those_of_the_cpu() {
    let Some(both) = Both::open() else { return };
    let mut random = random();
    let shape = HeadShape { heads: 4, kv_heads: 2, head_dim: 64 };
    for precision in [KvPrecision::Bf16, KvPrecision::Fp8] {
        let kept = Keys::new(&both, &mut random, precision, shape, (500, 500, 0.0));
        let chosen: Vec<u32> = (0..300).map(|i| i * 37 % 400).collect();
        let width = shape.kv_width();
        // Attention over all the chosen keys tells whether they are the same.
        let q = both.rows(&halves(&mut random, shape.q_width(), 1.0));
        let (mut out, mut lse) = (both.no_rows(shape.q_width()), both.no_sums(shape.heads));
        on_both!(both, |backend, side| {
            let gather = |kv| {
                Caching::gather(backend, Part::new(kv, 100 * width..500 * width), shape, &chosen)
            };
            let keys = gather(&side!(kept.keys)).unwrap();
            let values = gather(&side!(kept.values)).unwrap();
            assert_eq!(crate::Memory::len(&keys), 300 * width);
            let (keys, values) = (all(&keys), all(&values));
            let segments =
                [Segment { keys, values, tokens: 300, start: 0, hidden: None, kept: None }];
            let positions = Positions::From(300);
            let sequence = Sequence { rows: 0..1, positions, segments: &segments };
            let (to, to_lse) = (all_mut(&mut side!(out)), all_mut(&mut side!(lse)));
            Attention::attend(backend, all(&side!(q)), shape, &[sequence], to, to_lse).unwrap();
        });
        if precision == KvPrecision::Bf16 {
            both.check_rows(&out, "gathered");
        }
        let most = if precision == KvPrecision::Fp8 { 0.02 } else { 1e-4 };
        both.check_sums(&lse, most, "gathered");
    }
}
