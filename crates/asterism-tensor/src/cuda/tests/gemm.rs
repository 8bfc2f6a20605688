//! Matrix products against f64 sums on the host.

use half::bf16;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::Rng;

use super::super::{Buffer, Gemm};
use super::{device, halves, median, numbers, poisoned, random, relative_error};

/// Elements of an output that are compared, at random places: all sums would take the host too
/// long.
const SAMPLES: usize = 2000;

/// Row `row` of `x` times row `output` of `w`, both with rows of `inputs`.
fn sum(x: &[bf16], w: &[bf16], inputs: usize, row: usize, output: usize) -> f64 {
    let x = &x[row * inputs..(row + 1) * inputs];
    let w = &w[output * inputs..(output + 1) * inputs];
    x.iter().zip(w).map(|(x, w)| x.to_f64() * w.to_f64()).sum()
}

/// [`relative_error`] of `y`, `[rows, outputs]`, at random places; NaN if any element is.
fn error_of(
    random: &mut Xoshiro256PlusPlus,
    y: &[f32],
    (rows, outputs): (usize, usize),
    expected: impl Fn(usize, usize) -> f64,
) -> f64 {
    if y.iter().any(|y| y.is_nan()) {
        return f64::NAN;
    }
    let mut below = |n: usize| random.next_u64() as usize % n;
    relative_error((0..SAMPLES).map(|_| {
        let (row, output) = (below(rows), below(outputs));
        (f64::from(y[row * outputs + output]), expected(row, output))
    }))
}

#[test]
fn products_are_those_of_the_host() {
    let Some(device) = device() else { return };
    let gemm = Gemm::new(&device).unwrap();
    let mut random = random();
    let shapes =
        [(1, 4096, 14336), (1, 64, 24), (7, 520, 136), (512, 2048, 896), (8192, 4096, 1024)];
    for (rows, inputs, outputs) in shapes {
        let shape = (rows, inputs, outputs);
        let x = halves(&mut random, rows * inputs, 1.0);
        let w = halves(&mut random, outputs * inputs, 1.0);
        let before = numbers(&mut random, rows * outputs, (inputs as f32).sqrt());
        let (on_x, on_w) =
            (Buffer::from_slice(&device, &x).unwrap(), Buffer::from_slice(&device, &w).unwrap());
        let product = |row, output| sum(&x, &w, inputs, row, output);
        // Twice each: the second time by the plan that was kept.
        for _ in 0..2 {
            let mut y = poisoned::<bf16>(&device, rows * outputs);
            gemm.bf16(on_x.view(), on_w.view(), shape, y.view_mut()).unwrap();
            let y: Vec<f32> = y.to_vec().unwrap().into_iter().map(bf16::to_f32).collect();
            let error = error_of(&mut random, &y, (rows, outputs), product);
            assert!(error < 4e-3, "{shape:?} in bf16: {error:e}");

            let mut y = poisoned::<f32>(&device, rows * outputs);
            gemm.f32(on_x.view(), on_w.view(), shape, y.view_mut()).unwrap();
            let error = error_of(&mut random, &y.to_vec().unwrap(), (rows, outputs), product);
            assert!(error < 1e-5, "{shape:?} in f32: {error:e}");

            let mut y = Buffer::from_slice(&device, &before).unwrap();
            gemm.accumulate(on_x.view(), on_w.view(), shape, y.view_mut()).unwrap();
            let added = |row: usize, output: usize| {
                f64::from(before[row * outputs + output]) + product(row, output)
            };
            let error = error_of(&mut random, &y.to_vec().unwrap(), (rows, outputs), added);
            assert!(error < 1e-5, "{shape:?} added: {error:e}");
        }
    }
}

#[test]
fn views_need_no_alignment() {
    let Some(device) = device() else { return };
    let gemm = Gemm::new(&device).unwrap();
    let mut random = random();
    let (rows, inputs, outputs) = (5, 256, 64);
    let (x, w) =
        (halves(&mut random, 3 + rows * inputs, 1.0), halves(&mut random, outputs * inputs, 1.0));
    let (on_x, on_w) =
        (Buffer::from_slice(&device, &x).unwrap(), Buffer::from_slice(&device, &w).unwrap());
    let mut y = poisoned::<f32>(&device, rows * outputs + 1);
    let (from, to) = (on_x.slice(3..x.len()).unwrap(), y.slice_mut(1..1 + rows * outputs).unwrap());
    gemm.f32(from, on_w.view(), (rows, inputs, outputs), to).unwrap();
    let y = y.to_vec().unwrap();
    assert!(y[0].is_nan(), "wrote before its view");
    let product = |row, output| sum(&x[3..], &w, inputs, row, output);
    let error = error_of(&mut random, &y[1..], (rows, outputs), product);
    assert!(error < 1e-5, "{error:e}");
}

#[test]
fn views_of_another_shape_are_refused() {
    let Some(device) = device() else { return };
    let gemm = Gemm::new(&device).unwrap();
    let (x, w) = (poisoned::<bf16>(&device, 2 * 64), poisoned::<bf16>(&device, 32 * 64));
    let mut y = poisoned::<bf16>(&device, 2 * 32);
    for shape in [(1, 64, 32), (2, 32, 32), (2, 64, 16)] {
        assert!(gemm.bf16(x.view(), w.view(), shape, y.view_mut()).is_err(), "{shape:?}");
    }
}

#[test]
#[ignore = "a measurement"]
fn times_of_products() {
    let Some(device) = device() else { return };
    let gemm = Gemm::new(&device).unwrap();
    let mut random = random();
    for (rows, inputs, outputs) in [
        (1, 4096, 14336),
        (1, 14336, 4096),
        (1, 4096, 6144),
        (1, 4096, 128_256),
        (64, 4096, 14336),
        (512, 4096, 14336),
        (8192, 4096, 14336),
        (8192, 14336, 4096),
        (8192, 4096, 6144),
        (8192, 4096, 4096),
    ] {
        let shape = (rows, inputs, outputs);
        let x = Buffer::from_slice(&device, &halves(&mut random, rows * inputs, 1.0)).unwrap();
        // Several weights in turn, so that none is still in the cache when its turn comes again.
        let copies = (200 << 20) / (inputs * outputs * 2) + 1;
        let host = halves(&mut random, outputs * inputs, 1.0);
        let w: Vec<_> = (0..copies).map(|_| Buffer::from_slice(&device, &host).unwrap()).collect();
        let mut halves = poisoned::<bf16>(&device, rows * outputs);
        let mut floats = Buffer::<f32>::zeros(&device, rows * outputs).unwrap();
        let mut turn = 0;
        let mut next = || {
            turn += 1;
            w[turn % copies].view()
        };
        let bf16 = median(&device, 20, || {
            gemm.bf16(x.view(), next(), shape, halves.view_mut()).unwrap();
        });
        let f32 = median(&device, 20, || {
            gemm.f32(x.view(), next(), shape, floats.view_mut()).unwrap();
        });
        let added = median(&device, 20, || {
            gemm.accumulate(x.view(), next(), shape, floats.view_mut()).unwrap();
        });
        let flops = 2.0 * (rows * inputs * outputs) as f64;
        let bytes = 2.0 * (inputs * outputs) as f64;
        for (kind, time) in [("bf16", bf16), ("f32", f32), ("added", added)] {
            let seconds = time.as_secs_f64();
            println!(
                "gemm {rows:>5} x {inputs:>5} -> {outputs:>6} {kind:<5}: {:>8.1} us, {:>6.1} TFLOP/s, weights {:>5.2} TB/s",
                seconds * 1e6,
                flops / seconds / 1e12,
                bytes / seconds / 1e12
            );
        }
    }
}
