//! The results as JSON for programs.

use super::outcome::Outcome;
use super::report::Report;
use super::stats::Stats;
use crate::{machine, report};
use asterism::engine::Sparsity;
use serde_json::{Value, json};
use std::time::Duration;

impl Report<'_> {
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
        let planned: u64 = outcome.case.cost.hosts.iter().map(|host| host.sent_bytes).sum();
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
            "flop": report::flops_json(outcome.flops() as u128),
            "flop_per_s": rate,
            "share_of_peak_flop": rate / self.peak_flops(outcome),
            "at_peak_s": self.at_peak(outcome),
            "planned_bytes": planned,
            "speedup": self.speedup(outcome),
            "bytes_sent": outcome.bytes_sent(),
            "kv_bytes": outcome.kv_bytes(),
            "peak_memory_bytes": outcome.memory(),
            "density": outcome.sparsity().map(Sparsity::density),
            "kept_mass": outcome.sparsity().map(Sparsity::kept_mass),
        });
        if let Some(stages) = outcome.stages() {
            let [phase1, decode] = stages.map(|times| {
                let [linear, attention, rest] =
                    [times.linear, times.attention, times.rest].map(|time| time.as_secs_f64());
                json!({ "linear_s": linear, "attention_s": attention, "rest_s": rest })
            });
            value["stages"] = json!({ "phase1": phase1, "decode": decode });
        }
        // The first number of sequences stands in the case itself.
        if let Some((index, sequences)) = outcome.sequences().next()
            && let Value::Object(decode) = self.decode_json(outcome, index, sequences)
            && let Value::Object(case) = &mut value
        {
            case.extend(decode);
        }
        if self.has_sequences() {
            let together = |(index, sequences)| {
                let mut value = self.decode_json(outcome, index, sequences);
                value["sequences"] = sequences.into();
                value["over_one"] = outcome.over_one(index, self.decode_tokens).into();
                value
            };
            value["sequences"] = outcome.sequences().map(together).collect();
        }
        value
    }

    /// What decoding of `sequences` sequences took.
    fn decode_json(&self, outcome: &Outcome, index: usize, sequences: usize) -> Value {
        let bytes = self.read_per_step(outcome, index);
        let times = outcome.samples.iter().filter_map(|sample| sample.answers.get(index));
        let runs: Vec<f64> = times.map(|answers| answers.decode.as_secs_f64()).collect();
        let bytes_per_second = self.bytes_per_second(outcome, index, sequences);
        json!({
            "decode_s": { "runs": runs },
            "question_s": outcome.question(index).map(spread_json),
            "question_bytes_read": self.read_by_question(outcome),
            "decode_tokens_per_s": outcome.decode_rate(index, self.decode_tokens).map(spread_json),
            "bytes_read_per_token": bytes,
            "bytes_per_s": bytes_per_second,
            "share_of_peak_bytes": bytes_per_second.map(|rate| rate / self.peak.bytes_per_second),
        })
    }
}

fn spread_json(stats: Stats) -> Value {
    json!({ "median": stats.median, "min": stats.min, "max": stats.max })
}
