//! Linear layers of every instruction set against the definition.

use crate::{Activations, Cpu, GRAIN, Isa, PackedMatrix, Pass, Precision, Slab};
use half::bf16;
use proptest::prelude::*;

/// `x · Wᵀ`, one output at a time.
fn naive(x: &[f32], w: &[f32], inputs: usize) -> Vec<f32> {
    x.chunks(inputs)
        .flat_map(|x| {
            w.chunks(inputs).map(move |w| {
                x.iter().zip(w).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
            })
        })
        .collect()
}

fn pack(cpu: &Cpu, precision: Precision, w: &[f32], inputs: usize) -> PackedMatrix {
    match precision {
        Precision::F32 => cpu.pack_f32(&[w], inputs),
        Precision::Bf16 => cpu.pack_bf16(&[&narrow(w)], inputs),
    }
}

fn narrow(values: &[f32]) -> Vec<bf16> {
    values.iter().map(|v| bf16::from_f32(*v)).collect()
}

fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    let scale = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance * scale, "{what} [{i}]: {f} instead of {e}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn linear_layers_match_the_definition(
        rows in prop_oneof![1usize..6, 90usize..200],
        // The last goes through several passes of depth.
        inputs in prop_oneof![1usize..300, Just(64), Just(1100)],
        outputs in prop_oneof![1usize..70, 300usize..320], seed in any::<u64>(), is_bf16 in any::<bool>(),
        pass in prop_oneof![Just(Pass::Prefill), Just(Pass::Decode)]
    ) {
        let mut state = seed | 1;
        let mut next = || { state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0 };
        let precision = if is_bf16 { Precision::Bf16 } else { Precision::F32 };
        // Numbers that bf16 represents exactly, so that both precisions give the same product.
        let mut exact = |len: usize| -> Vec<f32> {
            (0..len).map(|_| bf16::from_f32(next()).to_f32()).collect()
        };
        let (x, w, up) = (exact(rows * inputs), exact(outputs * inputs), exact(outputs * inputs));
        let bias = exact(2 * outputs);
        let product = naive(&x, &w, inputs);
        let with_bias = |product: &[f32], bias: &[f32]| -> Vec<f32> {
            product.iter().enumerate().map(|(i, p)| p + bias[i % outputs]).collect()
        };
        let once = with_bias(&product, &bias);
        let twice: Vec<f32> = once.iter().zip(&product).map(|(a, b)| 1.0 + a + b).collect();
        let up_product = with_bias(&naive(&x, &up, inputs), &bias[outputs..]);
        let gated: Vec<f32> =
            once.iter().zip(&up_product).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            let cpu = Cpu::new(2, Some(isa)).unwrap();
            let packed = pack(&cpu, precision, &w, inputs);
            prop_assert_eq!((packed.outputs(), packed.inputs()), (outputs, inputs));
            let mut acts = Activations::new(precision, pass);
            cpu.take_rows(&x, inputs, &mut acts);
            let mut y = vec![f32::NAN; rows * outputs];
            cpu.linear(&acts, &packed, Some(&bias), &mut y);
            assert_close(&y, &once, 1e-5, &format!("{isa} linear"));
            let mut y = vec![1.0; rows * outputs];
            cpu.linear_add(&acts, &packed, None, &mut y);
            cpu.linear_add(&acts, &packed, Some(&bias), &mut y);
            assert_close(&y, &twice, 1e-5, &format!("{isa} linear_add"));
            // A gated layer, its result read through an identity.
            let pair = match precision {
                Precision::F32 => cpu.pack_f32_parts(&[&w, &up], inputs, true),
                Precision::Bf16 => cpu.pack_bf16_parts(&[&narrow(&w), &narrow(&up)], inputs, true),
            };
            let mut identity = vec![0.0; outputs * outputs];
            (0..outputs).for_each(|i| identity[i * outputs + i] = 1.0);
            let mut out = Activations::new(precision, pass);
            cpu.linear_gated(&acts, &pair, Some(&bias), &mut out);
            let mut y = vec![f32::NAN; rows * outputs];
            cpu.linear(&out, &pack(&cpu, precision, &identity, outputs), None, &mut y);
            // On tiles the result was rounded to bf16.
            let tolerance = if is_bf16 { 4e-3 } else { 1e-5 };
            assert_close(&y, &gated, tolerance, &format!("{isa} linear_gated"));
        }
    }

    #[test]
    fn stacked_matrices_follow_one_another(
        first in 1usize..50, second in 1usize..50, inputs in 1usize..40, seed in 1u32..999
    ) {
        let fill = |len: usize, salt: u32| -> Vec<bf16> {
            (0..len as u32).map(|i| bf16::from_f32(((i * seed + salt) % 17) as f32 - 8.0)).collect()
        };
        let (a, b) = (fill(first * inputs, 1), fill(second * inputs, 5));
        let whole: Vec<bf16> = a.iter().chain(&b).copied().collect();
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            let cpu = Cpu::new(1, Some(isa)).unwrap();
            let mut acts = Activations::new(Precision::Bf16, Pass::Prefill);
            cpu.take_rows(&(0..5 * inputs).map(|i| i as f32 % 7.0).collect::<Vec<_>>(), inputs, &mut acts);
            let product = |packed: &PackedMatrix| {
                let mut y = vec![f32::NAN; 5 * (first + second)];
                cpu.linear(&acts, packed, None, &mut y);
                y
            };
            let parts = product(&cpu.pack_bf16(&[&a, &b], inputs));
            prop_assert_eq!(parts, product(&cpu.pack_bf16(&[&whole], inputs)));
        }
    }
}

#[test]
fn rows_that_decode_give_the_same_bits_however_many_there_are() {
    let mut state = 5u64;
    let mut next = |len: usize| -> Vec<f32> {
        let mut number = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..len).map(|_| number()).collect()
    };
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        let cpu = Cpu::new(3, Some(isa)).unwrap();
        // The second has no whole step of a tile.
        for (precision, inputs, outputs) in
            [(Precision::Bf16, 608, 200), (Precision::Bf16, 77, 45), (Precision::F32, 131, 70)]
        {
            let (x, norm) = (next(40 * inputs), next(inputs));
            let [gate, up, down] = [0; 3].map(|_| next(outputs * inputs));
            let w = pack(&cpu, precision, &gate, inputs);
            let pair = match precision {
                Precision::F32 => cpu.pack_f32_parts(&[&gate, &up], inputs, true),
                Precision::Bf16 => {
                    cpu.pack_bf16_parts(&[&narrow(&gate), &narrow(&up)], inputs, true)
                }
            };
            let down = pack(&cpu, precision, &down, outputs);
            // What the linear layers of a decoder do: [rows, outputs] and [rows, inputs].
            let run = |first: usize, rows: usize, pass: Pass| -> Vec<Vec<u32>> {
                let x = &x[first * inputs..(first + rows) * inputs];
                let mut acts = Activations::new(precision, pass);
                let mut gated = Activations::new(precision, pass);
                let (mut y, mut sums) = (vec![f32::NAN; rows * outputs], x.to_vec());
                cpu.rms_norm_rows(x, &norm, 1e-5, &mut acts);
                cpu.linear(&acts, &w, None, &mut y);
                cpu.linear_gated(&acts, &pair, None, &mut gated);
                cpu.linear_add(&gated, &down, None, &mut sums);
                let bits = |row: (&[f32], &[f32])| {
                    row.0.iter().chain(row.1).map(|v| v.to_bits()).collect()
                };
                y.chunks(outputs).zip(sums.chunks(inputs)).map(bits).collect()
            };
            let alone: Vec<_> = (0..40).map(|r| run(r, 1, Pass::Decode).remove(0)).collect();
            assert_eq!(run(3, 1, Pass::Prefill)[0], alone[3]);
            for rows in [2, 3, 5, 8, 17, 33] {
                for (r, found) in run(7, rows, Pass::Decode).into_iter().enumerate() {
                    assert!(found == alone[7 + r], "{isa} {precision}: row {r} of {rows}");
                }
            }
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn times_of_rows_that_decode() {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()).take(3) {
        let cpu = Cpu::new(2, Some(isa)).unwrap();
        let (inputs, outputs) = (2048, 16384);
        let w = cpu.pack_bf16(&[&narrow(&vec![0.5; inputs * outputs])], inputs);
        for rows in [1, 2, 4, 8, 16, 32] {
            let mut acts = Activations::new(Precision::Bf16, Pass::Decode);
            cpu.take_rows(&vec![0.25; rows * inputs], inputs, &mut acts);
            let mut y = vec![0.0; rows * outputs];
            let mut times: Vec<_> = (0..15)
                .map(|_| {
                    let start = std::time::Instant::now();
                    cpu.linear(&acts, &w, None, &mut y);
                    start.elapsed()
                })
                .collect();
            times.sort();
            println!("{isa}, {rows} rows of {inputs} to {outputs}: {:?}", times[7]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn slabs_give_what_whole_matrices_give(
        rows in 1usize..8, grains in 1usize..6, extra in 0usize..20, outputs in 1usize..130,
        cuts in any::<[u16; 4]>(), seed in any::<u64>(), is_bf16 in any::<bool>()
    ) {
        let mut state = seed | 1;
        let mut next = || { state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            bf16::from_f32((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0).to_f32() };
        let precision = if is_bf16 { Precision::Bf16 } else { Precision::F32 };
        let inputs = grains * GRAIN + extra;
        let cut = |at: u16, count: usize| usize::from(at) % (count + 1);
        let range = |a: usize, b: usize| a.min(b)..a.max(b);
        // Some outputs, and inputs from a grain to another or to the last.
        let some = range(cut(cuts[0], outputs), cut(cuts[1], outputs));
        let end = |at| if cut(at, grains + 1) > grains { inputs } else { cut(at, grains) * GRAIN };
        let depth = range(cut(cuts[2], grains) * GRAIN, end(cuts[3]));
        prop_assume!(depth.start % GRAIN == 0);
        let x: Vec<f32> = (0..rows * inputs).map(|_| next()).collect();
        let w: Vec<f32> = (0..outputs * inputs).map(|_| next()).collect();
        let up: Vec<f32> = (0..outputs * inputs).map(|_| next()).collect();
        let bias: Vec<f32> = (0..2 * outputs).map(|_| next()).collect();
        // Zeros in the inputs that are left out give the same product.
        let within: Vec<f32> = x
            .iter().enumerate()
            .map(|(i, x)| if depth.contains(&(i % inputs)) { *x } else { 0.0 })
            .collect();
        let product = naive(&within, &w, inputs);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            let cpu = Cpu::new(2, Some(isa)).unwrap();
            let packed = pack(&cpu, precision, &w, inputs);
            let slab = Slab { of: &packed, outputs: some.clone(), inputs: depth.clone() };
            let mut acts = Activations::new(precision, Pass::Decode);
            cpu.take_columns(&x, inputs, depth.clone(), &mut acts);
            // Rows of a larger matrix, whose other columns are not ours.
            let stride = some.len() + 3;
            let mut y = vec![f32::NAN; (rows - 1) * stride + some.len()];
            cpu.slab(&acts, &slab, Some(&bias), &mut y, stride);
            let rows_of = |r: usize| r * stride..r * stride + some.len();
            let found: Vec<f32> = (0..rows).flat_map(|r| y[rows_of(r)].to_vec()).collect();
            let expected: Vec<f32> = (0..rows)
                .flat_map(|r| some.clone().map(move |o| (r, o)))
                .map(|(r, o)| product[r * outputs + o] + bias[o])
                .collect();
            assert_close(&found, &expected, 1e-5, &format!("{isa} slab"));
            if !some.is_empty() && !depth.is_empty() {
                let gap = |r: usize| &y[r * stride - 3..r * stride];
                prop_assert!((1..rows).all(|r| gap(r).iter().all(|v| v.is_nan())));
            }

            // Of a pair, from a grain of outputs on.
            let some = some.start / GRAIN * GRAIN..some.end;
            let pair = match precision {
                Precision::F32 => cpu.pack_f32_parts(&[&w, &up], inputs, true),
                Precision::Bf16 => cpu.pack_bf16_parts(&[&narrow(&w), &narrow(&up)], inputs, true),
            };
            let mut acts = Activations::new(precision, Pass::Decode);
            cpu.take_rows(&x, inputs, &mut acts);
            let mut gated = Activations::new(precision, Pass::Decode);
            let slab = Slab { of: &pair, outputs: some.clone(), inputs: 0..inputs };
            cpu.slab_gated(&acts, &slab, Some(&bias), &mut gated);
            let (gate, up) = (naive(&x, &w, inputs), naive(&x, &up, inputs));
            let expected: Vec<f32> = (0..rows)
                .flat_map(|r| some.clone().map(move |o| (r, o)))
                .map(|(r, o)| {
                    let gate = gate[r * outputs + o] + bias[o];
                    gate / (1.0 + (-gate).exp()) * (up[r * outputs + o] + bias[outputs + o])
                })
                .collect();
            prop_assert_eq!((gated.rows(), gated.inputs()), (rows, some.len()));
            assert_close(gated.floats().unwrap(), &expected, 1e-5, &format!("{isa} gated slab"));
        }
    }
}
