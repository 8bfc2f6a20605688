//! The measuring itself: warm-up, then round after round over all cases.

use super::cases::Case;
use super::outcome::{Answers, Outcome, Sample};
use super::together::Together;
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::{machine, progress};
use asterism::engine::{Context, Engine, EngineError, Phase1, Progress, Room};
use asterism::model::StageTimes;
use asterism::plan::words::short;
use asterism::tensor::Peak;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use std::sync::Arc;

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
        let questions = cases.iter().flat_map(|c| c.sequences.iter().map(|count| count * c.query));
        let tokens = self.tokens(longest + questions.max().unwrap_or(0));
        let is_warm_up = |case: &&Case| case.plan.tokens == shortest;
        let round: u64 = cases.iter().map(|case| case.cost.kiloflops()).sum();
        let warm_up: u64 = cases.iter().filter(is_warm_up).map(|c| c.cost.kiloflops()).sum();
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
        let (length, work) = (case.plan.tokens, case.cost.kiloflops());
        let hosts = if case.hosts() == 1 { "host" } else { "hosts" };
        let name = format!("{}, {} tokens, {} {hosts}", case.method, short(length), case.hosts());
        bar.begin(format!("{round}: {name}"), work);
        let per_work = work as f64 / Phase1::work(&case.plan, self.engine.config().layers) as f64;
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
            let (mut answers, mut stages) = (Vec::new(), None);
            for &count in case.sequences.iter().filter(|_| self.decode_tokens > 0) {
                let questions = tokens[length..length + count * case.query].chunks(case.query);
                answers.push(self.ask(&context, questions.collect())?);
                let decode = self.engine.take_stages()?;
                // Where the time of one sequence goes: steps of many are not counted.
                if count == 1 {
                    stages = first.zip(decode).map(<[_; 2]>::from);
                }
            }
            let stages = stages.or(first.map(|phase1| [phase1, StageTimes::default()]));
            Ok::<_, CliError>((phase1, answers, stages))
        });
        bar.end();
        let (phase1, answers, stages) = result?;
        // Of a GPU if it computes: the process only feeds it.
        let memory = self.engine.take_peak_memory()?.or(memory);
        Ok(Sample { phase1, answers, stages, memory })
    }

    /// Asks `questions` all at once.
    fn ask(&self, context: &Context, questions: Vec<&[u32]>) -> Result<Answers, CliError> {
        let steps = self.decode_tokens;
        let layers = self.engine.config().layers;
        Together { context, questions, steps, layers, cancel: self.interrupt.cancel() }.ask()
    }

    /// `count` random tokens that both the model and its tokenizer know.
    pub(super) fn tokens(&self, count: usize) -> Vec<u32> {
        let known = self.engine.config().vocab.min(self.engine.tokenizer().vocab_size());
        let mut random = Xoshiro256PlusPlus::seed_from_u64(self.seed);
        (0..count).map(|_| (random.next_u64() % known as u64) as u32).collect()
    }
}
