//! One answer as a line of JSON, and the files such lines are kept in.
//!
//! `DIR/<length>/<task>/<method>.jsonl` has a line per sample, written as soon as it is answered. A
//! file can be opened again to go on: see [`journal`](super::journal).

use crate::{EvalError, Sample};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

use super::journal::{Contents, Journal, Part};

/// One sample answered by one method. Lines begin with its first two fields: `FORM` relies on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The sample's number in its set.
    pub index: usize,
    /// The answer, cut at stop words and stripped.
    pub pred: String,
    /// The accepted answers.
    pub outputs: Vec<String>,
    /// The metric's verdict, in 0..=1.
    pub score: f64,
    /// Which sample was answered: see [`fingerprint`].
    pub sample: String,
    /// Where: a place among the run's machines, if it is known. Times of two machines are not
    /// compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<usize>,
    /// What it took.
    pub timings: Timings,
    /// What else is known of the sample, such as the depths of its needles.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

/// What one answer took. Times are in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Tokens of the context.
    pub context_tokens: usize,
    /// Tokens of the query.
    pub query_tokens: usize,
    /// Tokens of the answer.
    pub answer_tokens: usize,
    /// Encoding the context.
    pub phase1_s: f64,
    /// Encoding the query, up to the first token of the answer.
    pub query_s: f64,
    /// Tokens of the context computed anew for the query.
    #[serde(default)]
    pub revisited_tokens: usize,
    /// The part of `query_s` that this took.
    #[serde(default)]
    pub revisit_s: f64,
    /// All further tokens.
    pub decode_s: f64,
    /// Bytes that hosts sent each other.
    pub bytes_sent: u64,
    /// Bytes of cached keys and values, all hosts together.
    pub kv_bytes: u64,
    /// The share of attention's tiles that was computed, by a method that leaves keys out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub density: Option<f64>,
    /// The share of softmax weight that was kept, in sampled rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_mass: Option<f64>,
}

impl Timings {
    /// From the prompt to the first token of the answer, in seconds.
    #[must_use]
    pub fn first_token_s(&self) -> f64 {
        self.phase1_s + self.query_s
    }

    /// All that were measured, in seconds.
    fn times(&self) -> [f64; 4] {
        [self.phase1_s, self.query_s, self.revisit_s, self.decode_s]
    }

    /// From the prompt to the last token of the answer, in seconds.
    #[must_use]
    pub fn total_s(&self) -> f64 {
        self.first_token_s() + self.decode_s
    }
}

/// What tells a sample from another: the first 16 digits of the SHA-256 of context, query and
/// answers.
#[must_use]
pub fn fingerprint(sample: &Sample) -> String {
    let mut parts = vec![sample.input_context.as_bytes(), sample.input_query.as_bytes()];
    parts.extend(sample.outputs.iter().map(String::as_bytes));
    let mut digits = sha256(&parts);
    digits.truncate(16);
    digits
}

/// The SHA-256 of `parts`, each behind its length so that their borders count, as 64 digits.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

/// The SHA-256 of a file's `bytes`, as every other program prints it, as 64 digits.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the answers of one method to one task at one length are.
#[must_use]
pub fn path(dir: &Path, length: usize, task: &str, method: &str) -> PathBuf {
    dir.join(length.to_string()).join(task).join(format!("{}.jsonl", file_name(method)))
}

/// A method's name without what file systems or shells take for something else:
/// `star:block=1/4:anchor=1k` becomes `star,block=1of4,anchor=1k`.
#[must_use]
pub fn file_name(method: &str) -> String {
    method.replace('/', "of").replace(|c: char| !c.is_alphanumeric() && !"=-._".contains(c), ",")
}

/// What errors call a record.
const WHAT: &str = "result of an evaluation";
/// How a record's line begins.
const FORM: [Part; 3] = [Part::Word("{\"index\":"), Part::Number, Part::Word(",\"pred\":\"")];

/// The records of a file, by index; none if it does not exist.
///
/// # Errors
///
/// A file that cannot be read, or a finished line that is no record or a second one of its sample.
pub fn read(path: &Path) -> Result<Vec<Record>, EvalError> {
    checked(path, Journal::read(path, WHAT, &FORM)?)
}

/// Opens or creates a file of records that grows, and returns what it already holds.
pub(super) fn open(path: PathBuf) -> Result<(Journal, Vec<Record>), EvalError> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(EvalError::io(parent))?;
    }
    read(&path)?;
    let (journal, contents) = Journal::open(path, WHAT, &FORM)?;
    let records = checked(journal.path(), contents)?;
    Ok((journal, records))
}

/// The records by index, after a look at what no run writes.
fn checked(path: &Path, contents: Contents<Record>) -> Result<Vec<Record>, EvalError> {
    let mut lines: Vec<(usize, Record)> = (1..).zip(contents.records).collect();
    let bad = |line: usize, reason: String| {
        Err(EvalError::BadLine { path: path.to_owned(), line, reason })
    };
    for (line, record) in &lines {
        if !(0.0..=1.0).contains(&record.score) {
            return bad(*line, format!("a score of {}, and it is a share of 1", record.score));
        }
        if let Some(time) = record.timings.times().into_iter().find(|time| !(0.0..).contains(time))
        {
            return bad(*line, format!("a time of {time} seconds"));
        }
    }
    lines.sort_by_key(|(_, record)| record.index);
    if let Some([(first, record), (second, _)]) =
        lines.array_windows().find(|[(_, a), (_, b)]| a.index == b.index)
    {
        let index = record.index;
        return bad(*second, format!("sample {index} is already answered in line {first}"));
    }
    Ok(lines.into_iter().map(|(_, record)| record).collect())
}
