//! The results as tables for people.

use super::cases;
use super::outcome::Outcome;
use crate::{machine, report};
use asterism::engine::Engine;
use asterism::plan::words::MethodWord;
use asterism::tensor::Peak;
use std::time::Duration;

/// Everything there is to report.
pub(super) struct Report<'a> {
    pub(super) engine: &'a Engine,
    pub(super) methods: &'a [MethodWord],
    pub(super) runs: usize,
    pub(super) decode_tokens: usize,
    pub(super) query_tokens: usize,
    pub(super) seed: u64,
    /// Of this process's processor.
    pub(super) peak: Peak,
    /// Whether hosts are processes, each with a processor of its own.
    pub(super) own_processors: bool,
    pub(super) outcomes: &'a [Outcome],
}

impl Report<'_> {
    /// How many times faster phase 1 was than the baseline's, at the same length and hosts.
    pub(super) fn speedup(&self, outcome: &Outcome) -> f64 {
        let baseline = cases::baseline(self.methods);
        let of_baseline =
            |other: &&Outcome| Some(other.case.method) == baseline && other.is_comparable(outcome);
        let reference = self.outcomes.iter().find(of_baseline).unwrap_or(outcome);
        reference.prefill().median / outcome.prefill().median
    }

    /// What the speed-ups compare with.
    pub(super) fn baseline(&self) -> String {
        cases::baseline(self.methods).map_or_else(String::new, |method| method.to_string())
    }

    pub(super) fn weight_bytes(&self) -> u64 {
        self.engine.weight_bytes() as u64
    }

    /// Processors that the hosts of a case have together.
    fn processors(&self, outcome: &Outcome) -> f64 {
        if self.own_processors { outcome.case.hosts() as f64 } else { 1.0 }
    }

    /// Operations per second that they reach together at most.
    pub(super) fn peak_flops(&self, outcome: &Outcome) -> f64 {
        self.processors(outcome) * self.peak.flops_per_second
    }

    /// Seconds that the busiest processor would take for phase 1 at its peak.
    pub(super) fn at_peak(&self, outcome: &Outcome) -> f64 {
        let cost = &outcome.case.cost;
        let flops = if self.own_processors { cost.critical_flops() } else { cost.total_flops() };
        flops as f64 / self.peak.flops_per_second
    }

    /// Bytes of the weights that a token of an answer reads on each processor.
    fn weights_of_token(&self, outcome: &Outcome) -> f64 {
        let share = if self.own_processors { outcome.case.weights_read } else { 1.0 };
        share * self.weight_bytes() as f64
    }

    /// Bytes that a decoding step must read on each processor: its weights, and the keys there.
    pub(super) fn read_per_step(&self, outcome: &Outcome, index: usize) -> f64 {
        let keys = outcome.bytes_per_step(index, 0, self.decode_tokens);
        self.weights_of_token(outcome) + keys / self.processors(outcome)
    }

    /// As [`Self::read_per_step`], for a question.
    pub(super) fn read_by_question(&self, outcome: &Outcome) -> f64 {
        self.weight_bytes() as f64 + outcome.bytes_of_question(0) / self.processors(outcome)
    }

    /// The terminal's report.
    pub(super) fn text(&self) -> String {
        let mut text = self.heading();
        text.push_str("\nphase 1: encoding the context\n");
        text.push_str(&self.prefill_table());
        for outcome in self.outcomes {
            if let Some(sparsity) = outcome.sparsity() {
                let (row, kept) = (names(outcome), report::sparsity(sparsity));
                text.push_str(&format!("{} of {} tokens: {kept}\n", row[0], row[2]));
            }
        }
        if self.outcomes.iter().any(|outcome| outcome.case.hosts() > 1) {
            text.push_str("\nwhat phase 1 takes at least, and what hosts send each other in it\n");
            text.push_str(&self.hosts_table());
        }
        if self.decode_tokens > 0 {
            let steps = report::count(self.decode_tokens);
            let each = if self.has_sequences() { ", of each sequence" } else { "" };
            text.push_str(&format!(
                "\nphase 2: a question of {}, then decoding, {steps} steps of one token{each}\n",
                tokens(self.query_tokens)
            ));
            text.push_str(&self.decode_table());
        }
        if self.outcomes.iter().any(|outcome| outcome.stages().is_some()) {
            text.push_str("\nwhere phase 1 goes, and one step of phase 2\n");
            text.push_str(&self.breakdown_table());
        }
        if self.outcomes.iter().any(|outcome| self.is_above_peak(outcome)) {
            text.push_str(
                "\nA rate above the peak: the machine was busier while its peak was measured, or \
                 what decoding reads fits its caches.\n",
            );
        }
        text
    }

    fn is_above_peak(&self, outcome: &Outcome) -> bool {
        let reads_faster = |(index, count)| {
            self.bytes_per_second(outcome, index, count) > Some(self.peak.bytes_per_second)
        };
        outcome.flops_per_second() > self.peak_flops(outcome)
            || outcome.sequences().any(reads_faster)
    }

    /// Bytes that decoding reads per second.
    pub(super) fn bytes_per_second(
        &self,
        outcome: &Outcome,
        index: usize,
        sequences: usize,
    ) -> Option<f64> {
        let steps = outcome.decode_rate(index, self.decode_tokens)?.median / sequences as f64;
        Some(steps * self.read_per_step(outcome, index))
    }

    /// Whether more than one question was asked at once.
    pub(super) fn has_sequences(&self) -> bool {
        self.outcomes.iter().any(|outcome| outcome.case.sequences != [1])
    }

    fn heading(&self) -> String {
        let engine = self.engine;
        format!(
            "{}: {}\n{}, {} of matrices\n{}, {} cores; computing on {}; measured peak {}, {}\n\
             medians of {} runs (fastest to slowest); speed-up over {}\n",
            engine.name,
            engine.config(),
            engine.precision(),
            report::bytes(self.weight_bytes()),
            machine::cpu_name().as_deref().unwrap_or("unknown processor"),
            machine::cores(),
            engine.hardware(),
            flops_rate(self.peak.flops_per_second),
            bytes_rate(self.peak.bytes_per_second),
            self.runs,
            self.baseline(),
        )
    }

    fn prefill_table(&self) -> String {
        let header = [
            "method", "hosts", "tokens", "time", "range", "speed-up", "tokens/s", "work", "rate",
            "of peak", "memory",
        ];
        let row = |outcome: &Outcome| {
            let (time, rate) = (outcome.prefill(), outcome.flops_per_second());
            let mut row = names(outcome);
            row.extend([
                seconds(time.median),
                format!("{} - {}", seconds(time.min), seconds(time.max)),
                format!("{:.2}x", self.speedup(outcome)),
                report::count(outcome.prefill_rate().round() as usize),
                report::flops(outcome.flops() as u128),
                flops_rate(rate),
                percent(rate / self.peak_flops(outcome)),
                outcome.memory().map_or_else(|| "unknown on this system".into(), report::bytes),
            ]);
            row
        };
        report::table(&header, &self.outcomes.iter().map(row).collect::<Vec<_>>())
    }

    /// What was predicted of several hosts, beside what was measured: seconds by the operations of
    /// the busiest, and bytes.
    fn hosts_table(&self) -> String {
        let header = ["method", "hosts", "tokens", "at peak", "took", "of it", "sent", "planned"];
        let row = |outcome: &Outcome| {
            let (least, took) = (self.at_peak(outcome), outcome.prefill().median);
            let planned: u64 = outcome.case.cost.hosts.iter().map(|host| host.sent_bytes).sum();
            let mut row = names(outcome);
            row.extend([seconds(least), seconds(took), percent(least / took)]);
            row.extend([outcome.bytes_sent(), planned].map(report::bytes));
            row
        };
        report::table(&header, &self.outcomes.iter().map(row).collect::<Vec<_>>())
    }

    fn decode_table(&self) -> String {
        // The question's time is shown over that of reading all weights and keys at the peak rate.
        let mut header = vec!["method", "hosts", "tokens"];
        match self.has_sequences() {
            true => header.extend(["sequences", "questions", "of reading", "tokens/s", "range"]),
            false => header.extend(["question", "of reading", "tokens/s", "range"]),
        }
        match self.has_sequences() {
            true => header.extend(["of each", "over one", "read per step", "rate", "of peak"]),
            false => header.extend(["read per token", "rate", "of peak"]),
        }
        let rows = |outcome| {
            let row = move |(index, count)| self.decode_row(outcome, index, count);
            Outcome::sequences(outcome).filter_map(row)
        };
        report::table(&header, &self.outcomes.iter().flat_map(rows).collect::<Vec<_>>())
    }

    fn decode_row(&self, outcome: &Outcome, index: usize, sequences: usize) -> Option<Vec<String>> {
        let question = outcome.question(index)?.median;
        let reading =
            sequences as f64 * self.read_by_question(outcome) / self.peak.bytes_per_second;
        let rate = outcome.decode_rate(index, self.decode_tokens)?;
        let bytes = self.read_per_step(outcome, index);
        let bytes_per_second = self.bytes_per_second(outcome, index, sequences)?;
        let mut row = names(outcome);
        if self.has_sequences() {
            row.push(sequences.to_string());
        }
        row.extend([
            seconds(question),
            format!("{:.2}x", question / reading),
            format!("{:.1}", rate.median),
            format!("{:.1} - {:.1}", rate.min, rate.max),
        ]);
        if self.has_sequences() {
            let over_one = outcome.over_one(index, self.decode_tokens);
            row.push(format!("{:.1}", rate.median / sequences as f64));
            row.push(over_one.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}x")));
        }
        row.extend([
            report::bytes(bytes as u64),
            bytes_rate(bytes_per_second),
            percent(bytes_per_second / self.peak.bytes_per_second),
        ]);
        Some(row)
    }

    /// The stages of phase 1, with the rates of the two that compute, and those of a decoding step.
    fn breakdown_table(&self) -> String {
        let header = [
            "method",
            "hosts",
            "tokens",
            "linear",
            "rate",
            "of peak",
            "attention",
            "rate",
            "of peak",
            "rest",
            "step: linear",
            "attention",
            "rest",
        ];
        let row = |outcome: &Outcome| {
            let [phase1, decode] = outcome.stages()?;
            let hosts = &outcome.case.cost.hosts;
            let mut row = names(outcome);
            let linear: u128 = hosts.iter().map(|host| host.linear_flops).sum();
            let attention: u128 = hosts.iter().map(|host| host.attention_flops).sum();
            for (time, flops) in [(phase1.linear, linear), (phase1.attention, attention)] {
                let rate = flops as f64 / time.as_secs_f64();
                let share = percent(rate / self.peak_flops(outcome));
                row.extend([report::seconds(time), flops_rate(rate), share]);
            }
            row.push(report::seconds(phase1.rest));
            let step = |time: Duration| match self.decode_tokens {
                _ if !outcome.case.sequences.contains(&1) => "-".to_owned(),
                0 => "-".to_owned(),
                // The question's own pass is one more.
                steps => report::seconds(time / (steps as u32 + 1)),
            };
            row.extend([step(decode.linear), step(decode.attention), step(decode.rest)]);
            Some(row)
        };
        report::table(&header, &self.outcomes.iter().filter_map(row).collect::<Vec<_>>())
    }
}

fn tokens(count: usize) -> String {
    format!("{} token{}", report::count(count), if count == 1 { "" } else { "s" })
}

fn names(outcome: &Outcome) -> Vec<String> {
    let case = &outcome.case;
    vec![case.method.to_string(), case.hosts().to_string(), report::count(case.plan.tokens)]
}

fn seconds(seconds: f64) -> String {
    report::seconds(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

fn flops_rate(rate: f64) -> String {
    format!("{}/s", report::flops(rate as u128))
}

fn bytes_rate(rate: f64) -> String {
    format!("{}/s", report::bytes(rate as u64))
}

fn percent(share: f64) -> String {
    format!("{:.0}%", 100.0 * share)
}
