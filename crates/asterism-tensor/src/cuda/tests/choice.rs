//! The choice of a token by its logit, against the CPU's.

use super::both::{Both, all, widened};
use super::{halves, numbers, random};
use crate::cuda::Cuda;
use crate::{Buffers, Choice, Choosing, Part, Sampling};
use rand_xoshiro::Xoshiro256PlusPlus;

#[test]
fn the_largest_is_the_lower_of_equal_ones_and_finite() {
    let Some(both) = Both::open() else { return };
    let mut random = random();
    for len in [1, 31, 4096, 128_256] {
        let mut values = widened(&halves(&mut random, len, 10.0));
        values[len / 3] = 50.0;
        values[len / 2] = 50.0;
        for broken in [None, Some(f32::NAN), Some(f32::INFINITY)] {
            if let Some(broken) = broken {
                values[len - 1] = broken;
            }
            let sums = both.sums(&values);
            let expected = both.cpu.largest(all(&sums.1)).unwrap();
            assert_eq!(expected.is_some(), broken.is_none());
            assert_eq!(both.gpu.largest(all(&sums.0)).unwrap(), expected, "{len}");
        }
    }
}

#[test]
fn sampled_tokens_are_those_of_the_cpu() {
    let Some(both) = Both::open() else { return };
    draws_agree(&both, &[1, 33, 4096]);
    let broken = both.sums(&[0.0, f32::NAN, 1.0]);
    let sampling = Sampling { temperature: 1.0, ..Sampling::default() };
    assert_eq!(both.gpu.choose(all(&broken.0), &sampling, None, 0).unwrap(), None);
    assert_eq!(both.cpu.choose(all(&broken.1), &sampling, None, 0).unwrap(), None);
}

/// Apart from the other, which tools that watch every access run through in seconds.
#[test]
fn tokens_sampled_among_many_are_those_of_the_cpu() {
    let Some(both) = Both::open() else { return };
    draws_agree(&both, &[128_256]);
}

/// Draws from logits of every size in `vocabularies`, on both processors.
fn draws_agree(both: &Both, vocabularies: &[usize]) {
    let mut random = random();
    let (mut drawn, mut differ) = (0, 0);
    for &vocab in vocabularies {
        for round in 0..24 {
            // Many logits are equal: the token decides.
            let scale = if round % 2 == 0 { 6.0 } else { 0.01 };
            let logits = both.sums(&widened(&halves(&mut random, vocab, scale)));
            let unit = |random: &mut Xoshiro256PlusPlus| (numbers(random, 1, 0.5)[0] + 0.5).abs();
            let sampling = Sampling {
                temperature: [0.0, 0.3, 1.0, 2.0][round % 4],
                top_k: [0, 1, 40, vocab, 2 * vocab][round % 5],
                top_p: [1.0, unit(&mut random).max(1e-3), 0.9][round % 3],
                min_p: [0.0, unit(&mut random) * 0.1][round / 2 % 2],
                repetition_penalty: [1.0, 1.3, 0.8][round / 3 % 3],
                seed: 0,
            };
            let flags: Vec<bool> = (0..vocab).map(|_| unit(&mut random) > 0.8).collect();
            let mut seen = (both.gpu.flags(&flags).unwrap(), both.cpu.flags(&flags).unwrap());
            for _ in 0..8 {
                let uniform = (f64::from(unit(&mut random)) * (1u64 << 53) as f64) as u64;
                let of_cpu = |uniform: u64| {
                    sampling.choose(&logits.1, Some(&seen.1), uniform.min((1 << 53) - 1))
                };
                let expected = of_cpu(uniform);
                // Sums of weights are rounded: near where one token ends, its neighbour may be
                // taken.
                let near = [of_cpu(uniform.saturating_sub(1 << 33)), of_cpu(uniform + (1 << 33))];
                let found = both
                    .gpu
                    .choose(
                        all(&logits.0),
                        &sampling,
                        Some(&mut seen.0),
                        uniform.min((1 << 53) - 1),
                    )
                    .unwrap()
                    .unwrap();
                assert!(found == expected || near.contains(&found), "{sampling:?}: {found}");
                (drawn, differ) = (drawn + 1, differ + usize::from(found != expected));
                seen.1[found as usize] = true;
                assert_eq!(seen.0.to_vec().unwrap()[found as usize], 1);
            }
        }
    }
    assert!(differ * 20 <= drawn, "{differ} of {drawn} differ");
}

/// More rows than a launch takes, each with its own settings.
#[test]
fn tokens_of_many_rows_are_those_of_each_alone() {
    let Some(both) = Both::open() else { return };
    let mut random = random();
    let (vocab, rows) = (4096, 150);
    for greedy in [true, false] {
        let mut values = widened(&halves(&mut random, rows * vocab, 6.0));
        values[3 * vocab + 7] = f32::NAN;
        let logits = both.sums(&values).0;
        let row = |r: usize| Part::new(&logits, r * vocab..(r + 1) * vocab);
        let samplings: Vec<Sampling> = (0..rows)
            .map(|r| Sampling {
                temperature: if greedy { 0.0 } else { [0.0, 0.7, 1.3][r % 3] },
                top_k: [0, 20][r % 2],
                top_p: [1.0, 0.9][r / 2 % 2],
                ..Sampling::default()
            })
            .collect();
        let uniform = |r: usize| (r as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11;
        let alone: Vec<Option<u32>> = (0..rows)
            .map(|r| both.gpu.choose(row(r), &samplings[r], None, uniform(r)).unwrap())
            .collect();
        let mut choices: Vec<Choice<'_, Cuda>> = (0..rows)
            .map(|r| Choice {
                logits: row(r),
                sampling: &samplings[r],
                seen: None,
                uniform: uniform(r),
            })
            .collect();
        assert_eq!(both.gpu.choose_all(&mut choices).unwrap(), alone);
        assert!(alone.iter().enumerate().all(|(r, token)| token.is_none() == (r == 3)));
    }
}

#[test]
#[ignore = "a measurement"]
fn time_of_a_choice() {
    let Some(both) = Both::open() else { return };
    let logits = both.sums(&numbers(&mut random(), 128_256, 10.0));
    let base = Sampling { temperature: 0.7, ..Sampling::default() };
    let cases = [
        ("largest", Sampling::default()),
        ("temperature", base.clone()),
        ("top-p", Sampling { top_p: 0.9, ..base.clone() }),
        ("top-k and top-p", Sampling { top_k: 50, top_p: 0.9, ..base }),
    ];
    for (name, sampling) in cases {
        let time = super::median(both.gpu.device(), 20, || {
            let logits = all(&logits.0);
            let token = if sampling.is_largest() {
                both.gpu.largest(logits)
            } else {
                both.gpu.choose(logits, &sampling, None, 1 << 51)
            };
            token.unwrap().unwrap();
        });
        println!("{name}, among 128256: {time:?}");
    }
}
