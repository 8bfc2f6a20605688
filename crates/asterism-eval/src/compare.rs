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
    /// Answers of either side without the same sample on the other, at any length and task of
    /// either.
    pub unmatched: usize,
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
    let (mut rows, mut means, mut unmatched) = (Vec::new(), Vec::new(), 0);
    let (lengths, tasks) = (of_either(before, after, lengths), of_either(before, after, tasks));
    for length in lengths {
        let mut pairs = Vec::new();
        for task in &tasks {
            let records =
                |side: Side<'_>| run::read(&run::path(side.dir, length, task, side.method));
            let (old, new) = (records(before)?, records(after)?);
            let matched = both(&old, &new);
            let alone = old.len() + new.len() - 2 * matched.len();
            unmatched += alone;
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
                task: (*task).to_owned(),
                before,
                after,
                difference,
                changed: changed.map(|(old, new)| ((*old).clone(), (*new).clone())).collect(),
                unmatched: alone,
            });
            pairs.push(scores);
        }
        means.extend(stats::average_difference(&pairs).map(|difference| (length, difference)));
    }
    Ok(Comparison { rows, means, unmatched })
}

fn lengths(info: &RunInfo) -> Vec<usize> {
    info.lengths.clone()
}

fn tasks(info: &RunInfo) -> Vec<&str> {
    info.tasks.iter().map(|task| task.name.as_str()).collect()
}

/// What the first run has, then what only the second has.
fn of_either<'a, T: PartialEq>(
    before: Side<'a>,
    after: Side<'a>,
    list: impl Fn(&'a RunInfo) -> Vec<T>,
) -> Vec<T> {
    let mut all = list(before.info);
    for item in list(after.info) {
        if !all.contains(&item) {
            all.push(item);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::write_run;
    use super::*;

    #[test]
    fn changed_samples_are_listed_and_counted() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write_run(old.path(), &[4096, 8192], 12);
        write_run(new.path(), &[4096], 12);
        // Of the second run, one answer got worse, one is missing and one belongs to another
        // sample.
        let path = run::path(new.path(), 4096, "vt", "dense");
        let mut records = run::read(&path).unwrap();
        let right = records.iter().position(|record| record.score == 1.0).unwrap();
        records[right].score = 0.0;
        records[10].sample = "another".into();
        records.pop();
        let lines: Vec<String> =
            records.iter().map(|r| serde_json::to_string(r).unwrap() + "\n").collect();
        std::fs::write(&path, lines.concat()).unwrap();

        let infos = [old.path(), new.path()].map(|dir| RunInfo::read(dir).unwrap());
        let side = |dir, info, method| Side { dir, info, method };
        let before = side(old.path(), &infos[0], "dense");
        let comparison = compare(before, side(new.path(), &infos[1], "dense")).unwrap();
        assert_eq!(comparison.rows.len(), 5, "one length in common");
        // Five tasks of twelve samples at the other length, and the three below.
        assert_eq!(comparison.unmatched, 5 * 12 + 3);
        let turned =
            compare(side(new.path(), &infos[1], "dense"), side(old.path(), &infos[0], "dense"));
        assert_eq!(turned.unwrap().unmatched, comparison.unmatched);
        for row in &comparison.rows {
            let changed: Vec<usize> = row.changed.iter().map(|(old, _)| old.index).collect();
            if row.task == "vt" {
                assert_eq!((changed.as_slice(), row.unmatched), (&[right][..], 3));
                assert_eq!((row.difference.better, row.difference.worse), (0, 1));
                assert_eq!(row.difference.estimate.n, 10);
            } else {
                assert_eq!((changed.as_slice(), row.unmatched), (&[][..], 0));
            }
        }
        assert_eq!(comparison.means.len(), 1);
        assert_eq!(comparison.means[0].1.verdict(), "noise");

        let lossy = "star:block=1/4:anchor=none";
        let methods = compare(before, side(old.path(), &infos[0], lossy)).unwrap();
        assert!(methods.means.iter().all(|(_, change)| change.verdict() == "worse"));
        let error = compare(before, side(new.path(), &infos[1], "ring")).unwrap_err().to_string();
        assert!(error.contains("ring") && error.contains(lossy), "{error}");
    }
}
