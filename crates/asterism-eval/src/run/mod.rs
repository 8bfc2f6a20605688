//! Runs tasks x lengths x methods and keeps every answer as it comes.
//!
//! All methods answer the same samples, one sample after the other, so that a run that is stopped
//! half-way can already be compared, and whatever slows the machine for a while slows all methods
//! alike. Receives [`Sample`]s and an [`Answer`] to ask them; leaves a folder with
//! [`run.json`](info) and a file of [`Record`]s per length, task and method. Running again goes on
//! where the last run stopped.

mod answer;
mod error;
pub mod info;
pub mod journal;
mod lock;
mod record;
#[cfg(test)]
mod tests;

pub use answer::{Answer, EngineAnswer, Tokenise};
pub use error::RunError;
pub use info::{MachineInfo, MethodInfo, ModelInfo, RunInfo};
pub use lock::{Lock, lock};
pub use record::{Record, Timings, digest, file_name, fingerprint, path, read, sha256};

use crate::{EvalError, Sample, TaskInfo, cut_at_stop_words};
use asterism::cancel::Cancel;
use asterism::engine::EngineError;
use asterism::plan::{Plan, PlanSpec};
use journal::Journal;
use std::path::Path;

/// A way to encode contexts.
pub struct Method<'a> {
    /// As it was given; names its file of answers.
    pub name: String,
    /// The plan for a nominal length in tokens. A share such as a quarter is one of that length, as
    /// in the paper, although contexts are a little shorter.
    pub plan: &'a (dyn Fn(usize) -> PlanSpec + Sync),
}

/// The samples of one task at one length.
pub struct Group<'a> {
    /// Nominal length of context, query and answer together, in tokens.
    pub length: usize,
    /// The task.
    pub task: &'a TaskInfo,
    /// Its samples.
    pub samples: &'a [Sample],
}

/// One answer about to be given.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// Nominal length, in tokens.
    pub length: usize,
    /// Name of the task.
    pub task: &'a str,
    /// Name of the method.
    pub method: &'a str,
    /// The sample's number.
    pub index: usize,
    /// How much work it is expected to be, in the unit of [`Answer::work`].
    pub work: u64,
}

/// A sample that could not be answered. The others go on, and running again tries it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which sample by which method: `4096/niah_single_1/dense.jsonl, sample 3`.
    pub what: String,
    /// Why.
    pub reason: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.reason)
    }
}

/// What is told of every step of a run, for example a progress bar.
pub trait Observer: Sync {
    /// An answer is about to be given.
    fn begin(&self, step: &Step<'_>) {
        let _ = step;
    }
    /// Some of its work is done. Called from any thread.
    fn work(&self, amount: u64) {
        let _ = amount;
    }
    /// It is there, and written.
    fn end(&self, step: &Step<'_>, record: &Record) {
        let _ = (step, record);
    }
    /// It was there already.
    fn skip(&self, step: &Step<'_>) {
        let _ = step;
    }
    /// It could not be given.
    fn fail(&self, step: &Step<'_>, failure: &Failure) {
        let _ = (step, failure);
    }
}

/// A run into one folder.
pub struct Runner<'a> {
    /// The folder.
    pub dir: &'a Path,
    /// Who answers.
    pub answer: &'a dyn Answer,
    /// By which methods.
    pub methods: &'a [Method<'a>],
    /// The most samples of a task at a length that any run into the folder asked for.
    pub most: usize,
    /// On which machine: its place among the run's machines, if it is known.
    pub machine: Option<usize>,
    /// Where answers end.
    pub stop_words: &'a [String],
    /// Who watches.
    pub observer: &'a dyn Observer,
    /// Asks the run to stop.
    pub cancel: &'a Cancel,
}

/// Refuses lengths that the model cannot hold and plans that are impossible, before any work.
///
/// # Errors
///
/// [`RunError::TooLong`] and [`RunError::Plan`], which name the length.
pub fn check(
    methods: &[Method<'_>],
    lengths: &[usize],
    max_positions: usize,
) -> Result<(), RunError> {
    for &length in lengths {
        if length > max_positions {
            return Err(RunError::TooLong { length, max_positions });
        }
        for method in methods {
            Plan::new((method.plan)(length), length).map_err(|source| {
                let method = method.name.clone();
                RunError::Plan { method, length, source }
            })?;
        }
    }
    Ok(())
}

impl Runner<'_> {
    /// The work of one sample by all methods, in the unit of [`Answer::work`].
    #[must_use]
    pub fn sample_work(&self, length: usize, task: &TaskInfo) -> u64 {
        self.methods.iter().map(|method| self.work(method, length, task)).sum()
    }

    fn work(&self, method: &Method<'_>, length: usize, task: &TaskInfo) -> u64 {
        self.answer.work((method.plan)(length), length, task.tokens_to_generate)
    }

    /// Answers what is not answered yet. Returns what could not be.
    ///
    /// # Errors
    ///
    /// What keeps all samples from being answered: files, a stop, and results in the folder that
    /// belong to other samples.
    pub fn run(&self, group: &Group<'_>) -> Result<Vec<Failure>, RunError> {
        let task = &group.task.name;
        let mut files = Vec::new();
        for method in self.methods {
            let path = record::path(self.dir, group.length, task, &method.name);
            let (file, done) = record::open(path)?;
            self.check_same_samples(&file, &done, group)?;
            files.push((method, file, done));
        }

        let mut failures = Vec::new();
        for sample in group.samples {
            // Tokens only if anybody needs them, and once for all methods.
            let mut tokens = None;
            for (method, file, done) in &mut files {
                let step = Step {
                    length: group.length,
                    task,
                    method: &method.name,
                    index: sample.index,
                    work: self.work(method, group.length, group.task),
                };
                if done.iter().any(|record| record.index == sample.index) {
                    self.observer.skip(&step);
                    continue;
                }
                if self.cancel.is_raised() {
                    return Err(RunError::Cancelled);
                }
                self.observer.begin(&step);
                let plan = (method.plan)(group.length);
                let answered = match tokens.get_or_insert_with(|| self.answer.tokens(sample)) {
                    Ok(prompt) => self.ask(prompt, plan, group.task).map_err(|e| match e {
                        EngineError::Cancelled => None,
                        other => Some(other.to_string()),
                    }),
                    Err(error) => Err(Some(error.to_string())),
                };
                match answered {
                    Ok((text, timings)) => {
                        let record = self.record(sample, group.task, &text, timings);
                        file.append(&record)?;
                        self.observer.end(&step, &record);
                    }
                    Err(None) => return Err(RunError::Cancelled),
                    Err(Some(reason)) => {
                        let shown = file.path().strip_prefix(self.dir).unwrap_or(file.path());
                        let what = format!("{}, sample {}", shown.display(), sample.index);
                        let failure = Failure { what, reason };
                        self.observer.fail(&step, &failure);
                        failures.push(failure);
                    }
                }
            }
        }
        Ok(failures)
    }

    /// Results go on only where they belong to the same samples and say of them what we would say.
    fn check_same_samples(
        &self,
        file: &Journal,
        done: &[Record],
        group: &Group<'_>,
    ) -> Result<(), RunError> {
        for record in done {
            let (path, index) = (file.path().to_owned(), record.index);
            let Some(sample) = group.samples.iter().find(|sample| sample.index == index) else {
                // Of fewer samples than an earlier run had, the last ones are not here.
                if group.samples.len() < self.most && done.len() <= self.most {
                    continue;
                }
                return Err(RunError::NoSample { path, index });
            };
            if fingerprint(sample) != record.sample {
                return Err(RunError::OtherSample { path, index });
            }
            let score = group.task.metric.score(&record.pred, sample);
            if (score - record.score).abs() > 1e-9 {
                return Err(RunError::OtherScore { path, index, before: record.score, now: score });
            }
        }
        Ok(())
    }

    fn ask(
        &self,
        prompt: &asterism::text::Prompt,
        plan: PlanSpec,
        task: &TaskInfo,
    ) -> Result<(String, Timings), EngineError> {
        let on_work = |amount| self.observer.work(amount);
        self.answer.answer(prompt, plan, task.tokens_to_generate, &on_work, self.cancel)
    }

    fn record(&self, sample: &Sample, task: &TaskInfo, text: &str, timings: Timings) -> Record {
        let pred = cut_at_stop_words(text, self.stop_words);
        Record {
            index: sample.index,
            score: task.metric.score(&pred, sample),
            pred,
            outputs: sample.outputs.clone(),
            sample: fingerprint(sample),
            machine: self.machine,
            timings,
            extra: sample.extra.clone(),
        }
    }
}

/// What could not be read, as a failure of the run.
impl From<EvalError> for Failure {
    fn from(error: EvalError) -> Self {
        Self { what: "samples".to_owned(), reason: error.to_string() }
    }
}
