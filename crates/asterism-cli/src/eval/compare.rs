//! `asterism eval compare`: two runs, or two methods of one, sample by sample.

use crate::args::eval::CompareArgs;
use crate::error::CliError;
use crate::report;
use crate::terminal::Out;
use anyhow::anyhow;
use asterism_eval::compare::{Comparison, Side, TaskChange, compare};
use asterism_eval::report::{points, short, signed_points};
use asterism_eval::run::{Record, RunInfo};
use asterism_eval::stats::{Difference, Estimate};
use serde_json::{Value, json};
use std::io::Write;

pub(super) fn run(args: &CompareArgs) -> Result<(), CliError> {
    let (before, after) = (RunInfo::read(&args.before)?, RunInfo::read(&args.after)?);
    let mut out = Out::lock();
    for (old, new) in methods(args, &before, &after)? {
        let comparison = compare(
            Side { dir: &args.before, info: &before, method: &old },
            Side { dir: &args.after, info: &after, method: &new },
        )?;
        if comparison.rows.is_empty() {
            return Err(anyhow!(
                "{old} in {} and {new} in {} have no sample in common",
                args.before.display(),
                args.after.display()
            )
            .into());
        }
        if args.json {
            writeln!(out, "{}", to_json(&old, &new, &comparison))?;
        } else {
            writeln!(out, "{}", to_text(args, &old, &new, &comparison).trim_end())?;
        }
    }
    Ok(())
}

/// Which method of the first run is compared with which of the second: those given, those that both
/// have, or the only one of each.
fn methods(
    args: &CompareArgs,
    before: &RunInfo,
    after: &RunInfo,
) -> Result<Vec<(String, String)>, CliError> {
    let names = |info: &RunInfo| -> Vec<String> {
        info.methods.iter().map(|method| method.name.clone()).collect()
    };
    let given = args.methods.iter().flat_map(|list| &list.0).map(ToString::to_string);
    match given.collect::<Vec<_>>().as_slice() {
        [one] => return Ok(vec![(one.clone(), one.clone())]),
        [old, new] => return Ok(vec![(old.clone(), new.clone())]),
        [] => {}
        more => {
            let message = format!("--methods: {} are given, two are compared", more.len());
            return Err(CliError::Usage(message));
        }
    }
    let (old, new) = (names(before), names(after));
    let common: Vec<_> = old.iter().filter(|name| new.contains(name)).cloned().collect();
    match (common.is_empty(), old.as_slice(), new.as_slice()) {
        (false, _, _) => Ok(common.into_iter().map(|name| (name.clone(), name)).collect()),
        (true, [old], [new]) => Ok(vec![(old.clone(), new.clone())]),
        _ => Err(CliError::Usage(format!(
            "the runs have no method in common ({}; {}): say which with --methods BEFORE,AFTER",
            old.join(", "),
            new.join(", ")
        ))),
    }
}

fn to_text(args: &CompareArgs, old: &str, new: &str, comparison: &Comparison) -> String {
    let mut text = format!(
        "before: {old} in {}\nafter:  {new} in {}\n\n",
        args.before.display(),
        args.after.display()
    );
    let header = [
        "task",
        "length",
        "samples",
        "before",
        "after",
        "change",
        "95 % interval",
        "better",
        "worse",
        "p",
        "verdict",
    ];
    let mut rows = Vec::new();
    for (i, row) in comparison.rows.iter().enumerate() {
        rows.push(line(&row.task, row.length, &row.difference, Some((row.before, row.after))));
        let last = comparison.rows.get(i + 1).is_none_or(|next| next.length != row.length);
        let tasks = comparison.rows.iter().filter(|other| other.length == row.length).count();
        if let (true, true, Some((length, mean))) =
            (last, tasks > 1, comparison.means.iter().find(|(length, _)| *length == row.length))
        {
            rows.push(line("mean", *length, mean, None));
        }
    }
    text.push_str(&report::table(&header, &rows));
    let unmatched = comparison.unmatched;
    if unmatched > 0 {
        text.push_str(&format!("\n{unmatched} answers have no partner for the same sample.\n"));
    }
    for row in comparison.rows.iter().filter(|row| args.show > 0 && !row.changed.is_empty()) {
        text.push_str(&changes(row, args.show));
    }
    text
}

fn line(
    name: &str,
    length: usize,
    change: &Difference,
    scores: Option<(Estimate, Estimate)>,
) -> Vec<String> {
    let Estimate { mean, low, high, n } = change.estimate;
    let score = |side: fn((Estimate, Estimate)) -> Estimate| {
        scores.map_or_else(String::new, |pair| points(side(pair).mean))
    };
    vec![
        name.to_owned(),
        short(length),
        n.to_string(),
        score(|pair| pair.0),
        score(|pair| pair.1),
        signed_points(mean),
        format!("{} to {}", signed_points(low), signed_points(high)),
        change.better.to_string(),
        change.worse.to_string(),
        if change.p < 0.0001 { "<0.0001".to_owned() } else { format!("{:.4}", change.p) },
        change.verdict().to_owned(),
    ]
}

/// The first changed samples of a task.
fn changes(row: &TaskChange, show: usize) -> String {
    let mut text = format!("\n{} at {}:\n", row.task, short(row.length));
    for (old, new) in row.changed.iter().take(show) {
        text.push_str(&format!(
            "  #{} {} -> {}, expected {}\n    before: {}\n    after:  {}\n",
            old.index,
            points(old.score),
            points(new.score),
            old.outputs.join(" | "),
            one_line(&old.pred),
            one_line(&new.pred),
        ));
    }
    match row.changed.len().saturating_sub(show) {
        0 => {}
        more => text.push_str(&format!("  and {more} more\n")),
    }
    text
}

/// The beginning of an answer, on one line.
fn one_line(pred: &str) -> String {
    const MOST: usize = 160;
    let flat = pred.split_whitespace().collect::<Vec<_>>().join(" ");
    match flat.char_indices().nth(MOST) {
        Some((end, _)) => format!("{} …", &flat[..end]),
        None if flat.is_empty() => "(nothing)".to_owned(),
        None => flat,
    }
}

fn to_json(old: &str, new: &str, comparison: &Comparison) -> Value {
    let difference = |change: &Difference| {
        json!({
            "mean": change.estimate.mean, "low": change.estimate.low, "high": change.estimate.high,
            "samples": change.estimate.n, "better": change.better, "worse": change.worse,
            "p": change.p, "verdict": change.verdict(),
        })
    };
    let changed = |(old, new): &(Record, Record)| {
        json!({
            "index": old.index, "outputs": old.outputs,
            "before": { "pred": old.pred, "score": old.score },
            "after": { "pred": new.pred, "score": new.score },
        })
    };
    let row = |row: &TaskChange| {
        json!({
            "length": row.length, "task": row.task,
            "before": row.before.mean, "after": row.after.mean,
            "difference": difference(&row.difference),
            "unmatched": row.unmatched,
            "changed": row.changed.iter().map(changed).collect::<Vec<_>>(),
        })
    };
    let mean = |(length, change): &(usize, Difference)| json!({ "length": length, "difference": difference(change) });
    json!({
        "before": old, "after": new,
        "tasks": comparison.rows.iter().map(row).collect::<Vec<_>>(),
        "means": comparison.means.iter().map(mean).collect::<Vec<_>>(),
        "unmatched": comparison.unmatched,
    })
}
