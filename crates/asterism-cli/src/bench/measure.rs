//! The measuring itself: warm-up, then round after round over all cases.

use super::cases::Case;
use super::outcome::{Outcome, Sample};
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::method_spec::short;
use crate::{machine, progress};
use asterism::engine::{Context, Engine, EngineError, Generation, Phase1, Progress, Room};
use asterism::tensor::Peak;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// What stays the same over all cases.
pub(super) struct Bench {
    pub(super) engine: Arc<Engine>,
    pub(super) runs: usize,
    pub(super) decode_tokens: usize,
    pub(super) seed: u64,
    pub(super) interrupt: Interrupt,
}

impl Bench {
    /// Runs `cases` and measures the machine's peak along with them. A round runs every case once,
    /// so that whatever slows the machine for a while slows all cases alike; the peak is the best
    /// of all rounds.
    ///
    /// The warm-up runs the shortest context of every method: that starts the threads and touches
    /// the weights, which is what a first run would pay for.
    pub(super) fn run(&self, cases: Vec<Case>) -> Result<(Vec<Outcome>, Peak), CliError> {
        let longest = cases.iter().map(|case| case.plan.tokens).max().unwrap_or(0);
        let shortest = cases.iter().map(|case| case.plan.tokens).min().unwrap_or(0);
        let query = cases.iter().map(|case| case.query).max().unwrap_or(0);
        let tokens = self.tokens(longest + query);
        let is_warm_up = |case: &&Case| case.plan.tokens == shortest;
        let round: u64 = cases.iter().map(|case| case.cost.total_flops()).sum();
        let warm_up: u64 = cases.iter().filter(is_warm_up).map(|c| c.cost.total_flops()).sum();
        let bar = progress::Cases::new(warm_up + round * self.runs as u64);
        for case in cases.iter().filter(is_warm_up) {
            self.measure(case, &tokens, &bar, "warm-up")?;
        }
        let mut peak = self.peak()?;
        let mut outcomes: Vec<Outcome> = cases.into_iter().map(Outcome::new).collect();
        for run in 1..=self.runs {
            let round = format!("run {run} of {}", self.runs);
            for outcome in &mut outcomes {
                outcome.samples.push(self.measure(&outcome.case, &tokens, &bar, &round)?);
            }
            peak = peak.max(self.peak()?);
        }
        Ok((outcomes, peak))
    }

    fn peak(&self) -> Result<Peak, EngineError> {
        self.engine.peak()
    }

    /// One run of one case. `tokens` is its context and more.
    fn measure(
        &self,
        case: &Case,
        tokens: &[u32],
        bar: &progress::Cases,
        round: &str,
    ) -> Result<Sample, CliError> {
        let (length, flops) = (case.plan.tokens, case.cost.total_flops());
        let hosts = if case.hosts() == 1 { "host" } else { "hosts" };
        let name = format!("{}, {} tokens, {} {hosts}", case.method, short(length), case.hosts());
        bar.begin(format!("{round}: {name}"), flops);
        let per_work = flops as f64 / Phase1::work(&case.plan, self.engine.config().layers) as f64;
        let advance = bar.advance();
        let report = |p: Progress| advance((p.work as f64 * per_work) as u64);
        self.engine.take_peak_memory()?;
        let (result, memory) = machine::peak_memory(|| {
            let context = tokens[..length].to_vec();
            let engine = Arc::clone(&self.engine);
            let cancel = self.interrupt.cancel();
            let room = Room { question: case.query, answer: self.decode_tokens + 1 };
            let context = Context::encode(engine, context, case.plan.spec, room, &report, cancel)?;
            let phase1 = context.phase1().clone();
            let first = self.engine.take_stages()?;
            let answer = self.answer(&context, &tokens[length..length + case.query])?;
            let stages = first.zip(self.engine.take_stages()?);
            Ok::<_, EngineError>((phase1, answer, stages.map(<[_; 2]>::from)))
        });
        bar.end();
        let (phase1, answer, stages) = result?;
        // Of a GPU if it computes: the process only feeds it.
        let memory = self.engine.take_peak_memory()?.or(memory);
        let (question, decode) = answer.unzip();
        Ok(Sample { phase1, question, decode, stages, memory })
    }

    /// The time of the question and that of all decoding steps; `None` if none are asked for.
    fn answer(
        &self,
        context: &Context,
        query: &[u32],
    ) -> Result<Option<(Duration, Duration)>, EngineError> {
        if self.decode_tokens == 0 {
            return Ok(None);
        }
        // The first token comes out of the question, every further one out of a step.
        let max_tokens = self.decode_tokens + 1;
        let settings = Generation { max_tokens, ignore_eos: true, ..Generation::default() };
        let mut go_on = |_| ControlFlow::Continue(());
        let cancel = self.interrupt.cancel();
        let answer = context.generate(query, &settings, &mut go_on, cancel)?;
        Ok(Some((answer.query_time, answer.decode_time)))
    }

    /// `count` random tokens that both the model and its tokenizer know.
    fn tokens(&self, count: usize) -> Vec<u32> {
        let known = self.engine.config().vocab.min(self.engine.tokenizer().vocab_size());
        let mut random = Xoshiro256PlusPlus::seed_from_u64(self.seed);
        (0..count).map(|_| (random.next_u64() % known as u64) as u32).collect()
    }
}
