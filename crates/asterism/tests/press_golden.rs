//! Scores against those of kvpress 0.5.4 for the same tensors: `tests/golden/press/make.py`.

#![allow(clippy::unwrap_used)]

mod common;

use asterism::plan::{HeadBudget, Span};
use asterism::press::expected::{EPSILON, FUTURE, Moments, expected};
use asterism::press::{compactor, plain, select, window};
use asterism::tensor::{Aligned, Buffers, Caching, Cpu, HeadShape, KvPrecision, Part, Statistics};
use common::{Golden, max_difference};

const SHAPE: HeadShape = HeadShape { heads: 4, kv_heads: 2, head_dim: 16 };
const TOKENS: usize = 268;

fn frequencies() -> Vec<f32> {
    (0..8).map(|i| 10_000f32.powf(-2.0 * i as f32 / 16.0)).collect()
}

fn assert_same(found: &[f32], expected: &[f32], what: &str) {
    let most = expected.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let difference = max_difference(found, expected) / most;
    assert!(difference < 2e-4, "{what}: {difference}");
}

/// The token-major rows of some tokens.
fn rows(all: &[f32], tokens: std::ops::Range<usize>, width: usize) -> &[f32] {
    &all[tokens.start * width..tokens.end * width]
}

/// Keys and values as they are cached.
fn cached(cpu: &Cpu, [k, v]: [&[f32]; 2]) -> [<Cpu as Buffers>::Kv; 2] {
    let [mut keys, mut values] = [k, v].map(|x| cpu.kv(KvPrecision::F32, SHAPE, x.len()).unwrap());
    let [k, v] = [k, v].map(aligned);
    let new = [Part::new(&k, 0..k.len()), Part::new(&v, 0..v.len())];
    Caching::append(cpu, [&mut keys, &mut values], new).unwrap();
    [keys, values]
}

fn aligned(numbers: &[f32]) -> Aligned<f32> {
    numbers.iter().copied().collect()
}

#[test]
fn plain_scores_are_those_of_kvpress() {
    let (golden, cpu) = (Golden::open("press"), Cpu::new(2, None).unwrap());
    let k = golden.floats("k");
    let [keys, _] = cached(&cpu, [&k, &k]);
    let lengths = cpu.norms(Part::new(&keys, 0..k.len()), SHAPE).unwrap();
    assert_same(&plain::knorm(lengths), &golden.floats("knorm"), "knorm");
    // kvpress marks what is kept; this ranks tokens so that the same ones are.
    let kept = select::select(&plain::streaming(TOKENS, 2), 2, TOKENS / 2, 4, HeadBudget::Even);
    for (head, marks) in golden.floats("streaming").chunks(TOKENS).enumerate() {
        let marked: Vec<u32> = (0..TOKENS as u32).filter(|t| marks[*t as usize] > 0.0).collect();
        assert_eq!(kept.head(head), marked);
    }
}

#[test]
fn the_window_scores_as_in_kvpress() {
    let golden = Golden::open("press");
    let (q, k) = (golden.floats("q"), golden.floats("k"));
    let mut mass = vec![0.0f32; 2 * TOKENS];
    for token in TOKENS - window::WINDOW..TOKENS {
        for head in 0..4 {
            let q = &q[(token * 4 + head) * 16..][..16];
            let logit = |t: usize| {
                let k = &k[(t * 2 + head / 2) * 16..][..16];
                q.iter().zip(k).map(|(a, b)| f64::from(a * b)).sum::<f64>() / 4.0
            };
            let total: f64 = (0..=token).map(|t| logit(t).exp()).sum();
            for t in 0..=token {
                mass[head / 2 * TOKENS + t] += (logit(t).exp() / total) as f32;
            }
        }
    }
    let found = window::snapkv(&mass, SHAPE, window::WINDOW);
    assert_same(&found, &golden.floats("snapkv"), "snapkv");
}

#[test]
fn expected_attention_is_that_of_kvpress_and_so_are_the_budgets_of_heads() {
    let (golden, cpu) = (Golden::open("press"), Cpu::new(2, None).unwrap());
    let [q, k, v] = ["q", "k", "v"].map(|name| golden.floats(name));
    let (q, kept) = (aligned(&q), cached(&cpu, [&k, &v]));
    let kept = kept.each_ref().map(|kept| Part::new(kept, 0..kept.len()));
    let mut moments = Moments::new(SHAPE);
    let counted = Part::new(&q, 4 * 64..TOKENS * 64);
    moments.add(&cpu, counted, Span::new(4..TOKENS), &frequencies()).unwrap();
    let future = Span { start: TOKENS, len: FUTURE };
    let queries = moments.expected(future, &frequencies());
    let mut last = Vec::new();
    for (epsilon, name) in [(0.0, "expected"), (EPSILON, "expected_epsilon")] {
        let found = expected(&cpu, kept, SHAPE, &queries, 4, epsilon).unwrap();
        let golden = golden.floats(name);
        for head in 0..2 {
            // The first tokens get a mark there and are kept apart here.
            let own = head * TOKENS + 4..(head + 1) * TOKENS;
            assert_same(&found[own.clone()], &golden[own], name);
        }
        last = found;
    }
    let kept = select::select(&last, 2, TOKENS / 2, 4, HeadBudget::Layer);
    for (head, marks) in golden.floats("adakv").chunks(TOKENS).enumerate() {
        let marked: Vec<u32> = (0..TOKENS as u32).filter(|t| marks[*t as usize] > 0.0).collect();
        assert_eq!(kept.head(head), marked, "head {head}");
    }
}

#[test]
fn compactor_is_that_of_kvpress() {
    let (golden, cpu) = (Golden::open("press"), Cpu::new(2, None).unwrap());
    let [q, k, v, sketch] = ["q", "k", "v", "sketch"].map(|name| golden.floats(name));
    let (first, last) = compactor::ENDS;
    let inner = first..TOKENS - last;
    let (q, k) = (rows(&q, inner.clone(), 64), rows(&k, inner.clone(), 32));
    let columns = compactor::columns(&cpu, q, k, SHAPE);
    assert_same(&columns, &golden.floats("columns"), "columns");
    let mut turned = k.to_vec();
    for (token, position) in turned.chunks_exact_mut(32).zip(inner.clone()) {
        for head in token.chunks_exact_mut(16) {
            for (i, frequency) in frequencies().iter().enumerate() {
                let (sin, cos) = (position as f32 * frequency).sin_cos();
                let (a, b) = (head[i], head[i + 8]);
                (head[i], head[i + 8]) = (cos * a + sin * b, cos * b - sin * a);
            }
        }
    }
    let leverage = compactor::leverage(&cpu, &turned, SHAPE, &sketch);
    assert_same(&leverage, &golden.floats("leverage"), "leverage");
    let norms: Vec<f32> = (0..2)
        .flat_map(|head| {
            let of = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
            rows(&v, inner.clone(), 32)
                .chunks_exact(32)
                .map(|token| of(&token[head * 16..][..16]))
                .collect::<Vec<_>>()
        })
        .collect();
    let scores = compactor::compactor(&columns, &norms, &leverage, 2, 0.5);
    let scores = compactor::with_ends(&scores, 2, (first, last));
    assert_same(&scores, &golden.floats("compactor"), "compactor");
}
