//! cuDNN's attention against a naive one in f64 on the host.

use std::time::Instant;

use half::bf16;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::descriptor::check;
use super::graph::Graph;
use super::{Attention, Cudnn, Handle, Key, cudnn, libraries};
use crate::HeadShape;
use crate::cuda::tests::{device, halves, median, poisoned, random, relative_error};
use crate::cuda::{Buffer, CudaError, Gemm};

const LLAMA: HeadShape = HeadShape { heads: 32, kv_heads: 8, head_dim: 128 };
const SMALL: HeadShape = HeadShape { heads: 4, kv_heads: 2, head_dim: 64 };
const WIDE: HeadShape = HeadShape { heads: 4, kv_heads: 2, head_dim: 128 };

struct Case {
    attention: Attention,
    q: Vec<bf16>,
    k: Vec<bf16>,
    v: Vec<bf16>,
}

impl Case {
    fn new(
        random: &mut Xoshiro256PlusPlus,
        shape: HeadShape,
        (tokens, keys): (usize, usize),
        causal: bool,
    ) -> Self {
        let HeadShape { heads, kv_heads, head_dim } = shape;
        let (kv, scale) = (keys * kv_heads * head_dim, 1.0 / (head_dim as f32).sqrt());
        Self {
            attention: Attention { shape, tokens, keys, scale, causal },
            // Large enough for sharp maxima.
            q: halves(random, tokens * heads * head_dim, 4.0),
            k: halves(random, kv, 2.0),
            v: halves(random, kv, 1.0),
        }
    }

    /// The output and the logarithms, by the definition.
    fn naive(&self) -> (Vec<f64>, Vec<f64>) {
        let Attention { shape, tokens, keys, scale, causal, .. } = self.attention;
        let HeadShape { heads, kv_heads, head_dim } = shape;
        let (mut out, mut lse) = (Vec::new(), Vec::new());
        for token in 0..tokens {
            let seen = if causal { token + 1 + keys - tokens } else { keys };
            for head in 0..heads {
                let q = &self.q[(token * heads + head) * head_dim..][..head_dim];
                let row = |key: usize| {
                    let start = (key * kv_heads + head / (heads / kv_heads)) * head_dim;
                    start..start + head_dim
                };
                let dot = |k: &[bf16]| -> f64 {
                    q.iter().zip(k).map(|(q, k)| q.to_f64() * k.to_f64()).sum()
                };
                let scores: Vec<f64> =
                    (0..seen).map(|key| f64::from(scale) * dot(&self.k[row(key)])).collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|score| (score - max).exp()).sum();
                let mut mean = vec![0.0; head_dim];
                for (key, score) in scores.iter().enumerate() {
                    let weight = (score - max).exp() / sum;
                    for (mean, v) in mean.iter_mut().zip(&self.v[row(key)]) {
                        *mean += weight * v.to_f64();
                    }
                }
                out.extend(mean);
                lse.push(max + sum.ln());
            }
        }
        (out, lse)
    }

    /// The errors of `out` and `lse`, whose first elements are this case's.
    fn errors(&self, out: &[bf16], lse: &[f32]) -> (f64, f64) {
        let (expected, logarithms) = self.naive();
        let out = out.iter().map(|x| x.to_f64());
        let lse = lse.iter().map(|x| f64::from(*x));
        (relative_error(out.zip(expected)), relative_error(lse.zip(logarithms)))
    }
}

#[test]
#[allow(unsafe_code)]
fn graphs_are_accepted_without_a_gpu() {
    if let Err(missing) = libraries::cudnn() {
        return println!("skipped: {missing}");
    }
    let mut handle = std::ptr::null_mut();
    // SAFETY: the library is loaded; the call writes a handle.
    let created = check("cudnnCreate", unsafe { cudnn::cudnnCreate(&mut handle) });
    if let Err(error) = created {
        return println!("skipped: {error}");
    }
    let handle = Handle(handle);
    for (shape, (tokens, keys)) in [(LLAMA, (16384, 32768)), (SMALL, (77, 301)), (WIDE, (1, 9))] {
        for causal in [false, true] {
            let key = Key { tokens, keys, shape, causal };
            let graph = Graph::attention(handle.0, key);
            assert!(graph.is_ok(), "{key:?}: {:?}", graph.err());
        }
    }
}

#[test]
fn attention_is_that_of_the_definition() {
    let Some(device) = device() else { return };
    let cudnn = Cudnn::new(&device).unwrap();
    let mut random = random();
    for (shape, lengths, causal) in [
        (SMALL, (1, 1), false),
        (SMALL, (1, 77), true),
        (SMALL, (64, 64), true),
        (SMALL, (129, 1000), false),
        (SMALL, (77, 301), true),
        (WIDE, (300, 300), true),
        (WIDE, (257, 1025), true),
        (LLAMA, (1, 333), false),
        (LLAMA, (65, 197), true),
        (LLAMA, (31, 200), false),
    ] {
        let case = Case::new(&mut random, shape, lengths, causal);
        let [q, k, v] =
            [&case.q, &case.k, &case.v].map(|host| Buffer::from_slice(&device, host).unwrap());
        // Twice: the second time by the plan that was kept.
        for _ in 0..2 {
            let mut out = poisoned::<bf16>(&device, q.len() + 64);
            let mut lse = poisoned::<f32>(&device, lengths.0 * shape.heads);
            let inside = out.slice_mut(0..q.len()).unwrap();
            let (q, k, v) = (q.view(), k.view(), v.view());
            cudnn.attend(&case.attention, q, k, v, inside, lse.view_mut()).unwrap();
            let (out, lse) = (out.to_vec().unwrap(), lse.to_vec().unwrap());
            let (out, beyond) = out.split_at(q.len());
            let (error, lse_error) = case.errors(out, &lse);
            let what = format!("{lengths:?}, {shape:?}, causal {causal}");
            println!("{what}: {error:.2e}, lse {lse_error:.2e}");
            assert!(error < 5e-3 && lse_error < 1e-5, "{what}");
            assert!(beyond.iter().all(|x| x.is_nan()), "{what}: wrote behind the output");
        }
    }
}

#[test]
fn several_threads_share_the_plans() {
    let Some(device) = device() else { return };
    let (cudnn, gemm) = (Cudnn::new(&device).unwrap(), Gemm::new(&device).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (device, cudnn, gemm) = (&device, &cudnn, &gemm);
            scope.spawn(move || {
                let lengths = (40 + thread % 2, 90);
                let case = Case::new(&mut random(), SMALL, lengths, true);
                let [q, k, v] = [&case.q, &case.k, &case.v]
                    .map(|host| Buffer::from_slice(device, host).unwrap());
                let ones = Buffer::from_slice(device, &vec![bf16::ONE; 256 * 256]).unwrap();
                let mut sums = poisoned::<f32>(device, lengths.0 * 256);
                for _ in 0..20 {
                    let mut out = poisoned::<bf16>(device, case.q.len());
                    let mut lse = poisoned::<f32>(device, lengths.0 * SMALL.heads);
                    let views = (q.view(), k.view(), v.view(), out.view_mut(), lse.view_mut());
                    let (q, k, v, to, logarithms) = views;
                    cudnn.attend(&case.attention, q, k, v, to, logarithms).unwrap();
                    // Each row of the product is the sum of the output's row, 256 times.
                    let shape = (lengths.0, 256, 256);
                    gemm.f32(out.view(), ones.view(), shape, sums.view_mut()).unwrap();
                    let (out, sums) = (out.to_vec().unwrap(), sums.to_vec().unwrap());
                    let (error, lse_error) = case.errors(&out, &lse.to_vec().unwrap());
                    assert!(error < 5e-3 && lse_error < 1e-5, "{error:e}, {lse_error:e}");
                    for (row, sums) in out.chunks(256).zip(sums.chunks(256)) {
                        let sum: f32 = row.iter().map(|x| x.to_f32()).sum();
                        assert!(sums.iter().all(|x| (x - sum).abs() < 1e-3), "{sum}");
                    }
                }
            });
        }
    });
}

#[test]
fn attention_that_sees_nothing_is_refused() {
    let Some(device) = device() else { return };
    let cudnn = Cudnn::new(&device).unwrap();
    let q = poisoned::<bf16>(&device, 2 * 4 * 64);
    let k = poisoned::<bf16>(&device, 2 * 64);
    let (mut out, mut lse) = (poisoned(&device, 2 * 4 * 64), poisoned(&device, 2 * 4));
    for (keys, causal) in [(0, false), (1, true)] {
        let attention = Attention { shape: SMALL, tokens: 2, keys, scale: 1.0, causal };
        let k = k.slice(0..keys * 2 * 64).unwrap();
        let refused = cudnn.attend(&attention, q.view(), k, k, out.view_mut(), lse.view_mut());
        assert!(matches!(refused, Err(CudaError::Unsupported { .. })), "{refused:?}");
    }
}

#[test]
#[ignore = "a measurement"]
fn times_of_attention() {
    let Some(device) = device() else { return };
    let cudnn = Cudnn::new(&device).unwrap();
    let mut random = random();
    let some = halves(&mut random, 1 << 22, 1.0);
    let fill = |len: usize| {
        let mut buffer = Buffer::<bf16>::uninit(&device, len).unwrap();
        for start in (0..len).step_by(some.len()) {
            let part = some.len().min(len - start);
            buffer.slice_mut(start..start + part).unwrap().write(&some[..part]).unwrap();
        }
        buffer
    };
    let small = HeadShape { heads: 32, kv_heads: 8, head_dim: 64 };
    for (shape, lengths, causal) in [
        (LLAMA, (8192, 65536), true),
        (LLAMA, (16384, 32768), true),
        (LLAMA, (4096, 4096), true),
        (LLAMA, (8192, 8192), false),
        (LLAMA, (15001, 30003), true),
        (LLAMA, (333, 777), true),
        (LLAMA, (334, 778), true),
        (LLAMA, (1, 65536), false),
        (LLAMA, (64, 32768), false),
        (small, (16384, 32768), true),
    ] {
        let wide = shape.heads * shape.head_dim;
        let (q, kv) = (fill(lengths.0 * wide), fill(lengths.1 * shape.kv_heads * shape.head_dim));
        let v = fill(kv.len());
        let mut out = poisoned::<bf16>(&device, q.len());
        let mut lse = poisoned::<f32>(&device, lengths.0 * shape.heads);
        let attention = Attention { shape, tokens: lengths.0, keys: lengths.1, scale: 0.1, causal };
        let mut run = || {
            let (out, lse) = (out.view_mut(), lse.view_mut());
            cudnn.attend(&attention, q.view(), kv.view(), v.view(), out, lse)
        };
        let start = Instant::now();
        if let Err(error) = run() {
            println!("{attention:?}: {error}");
            continue;
        }
        device.synchronize().unwrap();
        let first = start.elapsed();
        let seconds = median(&device, 7, || run().unwrap()).as_secs_f64();
        let pairs = if causal {
            lengths.0 as f64 * (lengths.1 as f64 - lengths.0 as f64 / 2.0)
        } else {
            lengths.0 as f64 * lengths.1 as f64
        };
        let flops = 4.0 * pairs * wide as f64;
        let bytes = 2.0 * (kv.len() + v.len()) as f64;
        println!(
            "attention dim {:>3} {lengths:?} causal {causal}: {:.3} ms, {:.0} TFLOP/s, keys {:.2} TB/s; first {first:?}",
            shape.head_dim,
            seconds * 1e3,
            flops / seconds / 1e12,
            bytes / seconds / 1e12,
        );
    }
}
