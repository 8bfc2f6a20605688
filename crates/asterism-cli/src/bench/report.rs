//! The results as tables for people and as JSON for programs.

use super::cases;
use super::outcome::Outcome;
use super::stats::Stats;
use crate::method_spec::MethodSpec;
use crate::{machine, report};
use asterism::engine::Engine;
use asterism::tensor::Peak;
use serde_json::{Value, json};
use std::time::Duration;

/// Everything there is to report.
pub(super) struct Report<'a> {
    pub(super) engine: &'a Engine,
    pub(super) methods: &'a [MethodSpec],
    pub(super) runs: usize,
    pub(super) decode_tokens: usize,
    pub(super) query_tokens: usize,
    pub(super) seed: u64,
    pub(super) peak: Peak,
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

    fn weight_bytes(&self) -> u64 {
        self.engine.weight_bytes() as u64
    }

    /// The terminal's report.
    pub(super) fn text(&self) -> String {
        let mut text = self.heading();
        text.push_str("\nphase 1: encoding the context\n");
        text.push_str(&self.prefill_table());
        if self.decode_tokens > 0 {
            let steps = report::count(self.decode_tokens);
            text.push_str(&format!(
                "\nphase 2: a question of {}, then decoding, {steps} steps of one token\n",
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
        let decode = outcome.decode_rate(self.decode_tokens).map_or(0.0, |rate| {
            rate.median * outcome.bytes_per_token(self.weight_bytes(), self.decode_tokens)
        });
        outcome.flops_per_second() > self.peak.flops_per_second
            || decode > self.peak.bytes_per_second
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
                report::flops(outcome.case.cost.total_flops()),
                flops_rate(rate),
                percent(rate / self.peak.flops_per_second),
                outcome.memory().map_or_else(|| "unknown on this system".into(), report::bytes),
            ]);
            row
        };
        report::table(&header, &self.outcomes.iter().map(row).collect::<Vec<_>>())
    }

    fn decode_table(&self) -> String {
        // The question's time is shown over that of reading all weights and keys at the peak rate.
        let header = [
            "method",
            "hosts",
            "tokens",
            "question",
            "of reading",
            "tokens/s",
            "range",
            "read per token",
            "rate",
            "of peak",
        ];
        let row = |outcome: &Outcome| {
            let question = outcome.question()?.median;
            let reading =
                outcome.bytes_of_question(self.weight_bytes()) / self.peak.bytes_per_second;
            let rate = outcome.decode_rate(self.decode_tokens)?;
            let bytes = outcome.bytes_per_token(self.weight_bytes(), self.decode_tokens);
            let mut row = names(outcome);
            row.extend([
                seconds(question),
                format!("{:.2}x", question / reading),
                format!("{:.1}", rate.median),
                format!("{:.1} - {:.1}", rate.min, rate.max),
                report::bytes(bytes as u64),
                bytes_rate(bytes * rate.median),
                percent(bytes * rate.median / self.peak.bytes_per_second),
            ]);
            Some(row)
        };
        report::table(&header, &self.outcomes.iter().filter_map(row).collect::<Vec<_>>())
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
            let linear: u64 = hosts.iter().map(|host| host.linear_flops).sum();
            let attention: u64 = hosts.iter().map(|host| host.attention_flops).sum();
            for (time, flops) in [(phase1.linear, linear), (phase1.attention, attention)] {
                let rate = flops as f64 / time.as_secs_f64();
                let share = percent(rate / self.peak.flops_per_second);
                row.extend([report::seconds(time), flops_rate(rate), share]);
            }
            row.push(report::seconds(phase1.rest));
            let step = |time: Duration| match self.decode_tokens {
                0 => "-".to_owned(),
                // The question's own pass is one more.
                steps => report::seconds(time / (steps as u32 + 1)),
            };
            row.extend([step(decode.linear), step(decode.attention), step(decode.rest)]);
            Some(row)
        };
        report::table(&header, &self.outcomes.iter().filter_map(row).collect::<Vec<_>>())
    }

    /// Everything, every single run included.
    pub(super) fn json(&self) -> Value {
        let (engine, config) = (self.engine, self.engine.config());
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "machine": {
                "cpu": machine::cpu_name(),
                "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
                "cores": machine::cores(),
                "memory_bytes": machine::memory().map(|(total, _)| total),
                "computing_on": engine.hardware(),
                "peak_flop_per_s": self.peak.flops_per_second,
                "peak_bytes_per_s": self.peak.bytes_per_second,
            },
            "model": {
                "name": engine.name,
                "description": config.to_string(),
                "parameters": config.parameters(),
                "precision": engine.precision().to_string(),
                "kv_precision": engine.kv_precision().to_string(),
                "matrix_bytes": self.weight_bytes(),
            },
            "settings": {
                "runs": self.runs,
                "decode_tokens": self.decode_tokens,
                "query_tokens": self.query_tokens,
                "seed": self.seed,
                "methods": self.methods.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "baseline": self.baseline(),
            },
            "cases": self.outcomes.iter().map(|outcome| self.case_json(outcome)).collect::<Vec<_>>(),
        })
    }

    fn case_json(&self, outcome: &Outcome) -> Value {
        let (time, rate) = (outcome.prefill(), outcome.flops_per_second());
        let seconds = |times: &mut dyn Iterator<Item = Duration>| -> Vec<f64> {
            times.map(|time| time.as_secs_f64()).collect()
        };
        let mut prefill_times = outcome.samples.iter().map(|sample| sample.phase1.time);
        let mut prefill = spread_json(time);
        prefill["runs"] = seconds(&mut prefill_times).into();
        let mut value = json!({
            "method": outcome.case.method.to_string(),
            "hosts": outcome.case.hosts(),
            "tokens": outcome.case.plan.tokens,
            "plan": report::plan_json(&outcome.case.plan),
            "prefill_s": prefill,
            "prefill_tokens_per_s": outcome.prefill_rate(),
            "flop": outcome.case.cost.total_flops(),
            "flop_per_s": rate,
            "share_of_peak_flop": rate / self.peak.flops_per_second,
            "speedup": self.speedup(outcome),
            "bytes_sent": outcome.bytes_sent(),
            "kv_bytes": outcome.kv_bytes(),
            "peak_memory_bytes": outcome.memory(),
        });
        if let Some(stages) = outcome.stages() {
            let [phase1, decode] = stages.map(|times| {
                let [linear, attention, rest] =
                    [times.linear, times.attention, times.rest].map(|time| time.as_secs_f64());
                json!({ "linear_s": linear, "attention_s": attention, "rest_s": rest })
            });
            value["stages"] = json!({ "phase1": phase1, "decode": decode });
        }
        if let Some(rate) = outcome.decode_rate(self.decode_tokens) {
            let bytes = outcome.bytes_per_token(self.weight_bytes(), self.decode_tokens);
            let mut decode_times = outcome.samples.iter().filter_map(|sample| sample.decode);
            value["decode_s"] = json!({ "runs": seconds(&mut decode_times) });
            if let Some(question) = outcome.question() {
                value["question_s"] = spread_json(question);
                value["question_bytes_read"] =
                    outcome.bytes_of_question(self.weight_bytes()).into();
            }
            value["decode_tokens_per_s"] = spread_json(rate);
            value["bytes_read_per_token"] = bytes.into();
            value["bytes_per_s"] = (bytes * rate.median).into();
            value["share_of_peak_bytes"] =
                (bytes * rate.median / self.peak.bytes_per_second).into();
        }
        value
    }
}

fn tokens(count: usize) -> String {
    format!("{} token{}", report::count(count), if count == 1 { "" } else { "s" })
}

fn names(outcome: &Outcome) -> Vec<String> {
    let case = &outcome.case;
    vec![case.method.to_string(), case.hosts().to_string(), report::count(case.plan.tokens)]
}

fn spread_json(stats: Stats) -> Value {
    json!({ "median": stats.median, "min": stats.min, "max": stats.max })
}

fn seconds(seconds: f64) -> String {
    report::seconds(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

fn flops_rate(rate: f64) -> String {
    format!("{}/s", report::flops(rate as u64))
}

fn bytes_rate(rate: f64) -> String {
    format!("{}/s", report::bytes(rate as u64))
}

fn percent(share: f64) -> String {
    format!("{:.0}%", 100.0 * share)
}
