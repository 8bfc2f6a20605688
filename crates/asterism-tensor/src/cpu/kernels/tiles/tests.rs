//! Each set of tile kernels against the portable one and against naive formulas, on fresh random
//! inputs into poisoned outputs.

#![allow(unsafe_code)]

use super::*;
use crate::Isa;
use crate::cpu::kernels::Kernels;
use proptest::prelude::*;

/// The tile kernels that this machine runs, the portable ones last.
fn tables() -> Vec<(Isa, TileKernels)> {
    Isa::ALL.into_iter().filter_map(|isa| Some((isa, Kernels::of(isa)?.tiles?))).collect()
}

fn random(seed: &mut u64, len: usize) -> Vec<f32> {
    (0..len)
        .map(|_| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (*seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn narrow(values: &[f32]) -> Vec<bf16> {
    values.iter().map(|v| bf16::from_f32(*v)).collect()
}

const NAN: bf16 = bf16::NAN;

/// Relative to the largest expected value; NaN fails.
fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let scale = expected.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance * scale, "{what}[{i}]: {f} instead of {e}");
    }
}

#[test]
fn the_reference_is_always_there() {
    assert_eq!(tables().last().map(|(isa, _)| *isa), Some(Isa::Tiles));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Packed operands, multiplied, give the plain product of the rounded matrices.
    #[test]
    fn products_match_the_naive_product(
        inner in 1usize..200, columns in 1usize..70, gap in 0usize..9,
        accumulate in any::<bool>(), mut seed in any::<u64>()
    ) {
        let rows = narrow(&random(&mut seed, BLOCK * inner));
        let right = narrow(&random(&mut seed, columns * inner));
        let (depth, count) = (inner.div_ceil(STEP), columns.div_ceil(BLOCK));
        let mut expected = vec![0.0f32; BLOCK * BLOCK * count];
        for (i, e) in expected.iter_mut().enumerate() {
            let (r, c) = (i / (BLOCK * count), i % (BLOCK * count));
            if c < columns {
                *e = (0..inner).map(|k| f64::from(rows[r * inner + k].to_f32())
                    * f64::from(right[c * inner + k].to_f32())).sum::<f64>() as f32;
            }
            *e += f32::from(u8::from(accumulate));
        }
        for (isa, table) in tables() {
            let mut a = vec![NAN; 2 * depth * TILE];
            for (r, row) in rows.chunks(inner).enumerate() {
                let wide: Vec<f32> = row.iter().map(|v| v.to_f32()).collect();
                (table.narrow)(&wide, &mut a[r / STRIP * depth * TILE + r % STRIP * STEP..]);
            }
            let stride = depth * PANEL_STEP + 3 * TILE;
            let mut b = vec![NAN; count * stride];
            for (p, keys) in right.chunks(BLOCK * inner).enumerate() {
                (table.pack_keys)(keys, inner, keys.len() / inner, inner, &mut b[p * stride..]);
            }
            let ldc = BLOCK * count + gap;
            let poison = if accumulate { 1.0 } else { f32::NAN };
            let mut c = vec![poison; BLOCK * ldc];
            let (a, b) = (Strips { data: &a, stride: depth * TILE }, Panels { data: &b, stride, count });
            (table.begin)();
            // SAFETY: c has 32 rows of all columns, ldc apart.
            unsafe { (table.multiply)(a, b, depth, c.as_mut_ptr(), ldc, accumulate) };
            (table.end)();
            let found: Vec<f32> =
                c.chunks(ldc).flat_map(|row| row[..BLOCK * count].to_vec()).collect();
            assert_close(&found, &expected, 1e-5, &format!("{isa} multiply"));
            for v in c.chunks(ldc).flat_map(|row| &row[BLOCK * count..]) {
                prop_assert!(v.is_nan() || *v == poison, "the gap between rows is not ours");
            }
            // The same panels, one unrounded row.
            let x = random(&mut seed, inner);
            let mut out = [f32::NAN; BLOCK];
            (table.rows)(&x, inner, b.data, &mut out, BLOCK);
            let expected: Vec<f32> = (0..BLOCK).map(|c| (0..inner).filter(|_| c < columns)
                .map(|k| x[k] * right[c * inner + k].to_f32()).sum()).collect();
            assert_close(&out, &expected, 1e-5, &format!("{isa} rows"));
            // The same row among others gives the same bits.
            for before in 0..8 {
                let mut all = random(&mut seed, before * inner);
                all.extend(&x);
                all.extend(random(&mut seed, before / 2 * inner));
                let (stride, count) = (BLOCK + 5, all.len() / inner);
                let mut among = vec![f32::NAN; count * stride];
                (table.rows)(&all, inner, b.data, &mut among, stride);
                for (a, b) in among[before * stride..][..BLOCK].iter().zip(&out) {
                    prop_assert_eq!(a.to_bits(), b.to_bits(), "{} after {} rows", isa, before);
                }
                prop_assert!(among.chunks(stride).all(|row| row[BLOCK..].iter().all(|v| v.is_nan())));
            }
        }
    }

    #[test]
    fn packing_matches_the_reference(
        count in prop_oneof![Just(32usize), 1usize..32], dim in prop_oneof![Just(64usize), Just(128), 1usize..99],
        gap in 0usize..40, mut seed in any::<u64>()
    ) {
        let stride = dim + gap;
        let source = narrow(&random(&mut seed, 32 * stride));
        let depth = dim.div_ceil(STEP);
        let stride_out = 2 * PANEL_STEP;
        let run = |table: &TileKernels| {
            let mut keys = vec![bf16::ONE; depth * PANEL_STEP];
            (table.pack_keys)(&source, stride, count, dim, &mut keys);
            let mut values = vec![bf16::ONE; depth * stride_out];
            (table.pack_values)(&source, stride, count, dim, &mut values, stride_out);
            let wide: Vec<f32> = source[..dim].iter().map(|v| v.to_f32() * 1.01).collect();
            let mut row = vec![bf16::ONE; depth * TILE];
            (table.narrow)(&wide, &mut row);
            (keys, values, row)
        };
        let expected = run(&portable::KERNELS);
        for (isa, table) in tables() {
            prop_assert_eq!(run(&table), expected.clone(), "{}", isa);
        }
    }

    /// Two rounds of the online softmax give the softmax over all keys.
    #[test]
    fn softmax_matches_the_definition(
        depths in [1usize..5, 1usize..5], spread in 0.1f32..40.0, mut seed in any::<u64>()
    ) {
        let rounds: Vec<(usize, Vec<f32>, [usize; BLOCK])> = depths.into_iter().map(|depth| {
            let width = depth * STEP;
            let scores = random(&mut seed, BLOCK * width).iter().map(|v| v * spread).collect();
            let visible = std::array::from_fn(|r| {
                (random(&mut seed, 1)[0].abs() * (width + 20) as f32) as usize % (width + 1) * usize::from(r != 7)
            });
            (depth, scores, visible)
        }).collect();
        for (isa, table) in tables() {
            let (mut max, mut sum) = (vec![f32::NEG_INFINITY; BLOCK], vec![0.0f32; BLOCK]);
            let mut total = vec![0.0f64; BLOCK];
            for (depth, scores, visible) in &rounds {
                let width = depth * STEP;
                let mut factors = [f32::NAN; BLOCK];
                let mut weights = vec![NAN; 2 * depth * TILE];
                (table.softmax)(SoftmaxRows {
                    scores, stride: width, visible, depth: *depth, max: &mut max, sum: &mut sum,
                    factors: &mut factors, weights: &mut weights,
                });
                for r in 0..BLOCK {
                    let row = &weights[r / STRIP * depth * TILE + r % STRIP * STEP..];
                    total[r] *= f64::from(factors[r]);
                    for key in 0..width {
                        let found = row[key / STEP * TILE + key % STEP].to_f32();
                        let expected = if key < visible[r] {
                            (scores[r * width + key] - max[r]).exp2()
                        } else {
                            0.0
                        };
                        // Half a unit of the last place of bf16 (2^-8 at worst), and the
                        // approximation.
                        prop_assert!((found - expected).abs() <= 4.1e-3 * expected + 1e-30,
                            "{isa} weight {r} {key}: {found} instead of {expected}");
                        total[r] += f64::from(expected);
                    }
                }
            }
            for r in 0..BLOCK {
                let seen = rounds.iter().map(|(_, _, visible)| visible[r]).sum::<usize>();
                if seen == 0 {
                    prop_assert_eq!((max[r], sum[r]), (f32::NEG_INFINITY, 0.0));
                } else {
                    let error = (f64::from(sum[r]) - total[r]).abs() / total[r];
                    prop_assert!(error < 2e-4, "{isa} sum of row {r}: {} instead of {}", sum[r], total[r]);
                }
            }
        }
    }
}
