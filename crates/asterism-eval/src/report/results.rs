//! Answers become numbers: scores with intervals, differences from the baseline, times.

use crate::run::{self, Record, RunInfo};
use crate::stats::{self, Difference, Estimate};
use crate::{Benchmark, EvalError};
use std::path::Path;

/// All numbers of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// What was run.
    pub info: RunInfo,
    /// By length, shortest first; lengths without an answer are left out.
    pub lengths: Vec<AtLength>,
    /// Every needle whose place and fate are known.
    pub needles: Vec<Needle>,
    /// Scores by the number of a question among those about one context, where there are several.
    pub questions: Vec<Numbered>,
}

/// A question that was one of several about its context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Numbered {
    /// Which method, as a position in the run's methods.
    pub method: usize,
    /// Nominal length, in tokens.
    pub length: usize,
    /// Its number among the questions, from 1.
    pub question: usize,
    /// Its score, in 0..=1.
    pub score: f64,
}

/// The numbers of one length.
#[derive(Debug, Clone, PartialEq)]
pub struct AtLength {
    /// The length, in tokens.
    pub length: usize,
    /// One per task that has answers.
    pub tasks: Vec<TaskRow>,
    /// The unweighted mean over the tasks, by method, in the order of the run's methods.
    pub mean: Vec<Option<Cell>>,
}

/// The numbers of one task at one length.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRow {
    /// The task.
    pub task: String,
    /// By method, in the order of the run's methods; nothing for a method without an answer.
    pub cells: Vec<Option<Cell>>,
}

/// One method's numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// The score, in 0..=1.
    pub score: Estimate,
    /// Tasks it is the mean of.
    pub tasks: usize,
    /// What it changes on the samples that the baseline answered too; nothing for the baseline.
    pub difference: Option<Difference>,
    /// Answers without a character.
    pub empty: usize,
    /// Median time to the first token of the answer, in seconds.
    pub first_token_s: f64,
    /// Median time to the last token of the answer, in seconds: encoding the context, computing
    /// tokens of it anew, the question and its answer. Of the samples that one machine answered by
    /// the baseline, too.
    pub total_s: Option<f64>,
    /// Median over samples of how many times sooner than the baseline the first token came, where
    /// both were timed on one machine.
    pub speedup: Option<f64>,
    /// Median over samples of the bytes of the context's keys and values, as a share of those by
    /// the baseline.
    pub kv_share: Option<f64>,
    /// Median shares of attention's tiles that were computed, and of softmax weight that was kept,
    /// by a method that leaves keys out.
    pub kept: Option<(f64, f64)>,
}

impl AtLength {
    /// `3 of 11 tasks` for a mean over some of the tasks that are answered at this length, which is
    /// none to compare with those over all.
    #[must_use]
    pub fn share_of_tasks(&self, mean: &Cell) -> Option<String> {
        let (some, all) = (mean.tasks, self.tasks.len());
        (some < all).then(|| format!("{some} of {all} tasks"))
    }

    /// The mean of `method`, if it is one over all tasks.
    pub(super) fn whole_mean(&self, method: usize) -> Option<Cell> {
        self.mean[method].filter(|cell| self.share_of_tasks(cell).is_none())
    }
}

/// One needle: where it lay and whether it was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Needle {
    /// Which method, as a position in the run's methods.
    pub method: usize,
    /// Nominal length, in tokens.
    pub length: usize,
    /// Its depth: 0 at the start of the context, 1 at its end.
    pub depth: f64,
    /// Whether the answer holds it.
    pub found: bool,
}

impl Results {
    /// Whether some method keeps more or fewer bytes of keys and values than the baseline.
    pub(super) fn memory_differs(&self) -> bool {
        let mut shares = self.lengths.iter().flat_map(|at| &at.mean).flatten();
        shares.any(|cell| cell.kv_share.is_some_and(|share| (share - 1.0).abs() > 0.01))
    }

    /// Reads the run in `dir` and computes its numbers.
    ///
    /// # Errors
    ///
    /// A folder that holds no run, and lines that are no answers.
    pub fn read(dir: &Path) -> Result<Self, EvalError> {
        let info = RunInfo::read(dir)?;
        let mut lengths = Vec::new();
        let (mut needles, mut questions) = (Vec::new(), Vec::new());
        for &length in &info.lengths {
            let mut tasks = Vec::new();
            for task in &info.tasks {
                let mut answers = Vec::new();
                for (i, method) in info.methods.iter().enumerate() {
                    let path = run::path(dir, length, &task.name, &method.name);
                    let records = run::read(&path)?;
                    // A fact of BABILong is not repeated in the answer, and a link of variable
                    // tracking is no needle: it is found only through the one before.
                    if task.benchmark != Benchmark::Babilong && task.name != "vt" {
                        needles.extend(records.iter().flat_map(|r| found_needles(r, i, length)));
                    }
                    questions.extend(records.iter().filter_map(|record| {
                        let question = record.extra.get("question")?.as_u64()? as usize;
                        Some(Numbered { method: i, length, question, score: record.score })
                    }));
                    answers.push(records);
                }
                if answers.iter().any(|records| !records.is_empty()) {
                    tasks.push((task.name.clone(), answers));
                }
            }
            if !tasks.is_empty() {
                lengths.push(AtLength::of(length, &tasks, baseline(&info)));
            }
        }
        Ok(Self { info, lengths, needles, questions })
    }

    /// The mean of `method` at every length that has one.
    pub fn means(&self, method: usize) -> impl Iterator<Item = (&AtLength, &Cell)> {
        self.lengths.iter().filter_map(move |at| Some((at, at.mean[method].as_ref()?)))
    }
}

/// The position of the method that others are compared with.
pub(super) fn baseline(info: &RunInfo) -> usize {
    let name = info.baseline().map(|method| &method.name);
    info.methods.iter().position(|method| Some(&method.name) == name).unwrap_or(0)
}

/// A task's answers, by method.
type Answers = (String, Vec<Vec<Record>>);

impl AtLength {
    fn of(length: usize, tasks: &[Answers], baseline: usize) -> Self {
        let methods = tasks.first().map_or(0, |(_, answers)| answers.len());
        let rows = tasks.iter().map(|(task, answers)| {
            let cell = |i| Cell::of(&[answers], i, baseline);
            TaskRow { task: task.clone(), cells: (0..methods).map(cell).collect() }
        });
        let all: Vec<&Vec<Vec<Record>>> = tasks.iter().map(|(_, answers)| answers).collect();
        Self {
            length,
            tasks: rows.collect(),
            mean: (0..methods).map(|i| Cell::of(&all, i, baseline)).collect(),
        }
    }
}

impl Cell {
    /// The numbers of method `own` over `tasks`, each with the answers of all methods.
    fn of(tasks: &[&Vec<Vec<Record>>], own: usize, baseline: usize) -> Option<Self> {
        let mut scores = Vec::new();
        let mut pairs = Vec::new();
        let (mut times, mut speedups, mut kv_shares) = (Vec::new(), Vec::new(), Vec::new());
        let mut totals = Vec::new();
        let mut empty = 0;
        let (mut densities, mut masses) = (Vec::new(), Vec::new());
        for task in tasks.iter().filter(|task| !task[own].is_empty()) {
            let of_task: Vec<f64> = task[own].iter().map(|record| record.score).collect();
            scores.extend(stats::estimate(&of_task));
            times.extend(task[own].iter().map(|record| record.timings.first_token_s()));
            densities.extend(task[own].iter().filter_map(|record| record.timings.density));
            masses.extend(task[own].iter().filter_map(|record| record.timings.kept_mass));
            empty += task[own].iter().filter(|record| record.pred.is_empty()).count();
            let both = both(&task[baseline], &task[own]);
            // Times of two machines, or of other numbers of threads, say nothing about methods.
            let on_one_machine = both
                .iter()
                .filter(|(base, other)| base.machine.is_some() && base.machine == other.machine);
            for (base, other) in on_one_machine {
                speedups.push(base.timings.first_token_s() / other.timings.first_token_s());
                totals.push(other.timings.total_s());
            }
            // Of a run that was written before these bytes were, there are none.
            let has_keys = both.iter().filter(|(base, _)| base.timings.kv_bytes > 0);
            kv_shares.extend(
                has_keys.map(|(base, other)| {
                    other.timings.kv_bytes as f64 / base.timings.kv_bytes as f64
                }),
            );
            pairs.push(both.iter().map(|(base, other)| (base.score, other.score)).collect());
        }
        let one_task: Option<&Vec<(f64, f64)>> = pairs.first().filter(|_| tasks.len() == 1);
        let difference = match one_task {
            Some(pairs) => stats::difference(pairs),
            None => stats::average_difference(&pairs),
        };
        Some(Self {
            score: stats::average(&scores)?,
            tasks: scores.len(),
            difference: difference.filter(|_| own != baseline),
            empty,
            first_token_s: median(times)?,
            total_s: median(totals),
            speedup: median(speedups),
            kv_share: median(kv_shares),
            kept: median(densities).zip(median(masses)),
        })
    }
}

/// The records of two methods for the same samples.
pub(crate) fn both<'a>(base: &'a [Record], other: &'a [Record]) -> Vec<(&'a Record, &'a Record)> {
    let same = |record: &&Record, partner: &Record| {
        record.index == partner.index && record.sample == partner.sample
    };
    let partner = |record| base.iter().find(|candidate| same(candidate, record));
    other.iter().filter_map(|record| Some((partner(record)?, record))).collect()
}

/// The needles of a record: those whose depths are known, one depth for every answer.
fn found_needles(record: &Record, method: usize, length: usize) -> Vec<Needle> {
    let depths: Vec<f64> = match record.extra.get("depths").and_then(|list| list.as_array()) {
        Some(list) => list.iter().filter_map(serde_json::Value::as_f64).collect(),
        None => return Vec::new(),
    };
    if depths.len() != record.outputs.len() {
        return Vec::new();
    }
    let pred = record.pred.to_lowercase();
    let found = |answer: &String| pred.contains(&answer.to_lowercase());
    let needles = depths.iter().zip(&record.outputs);
    needles.map(|(&depth, answer)| Needle { method, length, depth, found: found(answer) }).collect()
}

/// The middle value, or the mean of the middle two.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    (n > 0).then(|| (values[(n - 1) / 2] + values[n / 2]) / 2.0)
}
