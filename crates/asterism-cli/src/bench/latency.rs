//! `--latency`: the time to the first token of a question, alone and while another context is being
//! encoded, beside how long a slice of that takes: one layer of one chunk, for which a question may
//! have to wait.

use super::cases::Case;
use super::measure::Bench;
use super::stats::Stats;
use crate::error::CliError;
use crate::report;
use asterism::cancel::Cancel;
use asterism::engine::{Context, EngineError, Generation, Phase1, Progress, Room};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// What was measured of one method on one number of hosts.
pub(super) struct Latency {
    /// The context asked.
    asked: Case,
    /// The context that was encoded meanwhile.
    beside: Case,
    /// Seconds to the first token of every question with nothing else to do.
    alone: Vec<f64>,
    /// Those of the questions asked while `beside` was encoded.
    during: Vec<f64>,
    /// Seconds of the slice that was done last before each of them came.
    slices: Vec<f64>,
}

impl Latency {
    /// By how much the questions took longer than the median one alone, in slices.
    fn more(&self) -> Vec<f64> {
        let alone = Stats::of(self.alone.iter().copied()).map_or(f64::NAN, |stats| stats.median);
        let each = self.during.iter().zip(&self.slices);
        each.map(|(time, slice)| (time - alone) / slice).collect()
    }

    /// What is reported, in its order.
    fn columns(&self) -> [(&'static str, Vec<f64>); 3] {
        [
            ("alone", self.alone.clone()),
            ("during", self.during.clone()),
            ("slice", self.slices.clone()),
        ]
    }
}

impl Bench {
    /// Asks the shortest context of every method as many questions as there are runs, alone and
    /// while the longest is being encoded.
    ///
    /// # Errors
    /// If a context cannot be encoded or asked.
    pub(super) fn latency(&self, cases: &[Case]) -> Result<Vec<Latency>, CliError> {
        let by_length = |case: &&Case| case.plan.tokens;
        let shortest = cases.iter().map(|case| case.plan.tokens).min();
        let asked = cases.iter().filter(|case| Some(case.plan.tokens) == shortest);
        let measure = |asked: &Case| {
            let same = |case: &&Case| (case.method, case.hosts()) == (asked.method, asked.hosts());
            let beside = cases.iter().filter(same).max_by_key(by_length).unwrap_or(asked);
            self.latency_of(asked, beside)
        };
        asked.map(measure).collect()
    }

    fn latency_of(&self, asked: &Case, beside: &Case) -> Result<Latency, CliError> {
        let (length, query) = (asked.plan.tokens, asked.query);
        let tokens = self.tokens(length + query + beside.plan.tokens);
        let (context, rest) = tokens.split_at(length);
        let (question, other) = rest.split_at(query);
        let context = self.encode(asked, context, &|_| (), self.interrupt.cancel())?;
        let ask = || -> Result<f64, EngineError> {
            let settings = Generation { max_tokens: 1, ignore_eos: true, ..Generation::default() };
            let mut go_on = |_| ControlFlow::Continue(());
            let cancel = self.interrupt.cancel();
            Ok(context.generate(question, &settings, &mut go_on, cancel)?.query_time.as_secs_f64())
        };
        ask()?;
        let alone = (0..self.runs).map(|_| ask()).collect::<Result<Vec<_>, _>>()?;
        let (mut during, mut slices) = (Vec::new(), Vec::new());
        // What stops the measuring stops the encoding too.
        let stop = &Cancel::new();
        let (sender, steps) = channel();
        thread::scope(|scope| {
            let encoding = scope.spawn(move || {
                let done = Cell::new(0);
                let report = |step: Progress| {
                    done.set(done.get() + step.work);
                    // Nobody listens once all questions are asked.
                    let _ = sender.send((Instant::now(), done.get()));
                };
                self.encode(beside, other, &report, stop).map(drop)
            });
            let result = self.ask_during(beside, &steps, &ask, &mut during, &mut slices);
            stop.raise();
            match encoding.join() {
                Ok(Ok(()) | Err(EngineError::Cancelled)) => result,
                Ok(Err(error)) => Err(error),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })?;
        Ok(Latency { asked: asked.clone(), beside: beside.clone(), alone, during, slices })
    }

    /// Asks at moments spread over the work that `steps` tell of, each somewhere within a slice.
    fn ask_during(
        &self,
        beside: &Case,
        steps: &Receiver<(Instant, u64)>,
        ask: &dyn Fn() -> Result<f64, EngineError>,
        during: &mut Vec<f64>,
        slices: &mut Vec<f64>,
    ) -> Result<(), EngineError> {
        let work = Phase1::work(&beside.plan, self.engine.config().layers);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(self.seed);
        // When the last slice ended, if no question came between.
        let mut before: Option<Instant> = None;
        while let Ok((at, done)) = steps.recv() {
            let slice = before.replace(at).map(|before| at.duration_since(before));
            let due = (2 * during.len() as u64 + 1) * work / (2 * self.runs as u64);
            let Some(slice) = slice.filter(|_| done >= due && done < work) else { continue };
            thread::sleep(slice.mul_f64(f64::from(random.next_u32()) / f64::from(u32::MAX)));
            let time = ask()?;
            // A question that the end of the context came before had it to itself.
            let last = steps.try_iter().last();
            if last.is_some_and(|(_, done)| done == work) {
                break;
            }
            during.push(time);
            slices.push(slice.as_secs_f64());
            if during.len() == self.runs {
                break;
            }
            before = None;
        }
        Ok(())
    }

    fn encode(
        &self,
        case: &Case,
        tokens: &[u32],
        report: &dyn Fn(Progress),
        cancel: &Cancel,
    ) -> Result<Context, EngineError> {
        let room = Room { question: case.query, answer: 1 };
        let engine = Arc::clone(&self.engine);
        Context::encode(engine, tokens.to_vec(), case.plan.spec, room, report, cancel)
    }
}

/// The terminal's table: medians and the 95th of 100.
pub(super) fn text(all: &[Latency]) -> String {
    let header = [
        "method",
        "hosts",
        "tokens",
        "question",
        "beside",
        "questions",
        "alone",
        "p95",
        "during",
        "p95",
        "slice",
        "p95",
        "more, slices",
        "p95",
    ];
    let row = |latency: &Latency| {
        let Latency { asked, beside, .. } = latency;
        let mut row = vec![asked.method.to_string(), asked.hosts().to_string()];
        let counts = [asked.plan.tokens, asked.query, beside.plan.tokens, latency.during.len()];
        row.extend(counts.map(report::count));
        for (_, values) in latency.columns() {
            row.extend(middle_and_end(values).map(|seconds| {
                report::seconds(Duration::try_from_secs_f64(seconds).unwrap_or_default())
            }));
        }
        row.extend(middle_and_end(latency.more()).map(|slices| format!("{slices:.1}")));
        row
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    format!(
        "time to the first token of a question, alone and while another context is encoded\n{}",
        report::table(&header, &rows)
    )
}

/// Everything, every question included.
pub(super) fn json(all: &[Latency]) -> Value {
    let case = |latency: &Latency| {
        let mut value = json!({
            "method": latency.asked.method.to_string(),
            "hosts": latency.asked.hosts(),
            "tokens": latency.asked.plan.tokens,
            "query_tokens": latency.asked.query,
            "beside_tokens": latency.beside.plan.tokens,
        });
        for (name, values) in latency.columns() {
            value[format!("{name}_s")] = spread(values);
        }
        value["more_slices"] = spread(latency.more());
        value
    };
    json!({ "latency": all.iter().map(case).collect::<Vec<_>>() })
}

fn spread(values: Vec<f64>) -> Value {
    let [median, p95] = middle_and_end(values.clone());
    json!({ "median": median, "p95": p95, "runs": values })
}

/// The median and the value that 95 of 100 do not exceed; no numbers of no values.
fn middle_and_end(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * 95).div_ceil(100);
    let p95 = values.get(rank.saturating_sub(1)).copied();
    let median = Stats::of(values).map(|stats| stats.median);
    [median, p95].map(|value| value.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ninety_five_of_a_hundred_do_not_exceed_the_end() {
        let values = |count: u32| (1..=count).rev().map(f64::from).collect();
        assert_eq!(middle_and_end(values(100)), [50.5, 95.0]);
        assert_eq!(middle_and_end(values(3)), [2.0, 3.0]);
        assert!(middle_and_end(Vec::new())[1].is_nan());
    }
}
