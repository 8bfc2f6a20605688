//! The published sets of mixed samples: tables of `input`, `question` and `target`, as Parquet,
//! JSON or JSONL.

use std::ops::ControlFlow;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::parquet;
use crate::set::read_lines;
use crate::{ChatFrame, CountTokens, EvalError, Reading, Sample};

use super::prompt::TaskPrompt;
use super::{GENERATED, number};

#[derive(Deserialize)]
struct Record {
    input: String,
    question: String,
    target: String,
}

/// Bad rows of a table after which the rest is given up: a damaged file can claim billions.
const MOST_BAD_ROWS: usize = 100;

/// Reads the first `keep` samples of `task` from a Parquet file or its parts
/// (`16k-00000-of-00002.parquet` and so on for `16k.parquet`), from a JSONL file, or from a JSON
/// file with an array. No row after the last sample is read.
///
/// Lines in the layout of the reference's prepared prompts (`input_context`, `input_query`,
/// `outputs`) are taken as they are. A sample's index is its row's, so that a row that is mended
/// later leaves the numbers of the others.
///
/// # Errors
///
/// [`EvalError::Unknown`] for a task that does not exist, [`EvalError::Io`], [`EvalError::BadFile`]
/// and [`EvalError::BadColumn`] for a file that cannot be read at all, and what counting tokens
/// reports; records that cannot be read are in the result, and so is the damage that ends a table
/// early.
pub fn read_published(
    path: &Path,
    task: &str,
    frame: &ChatFrame,
    keep: usize,
    counter: &dyn CountTokens,
) -> Result<Reading, EvalError> {
    let prompt = TaskPrompt::of(number(task)?);
    let mut reading = match path.extension().and_then(|extension| extension.to_str()) {
        Some("parquet") => read_table(path, keep, |[input, question, target]| {
            framed(&Record { input, question, target }, task, &prompt, frame)
        })?,
        Some("json") => read_array(path, keep, |record| sample(record, task, &prompt, frame))?,
        _ => read_lines(path, keep, |index, record| {
            let sample = sample(record, task, &prompt, frame)?;
            Ok(Sample { index, ..sample })
        })?,
    };
    for sample in &mut reading.items {
        let text = format!("{}{}", sample.input_context, sample.input_query);
        sample.length = counter.count(&text)? + GENERATED;
    }
    Ok(reading)
}

/// Reads the rows of a table, whose parts are one after the other.
fn read_table(
    path: &Path,
    keep: usize,
    parse: impl Fn([String; 3]) -> Sample,
) -> Result<Reading, EvalError> {
    let mut reading = Reading { items: Vec::new(), errors: Vec::new() };
    let parts = parquet::parts(path)?;
    if parts.is_empty() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(EvalError::io(path)(missing));
    }
    let mut before = 0;
    for part in parts {
        let mut rows = 0;
        let is_done = |reading: &Reading| {
            reading.items.len() >= keep || reading.errors.len() >= MOST_BAD_ROWS
        };
        if is_done(&reading) {
            break;
        }
        let read = parquet::read_rows(&part, ["input", "question", "target"], |row, texts| {
            rows = row + 1;
            let bad = |reason| EvalError::BadColumn {
                path: part.clone(),
                column: "target".to_owned(),
                reason: format!("row {row}: {reason}"),
            };
            match texts.and_then(|texts| parse(texts).with_answers().map_err(bad)) {
                Ok(sample) => reading.items.push(Sample { index: before + row, ..sample }),
                Err(error) => reading.errors.push(error),
            }
            if is_done(&reading) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        match read {
            Ok(()) => {}
            // What was read before the damage is as good as ever.
            Err(error) if !reading.items.is_empty() => {
                reading.errors.push(error);
                break;
            }
            Err(error) => return Err(error),
        }
        before += rows;
    }
    Ok(reading)
}

/// Reads a file that is one JSON array; a record that cannot be read is reported by the line on
/// which it begins.
fn read_array(
    path: &Path,
    keep: usize,
    parse: impl Fn(Map<String, Value>) -> Result<Sample, String>,
) -> Result<Reading, EvalError> {
    let bad = |reason: String| EvalError::BadFile { path: path.into(), reason };
    let text = crate::files::read_text(path)?;
    let records: Vec<&serde_json::value::RawValue> =
        serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    let mut reading = Reading { items: Vec::new(), errors: Vec::new() };
    let (mut at, mut line) = (0, 1);
    for (index, record) in records.into_iter().enumerate() {
        if reading.items.len() >= keep {
            break;
        }
        let raw = record.get();
        let start = at + text[at..].find(raw).unwrap_or_default();
        line += text[at..start].matches('\n').count();
        let parsed = serde_json::from_str(raw).map_err(|error| error.to_string());
        match parsed.and_then(&parse) {
            Ok(sample) => reading.items.push(Sample { index, ..sample }),
            Err(reason) => {
                reading.errors.push(EvalError::BadLine { path: path.into(), line, reason });
            }
        }
        line += raw.matches('\n').count();
        at = start + raw.len();
    }
    Ok(reading)
}

/// A sample of one record.
fn sample(
    record: Map<String, Value>,
    task: &str,
    prompt: &TaskPrompt,
    frame: &ChatFrame,
) -> Result<Sample, String> {
    if record.contains_key("input_context") {
        let mut record = record;
        for name in ["index", "length"] {
            record.entry(name).or_insert(Value::from(0));
        }
        record.entry("task").or_insert(json!(task));
        let sample = serde_json::from_value(Value::Object(record));
        return sample.map_err(|error| error.to_string()).and_then(Sample::with_answers);
    }
    let record: Record =
        serde_json::from_value(Value::Object(record)).map_err(|error| error.to_string())?;
    framed(&record, task, prompt, frame).with_answers()
}

/// The sample of a record of the published sets.
fn framed(record: &Record, task: &str, prompt: &TaskPrompt, frame: &ChatFrame) -> Sample {
    let Record { input, question, target } = record;
    let (input_context, input_query) = prompt.split(input, question, frame);
    let extra = [("task".to_owned(), json!(task)), ("question".to_owned(), json!(question))];
    Sample {
        index: 0,
        input_context,
        input_query,
        outputs: vec![target.clone()],
        length: 0,
        extra: extra.into_iter().collect(),
    }
}
