//! The files a benchmark leaves: checked before the long part, written after it.

use super::plot::{self, Line, Point, Series};
use super::report::Report;
use crate::args::BenchArgs;
use crate::error::CliError;
use anyhow::Context;
use asterism::plan::words::{MethodWord, short};
use serde_json::Value;
use std::path::Path;

/// Refuses files that could not be written at the end.
pub(super) fn check(args: &BenchArgs) -> Result<(), CliError> {
    if let Some(path) = &args.plot
        && path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("svg"))
    {
        let message = "only .svg can be drawn: give a name that ends so, and convert the file";
        return Err(CliError::Usage(format!("--plot {}: {message}", path.display())));
    }
    for (option, path) in [("--json", &args.json), ("--plot", &args.plot)] {
        if let Some(path) = path {
            let refuse =
                |why: &str| Err(CliError::Usage(format!("{option} {}: {why}", path.display())));
            // A bare name has the empty parent: the current folder.
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            if path.is_dir() {
                return refuse("is a folder: give a file");
            }
            if parent.is_some_and(|parent| !parent.is_dir()) {
                return refuse("there is no such folder");
            }
        }
    }
    Ok(())
}

/// Writes the files that were asked for.
pub(super) fn write(args: &BenchArgs, report: &Report<'_>) -> Result<(), CliError> {
    write_json(args, &report.json())?;
    if let Some(path) = &args.plot {
        let speedup = format!("speed-up over {}", report.baseline());
        save(path, &plot::svg(&title(report), &speedup, &series(report, args))?)?;
    }
    Ok(())
}

/// Writes everything that was measured, if that was asked for.
pub(super) fn write_json(args: &BenchArgs, report: &Value) -> Result<(), CliError> {
    match &args.json {
        Some(path) => save(path, &format!("{report:#}\n")),
        None => Ok(()),
    }
}

fn save(path: &Path, text: &str) -> Result<(), CliError> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

fn title(report: &Report<'_>) -> String {
    let engine = report.engine;
    format!("{}, {}, {}", engine.name, engine.precision(), engine.hardware())
}

/// One line for every method on every number of hosts.
fn series(report: &Report<'_>, args: &BenchArgs) -> Vec<Series> {
    let mut all = Vec::new();
    for (shape, &hosts) in args.hosts.iter().enumerate() {
        for (colour, &method) in args.methods.iter().enumerate() {
            let hosts = usize::from(hosts);
            let own = report
                .outcomes
                .iter()
                .filter(|outcome| outcome.case.method == method && outcome.case.hosts() == hosts);
            let points = own.map(|outcome| Point {
                tokens: outcome.case.plan.tokens,
                time: outcome.prefill(),
                speedup: report.speedup(outcome),
            });
            let name = match args.hosts.len() {
                1 => method.to_string(),
                _ => format!("{method}, {} {}", short(hosts), plural(hosts)),
            };
            let points = points.collect();
            all.push(Series { name, colour, shape, points, rates: rates(report, method, hosts) });
        }
    }
    all
}

/// Tokens per second by the number of sequences, behind the longest context.
fn rates(report: &Report<'_>, method: MethodWord, hosts: usize) -> Line {
    let own = report
        .outcomes
        .iter()
        .filter(|outcome| outcome.case.method == method && outcome.case.hosts() == hosts);
    let longest = own.max_by_key(|outcome| outcome.case.plan.tokens);
    let mut line: Line = longest
        .into_iter()
        .flat_map(|outcome| outcome.sequences().map(move |sequences| (outcome, sequences)))
        .filter_map(|(outcome, (index, count))| {
            Some((count as f64, outcome.decode_rate(index, report.decode_tokens)?))
        })
        .collect();
    line.sort_by(|a, b| a.0.total_cmp(&b.0));
    line
}

fn plural(hosts: usize) -> &'static str {
    if hosts == 1 { "host" } else { "hosts" }
}
