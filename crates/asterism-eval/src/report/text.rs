//! What the report says, part by part.

use super::document::{Entry, Part, Picture, Table, Tone};
use super::results::{AtLength, Cell, Results, baseline};
use super::{plot, points, short, signed_points};
use crate::stats::{Difference, Estimate};
use crate::{Benchmark, EvalError};
use serde_json::Value;

/// The report's title.
pub(super) fn title(results: &Results) -> String {
    format!("{} on {}", benchmark(results), results.info.model.name)
}

/// The whole report.
pub(super) fn parts(results: &Results) -> Result<Vec<Part>, EvalError> {
    let mut parts = vec![Part::Heading(1, title(results)), Part::Text(introduction(results))];
    let left_out =
        results.info.left_out.iter().map(|(task, why)| format!("{task} is left out: {why}"));
    let notes = left_out.chain(results.info.notes.iter().cloned());
    parts.extend(notes.map(|note| Part::Text(format!("Note: {note}."))));
    if results.lengths.is_empty() {
        parts.push(Part::Text("No sample has been answered yet.".to_owned()));
        parts.extend(failures(results));
        parts.extend(settings(results));
        return Ok(parts);
    }
    parts.extend([
        Part::Heading(2, "Score by length and method".to_owned()),
        Part::Table(summary(results)),
        Part::Text(reading(results)),
        Part::Picture(Picture {
            file: "score.svg",
            svg: plot::score(results)?,
            caption: "Mean score over the tasks by length; bars are 95 % confidence intervals. \
                      Methods of one length stand side by side."
                .to_owned(),
        }),
    ]);
    if results.info.methods.len() > 1 {
        parts.extend([
            Part::Heading(2, format!("Score against speed-up over {}", baseline_name(results))),
            Part::Picture(Picture {
                file: "tradeoff.svg",
                svg: plot::speed(results)?,
                caption: format!(
                    "What speed costs at each length: to the right is faster, up is better. The \
                     dashed line is the score of {}; bars are 95 % confidence intervals.",
                    baseline_name(results)
                ),
            }),
        ]);
        if let Some(svg) = plot::time(results)? {
            parts.push(Part::Heading(2, "Score against time".to_owned()));
            parts.push(Part::Picture(Picture {
                file: "time.svg",
                svg,
                caption: format!(
                    "What an answer costs at each length, median over samples: encoding the \
                     context, computing tokens of it anew, the question and its answer. To the \
                     left is faster, up is better. The dashed line is the score of {}; bars are \
                     95 % confidence intervals.",
                    baseline_name(results)
                ),
            }));
        }
    }
    if let Some(svg) = plot::memory(results)? {
        let heading = format!("Score against memory, {} having 100 %", baseline_name(results));
        parts.push(Part::Heading(2, heading));
        parts.push(Part::Picture(Picture {
            file: "memory.svg",
            svg,
            caption:
                "What a smaller cache costs at each length: to the left are fewer bytes of the \
                      context's keys and values, up is better. The dashed line is the score of the \
                      baseline; bars are 95 % confidence intervals."
                    .to_owned(),
        }));
    }
    if let Some(svg) = plot::depth(results)? {
        parts.push(Part::Heading(2, "Needles found by depth and length".to_owned()));
        parts.push(Part::Picture(Picture {
            file: "depth.svg",
            svg,
            caption: "Share of needles found, over all tasks that hide some, by their depth in the context; an \
                      empty square had no needle."
                .to_owned(),
        }));
    }
    if let Some(table) = by_question(results) {
        parts.push(Part::Heading(2, "Score by question about the same context".to_owned()));
        parts.push(Part::Table(table));
    }
    parts.push(Part::Heading(2, "Tasks".to_owned()));
    parts.push(Part::Picture(Picture {
        file: "tasks.svg",
        svg: plot::tasks(results)?,
        caption: "Score of every task by length; bars are 95 % confidence intervals.".to_owned(),
    }));
    for at in &results.lengths {
        let heading = format!("{} tokens", short(at.length).to_uppercase());
        parts.extend([Part::Heading(3, heading), Part::Table(tasks(results, at))]);
    }
    parts.extend(failures(results));
    parts.extend(settings(results));
    Ok(parts)
}

/// The mean score of the first, the second, … question about a context, over all tasks, by length
/// and method; nothing where every context has one.
fn by_question(results: &Results) -> Option<Table> {
    let most = results.questions.iter().map(|asked| asked.question).max().filter(|n| *n > 1)?;
    let header = ["length", "method"].map(str::to_owned).into_iter();
    let mut rows = Vec::new();
    for at in &results.lengths {
        for (method, info) in results.info.methods.iter().enumerate() {
            let mean = |question: usize| {
                let own = results.questions.iter().filter(|asked| {
                    (asked.length, asked.method, asked.question) == (at.length, method, question)
                });
                let scores: Vec<f64> = own.map(|asked| asked.score).collect();
                let mean = scores.iter().sum::<f64>() / scores.len() as f64;
                if scores.is_empty() { String::new() } else { points(mean) }
            };
            let names = [short(at.length).to_uppercase(), info.name.clone()];
            rows.push(names.into_iter().chain((1..=most).map(mean)).map(Entry::from).collect());
        }
    }
    let header = header.chain((1..=most).map(|n| format!("question {n}"))).collect();
    Some(Table { header, rows, text: 2 })
}

fn benchmark(results: &Results) -> &'static str {
    match results.info.benchmark {
        Benchmark::Ruler => "RULER",
        Benchmark::Babilong => "BABILong",
        Benchmark::InfiniteBench => "InfiniteBench",
    }
}

fn baseline_name(results: &Results) -> &str {
    results.info.baseline().map_or("", |method| &method.name)
}

/// What was run, in a sentence.
fn introduction(results: &Results) -> String {
    let info = &results.info;
    let list = |items: Vec<String>| items.join(", ");
    let some =
        |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let setting = |name: &str| match info.settings.get(name) {
        Some(Value::String(value)) => format!(", {name} {value}"),
        _ => String::new(),
    };
    format!(
        "{} at {} tokens, {} of each; methods {}{}{}.",
        some(info.tasks.len(), "task"),
        list(info.lengths.iter().map(|length| short(*length).to_uppercase()).collect()),
        samples(results, &some(info.samples, "sample")),
        list(info.methods.iter().map(|method| method.name.clone()).collect()),
        setting("variant"),
        setting("template"),
    )
}

/// `50 samples`, or `up to 50 samples` where some are not answered.
fn samples(results: &Results, all: &str) -> String {
    let wanted = results.info.samples;
    let is_whole = |at: &AtLength| {
        let mut cells = at.tasks.iter().flat_map(|row| &row.cells);
        cells.all(|cell| cell.is_some_and(|cell| cell.score.n == wanted))
            && at.tasks.len() == results.info.tasks.len()
    };
    let is_complete = results.lengths.len() == results.info.lengths.len();
    match is_complete && results.lengths.iter().all(is_whole) {
        true => all.to_owned(),
        false => format!("up to {all}"),
    }
}

/// What could not be done, if anything.
fn failures(results: &Results) -> Vec<Part> {
    const SHOWN: usize = 40;
    let all: Vec<&String> = results.info.failures.values().flatten().collect();
    if all.is_empty() {
        return Vec::new();
    }
    let rows = all.iter().take(SHOWN).map(|failure| vec![Entry::from(failure.to_string())]);
    let header = vec!["what could not be read, asked or answered when last tried".to_owned()];
    let mut parts = vec![
        Part::Heading(2, "Not answered".to_owned()),
        Part::Table(Table { header, rows: rows.collect(), text: 1 }),
    ];
    if all.len() > SHOWN {
        parts.push(Part::Text(format!("And {} more.", all.len() - SHOWN)));
    }
    parts
}

/// How to read the numbers.
fn reading(results: &Results) -> String {
    let baseline = baseline_name(results);
    format!(
        "Scores are points of 100, with 95 % confidence intervals: Wilson's for 0/1 scores, bootstrap \
         for fractional ones, joined over the tasks for the mean. Differences are paired, on the \
         samples that {baseline} answered too; one is called noise when its interval holds 0 or the \
         exact McNemar test (sign-flip test for fractional scores) does not reject at 5 %. Speed-up \
         is the median over samples of how many times sooner than {baseline} the first token came, \
         where one machine timed both. Shares such as block=1/4 are of the nominal length."
    )
}

fn summary(results: &Results) -> Table {
    let baseline = baseline(&results.info);
    let against = format!("difference from {}", baseline_name(results));
    let mut header =
        vec!["length", "method", "mean score", &against, "first token", "speed-up", "empty"];
    let with_memory = results.memory_differs();
    if with_memory {
        header.push("keys and values");
    }
    let mut cells = results.lengths.iter().flat_map(|at| at.mean.iter().flatten());
    let is_sparse = cells.any(|cell| cell.kept.is_some());
    if is_sparse {
        header.extend(["density", "kept mass"]);
    }
    let mut rows = Vec::new();
    for at in &results.lengths {
        for (i, method) in results.info.methods.iter().enumerate() {
            let Some(cell) = &at.mean[i] else { continue };
            let mut score = entry(&cell.score);
            if let Some(share) = at.share_of_tasks(cell) {
                score.detail = format!("{}, {share}", score.detail);
            }
            let mut row = vec![
                short(at.length).to_uppercase().into(),
                method.name.clone().into(),
                score,
                cell.difference.map_or_else(|| "".into(), |d| difference(&d)),
                seconds(cell.first_token_s).into(),
                match cell.speedup {
                    Some(speedup) if i != baseline => format!("{speedup:.2}×").into(),
                    _ => "".into(),
                },
                format!("{} of {}", cell.empty, cell.score.n).into(),
            ];
            if with_memory {
                let share = |share| format!("{:.0} %", 100.0 * share);
                row.push(cell.kv_share.map_or_else(String::new, share).into());
            }
            if is_sparse {
                let percent = |share: f64| format!("{:.1} %", 100.0 * share).into();
                let kept = cell.kept.map(|(density, mass)| [density, mass].map(percent));
                row.extend(kept.unwrap_or_else(|| ["".into(), "".into()]));
            }
            rows.push(row);
        }
    }
    let header = header.into_iter().map(str::to_owned).collect();
    Table { header, rows, text: 2 }
}

/// Tasks x methods at one length.
fn tasks(results: &Results, at: &AtLength) -> Table {
    let mut header = vec!["task".to_owned()];
    header.extend(results.info.methods.iter().map(|method| method.name.clone()));
    let row = |name: &str, cells: &[Option<Cell>], wanted: usize, tone: Tone| {
        let mut row = vec![Entry { tone, ..name.into() }];
        let entry = |cell: &Cell| {
            let mut entry = task_entry(cell);
            if cell.score.n < wanted {
                entry.text = format!("{}, n = {}", entry.text, cell.score.n);
            }
            entry
        };
        row.extend(cells.iter().map(|cell| cell.as_ref().map_or_else(|| "–".into(), entry)));
        row
    };
    let samples = results.info.samples;
    let mut rows: Vec<Vec<Entry>> =
        at.tasks.iter().map(|task| row(&task.task, &task.cells, samples, Tone::Plain)).collect();
    if at.tasks.len() > 1 {
        rows.push(row("mean", &at.mean, samples * at.tasks.len(), Tone::Strong));
    }
    Table { header, rows, text: 1 }
}

/// `84.2` over `80.1 to 88.0`.
fn entry(score: &Estimate) -> Entry {
    let detail = format!("{} to {}", points(score.low), points(score.high));
    Entry { text: points(score.mean), detail, tone: Tone::Plain }
}

/// `−1.3 noise` over `−3.0 to +0.4`.
fn difference(difference: &Difference) -> Entry {
    let Estimate { mean, low, high, .. } = difference.estimate;
    Entry {
        text: format!("{} {}", signed_points(mean), difference.verdict()),
        detail: format!("{} to {}", signed_points(low), signed_points(high)),
        tone: tone(difference),
    }
}

/// A score with its interval and, in the second line, what it means against the baseline.
fn task_entry(cell: &Cell) -> Entry {
    let score = entry(&cell.score);
    let text = format!("{} ({})", score.text, score.detail);
    match &cell.difference {
        None => Entry { text, ..Entry::default() },
        Some(change) => {
            let Entry { text: verdict, detail, tone } = difference(change);
            Entry { text, detail: format!("{verdict} ({detail})"), tone }
        }
    }
}

fn tone(difference: &Difference) -> Tone {
    match difference.verdict() {
        "noise" => Tone::Noise,
        "better" => Tone::Better,
        _ => Tone::Worse,
    }
}

fn seconds(s: f64) -> String {
    match s {
        s if s < 0.0995 => format!("{:.1} ms", s * 1000.0),
        s if s < 9.995 => format!("{s:.2} s"),
        s => format!("{s:.1} s"),
    }
}

/// Everything the numbers depend on.
fn settings(results: &Results) -> Vec<Part> {
    let info = &results.info;
    let plain = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "not set".to_owned(),
        other => other.to_string(),
    };
    let pair = |name: &str, value: String| vec![Entry::from(name), Entry::from(value)];
    let table = |what: &str, rows| {
        Part::Table(Table { header: vec![what.to_owned(), String::new()], rows, text: 2 })
    };
    let model = &info.model;
    let mut parts = vec![
        Part::Heading(2, "Settings".to_owned()),
        table(
            "model",
            vec![
                pair("name", model.name.clone()),
                pair("hash (configuration, pieces of the weights)", model.hash.clone()),
                pair("tokenizer hash", model.tokenizer_hash.clone()),
                pair("precision", model.precision.clone()),
                pair("positions", model.max_positions.to_string()),
                pair("asterism", info.asterism.clone()),
            ],
        ),
        table(
            "setting",
            info.settings.iter().map(|(name, value)| pair(name, plain(value))).collect(),
        ),
    ];
    for machine in &info.machines {
        let memory = match machine.memory {
            Some(bytes) => format!("{:.1} GB", bytes as f64 / 1e9),
            None => "unknown".to_owned(),
        };
        parts.push(table(
            "machine",
            vec![
                pair("processor", machine.processor.clone()),
                pair("system", machine.system.clone()),
                pair("cores", machine.cores.to_string()),
                pair("computing on", machine.computing_on.clone()),
                pair("memory", memory),
            ],
        ));
    }
    parts
}
