//! The prompts of a batch: a line of JSON each. A line that is none costs only itself.

use crate::error::CliError;
use anyhow::{Context, anyhow};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Bytes of the longest line that is read.
const MOST: u64 = 1 << 30;
/// What some editors begin a file with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One prompt.
#[derive(Debug, Deserialize)]
pub(super) struct Sample {
    pub(super) input_context: String,
    pub(super) input_query: String,
    /// Its number; the line's position in the file (from 0) if absent.
    index: Option<i64>,
    /// Expected answers, passed through.
    pub(super) outputs: Option<Value>,
}

/// A line of the input.
#[derive(Debug)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: usize,
    /// The sample and its index, or why there is none.
    pub(super) sample: Result<(i64, Sample), String>,
}

/// Reads all lines; blank ones are kept as errors to report, not dropped.
///
/// # Errors
/// A file that cannot be read or is empty, and two samples of one index: the second would be taken
/// for answered as soon as the first one is.
pub(super) fn read(path: &Path) -> Result<Vec<Line>, CliError> {
    let name = path.display();
    let cannot = || format!("cannot read {name}");
    if path.is_dir() {
        return Err(anyhow!("{name} is a folder: give a file of JSON lines").into());
    }
    let mut file = BufReader::new(File::open(path).with_context(cannot)?);
    let mut lines: Vec<Line> = Vec::new();
    let mut numbers = HashMap::new();
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if file.by_ref().take(MOST).read_until(b'\n', &mut bytes).with_context(cannot)? == 0 {
            break;
        }
        let number = lines.len() + 1;
        let whole = bytes.len() < MOST as usize || bytes.ends_with(b"\n");
        let sample = if whole {
            parse(number, &bytes)
        } else {
            skip_line(&mut file).with_context(cannot)?;
            Err(format!("longer than {MOST} bytes"))
        };
        if let Ok((index, _)) = &sample
            && let Some(first) = numbers.insert(*index, number)
        {
            return Err(anyhow!(
                "{name}: lines {first} and {number} both have index {index}: give each its own"
            )
            .into());
        }
        lines.push(Line { number, sample });
    }
    if lines.is_empty() {
        return Err(anyhow!("{name} is empty").into());
    }
    Ok(lines)
}

fn parse(number: usize, bytes: &[u8]) -> Result<(i64, Sample), String> {
    let marked = if number == 1 { bytes.strip_prefix(BYTE_ORDER_MARK) } else { None };
    let sample: Sample = serde_json::from_slice(marked.unwrap_or(bytes))
        .map_err(|error| format!("not a sample with input_context and input_query: {error}"))?;
    Ok((sample.index.unwrap_or(number as i64 - 1), sample))
}

/// Reads on to the next line and keeps nothing.
fn skip_line(file: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let bytes = file.fill_buf()?;
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (used, done) =
            (end.map_or(bytes.len(), |at| at + 1), end.is_some() || bytes.is_empty());
        file.consume(used);
        if done {
            return Ok(());
        }
    }
}
