//! The published sets of mixed samples: `{input, question, target}` as JSON or JSONL.
//!
//! The sets come as Parquet; `datasets.load_dataset("RMT-team/babilong", "16k", split="qa1")` and
//! `.to_json("qa1.jsonl")` turn a task into a file for this.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::eval::set::read_lines;
use crate::eval::{ChatFrame, CountTokens, EvalError, Reading, Sample};

use super::prompt::TaskPrompt;
use super::{GENERATED, number};

#[derive(Deserialize)]
struct Record {
    input: String,
    question: String,
    target: String,
}

/// Reads the samples of `task` from a JSONL file, or a JSON file with an array.
///
/// Lines in the layout of the reference's prepared prompts (`input_context`, `input_query`, `outputs`)
/// are taken as they are.
///
/// # Errors
///
/// [`EvalError::Unknown`] for a task that does not exist, [`EvalError::Io`] and [`EvalError::BadFile`]
/// for a file that cannot be read at all, and what counting tokens reports; records that cannot be read
/// are in the result.
pub fn read_published(
    path: &Path,
    task: &str,
    frame: &ChatFrame,
    counter: &dyn CountTokens,
) -> Result<Reading, EvalError> {
    let prompt = TaskPrompt::of(number(task)?);
    let mut reading = if path.extension().is_some_and(|extension| extension == "json") {
        read_array(path, |record| sample(record, task, &prompt, frame))?
    } else {
        read_lines(path, |_, record| {
            sample(record, task, &prompt, frame).map(|sample| vec![sample])
        })?
    };
    for (index, sample) in reading.items.iter_mut().enumerate() {
        sample.index = index;
        let text = format!("{}{}", sample.input_context, sample.input_query);
        sample.length = counter.count(&text)? + GENERATED;
    }
    Ok(reading)
}

/// Reads a file that is one JSON array; a record that cannot be read is reported by the line on which
/// it begins.
fn read_array(
    path: &Path,
    parse: impl Fn(Map<String, Value>) -> Result<Sample, String>,
) -> Result<Reading, EvalError> {
    let bad = |reason: String| EvalError::BadFile { path: path.into(), reason };
    let text = std::fs::read_to_string(path).map_err(EvalError::io(path))?;
    let records: Vec<&serde_json::value::RawValue> =
        serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    let mut reading = Reading { items: Vec::new(), errors: Vec::new() };
    let (mut at, mut line) = (0, 1);
    for record in records {
        let raw = record.get();
        let start = at + text[at..].find(raw).unwrap_or_default();
        line += text[at..start].matches('\n').count();
        let parsed = serde_json::from_str(raw).map_err(|error| error.to_string());
        match parsed.and_then(&parse) {
            Ok(sample) => reading.items.push(sample),
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
        return serde_json::from_value(Value::Object(record)).map_err(|error| error.to_string());
    }
    let Record { input, question, target } =
        serde_json::from_value(Value::Object(record)).map_err(|error| error.to_string())?;
    let (input_context, input_query) = prompt.split(&input, &question, frame);
    let extra = [("task".to_owned(), json!(task)), ("question".to_owned(), json!(question))];
    Ok(Sample {
        index: 0,
        input_context,
        input_query,
        outputs: vec![target],
        length: 0,
        extra: extra.into_iter().collect(),
    })
}
