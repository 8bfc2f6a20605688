//! How sure a score is, and whether a difference is one: 95 % confidence intervals and paired
//! tests.
//!
//! - One set of 0/1 scores: Wilson's interval, which stays honest at 0 and 1.
//! - One set of fractional scores: percentile bootstrap, 10,000 resamples from a fixed seed.
//! - Two methods on the same samples, 0/1: the exact McNemar test, with Newcombe's interval for the
//!   difference of paired proportions (his method 10 without continuity correction).
//! - The same, fractional: paired bootstrap, with the sign-flip test; McNemar's is its special
//!   case of 0/1 scores. It keeps a handful of samples from looking like proof.
//! - Two methods whose difference is the same on every sample, none or any: Wilson's interval of
//!   what never happened, to both sides.
//! - A mean over tasks: the tasks' intervals combined by their squared half widths, side by side
//!   (Zou & Donner's MOVER), which needs no symmetry and no spread at 0 or 1.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// The 97.5 % point of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;
/// Resamples of a bootstrap and draws of a sign-flip test.
const RESAMPLES: usize = 10_000;
/// The most differences for which the sign-flip test tries every combination of signs.
const EXHAUSTIVE: usize = 13;
/// The same scores give the same interval.
const SEED: u64 = 0x005a_4d50;

/// A mean with its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Samples it rests on.
    pub n: usize,
}

/// What another method changes on the samples of a baseline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Mean of (other - baseline), with its interval.
    pub estimate: Estimate,
    /// Samples on which the other method scores higher.
    pub better: usize,
    /// Samples on which it scores lower.
    pub worse: usize,
    /// How likely a difference at least this large is if the methods are equally good; two-sided.
    pub p: f64,
}

impl Difference {
    /// Whether chance explains it: the interval holds 0, or the test does not reject at 5 %.
    #[must_use]
    pub fn is_noise(&self) -> bool {
        let Estimate { low, high, .. } = self.estimate;
        (low <= 0.0 && high >= 0.0) || self.p >= 0.05
    }

    /// `noise`, `better` or `worse`.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match self.is_noise() {
            true => "noise",
            false if self.estimate.mean > 0.0 => "better",
            false => "worse",
        }
    }
}

/// The mean of `scores`, which lie in 0..=1; `None` if there are none.
#[must_use]
pub fn estimate(scores: &[f64]) -> Option<Estimate> {
    let mean = mean(scores)?;
    // Equal scores have no spread to resample; Wilson's interval is wide enough for any scores in
    // 0..=1, whose variance is at most that of 0/1 scores of the same mean.
    let spread = scores.iter().any(|score| *score != scores[0]);
    let (low, high) = match spread && !scores.iter().all(is_binary) {
        true => bootstrap(scores),
        false => wilson(mean, scores.len()),
    };
    Some(Estimate { mean, low, high, n: scores.len() })
}

/// The unweighted mean of independent estimates, as a benchmark's mean over tasks.
#[must_use]
pub fn average(parts: &[Estimate]) -> Option<Estimate> {
    let count = parts.len() as f64;
    let mean = mean(&parts.iter().map(|part| part.mean).collect::<Vec<_>>())?;
    let norm = |width: fn(&Estimate) -> f64| {
        parts.iter().map(|part| width(part).powi(2)).sum::<f64>().sqrt() / count
    };
    Some(Estimate {
        mean,
        low: mean - norm(|part| part.mean - part.low),
        high: mean + norm(|part| part.high - part.mean),
        n: parts.iter().map(|part| part.n).sum(),
    })
}

/// The difference over `pairs` of (baseline, other) scores of the same samples.
#[must_use]
pub fn difference(pairs: &[(f64, f64)]) -> Option<Difference> {
    let changes: Vec<f64> = pairs.iter().map(|(base, other)| other - base).collect();
    let mean = mean(&changes)?;
    let better = changes.iter().filter(|change| **change > 0.0).count();
    let worse = changes.iter().filter(|change| **change < 0.0).count();
    let binary = pairs.iter().all(|(base, other)| is_binary(base) && is_binary(other));
    let (low, high) = match binary {
        _ if changes.iter().all(|change| *change == changes[0]) => no_spread(mean, changes.len()),
        true => newcombe(pairs),
        false => bootstrap(&changes),
    };
    let p = if binary { mcnemar(better, worse) } else { sign_flip(&changes) };
    Some(Difference { estimate: Estimate { mean, low, high, n: pairs.len() }, better, worse, p })
}

/// The difference of the unweighted means over tasks; `tasks` has the pairs of each.
#[must_use]
pub fn average_difference(tasks: &[Vec<(f64, f64)>]) -> Option<Difference> {
    let parts: Vec<Difference> = tasks.iter().filter_map(|pairs| difference(pairs)).collect();
    let estimates: Vec<Estimate> = parts.iter().map(|part| part.estimate).collect();
    let estimate = average(&estimates)?;
    // A sample weighs as much in the mean as its task has few of them.
    let weighted = tasks
        .iter()
        .flat_map(|pairs| pairs.iter().map(|(base, other)| (other - base) / pairs.len() as f64));
    Some(Difference {
        estimate,
        better: parts.iter().map(|part| part.better).sum(),
        worse: parts.iter().map(|part| part.worse).sum(),
        p: sign_flip(&weighted.collect::<Vec<_>>()),
    })
}

fn is_binary(score: &f64) -> bool {
    *score == 0.0 || *score == 1.0
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Wilson's interval of a proportion `p` seen in `n` samples.
fn wilson(p: f64, n: usize) -> (f64, f64) {
    let n = n as f64;
    let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    // Rounding must not push an end past the proportion itself.
    ((centre - half).clamp(0.0, p), (centre + half).clamp(p, 1.0))
}

/// The interval of a change that was the same in all of `n` samples: as wide as Wilson's for an
/// event that never happened. Neither resampling nor correlation sees what a few equal samples
/// leave open.
fn no_spread(change: f64, n: usize) -> (f64, f64) {
    let (_, width) = wilson(0.0, n);
    ((change - width).max(-1.0), (change + width).min(1.0))
}

/// Newcombe's interval of the difference of two paired proportions: Wilson's intervals of both,
/// joined with the correlation of the pairs.
fn newcombe(pairs: &[(f64, f64)]) -> (f64, f64) {
    let n = pairs.len() as f64;
    let count =
        |base: f64, other: f64| pairs.iter().filter(|pair| **pair == (base, other)).count() as f64;
    let (both, lost, won, neither) =
        (count(1.0, 1.0), count(1.0, 0.0), count(0.0, 1.0), count(0.0, 0.0));
    let (other, base) = ((both + won) / n, (both + lost) / n);
    let spread = (both + won) * (lost + neither) * (both + lost) * (won + neither);
    let phi = match spread {
        0.0 => 0.0,
        _ => (both * neither - won * lost) / spread.sqrt(),
    };
    let ((other_low, other_high), (base_low, base_high)) =
        (wilson(other, pairs.len()), wilson(base, pairs.len()));
    let join = |a: f64, b: f64| (a * a - 2.0 * phi * a * b + b * b).max(0.0).sqrt();
    let mean = other - base;
    (
        mean - join(other - other_low, base_high - base),
        mean + join(other_high - other, base - base_low),
    )
}

/// The exact two-sided McNemar test of `better` against `worse` changed samples.
fn mcnemar(better: usize, worse: usize) -> f64 {
    let (changed, fewer) = (better + worse, better.min(worse));
    // Terms of the binomial distribution with 1/2, in logarithms: 2^-changed may underflow.
    let mut term = changed as f64 * 0.5f64.ln();
    let mut tail = 0.0;
    for k in 0..=fewer {
        tail += term.exp();
        term += ((changed - k) as f64 / (k + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

/// The two-sided sign-flip test: how often random signs give a sum at least as far from 0.
fn sign_flip(changes: &[f64]) -> f64 {
    let changes: Vec<f64> = changes.iter().copied().filter(|change| *change != 0.0).collect();
    let sum: f64 = changes.iter().sum();
    // Sums of the same numbers in another order may differ in their last bits.
    let reached = sum.abs() * (1.0 - 1e-9);
    let extreme = |bits: &mut dyn FnMut(usize) -> bool| {
        let signed = changes.iter().enumerate().map(|(i, c)| if bits(i) { *c } else { -c });
        signed.sum::<f64>().abs() >= reached
    };
    if changes.len() <= EXHAUSTIVE {
        let all = 1usize << changes.len();
        let hits = (0..all).filter(|signs| extreme(&mut |i| signs >> i & 1 == 1)).count();
        return hits as f64 / all as f64;
    }
    let mut random = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let hits = (0..RESAMPLES).filter(|_| extreme(&mut |_| random.next_u64() >> 63 == 1)).count();
    (hits + 1) as f64 / (RESAMPLES + 1) as f64
}

/// The percentile bootstrap interval of the mean of `values`.
fn bootstrap(values: &[f64]) -> (f64, f64) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let n = values.len();
    let mut draw = || ((u128::from(random.next_u64()) * n as u128) >> 64) as usize;
    let mut means: Vec<f64> =
        (0..RESAMPLES).map(|_| (0..n).map(|_| values[draw()]).sum::<f64>() / n as f64).collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[(share * (RESAMPLES - 1) as f64).round() as usize];
    (at(0.025), at(0.975))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn near(got: f64, expected: f64) {
        assert!((got - expected).abs() < 5e-5, "{got} is not {expected}");
    }

    /// `ones` ones among `n` scores.
    fn binary(ones: usize, n: usize) -> Vec<f64> {
        (0..n).map(|i| f64::from(i < ones)).collect()
    }

    /// Pairs by how often each kind occurs: both right, only the baseline, only the other, neither.
    fn pairs(both: usize, lost: usize, won: usize, neither: usize) -> Vec<(f64, f64)> {
        let kinds =
            [((1.0, 1.0), both), ((1.0, 0.0), lost), ((0.0, 1.0), won), ((0.0, 0.0), neither)];
        kinds.iter().flat_map(|(pair, count)| std::iter::repeat_n(*pair, *count)).collect()
    }

    /// Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I.
    #[test]
    fn wilson_reproduces_the_published_table() {
        for (ones, n, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let got = estimate(&binary(ones, n)).unwrap();
            near(got.low, low);
            near(got.high, high);
            near(got.mean, ones as f64 / n as f64);
            let mirrored = estimate(&binary(n - ones, n)).unwrap();
            near(mirrored.high, 1.0 - low);
        }
        assert_eq!(estimate(&[]), None);
    }

    /// Twice the tail of a fair coin, by hand.
    #[test]
    fn mcnemar_is_a_sign_test_on_the_changed_samples() {
        for (better, worse, p) in [
            (0, 0, 1.0),
            (3, 3, 1.0),
            (0, 5, 2.0 / 32.0),
            (0, 6, 2.0 / 64.0),
            (1, 8, 2.0 * 10.0 / 512.0),
            (2, 10, 2.0 * 79.0 / 4096.0),
        ] {
            near(mcnemar(better, worse), p);
            near(mcnemar(worse, better), p);
        }
        assert!(mcnemar(3000, 2000) < 1e-40);
    }

    #[test]
    fn the_sign_flip_test_of_binary_scores_is_mcnemars() {
        for (won, lost) in [(0, 1), (1, 6), (2, 10), (5, 5)] {
            let changes: Vec<f64> =
                pairs(4, lost, won, 4).iter().map(|(base, other)| other - base).collect();
            near(sign_flip(&changes), mcnemar(won, lost));
        }
        // Drawn, not enumerated.
        let changes: Vec<f64> = binary(20, 30).iter().map(|s| 2.0 * s - 1.0).collect();
        assert!((sign_flip(&changes) - mcnemar(20, 10)).abs() < 0.01);
    }

    #[test]
    fn a_point_lost_in_a_hundred_is_noise_and_ten_are_not() {
        let one = difference(&pairs(90, 1, 0, 9)).unwrap();
        near(one.estimate.mean, -0.01);
        assert_eq!((one.verdict(), one.better, one.worse), ("noise", 0, 1));
        let ten = difference(&pairs(80, 10, 0, 10)).unwrap();
        assert_eq!((ten.verdict(), ten.worse), ("worse", 10));
        assert!(ten.estimate.high < 0.0);
        assert_eq!(difference(&pairs(50, 0, 12, 3)).unwrap().verdict(), "better");
        // All the same: nothing changed, but nothing is proven either.
        let same = difference(&pairs(50, 0, 0, 0)).unwrap();
        assert!(same.is_noise() && same.estimate.low < -0.01 && same.estimate.high > 0.01);
        assert_eq!(difference(&[]), None);
    }

    #[test]
    fn what_never_changed_is_as_unsure_as_wilson_says() {
        let same = |pair, n| difference(&vec![pair; n]).unwrap().estimate;
        // Whatever the scores are: all right, all half right, or right and wrong in turn.
        let turns = difference(&pairs(5, 0, 0, 5)).unwrap().estimate;
        for got in [same((1.0, 1.0), 10), same((0.5, 0.5), 10), turns] {
            near(got.low, -0.2775);
            near(got.high, 0.2775);
        }
        let lost = same((1.0, 0.0), 10);
        near(lost.low, -1.0);
        near(lost.high, -0.7225);
    }

    #[test]
    fn a_few_fractional_samples_prove_nothing() {
        // The bootstrap of one sample, or of equal ones, has no width.
        assert!(difference(&[(1.0, 0.5)]).unwrap().is_noise());
        assert!(difference(&[(1.0, 0.5); 5]).unwrap().is_noise());
        assert_eq!(difference(&[(1.0, 0.5); 6]).unwrap().verdict(), "worse");
        let one = estimate(&[0.5]).unwrap();
        assert!(one.low < 0.1 && one.high > 0.9, "{one:?}");
    }

    #[test]
    fn the_bootstrap_agrees_with_the_normal_interval_and_repeats() {
        let scores: Vec<f64> = (0..400).map(|i| f64::from(i % 5) / 4.0).collect();
        let got = estimate(&scores).unwrap();
        // Standard deviation of 0, 1/4, 1/2, 3/4, 1 is 0.35355.
        let half = Z * 0.353_553 / 20.0;
        assert!((got.low - (0.5 - half)).abs() < 0.003, "{got:?}");
        assert!((got.high - (0.5 + half)).abs() < 0.003, "{got:?}");
        assert_eq!(estimate(&scores), Some(got));
    }

    #[test]
    fn a_mean_over_tasks_is_surer_than_each() {
        let task = estimate(&binary(45, 50)).unwrap();
        let mean = average(&[task; 4]).unwrap();
        assert_eq!((mean.mean, mean.n), (task.mean, 200));
        near(mean.high - mean.mean, (task.high - task.mean) / 2.0);
        near(mean.mean - mean.low, (task.mean - task.low) / 2.0);

        let small_loss = pairs(44, 3, 0, 3);
        assert!(difference(&small_loss).unwrap().is_noise());
        let everywhere = average_difference(&vec![small_loss; 10]).unwrap();
        assert_eq!((everywhere.verdict(), everywhere.worse), ("worse", 30));
        near(everywhere.estimate.mean, -0.06);
        assert_eq!(average_difference(&[]), None);
    }

    proptest! {
        #[test]
        fn intervals_hold_their_mean(scores in prop::collection::vec(0u8..=4, 1..20)) {
            let scores: Vec<f64> = scores.iter().map(|s| f64::from(*s) / 4.0).collect();
            let got = estimate(&scores).unwrap();
            prop_assert!(0.0 <= got.low && got.low <= got.mean + 1e-12);
            prop_assert!(got.mean <= got.high + 1e-12 && got.high <= 1.0);
        }

        #[test]
        fn differences_are_antisymmetric(kinds in prop::collection::vec((0u8..2, 0u8..2), 1..60)) {
            let pairs: Vec<(f64, f64)> =
                kinds.iter().map(|(a, b)| (f64::from(*a), f64::from(*b))).collect();
            let turned: Vec<(f64, f64)> = pairs.iter().map(|(a, b)| (*b, *a)).collect();
            let (one, other) = (difference(&pairs).unwrap(), difference(&turned).unwrap());
            prop_assert!((one.estimate.low + other.estimate.high).abs() < 1e-12);
            prop_assert!((one.p - other.p).abs() < 1e-12);
        }
    }
}
