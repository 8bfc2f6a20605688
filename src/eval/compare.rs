//! Two runs, sample by sample: what got better, what got worse, and whether it means anything.

use super::EvalError;
use super::report::both;
use super::run::{self, Record, RunInfo};
use super::stats::{self, Difference, Estimate};
use std::path::Path;

/// One method of one run.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Folder of the run.
    pub dir: &'a Path,
    /// What it holds.
    pub info: &'a RunInfo,
    /// Name of the method.
    pub method: &'a str,
}

/// What changed from one side to the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// By length and task, in the order of the first run; only what both have.
    pub rows: Vec<TaskChange>,
    /// The difference of the means over the tasks of each length: (length, difference).
    pub means: Vec<(usize, Difference)>,
}

/// What changed in one task at one length.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskChange {
    /// Nominal length, in tokens.
    pub length: usize,
    /// Name of the task.
    pub task: String,
    /// The score before, on the samples that both have.
    pub before: Estimate,
    /// The score after, on the same.
    pub after: Estimate,
    /// The paired difference.
    pub difference: Difference,
    /// Samples whose score changed, by index: (before, after).
    pub changed: Vec<(Record, Record)>,
    /// Answers of either side without the same sample on the other.
    pub unmatched: usize,
}

/// Compares `after` with `before`.
///
/// # Errors
///
/// A method that a run does not have, and files that cannot be read.
pub fn compare(before: Side<'_>, after: Side<'_>) -> Result<Comparison, EvalError> {
    for side in [before, after] {
        let known = || side.info.methods.iter().map(|method| method.name.as_str());
        if !known().any(|name| name == side.method) {
            return Err(EvalError::unknown("method in this run", side.method, known()));
        }
    }
    let (mut rows, mut means) = (Vec::new(), Vec::new());
    for &length in &before.info.lengths {
        let mut pairs = Vec::new();
        for task in &before.info.tasks {
            let records =
                |side: Side<'_>| run::read(&run::path(side.dir, length, &task.name, side.method));
            let (old, new) = (records(before)?, records(after)?);
            let matched = both(&old, &new);
            let scores: Vec<(f64, f64)> =
                matched.iter().map(|(old, new)| (old.score, new.score)).collect();
            let of = |side: fn(&(f64, f64)) -> f64| {
                stats::estimate(&scores.iter().map(side).collect::<Vec<_>>())
            };
            let (Some(difference), Some(before), Some(after)) =
                (stats::difference(&scores), of(|pair| pair.0), of(|pair| pair.1))
            else {
                continue;
            };
            let changed = matched.iter().filter(|(old, new)| old.score != new.score);
            rows.push(TaskChange {
                length,
                task: task.name.clone(),
                before,
                after,
                difference,
                changed: changed.map(|(old, new)| ((*old).clone(), (*new).clone())).collect(),
                unmatched: old.len() + new.len() - 2 * matched.len(),
            });
            pairs.push(scores);
        }
        means.extend(stats::average_difference(&pairs).map(|difference| (length, difference)));
    }
    Ok(Comparison { rows, means })
}
