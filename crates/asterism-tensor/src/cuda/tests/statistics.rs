//! What queries and keys are like, against the CPU's.

use super::both::{Both, all};
use super::{halves, numbers, random, relative_error};
use crate::{Caching, HeadShape, KvPrecision, Statistics};

#[test]
fn statistics_are_those_of_the_cpu() {
    let Some(both) = Both::open() else { return };
    let mut random = random();
    for (heads, kv_heads, head_dim) in [(8, 2, 128), (4, 4, 16), (6, 1, 80), (14, 2, 256)] {
        let shape = HeadShape { heads, kv_heads, head_dim };
        let what = format!("{shape:?}");
        let same = |found: &[f32], expected: &[f32], part: &str| {
            assert_eq!(found.len(), expected.len(), "{part}, {what}");
            let pairs = found.iter().zip(expected).map(|(a, b)| (f64::from(*a), f64::from(*b)));
            let error = relative_error(pairs);
            assert!(error < 1e-4, "{part}, {what}: {error:e}");
        };
        for tokens in [1, 65, 3000] {
            let q = both.rows(&halves(&mut random, tokens * shape.q_width(), 1.0));
            let frequencies: Vec<f32> = (0..head_dim / 2).map(|i| 0.7f32.powi(i as i32)).collect();
            let found = both.gpu.moments(all(&q.0), shape, 5000, &frequencies).unwrap();
            let expected = both.cpu.moments(all(&q.1), shape, 5000, &frequencies).unwrap();
            same(&found, &expected, "moments");

            let new = both.rows(&halves(&mut random, tokens * shape.kv_width(), 1.0));
            let mut gpu = [0, 1].map(|_| both.gpu.kv(KvPrecision::Bf16, shape, 0).unwrap());
            let mut cpu = [0, 1].map(|_| both.cpu.kv(KvPrecision::F32, shape, 0).unwrap());
            let [keys, values] = &mut gpu;
            Caching::append(&both.gpu, [keys, values], [all(&new.0), all(&new.0)]).unwrap();
            let [keys, values] = &mut cpu;
            Caching::append(&both.cpu, [keys, values], [all(&new.1), all(&new.1)]).unwrap();
            let mut queries = numbers(&mut random, heads * (head_dim + 1) * head_dim, 1.0);
            // A covariance is symmetric.
            for of_head in queries.chunks_exact_mut((head_dim + 1) * head_dim) {
                for (i, j) in (0..head_dim).flat_map(|i| (0..i).map(move |j| (i, j))) {
                    of_head[(1 + i) * head_dim + j] = of_head[(1 + j) * head_dim + i];
                }
            }
            let found = both.gpu.expected_scores(all(&gpu[0]), shape, &queries).unwrap();
            let expected = both.cpu.expected_scores(all(&cpu[0]), shape, &queries).unwrap();
            same(&found, &expected, "logits");
            let found = both.gpu.norms(all(&gpu[1]), shape).unwrap();
            same(&found, &both.cpu.norms(all(&cpu[1]), shape).unwrap(), "norms");
        }
    }
}
