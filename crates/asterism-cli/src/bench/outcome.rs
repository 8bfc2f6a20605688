//! What was measured of a case, and the rates that follow from it.

use super::cases::Case;
use super::stats::Stats;
use asterism::engine::{Phase1, Sparsity};
use asterism::model::StageTimes;
use std::time::Duration;

/// One run.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) phase1: Phase1,
    /// For every number of sequences of the case; empty if no decoding was asked for.
    pub(super) answers: Vec<Answers>,
    /// Where the time of phase 1 and of all decoding steps of one sequence went, if that was asked
    /// for.
    pub(super) stages: Option<[StageTimes; 2]>,
    /// Most bytes that the process held, weights included.
    pub(super) memory: Option<u64>,
}

/// Questions that were asked at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answers {
    /// Time up to the first token of the last answer.
    pub(super) question: Duration,
    /// Time of all decoding steps.
    pub(super) decode: Duration,
}

/// All timed runs of one case: at least one.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) case: Case,
    pub(super) samples: Vec<Sample>,
}

impl Outcome {
    pub(super) fn new(case: Case) -> Self {
        Self { case, samples: Vec::new() }
    }

    /// Seconds of phase 1.
    pub(super) fn prefill(&self) -> Stats {
        let times = self.samples.iter().map(|sample| sample.phase1.time);
        Stats::of_times(times).unwrap_or(Stats { median: f64::NAN, min: f64::NAN, max: f64::NAN })
    }

    /// Operations of phase 1: where keys are left out, of attention the share that was computed.
    pub(super) fn flops(&self) -> f64 {
        let hosts = &self.case.cost.hosts;
        let linear: u128 = hosts.iter().map(|host| host.linear_flops).sum();
        let attention: u128 = hosts.iter().map(|host| host.attention_flops).sum();
        linear as f64 + attention as f64 * self.sparsity().map_or(1.0, Sparsity::density)
    }

    /// What was left out, all runs together, by a method that leaves keys out.
    pub(super) fn sparsity(&self) -> Option<Sparsity> {
        self.samples.iter().filter_map(|sample| sample.phase1.sparsity).reduce(|a, b| a + b)
    }

    /// Operations per second of phase 1.
    pub(super) fn flops_per_second(&self) -> f64 {
        self.flops() / self.prefill().median
    }

    /// Context tokens encoded per second.
    pub(super) fn prefill_rate(&self) -> f64 {
        self.case.plan.tokens as f64 / self.prefill().median
    }

    /// Every number of sequences that was measured, with its index.
    pub(super) fn sequences(&self) -> impl Iterator<Item = (usize, usize)> {
        let measured = self.samples.first().map_or(0, |sample| sample.answers.len());
        self.case.sequences.iter().copied().enumerate().take(measured)
    }

    /// Times of the questions asked at once, by the index of their number.
    fn answers(&self, index: usize) -> impl Iterator<Item = Answers> {
        self.samples.iter().filter_map(move |sample| sample.answers.get(index).copied())
    }

    /// Tokens decoded per second by all sequences together, in `steps` steps.
    pub(super) fn decode_rate(&self, index: usize, steps: usize) -> Option<Stats> {
        let times = self.answers(index).map(|answers| answers.decode);
        let tokens = steps * self.case.sequences.get(index)?;
        Some(Stats::of_times(times)?.rate(tokens as f64))
    }

    /// How many times the tokens per second of one sequence, if that was measured.
    pub(super) fn over_one(&self, index: usize, steps: usize) -> Option<f64> {
        let one = self.case.sequences.iter().position(|count| *count == 1)?;
        Some(self.decode_rate(index, steps)?.median / self.decode_rate(one, steps)?.median)
    }

    /// Bytes that a decoding step must read, the mean over `steps` steps: `weight_bytes` of
    /// matrices, and the keys and values of all tokens before, of the context once.
    pub(super) fn bytes_per_step(&self, index: usize, weight_bytes: u64, steps: usize) -> f64 {
        // Step i of 1.. reads the context, every question and i tokens of every answer.
        let behind = self.case.query as f64 + (steps as f64 + 1.0) / 2.0;
        let sequences = self.case.sequences.get(index).map_or(1.0, |count| *count as f64);
        self.bytes_read(weight_bytes, sequences * behind)
    }

    /// Bytes that one question's pass must read: as [`Self::bytes_per_step`].
    pub(super) fn bytes_of_question(&self, weight_bytes: u64) -> f64 {
        self.bytes_read(weight_bytes, self.case.query as f64)
    }

    /// Bytes of the matrices and of the keys of the context and of what stands behind it.
    fn bytes_read(&self, weight_bytes: u64, behind: f64) -> f64 {
        let tokens = self.case.plan.tokens as f64;
        weight_bytes as f64 + self.kv_bytes() as f64 / tokens * (tokens + behind)
    }

    /// Seconds until all questions that were asked at once had the first token of their answer.
    pub(super) fn question(&self, index: usize) -> Option<Stats> {
        Stats::of_times(self.answers(index).map(|answers| answers.question))
    }

    /// Bytes of the context's keys and values, all hosts.
    pub(super) fn kv_bytes(&self) -> u64 {
        self.samples.first().map_or(0, |sample| sample.phase1.kv_bytes)
    }

    /// Bytes that the hosts sent each other in phase 1.
    pub(super) fn bytes_sent(&self) -> u64 {
        self.samples.first().map_or(0, |sample| sample.phase1.bytes_sent)
    }

    /// Most bytes that the process held in any run.
    pub(super) fn memory(&self) -> Option<u64> {
        self.samples.iter().filter_map(|sample| sample.memory).max()
    }

    /// Where the time went in the run whose phase 1 took the median time.
    pub(super) fn stages(&self) -> Option<[StageTimes; 2]> {
        let mut samples: Vec<&Sample> = self.samples.iter().collect();
        samples.sort_by_key(|sample| sample.phase1.time);
        samples.get(samples.len() / 2)?.stages
    }

    /// Whether both were measured at the same length on the same hosts.
    pub(super) fn is_comparable(&self, other: &Self) -> bool {
        (self.case.plan.tokens, self.case.hosts()) == (other.case.plan.tokens, other.case.hosts())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use asterism::plan::words::{Defaults, MethodWord};
    use asterism::plan::{Cost, ModelSize, Plan};

    /// Runs of `method` that took `millis`, each with two decoding steps of a tenth of that.
    pub(in crate::bench) fn outcome(
        method: &str,
        tokens: usize,
        hosts: usize,
        millis: &[u64],
    ) -> Outcome {
        let method = MethodWord::parse(method).unwrap();
        let plan = Plan::new(method.plan_spec(tokens, hosts, Defaults::Paper), tokens).unwrap();
        let size = ModelSize {
            layers: 2,
            context_layers: 1,
            linear_weights: 1_000_000,
            skipped_weights: 300_000,
            q_width: 64,
            heads: 2,
            kv_width: 32,
            kv_heads: 2,
            kv_row_bytes: 64,
            element_bytes: 4,
        };
        let cost = Cost::of(&plan, &size);
        let kv_bytes = 256 * tokens as u64;
        let sample = |ms: &u64| Sample {
            phase1: Phase1 {
                tokens,
                time: Duration::from_millis(*ms),
                bytes_sent: 7,
                kv_bytes,
                reused: Vec::new(),
                is_loaded: false,
                sparsity: None,
            },
            // Four sequences take twice as long as one.
            answers: [1, 2]
                .map(|factor| Answers {
                    question: Duration::from_millis(factor * *ms / 20),
                    decode: Duration::from_millis(factor * *ms / 10),
                })
                .to_vec(),
            stages: None,
            memory: Some(1_000_000 * ms),
        };
        let samples = millis.iter().map(sample).collect();
        Outcome {
            case: Case { method, plan, cost, query: 1, sequences: vec![1, 4], weights_read: 1.0 },
            samples,
        }
    }

    #[test]
    fn rates_follow_from_the_median() {
        let outcome = outcome("dense", 1000, 1, &[100, 400, 200]);
        assert_eq!(outcome.prefill(), Stats { median: 0.2, min: 0.1, max: 0.4 });
        assert!((outcome.prefill_rate() - 5000.0).abs() < 1e-6);
        let flops = outcome.case.cost.total_flops() as f64;
        assert!((outcome.flops_per_second() - 5.0 * flops).abs() < 1.0);
        let decode = outcome.decode_rate(0, 2).unwrap();
        assert_eq!(decode, Stats { median: 100.0, min: 50.0, max: 200.0 });
        // Two steps read 1000 + 1 + 1 and 1000 + 1 + 2 tokens.
        assert_eq!(outcome.bytes_per_step(0, 500, 2), 500.0 + 256.0 * 1002.5);
        assert_eq!(outcome.bytes_of_question(500), 500.0 + 256.0 * 1001.0);
        assert_eq!(outcome.question(0).map(|time| time.median), Some(0.01));
        assert_eq!(outcome.memory(), Some(400_000_000));
        // Four sequences read what stands behind the context four times.
        assert_eq!(outcome.bytes_per_step(1, 500, 2), 500.0 + 256.0 * 1010.0);
        let together = outcome.decode_rate(1, 2).unwrap();
        assert_eq!((together.median, outcome.over_one(1, 2)), (200.0, Some(2.0)));
        assert_eq!(outcome.sequences().collect::<Vec<_>>(), [(0, 1), (1, 4)]);
    }
}
