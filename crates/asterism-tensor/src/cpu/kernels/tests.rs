//! Each table against the portable one, on fresh random inputs of awkward sizes.

use super::*;
use proptest::prelude::*;

/// Rows into rows.
type Run<'a> = &'a dyn Fn(&[f32], &mut [f32]);

fn tables() -> Vec<&'static Kernels> {
    Isa::ALL.into_iter().filter_map(Kernels::of).collect()
}

/// Relative to the largest expected value; NaN fails.
fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let scale = expected.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance * scale, "{what}[{i}]: {f} instead of {e}");
    }
}

fn floats(len: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<f32>> {
    proptest::collection::vec(-4.0f32..4.0, len)
}

/// Naive product in f64: `c[r, n] = a[r, k] · b[k, n]`.
fn naive(a: &[f32], b: &[f32], rows: usize, k: usize, n: usize) -> Vec<f32> {
    let cell = |r: usize, j: usize| -> f64 {
        (0..k).map(|i| f64::from(a[r * k + i]) * f64::from(b[i * n + j])).sum()
    };
    (0..rows * n).map(|i| cell(i / n, i % n) as f32).collect()
}

#[test]
fn this_machine_runs_the_portable_kernels_at_least() {
    assert!(tables().iter().any(|t| t.isa == Isa::Portable));
    assert_eq!(Isa::best(), tables()[0].isa);
    assert!("sse9".parse::<Isa>().unwrap_err().to_string().contains("sse9"));
}

proptest! {
    #[test]
    fn multiply_matches_the_naive_product(
        rows in 1usize..30, k in 1usize..70, seed in any::<u64>(), accumulate in any::<bool>()
    ) {
        let mut state = seed | 1;
        let mut next = || { state ^= state << 13; state ^= state >> 7; state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0 };
        for table in tables() {
            let n = table.panel;
            let a: Vec<f32> = (0..rows * k).map(|_| next()).collect();
            let b: Vec<f32> = (0..k * n).map(|_| next()).collect();
            let ldc = n + 3;
            let poison = if accumulate { 1.0 } else { f32::NAN };
            let mut c = vec![poison; rows * ldc];
            (table.multiply)(&a, k, rows, k, &b, &mut c, ldc, accumulate);
            let expected: Vec<f32> = naive(&a, &b, rows, k, n).iter()
                .map(|v| if accumulate { v + 1.0 } else { *v }).collect();
            let found: Vec<f32> = c.chunks(ldc).flat_map(|row| row[..n].to_vec()).collect();
            assert_close(&found, &expected, 1e-5, &format!("{} multiply", table.isa));
            // The gap between rows is not ours to write.
            for row in c.chunks(ldc) {
                for v in &row[n..] {
                    prop_assert!(v.is_nan() || *v == poison);
                }
            }
        }
    }

    #[test]
    fn few_rows_match_the_naive_product_and_do_not_depend_on_each_other(
        x in floats(1..90), rows in 1usize..15, seed in 1u32..9999
    ) {
        // Terms may cancel: what rounding costs is relative to their sizes, not to their sum.
        let terms = 48.0 * x.iter().map(|v| v.abs()).sum::<f32>() * rows as f32;
        let close = |found: &[f32], expected: &[f32], what: &str| {
            for (f, e) in found.iter().zip(expected) {
                assert!((f - e).abs() <= 1e-6 * terms + 1e-6, "{what}: {f} instead of {e}");
            }
        };
        let k = x.len();
        let all: Vec<f32> =
            (1..=rows).flat_map(|r| x.iter().map(move |v| v * r as f32)).collect();
        for table in tables() {
            let (n, stride) = (table.panel, table.panel + 3);
            let b: Vec<bf16> =
                (0..k * n).map(|i| bf16::from_f32(((i as u32 * seed) % 97) as f32 - 48.0)).collect();
            let wide: Vec<f32> = b.iter().map(|v| v.to_f32()).collect();
            let expected = naive(&all, &wide, rows, k, n);
            let run_bf16 = |x: &[f32], out: &mut [f32]| (table.rows_bf16)(x, k, &b, out, stride);
            let run_f32 = |x: &[f32], out: &mut [f32]| (table.rows_f32)(x, k, &wide, out, stride);
            let runs: [(&str, Run<'_>); 2] = [("rows_bf16", &run_bf16), ("rows_f32", &run_f32)];
            for (what, run) in runs {
                let mut out = vec![f32::NAN; rows * stride];
                run(&all, &mut out);
                for (r, out) in out.chunks(stride).enumerate() {
                    close(&out[..n], &expected[r * n..][..n], what);
                    prop_assert!(out[n..].iter().all(|v| v.is_nan()), "wrote between rows");
                    let mut alone = vec![f32::NAN; stride];
                    run(&all[r * k..][..k], &mut alone);
                    for (a, b) in alone[..n].iter().zip(out) {
                        prop_assert_eq!(a.to_bits(), b.to_bits(), "{} {}: row {}", table.isa, what, r);
                    }
                }
            }
        }
    }

    #[test]
    fn a_round_of_softmax_matches_the_library(
        x in proptest::collection::vec(-120.0f32..0.0, 1..70), before in -130.0f32..10.0
    ) {
        let max = x.iter().copied().fold(before, f32::max);
        let expected: Vec<f32> = x.iter().map(|v| (v - max).exp2()).collect();
        for table in tables() {
            let mut out = x.clone();
            let (largest, sum) = (table.softmax_row)(&mut out, before);
            prop_assert_eq!(largest, max);
            for (o, e) in out.iter().zip(&expected) {
                prop_assert!((o - e).abs() <= 4e-7 * e + 2e-38, "{} instead of {}", o, e);
            }
            assert_close(&[sum], &[expected.iter().sum()], 1e-5, "sum");
            // Nothing before.
            let mut out = x.clone();
            let (largest, _) = (table.softmax_row)(&mut out, f32::NEG_INFINITY);
            prop_assert_eq!(largest, x.iter().copied().fold(f32::MIN, f32::max));
            // A NaN is not lost.
            out[0] = f32::NAN;
            prop_assert!((table.softmax_row)(&mut out, 0.0).1.is_nan());
        }
    }

    #[test]
    fn elementwise_kernels_match_their_formulas(x in floats(32), y in floats(32), f in -3.0f32..3.0) {
        for table in tables() {
            let mut gate: Vec<f32> = x.iter().map(|v| v * 20.0).collect();
            let expected: Vec<f32> =
                gate.iter().zip(&y).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            (table.silu_mul)(&mut gate, &y);
            assert_close(&gate, &expected, 1e-6, "silu_mul");

            let mean = x.iter().map(|v| v * v).sum::<f32>() / 32.0;
            let expected: Vec<f32> =
                x.iter().zip(&y).map(|(v, w)| v / (mean + 1e-5).sqrt() * w).collect();
            let mut out = vec![f32::NAN; 32];
            (table.rms_norm)(&x, &y, 1e-5, &mut out);
            assert_close(&out, &expected, 1e-5, "rms_norm");

            let (cos, sin): (Vec<f32>, Vec<f32>) = y[..16].iter().map(|a| (a.cos(), a.sin())).unzip();
            let expected: Vec<f32> = (0..32).map(|i| {
                let (c, s) = (cos[i % 16], sin[i % 16]);
                if i < 16 { x[i] * c - x[i + 16] * s } else { x[i] * c + x[i - 16] * s }
            }).collect();
            let mut out = x.clone();
            (table.rotate)(&mut out, &cos, &sin);
            assert_close(&out, &expected, 1e-6, "rotate");

            let mut out = y.clone();
            (table.add_scaled)(&mut out, f, &x);
            let expected: Vec<f32> = x.iter().zip(&y).map(|(v, o)| o + f * v).collect();
            assert_close(&out, &expected, 1e-6, "add_scaled");
            (table.scale)(&mut out, 2.0);
            let expected: Vec<f32> = expected.iter().map(|v| v * 2.0).collect();
            assert_close(&out, &expected, 1e-6, "scale");

            let narrow: Vec<bf16> = x.iter().map(|v| bf16::from_f32(*v)).collect();
            let mut out = vec![f32::NAN; 32];
            (table.widen)(&narrow, &mut out);
            prop_assert_eq!(out, narrow.iter().map(|v| v.to_f32()).collect::<Vec<_>>());
            let special = [f32::NAN, f32::INFINITY, -0.0, f32::MAX, 1.0 + 1.0 / 256.0, 1e-40];
            let wide: Vec<f32> = x.iter().chain(&special).copied().collect();
            let mut out = vec![bf16::ONE; wide.len()];
            (table.narrow)(&wide, &mut out);
            for (o, v) in out.iter().zip(&wide) {
                prop_assert!(o.to_bits() == bf16::from_f32(*v).to_bits(), "{} of {}", o, v);
            }
        }
    }

    #[test]
    fn few_rows_match_their_formulas(
        dim in prop_oneof![1usize..70, Just(64), Just(128)], width in 1usize..90,
        kv_heads in 1usize..4, rows in 1usize..15, seed in 1u32..9999
    ) {
        let shape = FewRows { kv_heads, rows, dim };
        let (all, stride) = (kv_heads * rows, shape.kv_width());
        // Small multiples of 1/64, which bf16 holds exactly.
        let fill = |len: usize, salt: u32| -> Vec<f32> {
            (0..len as u32).map(|i| ((i * seed + salt) % 129) as f32 / 64.0 - 1.0).collect()
        };
        let (q, keys, weights) =
            (fill(all * dim, 1), fill(width * stride, 2), fill(all * width, 3));
        let narrow: Vec<bf16> = keys.iter().map(|v| bf16::from_f32(*v)).collect();
        let key = |row: usize, t: usize, d: usize| keys[t * stride + row / rows * dim + d];
        let scores: Vec<f32> = (0..all * width)
            .map(|i| (i / width, i % width))
            .map(|(row, t)| (0..dim).map(|d| q[row * dim + d] * key(row, t, d)).sum())
            .collect();
        let sums: Vec<f32> = (0..all * dim)
            .map(|i| (i / dim, i % dim))
            .map(|(row, d)| (0..width).map(|t| weights[row * width + t] * key(row, t, d)).sum::<f32>())
            .map(|sum| sum + 1.0)
            .collect();
        for table in tables() {
            let mut out = vec![f32::NAN; all * width];
            (table.score_f32)(shape, &q, &keys, &mut out);
            assert_close(&out, &scores, 1e-5, "score_f32");
            out.fill(f32::NAN);
            (table.score_bf16)(shape, &q, &narrow, &mut out);
            assert_close(&out, &scores, 1e-5, "score_bf16");
            let mut out = vec![1.0; all * dim];
            (table.weigh_f32)(shape, &weights, &keys, &mut out);
            assert_close(&out, &sums, 1e-5, "weigh_f32");
            out.fill(1.0);
            (table.weigh_bf16)(shape, &weights, &narrow, &mut out);
            assert_close(&out, &sums, 1e-5, "weigh_bf16");
            // In 8 bits what the elements of each head are nearest to, twice as large as they are.
            let coded: Vec<u8> = keys
                .chunks(dim)
                .flat_map(|head| {
                    let codes = head.iter().map(|x| (x * 64.0) as i8 as u8);
                    (1.0f32 / 32.0).to_le_bytes().into_iter().chain(codes)
                })
                .collect();
            let twice = |all: &[f32], one: f32| -> Vec<f32> {
                all.iter().map(|x| (x - one) * 2.0 + one).collect()
            };
            let mut out = vec![f32::NAN; all * width];
            (table.score_int8)(shape, &q, &coded, &mut out);
            assert_close(&out, &twice(&scores, 0.0), 1e-5, "score_int8");
            let mut out = vec![1.0; all * dim];
            (table.weigh_int8)(shape, &weights, &coded, &mut out);
            assert_close(&out, &twice(&sums, 1.0), 1e-5, "weigh_int8");
        }
    }

    #[test]
    fn what_a_row_scores_does_not_depend_on_the_others(
        dim in prop_oneof![1usize..70, Just(32), Just(64), Just(256)], width in 1usize..90,
        kv_heads in 1usize..4, rows in 2usize..40, seed in 1u32..9999
    ) {
        let fill = |len: usize, salt: u32| -> Vec<f32> {
            (0..len as u32).map(|i| (i.wrapping_mul(seed) as f32 + salt as f32).sin()).collect()
        };
        let (q, keys) = (fill(kv_heads * rows * dim, 1), fill(width * kv_heads * dim, 2));
        let keys: Vec<bf16> = keys.into_iter().map(bf16::from_f32).collect();
        for table in tables() {
            let mut all = vec![f32::NAN; kv_heads * rows * width];
            (table.score_bf16)(FewRows { kv_heads, rows, dim }, &q, &keys, &mut all);
            for r in 0..rows {
                let of_head = |head: usize| &q[(head * rows + r) * dim..][..dim];
                let q: Vec<f32> = (0..kv_heads).flat_map(of_head).copied().collect();
                let mut alone = vec![f32::NAN; kv_heads * width];
                (table.score_bf16)(FewRows { kv_heads, rows: 1, dim }, &q, &keys, &mut alone);
                for (head, alone) in alone.chunks(width).enumerate() {
                    let beside = &all[(head * rows + r) * width..][..width];
                    let bits = |all: &[f32]| all.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    prop_assert_eq!(bits(beside), bits(alone), "{}, row {}", table.isa, r);
                }
            }
        }
    }

    #[test]
    fn keys_and_values_are_unpacked_as_they_are_defined(
        dim in prop_oneof![1usize..70, Just(64), Just(128)], count in 1usize..70,
        gap in 0usize..9, seed in 1u32..9999
    ) {
        let stride = dim + gap;
        let wide: Vec<f32> = (0..((count - 1) * stride + dim) as u32)
            .map(|i| ((i * seed) % 251) as f32 - 125.0)
            .collect();
        let narrow: Vec<bf16> = wide.iter().map(|v| bf16::from_f32(*v)).collect();
        for table in tables() {
            let (panel, rows) = (table.panel, count + 3);
            let source = |t: usize, d: usize| if t < count && d < dim { wide[t * stride + d] } else { 0.0 };
            let keys: Vec<f32> = (0..count.next_multiple_of(panel) * dim)
                .map(|i| source(i / (dim * panel) * panel + i % panel, i / panel % dim))
                .collect();
            // Rows past the last value are not written.
            let values: Vec<f32> = (0..dim.div_ceil(panel) * rows * panel)
                .map(|i| (i / panel % rows, i / (rows * panel) * panel + i % panel))
                .map(|(t, d)| if t < count { source(t, d) } else { 7.0 })
                .collect();
            let mut out = vec![f32::NAN; keys.len()];
            (table.unpack_keys)(&narrow, stride, count, dim, &mut out);
            prop_assert_eq!(&out, &keys);
            out.fill(f32::NAN);
            (table.copy_keys)(&wide, stride, count, dim, &mut out);
            prop_assert_eq!(&out, &keys);
            let mut out = vec![7.0; values.len()];
            (table.unpack_values)(&narrow, stride, count, dim, &mut out, rows * panel);
            prop_assert_eq!(&out, &values);
            out.fill(7.0);
            (table.copy_values)(&wide, stride, count, dim, &mut out, rows * panel);
            prop_assert_eq!(&out, &values);
        }
    }

    #[test]
    fn heads_in_8_bits_are_as_they_are_defined(
        dim in prop_oneof![1usize..70, Just(64), Just(128)], heads in 1usize..20,
        zero in 0usize..30, seed in 1u32..9999
    ) {
        let mut x: Vec<f32> = (0..(heads * dim) as u32)
            .map(|i| (((i * seed) % 2003) as f32 / 1000.0 - 1.0) * (1 + i / 97 % 5) as f32)
            .collect();
        x.chunks_mut(dim).nth(zero).into_iter().for_each(|head| head.fill(0.0));
        // One head after the other, in f64.
        let scales: Vec<f32> = x
            .chunks(dim)
            .map(|head| head.iter().fold(0.0f32, |most, x| most.max(x.abs())) / 127.0)
            .collect();
        for table in tables() {
            let mut coded = vec![0xaa; heads * (4 + dim)];
            (table.encode_int8)(&x, dim, &mut coded);
            for (head, (x, scale)) in coded.chunks(4 + dim).zip(x.chunks(dim).zip(&scales)) {
                prop_assert_eq!(&head[..4], &scale.to_le_bytes()[..]);
                for (code, x) in head[4..].iter().zip(x) {
                    let code = f64::from(code.cast_signed());
                    let exact = if *scale == 0.0 { 0.0 } else { f64::from(*x) / f64::from(*scale) };
                    prop_assert!((code - exact).abs() <= 0.5001, "{}: {code}, {exact}", table.isa);
                }
            }
            // Every other head, from the second on.
            let count = heads / 2;
            let mut decoded = vec![f32::NAN; count * dim];
            if count > 0 {
                (table.decode_int8)(&coded[4 + dim..], 2 * (4 + dim), count, dim, &mut decoded);
            }
            for (i, head) in coded.chunks(4 + dim).enumerate() {
                for (d, code) in head[4..].iter().enumerate() {
                    let code = f32::from(code.cast_signed());
                    if i % 2 == 1 {
                        prop_assert_eq!(decoded[i / 2 * dim + d], code * scales[i]);
                    }
                }
            }
            // What is not finite is not lost.
            for strange in [f32::NAN, f32::NEG_INFINITY] {
                let mut head = x[..dim].to_vec();
                head[dim / 2] = strange;
                (table.encode_int8)(&head, dim, &mut coded[..4 + dim]);
                let mut decoded = vec![0.0; dim];
                (table.decode_int8)(&coded, 4 + dim, 1, dim, &mut decoded);
                prop_assert!(decoded.iter().all(|x| !x.is_finite()));
            }
        }
    }
}
