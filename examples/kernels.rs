use asterism::tensor::*;
use half::bf16;
use std::time::Instant;
fn median(mut f: impl FnMut(), n: usize) -> f64 {
    for _ in 0..2 {
        f();
    }
    let mut v: Vec<f64> = (0..n)
        .map(|_| {
            let t = Instant::now();
            f();
            t.elapsed().as_secs_f64()
        })
        .collect();
    v.sort_by(f64::total_cmp);
    v[n / 2]
}
fn main() {
    let threads: usize = std::env::args().nth(1).map_or(2, |a| a.parse().unwrap());
    let isa = std::env::args().nth(2).map(|a| a.parse().unwrap());
    let cpu = Cpu::new(threads, isa).unwrap();
    println!("{cpu:?}");
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let t = median(|| cpu.for_each(threads, |_| ()), 1001);
    println!("empty loop {:.2} us", t * 1e6);
    for (rows, k, n) in [
        (2048, 512, 512),
        (2048, 512, 1408),
        (2048, 2048, 2048),
        (2048, 4096, 4096),
        (512, 384, 640),
        (512, 384, 384),
        (512, 1024, 384),
    ] {
        let w: Vec<bf16> = (0..k * n).map(|_| bf16::from_f32(next())).collect();
        let x: Vec<f32> = (0..rows * k).map(|_| next()).collect();
        let packed = cpu.pack_bf16(&[&w], k);
        let mut acts = Activations::new(Precision::Bf16);
        let mut y = vec![0.0; rows * n];
        let take = median(|| cpu.take_rows(&x, k, &mut acts), 9);
        let lin = median(|| cpu.linear(&acts, &packed, None, &mut y), 9);
        let f = 2.0 * (rows * k * n) as f64;
        println!(
            "linear {rows}x{k}x{n}: {:.0} GFLOP/s, with rounding {:.0}",
            f / lin / 1e9,
            f / (lin + take) / 1e9
        );
    }
    for (rows, k, n) in [(512, 384, 1024), (512, 512, 1408)] {
        let w: Vec<bf16> = (0..k * n).map(|_| bf16::from_f32(next())).collect();
        let x: Vec<f32> = (0..rows * k).map(|_| next()).collect();
        let packed = cpu.pack_bf16_pair(&w, &w, k);
        let (mut acts, mut out) =
            (Activations::new(Precision::Bf16), Activations::new(Precision::Bf16));
        cpu.take_rows(&x, k, &mut acts);
        let lin = median(|| cpu.linear_gated(&acts, &packed, None, &mut out), 21);
        println!("gated {rows}x{k}x2x{n}: {:.0} GFLOP/s", 4.0 * (rows * k * n) as f64 / lin / 1e9);
    }
    for (k, n) in [(4096, 4096), (384, 640), (4096, 14336)] {
        let w: Vec<bf16> = (0..k * n).map(|_| bf16::from_f32(next())).collect();
        let x: Vec<f32> = (0..k).map(|_| next()).collect();
        let packed = cpu.pack_bf16(&[&w], k);
        let mut acts = Activations::new(Precision::Bf16);
        cpu.take_rows(&x, k, &mut acts);
        let mut y = vec![0.0; n];
        let lin = median(|| cpu.linear(&acts, &packed, None, &mut y), 21);
        println!(
            "decode {k}x{n}: {:.1} us, {:.1} GB/s",
            lin * 1e6,
            2.0 * (k * n) as f64 / lin / 1e9
        );
    }
    for (dim, heads, kv) in [(64, 8, 8), (128, 8, 8), (64, 6, 2), (128, 32, 8)] {
        let shape = HeadShape { heads, kv_heads: kv, head_dim: dim };
        for n in [2048usize, 8192, 16384] {
            if heads == 32 && n > 8192 {
                continue;
            }
            let q: Vec<f32> = (0..n * shape.q_width()).map(|_| next()).collect();
            let kk: Vec<f32> = (0..n * shape.kv_width()).map(|_| next()).collect();
            let k = Elements::from_f32(Precision::Bf16, &kk);
            let v = Elements::from_f32(Precision::Bf16, &kk);
            let seg = KvSegment {
                keys: k.view(0..k.len()),
                values: v.view(0..v.len()),
                tokens: n,
                start: 0,
            };
            let mut out = vec![0.0; q.len()];
            let mut lse = vec![0.0; n * heads];
            let t = median(|| cpu.attend(&q, 0, shape, &[seg], &mut out, &mut lse), 3);
            let f = 4.0 * (n * (n + 1) / 2 * shape.q_width()) as f64;
            // The last chunk of 512 queries.
            let c = 512 * shape.q_width();
            let tc = median(
                || {
                    cpu.attend(
                        &q[q.len() - c..],
                        n - 512,
                        shape,
                        &[seg],
                        &mut out[..c],
                        &mut lse[..512 * heads],
                    )
                },
                5,
            );
            let fc = 4.0 * (512 * (n - 256) * shape.q_width()) as f64;
            let d = shape.q_width();
            let td = median(
                || cpu.attend(&q[..d], n, shape, &[seg], &mut out[..d], &mut lse[..heads]),
                11,
            );
            println!(
                "attention {heads}/{kv} x{dim} n {n}: causal {:.0} GFLOP/s, last 512 {:.0} GFLOP/s, decode {:.1} us {:.1} GB/s",
                f / t / 1e9,
                fc / tc / 1e9,
                td * 1e6,
                4.0 * (n * shape.kv_width()) as f64 / td / 1e9
            );
        }
    }
}
