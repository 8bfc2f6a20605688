//! cuDNN's attention against a naive one in f64 on the host.

use std::time::Instant;

use half::bf16;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::descriptor::check;
use super::graph::Graph;
use super::{Cudnn, Handle, Key, cudnn, libraries};
use crate::tensor::HeadShape;
use crate::tensor::cuda::tests::{device, halves, median, poisoned, random, relative_error};
use crate::tensor::cuda::{Buffer, CudaError};

const LLAMA: HeadShape = HeadShape { heads: 32, kv_heads: 8, head_dim: 128 };
const SMALL: HeadShape = HeadShape { heads: 4, kv_heads: 2, head_dim: 64 };
const WIDE: HeadShape = HeadShape { heads: 4, kv_heads: 2, head_dim: 128 };

struct Case {
    shape: HeadShape,
    tokens: usize,
    keys: usize,
    causal: bool,
    scale: f32,
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
        let kv = keys * kv_heads * head_dim;
        Self {
            shape,
            tokens,
            keys,
            causal,
            scale: 1.0 / (head_dim as f32).sqrt(),
            // Large enough for sharp maxima.
            q: halves(random, tokens * heads * head_dim, 4.0),
            k: halves(random, kv, 2.0),
            v: halves(random, kv, 1.0),
        }
    }

    /// The output and the logarithms, by the definition.
    fn naive(&self) -> (Vec<f64>, Vec<f64>) {
        let HeadShape { heads, kv_heads, head_dim } = self.shape;
        let (mut out, mut lse) = (Vec::new(), Vec::new());
        for token in 0..self.tokens {
            let seen = if self.causal { token + 1 + self.keys - self.tokens } else { self.keys };
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
                    (0..seen).map(|key| f64::from(self.scale) * dot(&self.k[row(key)])).collect();
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
        for (causal, padded) in [(false, false), (true, false), (false, true), (true, true)] {
            let key = Key { tokens, keys, shape, causal, padded };
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
        (WIDE, (255, 512), false),
        (LLAMA, (1, 333), false),
        (LLAMA, (65, 197), true),
        (LLAMA, (31, 200), false),
    ] {
        let case = Case::new(&mut random, shape, lengths, causal);
        let [q, k, v] =
            [&case.q, &case.k, &case.v].map(|host| Buffer::from_slice(&device, host).unwrap());
        // Twice: the second time by the plan that was kept.
        for _ in 0..2 {
            let mut out = poisoned::<bf16>(&device, case.q.len());
            let mut lse = poisoned::<f32>(&device, lengths.0 * shape.heads);
            cudnn
                .attend(
                    q.view(),
                    k.view(),
                    v.view(),
                    shape,
                    lengths,
                    case.scale,
                    causal,
                    out.view_mut(),
                    lse.view_mut(),
                )
                .unwrap();
            let (out, lse) = (out.to_vec().unwrap(), lse.to_vec().unwrap());
            let (error, lse_error) = case.errors(&out, &lse);
            println!("{shape:?} {lengths:?} causal {causal}: {error:.2e}, lse {lse_error:.2e}");
            assert!(error < 5e-3 && lse_error < 1e-5, "{shape:?} {lengths:?} causal {causal}");
        }
    }
}

#[test]
fn attention_that_sees_nothing_is_refused() {
    let Some(device) = device() else { return };
    let cudnn = Cudnn::new(&device).unwrap();
    let q = poisoned::<bf16>(&device, 2 * 4 * 64);
    let k = poisoned::<bf16>(&device, 2 * 64);
    let (mut out, mut lse) = (poisoned(&device, 2 * 4 * 64), poisoned(&device, 2 * 4));
    for (keys, causal) in [(0, false), (1, true)] {
        let k = k.slice(0..keys * 2 * 64).unwrap();
        let (out, lse) = (out.view_mut(), lse.view_mut());
        let refused = cudnn.attend(q.view(), k, k, SMALL, (2, keys), 1.0, causal, out, lse);
        assert!(matches!(refused, Err(CudaError::Unsupported { .. })), "{refused:?}");
    }
}

/// Whether one plan may serve shorter lengths: what it reads and writes beyond them.
#[test]
#[ignore = "an experiment"]
fn padding() {
    let Some(device) = device() else { return };
    let cudnn = Cudnn::new(&device).unwrap();
    let mut random = random();
    for (shape, lengths, bucket) in [
        (SMALL, (77, 301), (128, 384)),
        (WIDE, (200, 333), (256, 512)),
        (LLAMA, (65, 150), (128, 256)),
        (WIDE, (200, 333), (200, 512)),
        (WIDE, (1, 333), (1, 512)),
        (WIDE, (64, 333), (256, 1024)),
    ] {
        for (causal, padded, beyond) in [
            (true, true, 0.0),
            (true, true, f32::NAN),
            (false, true, 0.0),
            (false, true, f32::NAN),
            (true, false, 0.0),
            (true, false, f32::NAN),
        ] {
            let case = Case::new(&mut random, shape, lengths, causal);
            let longer = |host: &[bf16], rows: usize, width: usize| {
                let mut host = host.to_vec();
                host.resize(rows * width, bf16::from_f32(beyond));
                Buffer::from_slice(&device, &host).unwrap()
            };
            let (wide, narrow) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
            let q = longer(&case.q, bucket.0, wide);
            let k = longer(&case.k, bucket.1, narrow);
            let v = longer(&case.v, bucket.1, narrow);
            let mut out = poisoned::<bf16>(&device, (bucket.0 + 64) * wide);
            let mut lse = poisoned::<f32>(&device, bucket.0 * shape.heads);
            let key = Key { tokens: bucket.0, keys: bucket.1, shape, causal, padded };
            let start = Instant::now();
            let ran = cudnn.run(
                q.view(),
                k.view(),
                v.view(),
                lengths,
                case.scale,
                key,
                out.view_mut(),
                lse.view_mut(),
            );
            let planned = start.elapsed();
            let what = format!(
                "{lengths:?} in {bucket:?} causal {causal} padded {padded} beyond {beyond}"
            );
            if let Err(error) = ran {
                println!("{what}: {error}");
                continue;
            }
            let (out, lse) = (out.to_vec().unwrap(), lse.to_vec().unwrap());
            let (error, lse_error) = case.errors(&out, &lse);
            let written = |rows: std::ops::Range<usize>| {
                let part = &out[rows.start * wide..rows.end * wide];
                let touched = part.iter().filter(|x| x.to_bits() != 0xFFFF).count();
                (touched, part.iter().filter(|x| x.to_f32() == 0.0).count(), part.len())
            };
            println!(
                "{what}: {error:.2e}, lse {lse_error:.2e}; in the bucket (touched, zero, of) {:?}, behind it {:?}; {planned:?}",
                written(lengths.0..bucket.0),
                written(bucket.0..bucket.0 + 64),
            );
        }
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
    for (shape, lengths, bucket, causal, padded) in [
        (LLAMA, (8192, 65536), (8192, 65536), true, false),
        (LLAMA, (16384, 32768), (16384, 32768), true, false),
        (LLAMA, (4096, 4096), (4096, 4096), true, false),
        (LLAMA, (8192, 8192), (8192, 8192), false, false),
        (LLAMA, (1, 65536), (1, 65536), false, false),
        (LLAMA, (64, 32768), (64, 32768), false, false),
        (small, (16384, 32768), (16384, 32768), true, false),
        (LLAMA, (8192, 65536), (8192, 65536), true, true),
        (LLAMA, (16384, 32768), (16384, 32768), true, true),
        (LLAMA, (15000, 30000), (16384, 32768), true, true),
        (LLAMA, (15000, 30000), (15000, 30000), true, false),
        (LLAMA, (15000, 30000), (15000, 32768), true, false),
        (LLAMA, (8192, 8192), (8192, 8192), false, true),
    ] {
        let wide = shape.heads * shape.head_dim;
        let (q, kv) = (fill(bucket.0 * wide), fill(bucket.1 * shape.kv_heads * shape.head_dim));
        let v = fill(kv.len());
        let mut out = poisoned::<bf16>(&device, q.len());
        let mut lse = poisoned::<f32>(&device, bucket.0 * shape.heads);
        let key = Key { tokens: bucket.0, keys: bucket.1, shape, causal, padded };
        let mut run = || {
            let (out, lse) = (out.view_mut(), lse.view_mut());
            cudnn.run(q.view(), kv.view(), v.view(), lengths, 0.1, key, out, lse)
        };
        let start = Instant::now();
        if let Err(error) = run() {
            println!("{key:?}: {error}");
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
            "attention dim {:>3} {lengths:?} in {bucket:?} causal {causal} padded {padded}: {:.3} ms, {:.0} TFLOP/s, keys {:.2} TB/s; first {first:?}",
            shape.head_dim,
            seconds * 1e3,
            flops / seconds / 1e12,
            bytes / seconds / 1e12,
        );
    }
}
