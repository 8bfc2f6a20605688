//! Products of few rows against f64 sums on the host.

use half::bf16;

use super::super::gemv::{Gemv, MOST_ROWS, Sizes};
use super::super::{Buffer, CudaError, View};
use super::{device, halves, median, numbers, poisoned, random, relative_error};

/// `x w^T + bias` in f64: `[rows, outputs]`.
fn reference(
    x: &[bf16],
    w: &[bf16],
    bias: Option<&[f32]>,
    (rows, inputs, outputs): (usize, usize, usize),
) -> Vec<f64> {
    let at = |row: usize, output: usize| {
        let (x, w) = (&x[row * inputs..][..inputs], &w[output * inputs..][..inputs]);
        let sum: f64 = x.iter().zip(w).map(|(x, w)| x.to_f64() * w.to_f64()).sum();
        sum + bias.map_or(0.0, |bias| f64::from(bias[output]))
    };
    (0..rows * outputs).map(|i| at(i / outputs, i % outputs)).collect()
}

fn error_of(y: impl IntoIterator<Item = f32>, expected: &[f64]) -> f64 {
    relative_error(y.into_iter().map(f64::from).zip(expected.iter().copied()))
}

fn widened(y: &Buffer<bf16>) -> Vec<f32> {
    y.to_vec().unwrap().into_iter().map(bf16::to_f32).collect()
}

#[test]
fn products_of_few_rows_are_those_of_the_host() {
    let Some(device) = device() else { return };
    let gemv = Gemv::compile(&device).unwrap();
    let mut random = random();
    let odd = [(1, 4096, 520), (3, 1032, 17), (8, 64, 24), (5, 100, 37), (7, 37, 5), (2, 8, 1)];
    let many = [9, 16, 17, 32, 33, 70].map(|rows| (rows, 1032, 40));
    let all = (1..=MOST_ROWS).map(|rows| (rows, 2048, 136)).chain(odd).chain(many);
    // Views that start `skip` elements behind an address of many zeros.
    for ((rows, inputs, outputs), skip) in all.flat_map(|shape| [(shape, 0), (shape, 1)]) {
        let case = format!("{rows} x {inputs} -> {outputs}, {skip} skipped");
        let shape = (rows, inputs, outputs);
        let x = halves(&mut random, skip + rows * inputs, 1.0);
        let scale = 3.0 / (inputs as f32).sqrt();
        let w = halves(&mut random, skip + 2 * outputs * inputs, scale);
        let some_bias = numbers(&mut random, 2 * outputs, 1.0);
        let before = numbers(&mut random, rows * outputs, 1.0);
        let (on_x, on_w, on_bias) = (
            Buffer::from_slice(&device, &x).unwrap(),
            Buffer::from_slice(&device, &w).unwrap(),
            Buffer::from_slice(&device, &some_bias).unwrap(),
        );
        let (x, w) = (&x[skip..], &w[skip..]);
        let x_view = on_x.slice(skip..on_x.len()).unwrap();
        let one = on_w.slice(skip..skip + outputs * inputs).unwrap();
        let both = on_w.slice(skip..on_w.len()).unwrap();
        for bias in [None, Some(&some_bias[..])] {
            let on_bias = |len: usize| bias.map(|_| on_bias.slice(0..len).unwrap());
            let expected = reference(x, w, bias, shape);

            let mut y = poisoned::<bf16>(&device, rows * outputs);
            gemv.bf16(x_view, one, on_bias(outputs), shape, y.view_mut()).unwrap();
            let error = error_of(widened(&y), &expected);
            assert!(error < 4e-3, "{case} in bf16: {error:e}");

            let mut y = Buffer::from_slice(&device, &before).unwrap();
            gemv.add(x_view, one, on_bias(outputs), shape, y.view_mut()).unwrap();
            let added: Vec<_> =
                expected.iter().zip(&before).map(|(y, b)| y + f64::from(*b)).collect();
            let error = error_of(y.to_vec().unwrap(), &added);
            assert!(error < 1e-5, "{case} added: {error:e}");

            let mut y = poisoned::<f32>(&device, rows * outputs);
            gemv.f32(x_view, one, on_bias(outputs), shape, y.view_mut()).unwrap();
            let error = error_of(y.to_vec().unwrap(), &expected);
            assert!(error < 1e-5, "{case} in f32: {error:e}");

            let gate_up = reference(x, w, bias, (rows, inputs, 2 * outputs));
            let gated: Vec<_> = (0..rows * outputs)
                .map(|i| {
                    let row = &gate_up[i / outputs * 2 * outputs..];
                    let (gate, up) = (row[i % outputs], row[outputs + i % outputs]);
                    gate / (1.0 + (-gate).exp()) * up
                })
                .collect();
            let mut y = poisoned::<bf16>(&device, rows * outputs);
            gemv.gated(x_view, both, on_bias(2 * outputs), shape, y.view_mut()).unwrap();
            let error = error_of(widened(&y), &gated);
            assert!(error < 4e-3, "{case} gated: {error:e}");
        }
    }
}

/// Parts of matrices give what these parts give by themselves, to the last bit.
#[test]
fn parts_of_larger_matrices_are_multiplied_where_they_lie() {
    let Some(device) = device() else { return };
    let gemv = Gemv::compile(&device).unwrap();
    let mut random = random();
    let (inputs, outputs) = (1056, 200);
    let host_w = halves(&mut random, 2 * outputs * inputs, 3.0 / (inputs as f32).sqrt());
    let host_x = halves(&mut random, 17 * inputs, 1.0);
    let host_bias = numbers(&mut random, 2 * outputs, 1.0);
    let w = Buffer::from_slice(&device, &host_w).unwrap();
    let x = Buffer::from_slice(&device, &host_x).unwrap();
    let bias = Buffer::from_slice(&device, &host_bias).unwrap();
    for (rows, some, depth) in
        [(1, 32..64, 0..1056), (3, 0..200, 320..1056), (17, 96..200, 64..96), (8, 7..8, 0..32)]
    {
        let case = format!("{rows} rows, {some:?} of {depth:?}");
        // The same, cut out.
        let cut = |from: &[bf16], rows: std::ops::Range<usize>| -> Vec<bf16> {
            rows.flat_map(|r| from[r * inputs..][depth.clone()].to_vec()).collect()
        };
        let own_x = Buffer::from_slice(&device, &cut(&host_x, 0..rows)).unwrap();
        let gate = cut(&host_w, some.clone());
        let up = cut(&host_w, outputs + some.start..outputs + some.end);
        let own_w = Buffer::from_slice(&device, &gate).unwrap();
        let own_pair = Buffer::from_slice(&device, &[gate, up].concat()).unwrap();
        let biases = [&host_bias[some.clone()], &host_bias[outputs..][some.clone()]].concat();
        let own_bias = Buffer::from_slice(&device, &biases).unwrap();
        let shape = (rows, depth.len(), some.len());
        let sizes = Sizes {
            x_stride: inputs,
            w_stride: inputs,
            y_stride: outputs,
            up: outputs,
            ..shape.into()
        };
        let at = |rows: std::ops::Range<usize>| {
            rows.start * inputs + depth.start..(rows.end - 1) * inputs + depth.end
        };
        let part_x = x.slice(at(0..rows)).unwrap();
        let part_w = w.slice(at(some.clone())).unwrap();
        let both = some.start..outputs + some.end;
        let (part_pair, part_bias) =
            (w.slice(at(both.clone())).unwrap(), bias.slice(some.clone()).unwrap());
        let place = some.start..(rows - 1) * outputs + some.end;
        let columns = |y: &[f32]| -> Vec<u32> {
            let row = |r: usize| y[r * outputs..][some.clone()].to_vec();
            (0..rows).flat_map(row).map(f32::to_bits).collect()
        };

        let mut y = poisoned::<f32>(&device, rows * outputs);
        let into = y.slice_mut(place.clone()).unwrap();
        gemv.f32(part_x, part_w, Some(part_bias), sizes, into).unwrap();
        let mut own_y = poisoned::<f32>(&device, rows * some.len());
        let first = own_bias.slice(0..some.len()).unwrap();
        gemv.f32(own_x.view(), own_w.view(), Some(first), shape, own_y.view_mut()).unwrap();
        let own: Vec<u32> = own_y.to_vec().unwrap().into_iter().map(f32::to_bits).collect();
        assert!(columns(&y.to_vec().unwrap()) == own, "{case}");

        let mut y = poisoned::<bf16>(&device, rows * outputs);
        let into = y.slice_mut(place).unwrap();
        let part_bias = bias.slice(both).unwrap();
        gemv.gated(part_x, part_pair, Some(part_bias), sizes, into).unwrap();
        let mut own_y = poisoned::<bf16>(&device, rows * some.len());
        let (x, bias) = (own_x.view(), Some(own_bias.view()));
        gemv.gated(x, own_pair.view(), bias, shape, own_y.view_mut()).unwrap();
        let own: Vec<u32> = widened(&own_y).into_iter().map(f32::to_bits).collect();
        assert!(columns(&widened(&y)) == own, "{case}, gated");
    }
}

/// Each product reads what the one before wrote, and may start before that one has ended.
#[test]
fn products_wait_for_the_one_before() {
    let Some(device) = device() else { return };
    let gemv = Gemv::compile(&device).unwrap();
    let mut random = random();
    let (width, layers) = (1024, 40);
    let w = halves(&mut random, width * width, 1.7 / (width as f32).sqrt());
    let on_w = Buffer::from_slice(&device, &w).unwrap();
    let mut x = halves(&mut random, width, 1.0);
    let shape = (1, width, width);
    let mut states = vec![Buffer::from_slice(&device, &x).unwrap()];
    for layer in 0..layers {
        let mut y = poisoned::<bf16>(&device, width);
        gemv.bf16(states[layer].view(), on_w.view(), None, shape, y.view_mut()).unwrap();
        states.push(y);
    }
    // Nothing was waited for until here.
    for (layer, y) in states.iter().skip(1).enumerate() {
        let error = error_of(widened(y), &reference(&x, &w, None, shape));
        assert!(error < 4e-3, "layer {layer}: {error:e}");
        x = y.to_vec().unwrap();
    }
}

#[test]
fn views_that_do_not_fit_are_refused() {
    let Some(device) = device() else { return };
    let gemv = Gemv::compile(&device).unwrap();
    let (x, w) = (poisoned::<bf16>(&device, 2 * 64), poisoned::<bf16>(&device, 32 * 64));
    let bias = poisoned::<f32>(&device, 31);
    let mut y = poisoned::<bf16>(&device, 2 * 32);
    for shape in [(1, 64, 32), (2, 32, 32), (2, 64, 16)] {
        let result = gemv.bf16(x.view(), w.view(), None, shape, y.view_mut());
        assert!(matches!(result, Err(CudaError::Length { .. })), "{shape:?}");
    }
    let result = gemv.bf16(x.view(), w.view(), Some(bias.view()), (2, 64, 32), y.view_mut());
    assert!(matches!(result, Err(CudaError::Length { .. })));
    let result = gemv.gated(x.view(), w.view(), None, (2, 64, 32), y.view_mut());
    assert!(matches!(result, Err(CudaError::Length { .. })));
}

#[test]
fn a_row_gives_the_same_bits_however_many_there_are() {
    let Some(device) = device() else { return };
    let gemv = Gemv::compile(&device).unwrap();
    let mut random = random();
    for (inputs, outputs) in [(4096, 136), (1032, 17), (100, 37)] {
        let x = halves(&mut random, 70 * inputs, 1.0);
        let w = halves(&mut random, 2 * outputs * inputs, 3.0 / (inputs as f32).sqrt());
        let (x, w) =
            (Buffer::from_slice(&device, &x).unwrap(), Buffer::from_slice(&device, &w).unwrap());
        let run = |rows: std::ops::Range<usize>| {
            let shape = (rows.len(), inputs, outputs);
            let x = x.slice(rows.start * inputs..rows.end * inputs).unwrap();
            let one = w.slice(0..outputs * inputs).unwrap();
            let mut sums = poisoned::<f32>(&device, rows.len() * outputs);
            gemv.f32(x, one, None, shape, sums.view_mut()).unwrap();
            gemv.add(x, one, None, shape, sums.view_mut()).unwrap();
            let mut gated = poisoned::<bf16>(&device, rows.len() * outputs);
            gemv.gated(x, w.view(), None, shape, gated.view_mut()).unwrap();
            let sums = sums.to_vec().unwrap().into_iter().map(f32::to_bits);
            let gated = gated.to_vec().unwrap().into_iter().map(|y| u32::from(y.to_bits()));
            sums.zip(gated).collect::<Vec<_>>()
        };
        let alone: Vec<_> = (0..70).map(|row| run(row..row + 1)).collect();
        for rows in [2, 3, 5, 8, 9, 16, 17, 32, 33, 65] {
            for (row, found) in run(5..5 + rows).chunks(outputs).enumerate() {
                assert!(found == alone[5 + row], "row {row} of {rows}, {inputs} to {outputs}");
            }
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn times_of_products_of_few_rows() {
    let Some(device) = device() else { return };
    let gemv = Gemv::compile(&device).unwrap();
    let mut random = random();
    for (inputs, outputs) in [(4096, 6144), (4096, 4096), (4096, 28672), (14336, 4096)] {
        // Several weights in turn, so that none is still in the cache when its turn comes again.
        let copies = (200 << 20) / (inputs * outputs * 2) + 2;
        let host = halves(&mut random, outputs * inputs, 1.0);
        let w: Vec<_> = (0..copies).map(|_| Buffer::from_slice(&device, &host).unwrap()).collect();
        for rows in [1, 4, 8, 16, 32] {
            let x = Buffer::from_slice(&device, &halves(&mut random, rows * inputs, 1.0)).unwrap();
            let mut y = poisoned::<bf16>(&device, rows * outputs);
            // Many launches between two events: one alone is too short to time.
            let time = median(&device, 10, || {
                for w in &w {
                    let (x, w): (_, View<'_, bf16>) = (x.view(), w.view());
                    gemv.bf16(x, w, None, (rows, inputs, outputs), y.view_mut()).unwrap();
                }
            });
            let seconds = time.as_secs_f64() / copies as f64;
            println!(
                "gemv {rows} x {inputs:>5} -> {outputs:>6}: {:>6.1} us, weights {:>5.2} TB/s",
                seconds * 1e6,
                2.0 * (inputs * outputs) as f64 / seconds / 1e12
            );
        }
    }
}
