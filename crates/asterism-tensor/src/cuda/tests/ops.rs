//! Every operation of the backend against the CPU's in f32, on the same random bf16 inputs.

use super::both::{Both, RowsOnBoth, SumsOnBoth, TOLERANCE, all, all_mut, all_of, on_both};
use super::{halves, numbers, random, relative_error};
use crate::cuda::Kv;
use crate::{
    Attention, Buffers, Caching, ElementsView, HeadShape, KvPrecision, Linear, Memory, Part, Pass,
    Positions, Precision, Rotation, RowReader, Segment, Sequence, SplitQkv, Tokens,
};
use half::bf16;
use half::slice::HalfFloatSliceExt;
use rand_xoshiro::Xoshiro256PlusPlus;
use std::sync::Arc;

/// Tokens and start of queries; starts and lengths of runs of keys.
type Case = (usize, usize, &'static [(usize, usize)]);

#[test]
fn norms_and_linear_layers_are_those_of_the_cpu() {
    let Some(both) = Both::open() else { return };
    let mut random = random();
    // Few and many rows, widths that vectors do and do not divide.
    for (rows, inputs, outputs) in [(1, 512, 384), (3, 200, 76), (8, 4096, 64), (70, 520, 136)] {
        let x = both.sums(&numbers(&mut random, rows * inputs, 3.0));
        let norm = numbers(&mut random, inputs, 2.0);
        let bias = numbers(&mut random, 2 * outputs, 0.5);
        let weights = halves(&mut random, 2 * outputs * inputs, 0.1);
        let (gate, up) = weights.split_at(outputs * inputs);
        let back = halves(&mut random, inputs * outputs, 0.1);
        let mut y = both.no_rows(rows * outputs);
        let mut logits = both.no_sums(rows * outputs);
        let mut residual = both.sums(&numbers(&mut random, rows * inputs, 1.0));
        on_both!(both, |backend, side| {
            let matrix = |w: &[bf16]| backend.matrix(&[ElementsView::Bf16(w)], inputs).unwrap();
            let weight = backend.vector(&norm).unwrap();
            let mut input = backend.activations(Precision::Bf16, Pass::Prefill);
            backend.rms_norm(all(&side!(x)), &weight, 1e-5, &mut input).unwrap();
            let (w, biases) = (matrix(gate), backend.vector(&bias[..outputs]).unwrap());
            Linear::linear(backend, &input, &w, Some(&biases), all_mut(&mut side!(y))).unwrap();
            Linear::linear_sums(backend, &input, &w, all_mut(&mut side!(logits))).unwrap();
            let pair =
                backend.pair(ElementsView::Bf16(gate), ElementsView::Bf16(up), inputs).unwrap();
            let mut gated = backend.activations(Precision::Bf16, Pass::Prefill);
            let biases = backend.vector(&bias).unwrap();
            Linear::linear_gated(backend, &input, &pair, Some(&biases), &mut gated).unwrap();
            let down = backend.matrix(&[ElementsView::Bf16(&back)], outputs).unwrap();
            Linear::linear_add(backend, &gated, &down, None, all_mut(&mut side!(residual)))
                .unwrap();
            let y = all(&side!(y));
            Linear::linear_add_rows(
                backend,
                y,
                &mut input,
                &down,
                None,
                all_mut(&mut side!(residual)),
            )
            .unwrap();
        });
        let what = format!("{rows} rows, {inputs} to {outputs}");
        both.check_rows(&y, &what);
        both.check_sums(&logits, TOLERANCE, &what);
        both.check_sums(&residual, TOLERANCE, &what);
    }
}

#[test]
fn tokens_are_embedded_and_rotated_as_on_the_cpu() {
    let Some(both) = Both::open() else { return };
    let mut random = random();
    for (shape, tokens) in [
        (HeadShape { heads: 6, kv_heads: 2, head_dim: 64 }, 33),
        (HeadShape { heads: 4, kv_heads: 1, head_dim: 16 }, 1),
        (HeadShape { heads: 2, kv_heads: 2, head_dim: 80 }, 7),
    ] {
        let (vocab, hidden, dim) = (50, 72, shape.head_dim);
        let table = Arc::new(halves(&mut random, vocab * hidden, 1.0));
        let ids: Vec<u32> = (0..tokens as u32).map(|t| t * 7 % vocab as u32).collect();
        let positions: Vec<u32> = (0..tokens as u32).map(|t| 990_000 + 31 * t).collect();
        let frequencies: Vec<f32> = (0..dim / 2).map(|i| 0.7f32.powi(i as i32)).collect();
        let norms = [1, 2].map(|_| numbers(&mut random, dim, 2.0));
        let qkv = both.rows(&halves(&mut random, tokens * shape.qkv_width(), 2.0));
        for with_norms in [false, true] {
            let mut x = both.no_sums(tokens * hidden);
            let mut angles = both.no_sums(tokens * dim);
            let mut q = both.no_rows(tokens * shape.q_width());
            let mut k = both.no_rows(tokens * shape.kv_width());
            let mut v = both.no_rows(tokens * shape.kv_width());
            on_both!(both, |backend, side| {
                let table = Arc::clone(&table);
                let reader: RowReader = Arc::new(move |row, out: &mut [f32]| {
                    table[row * hidden..][..hidden].convert_to_f32_slice(out);
                });
                let embedding = backend.embedding(reader, vocab, hidden).unwrap();
                let mut both_ids = Default::default();
                backend.set_ids(&mut both_ids, &ids, &positions).unwrap();
                backend.embed(&embedding, &both_ids, all_mut(&mut side!(x))).unwrap();
                let frequencies = backend.vector(&frequencies).unwrap();
                backend.angles(&frequencies, &both_ids, all_mut(&mut side!(angles))).unwrap();
                let [q_norm, k_norm] = [0, 1].map(|i| backend.vector(&norms[i]).unwrap());
                let norms = with_norms.then_some((&q_norm, &k_norm, 1e-6));
                let rotation = Rotation { norms, angles: all(&side!(angles)) };
                let out = SplitQkv {
                    q: all_mut(&mut side!(q)),
                    k: all_mut(&mut side!(k)),
                    v: all_mut(&mut side!(v)),
                };
                Tokens::split_and_rotate(backend, all(&side!(qkv)), shape, rotation, out).unwrap();
            });
            both.check_sums(&x, 1e-7, "embedding");
            both.check_sums(&angles, 1e-6, "angles");
            for (part, name) in [(&q, "q"), (&k, "k"), (&v, "v")] {
                both.check_rows(part, name);
            }
        }
    }
}

/// Keys of one run of positions, on both sides.
struct Run {
    keys: (Kv, crate::Kv),
    values: (Kv, crate::Kv),
    tokens: usize,
    start: usize,
}

impl Run {
    fn new(
        both: &Both,
        random: &mut Xoshiro256PlusPlus,
        precision: KvPrecision,
        shape: HeadShape,
        (start, tokens): (usize, usize),
    ) -> Self {
        let len = tokens * shape.kv_width();
        let (k, v) = (halves(random, len, 2.0), halves(random, len, 1.0));
        let (k, v) = (both.rows(&k), both.rows(&v));
        let gpu = |precision| both.gpu.kv(precision, shape, len / 2).unwrap();
        let cpu = || both.cpu.kv(KvPrecision::F32, shape, len).unwrap();
        let (mut keys, mut values) = ((gpu(precision), cpu()), (gpu(precision), cpu()));
        // In two parts, the second beyond the room there was.
        let parts = [0..tokens / 3 * shape.kv_width(), tokens / 3 * shape.kv_width()..len];
        for part in parts {
            let (k, v) = ([&k], [&v]);
            let new = [k[0], v[0]].map(|x| Part::new(&x.0, part.clone()));
            Caching::append(&both.gpu, [&mut keys.0, &mut values.0], new).unwrap();
            let new = [k[0], v[0]].map(|x| Part::new(&x.1, part.clone()));
            Caching::append(&both.cpu, [&mut keys.1, &mut values.1], new).unwrap();
        }
        Self { keys, values, tokens, start }
    }
}

fn attend_on_both(
    both: &Both,
    q: &RowsOnBoth,
    start: usize,
    shape: HeadShape,
    runs: &[Run],
) -> (RowsOnBoth, SumsOnBoth) {
    let mut out = both.no_rows(q.1.len());
    let mut lse = both.no_sums(q.1.len() / shape.head_dim);
    on_both!(both, |backend, side| {
        let segments: Vec<_> = runs
            .iter()
            .map(|run| Segment {
                keys: all(&side!(run.keys)),
                values: all(&side!(run.values)),
                tokens: run.tokens,
                start: run.start,
                hidden: None,
                kept: None,
            })
            .collect();
        let (q, out, lse) = (all(&side!(q)), all_mut(&mut side!(out)), all_mut(&mut side!(lse)));
        let rows = 0..q.len / shape.q_width();
        let positions = Positions::From(start);
        let all = Sequence { rows, positions, segments: &segments };
        Attention::attend(backend, q, shape, &[all], out, lse).unwrap();
    });
    (out, lse)
}

#[test]
fn attention_is_that_of_the_cpu() {
    let Some(both) = Both::open() else { return };
    let mut random = random();
    let shape = |heads, kv_heads, head_dim| HeadShape { heads, kv_heads, head_dim };
    // Tokens and start of the queries; starts and lengths of the runs of keys: the whole past, an
    // anchor and a block, a shard that ends among the queries, one after them, and none at all.
    let cases: [Case; 9] = [
        (1, 700, &[(0, 701)]),
        (5, 40, &[(0, 16), (32, 13)]),
        (77, 300, &[(0, 100), (250, 127)]),
        (200, 1000, &[(0, 400), (900, 150)]),
        (9, 50, &[(100, 30)]),
        (130, 64, &[(0, 64), (64, 130), (1000, 50)]),
        (300, 512, &[(400, 412), (0, 128)]),
        (4096, 4096, &[(0, 8192)]),
        (4100, 9000, &[(0, 1000), (8000, 5100)]),
    ];
    for shape in [shape(6, 2, 64), shape(4, 4, 16), shape(8, 1, 128), shape(2, 1, 80)] {
        for (tokens, start, runs) in cases {
            let q = both.rows(&halves(&mut random, tokens * shape.q_width(), 1.0));
            let runs: Vec<Run> = runs
                .iter()
                .map(|run| Run::new(&both, &mut random, KvPrecision::Bf16, shape, *run))
                .collect();
            let (out, lse) = attend_on_both(&both, &q, start, shape, &runs);
            let what = format!("{shape:?}, {tokens} at {start}");
            if start + tokens <= runs[0].start {
                assert!(all_of(&out.0).iter().all(|x| x.to_f32() == 0.0), "{what}");
                assert!(all_of(&lse.0).iter().all(|x| *x == f32::NEG_INFINITY), "{what}");
            } else {
                both.check_rows(&out, &what);
                both.check_sums(&lse, 1e-4, &what);
            }
        }
        // In 8 bits.
        let q = both.rows(&halves(&mut random, 3 * shape.q_width(), 0.3));
        let runs = [Run::new(&both, &mut random, KvPrecision::Fp8, shape, (0, 500))];
        let (out, _) = attend_on_both(&both, &q, 600, shape, &runs);
        let pairs = all_of(&out.0).into_iter().zip(out.1.to_vec());
        let error = relative_error(pairs.map(|(a, b)| (a.to_f64(), f64::from(b))));
        assert!(error < 0.1, "{shape:?} in fp8: {error:e}");
    }
}

#[test]
fn parts_merge_as_on_the_cpu() {
    let Some(both) = Both::open() else { return };
    let mut random = random();
    for (rows, dim) in [(37, 64), (4, 16), (1, 128), (300, 80)] {
        let mut out = both.rows(&halves(&mut random, rows * dim, 1.0));
        let part = both.rows(&halves(&mut random, rows * dim, 1.0));
        let mut lses = [1, 2].map(|_| numbers(&mut random, rows, 9.0));
        lses[0][0] = f32::NEG_INFINITY;
        lses[1][rows / 2] = f32::NEG_INFINITY;
        lses[1][rows - 1] = 300.0;
        let (mut lse, part_lse) = (both.sums(&lses[0]), both.sums(&lses[1]));
        on_both!(both, |backend, side| {
            let (part, part_lse) = (all(&side!(part)), all(&side!(part_lse)));
            let (out, lse) = (all_mut(&mut side!(out)), all_mut(&mut side!(lse)));
            Attention::merge(backend, out, lse, part, part_lse).unwrap();
        });
        both.check_rows(&out, "merged");
        both.check_sums(&lse, 1e-5, "merged");
    }
}

#[test]
fn many_parts_merge_as_on_the_cpu() {
    let Some(both) = Both::open() else { return };
    let mut random = random();
    for (count, rows, dim) in [(1, 5, 64), (2, 32, 128), (3, 37, 80), (8, 4, 16)] {
        let parts = both.rows(&halves(&mut random, count * rows * dim, 1.0));
        let mut lse = numbers(&mut random, count * rows, 9.0);
        // One part of a row saw nothing, and no part of the last row did.
        lse[0] = f32::NEG_INFINITY;
        lse.iter_mut().skip(rows - 1).step_by(rows).for_each(|lse| *lse = f32::NEG_INFINITY);
        let lse = both.sums(&lse);
        let mut out = both.no_rows(rows * dim);
        on_both!(both, |backend, side| {
            let (parts, lse) = (all(&side!(parts)), all(&side!(lse)));
            Attention::merge_all(backend, count, parts, lse, all_mut(&mut side!(out))).unwrap();
        });
        both.check_rows(&out, "merged");
    }
}
