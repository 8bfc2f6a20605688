//! Keys of which every head has its own choice: attention and softmax weight over them, against the
//! CPU's, and against all keys with those that are gone hidden.

use super::both::{Both, all, all_mut, all_of, on_both};
use super::{halves, random, relative_error};
use crate::{
    Attention, Buffers, Caching, HeadShape, KeptKeys, KvPrecision, MassOver, Part, Positions,
    Segment, Sequence,
};

const BLOCK: usize = 700;
const TAIL: usize = 40;

/// What each head keeps of a block: little, much, everything, nothing.
fn kept(shape: HeadShape) -> KeptKeys {
    let of = |head: usize| -> Vec<u32> {
        let step = [7, 2, 1, BLOCK][head % 4];
        (0..BLOCK as u32)
            .filter(|t| head % 4 != 3 && (*t as usize * 5 + head).is_multiple_of(step))
            .collect()
    };
    let heads: Vec<Vec<u32>> = (0..shape.kv_heads).map(of).collect();
    KeptKeys::new(BLOCK, &heads).unwrap()
}

#[test]
fn chosen_keys_are_attended_as_on_the_cpu() {
    let Some(both) = Both::open() else { return };
    let mut random = random();
    for precision in [KvPrecision::Bf16, KvPrecision::Fp8] {
        for (heads, kv_heads, head_dim) in [(16, 4, 64), (8, 4, 128), (4, 4, 96)] {
            let shape = HeadShape { heads, kv_heads, head_dim };
            let one = HeadShape { heads: 1, kv_heads: 1, head_dim };
            let len = BLOCK * shape.kv_width();
            let new = [
                both.rows(&halves(&mut random, len, 2.0)),
                both.rows(&halves(&mut random, len, 1.0)),
            ];
            let tail_len = TAIL * shape.kv_width();
            let tail = [
                both.rows(&halves(&mut random, tail_len, 2.0)),
                both.rows(&halves(&mut random, tail_len, 1.0)),
            ];
            // One question behind all, few rows among the keys, and many: with keys hidden or not.
            for (tokens, start) in [(1, BLOCK + TAIL - 1), (3, 350), (200, 300)] {
                let q = both.rows(&halves(&mut random, tokens * shape.q_width(), 1.0));
                for hides in [0.0, 0.3] {
                    let flags: Vec<bool> = halves(&mut random, BLOCK, 1.0)
                        .iter()
                        .map(|x| x.to_f32().abs() < hides)
                        .collect();
                    let mut out = both.no_rows(q.1.len());
                    let mut lse = both.no_sums(tokens * heads);
                    let mut most = both.no_sums(kv_heads * (BLOCK + TAIL));
                    let mut sums = both.no_sums(kv_heads * (BLOCK + TAIL));
                    on_both!(both, |backend, side| {
                        let gpu = std::any::type_name_of_val(backend).contains("Cuda");
                        let precision = if gpu { precision } else { KvPrecision::F32 };
                        let kv = |len| backend.kv(precision, shape, len).unwrap();
                        let (mut keys, mut values) = (kv(len), kv(len));
                        let both_new = [all(&side!(new[0])), all(&side!(new[1]))];
                        Caching::append(backend, [&mut keys, &mut values], both_new).unwrap();
                        let (mut own_keys, mut own_values) = (kv(tail_len), kv(tail_len));
                        let both_new = [all(&side!(tail[0])), all(&side!(tail[1]))];
                        Caching::append(backend, [&mut own_keys, &mut own_values], both_new)
                            .unwrap();
                        let rows = kept(shape).rows_of_all();
                        let gather =
                            |kv| backend.gather(Part::new(kv, 0..len), one, &rows).unwrap();
                        let (keys, values) = (gather(&keys), gather(&values));
                        let (kept, flags) =
                            (backend.kept(kept(shape)).unwrap(), backend.flags(&flags).unwrap());
                        let segments = [
                            Segment {
                                keys: all(&keys),
                                values: all(&values),
                                tokens: BLOCK,
                                start: 0,
                                hidden: (hides > 0.0).then_some(&flags),
                                kept: Some(&kept),
                            },
                            Segment {
                                keys: all(&own_keys),
                                values: all(&own_values),
                                tokens: TAIL,
                                start: BLOCK,
                                hidden: None,
                                kept: None,
                            },
                        ];
                        let positions = Positions::From(start);
                        let sequence = Sequence { rows: 0..tokens, positions, segments: &segments };
                        let sequences = std::slice::from_ref(&sequence);
                        let (to, to_lse) = (all_mut(&mut side!(out)), all_mut(&mut side!(lse)));
                        Attention::attend(backend, all(&side!(q)), shape, sequences, to, to_lse)
                            .unwrap();
                        for (over, to) in
                            [(MassOver::Sum, &mut side!(sums)), (MassOver::Max, &mut side!(most))]
                        {
                            let lse = all(&side!(lse));
                            let to = all_mut(to);
                            Attention::mass(
                                backend,
                                all(&side!(q)),
                                shape,
                                &sequence,
                                lse,
                                over,
                                to,
                            )
                            .unwrap();
                        }
                    });
                    let allowed = if precision == KvPrecision::Fp8 { 0.06 } else { 8e-3 };
                    let what =
                        format!("{precision} {shape:?}, {tokens} rows at {start}, hides {hides}");
                    let pairs = |found: Vec<f32>, expected: &[f32]| -> f64 {
                        let both = found.into_iter().zip(expected.to_vec());
                        // Rows that see nothing have a log-sum-exp of minus infinity on both.
                        relative_error(
                            both.filter(|(a, b)| a != b).map(|(a, b)| (f64::from(a), f64::from(b))),
                        )
                    };
                    let wide = all_of(&out.0).iter().map(|x| x.to_f32()).collect();
                    let error = pairs(wide, &out.1);
                    assert!(error < allowed, "out: {what}: {error:e}");
                    let (found, expected) = (all_of(&lse.0), &lse.1[..]);
                    let error = pairs(found.clone(), &lse.1);
                    let all = || format!("{error:e}, {found:?} and {expected:?}");
                    assert!(error < allowed, "lse: {what}: {}", all());
                    for (name, (found, expected)) in [("sums", &sums), ("most", &most)] {
                        let error = pairs(all_of(found), expected);
                        assert!(error < 4.0 * allowed, "{name}: {what}: {error:e}");
                    }
                }
            }
        }
    }
}
