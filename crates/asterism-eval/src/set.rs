//! Sets of samples, and the JSONL files of the reference they are kept in.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{EvalError, Sample, TaskInfo};

/// The samples of one task at one length, and how they came about.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleSet {
    /// The task.
    pub task: TaskInfo,
    /// The samples, by index.
    pub samples: Vec<Sample>,
    /// What a report has to say about them: variant, template, seed, haystack.
    pub metadata: Map<String, Value>,
}

/// What a file gave: the samples that could be read, and an error for every line before the last of
/// them that could not.
#[derive(Debug, Default)]
pub struct Reading<T = Sample> {
    /// The samples that could be read, in file order.
    pub items: Vec<T>,
    /// One [`EvalError::BadLine`] or [`EvalError::BadColumn`] for each line or row that could not.
    pub errors: Vec<EvalError>,
}

/// Writes `samples`, one JSON object a line; folders on the way are made.
///
/// # Errors
///
/// [`EvalError::Io`] naming the file.
pub fn write_jsonl(path: &Path, samples: &[Sample]) -> Result<(), EvalError> {
    let write = || {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = BufWriter::new(File::create(path)?);
        for sample in samples {
            serde_json::to_writer(&mut file, sample)?;
            file.write_all(b"\n")?;
        }
        file.flush()
    };
    write().map_err(EvalError::io(path))
}

/// Reads the first `keep` samples of the reference's `validation.jsonl`, ours or its own, and no
/// line after them.
///
/// A single string `output` counts as one of `outputs`, and a missing `length` is 0. Empty lines
/// are skipped. A sample's index is its line's, so that a line that is mended later leaves the
/// numbers of the others; the field of that name is ignored, since RULER's own files have other
/// things there.
///
/// # Errors
///
/// [`EvalError::Io`] when the file cannot be opened; lines that cannot be read are in the result.
pub fn read_jsonl(path: &Path, keep: usize) -> Result<Reading, EvalError> {
    read_lines(path, keep, |line, mut record| {
        if let (Some(Value::String(output)), false) =
            (record.get("output").cloned(), record.contains_key("outputs"))
        {
            record.remove("output");
            record.insert("outputs".to_owned(), Value::Array(vec![Value::String(output)]));
        }
        record.insert("index".to_owned(), Value::from(line));
        record.entry("length").or_insert(Value::from(0));
        let sample = serde_json::from_value(Value::Object(record));
        sample.map_err(|error| error.to_string()).and_then(Sample::with_answers)
    })
}

/// Reads a file of JSON objects, one a line, until `keep` of them have become items.
///
/// `parse` receives an object's number from 0, which also the malformed ones have, and the object.
pub(crate) fn read_lines<T>(
    path: &Path,
    keep: usize,
    mut parse: impl FnMut(usize, Map<String, Value>) -> Result<T, String>,
) -> Result<Reading<T>, EvalError> {
    let mut lines = Lines::open(path)?;
    let mut reading = Reading { items: Vec::new(), errors: Vec::new() };
    while reading.items.len() < keep
        && let Some(line) = lines.next()?
    {
        match line.object.and_then(|object| parse(line.index, object)) {
            Ok(item) => reading.items.push(item),
            Err(reason) => reading.errors.push(lines.bad(line.number, reason)),
        }
        if reading.errors.len() > MOST_BAD_LINES {
            break;
        }
    }
    Ok(reading)
}

/// Lines that are told to be no samples before a file is given up: it is something else.
pub(crate) const MOST_BAD_LINES: usize = 1000;
/// Bytes of the longest line; samples of a million tokens have five million.
const MOST_LINE: u64 = 256 << 20;

/// A file of JSON objects, one a line. One line at a time is in memory.
#[derive(Debug)]
pub(crate) struct Lines {
    path: PathBuf,
    file: BufReader<File>,
    bytes: Vec<u8>,
    /// Lines read, and those among them that are not empty.
    number: usize,
    count: usize,
}

/// One line that is not empty.
#[derive(Debug)]
pub(crate) struct Line {
    /// The line, from 1.
    pub(crate) number: usize,
    /// Lines before it that are not empty.
    pub(crate) index: usize,
    /// What it holds, or why it is no object.
    pub(crate) object: Result<Map<String, Value>, String>,
}

impl Lines {
    pub(crate) fn open(path: &Path) -> Result<Self, EvalError> {
        asterism::files::regular_size(path).map_err(EvalError::io(path))?;
        let file = BufReader::new(File::open(path).map_err(EvalError::io(path))?);
        Ok(Self { path: path.to_owned(), file, bytes: Vec::new(), number: 0, count: 0 })
    }

    /// The next line that is not empty.
    ///
    /// # Errors
    ///
    /// [`EvalError::Io`]; a line that is no object comes with its reason.
    pub(crate) fn next(&mut self) -> Result<Option<Line>, EvalError> {
        loop {
            self.bytes.clear();
            let read = (&mut self.file).take(MOST_LINE).read_until(b'\n', &mut self.bytes);
            let read = read.map_err(EvalError::io(&self.path))?;
            if read == 0 {
                return Ok(None);
            }
            if read as u64 == MOST_LINE {
                return Err(self.bad(self.number + 1, format!("longer than {MOST_LINE} bytes")));
            }
            self.number += 1;
            // Some editors begin a file with a byte order mark.
            let mark = self.bytes.starts_with(b"\xEF\xBB\xBF") && self.number == 1;
            let bytes = if mark { &self.bytes[3..] } else { &self.bytes[..] };
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            let object = serde_json::from_slice(bytes).map_err(|error| error.to_string());
            self.count += 1;
            return Ok(Some(Line { number: self.number, index: self.count - 1, object }));
        }
    }

    /// The error of line `line`.
    pub(crate) fn bad(&self, line: usize, reason: String) -> EvalError {
        EvalError::BadLine { path: self.path.clone(), line, reason }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn written(text: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("validation.jsonl");
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("4096/vt/validation.jsonl");
        let sample = Sample {
            index: 3,
            input_context: "a\nb".to_owned(),
            input_query: "q".to_owned(),
            outputs: vec!["x".to_owned()],
            length: 9,
            extra: [("depths".to_owned(), json!([0.5]))].into_iter().collect(),
        };
        write_jsonl(&path, &[sample.clone(), sample.clone()]).unwrap();
        let reading = read_jsonl(&path, usize::MAX).unwrap();
        // Numbered by their lines, whatever stands in them.
        let expected = [0, 1].map(|index| Sample { index, ..sample.clone() });
        assert_eq!((reading.items, reading.errors.len()), (expected.to_vec(), 0));
    }

    #[test]
    fn a_bad_line_costs_only_itself() {
        let good = r#"{"input_context": "c", "input_query": "q", "output": "one", "others": {}}"#;
        let text = format!("{good}\n\n{{\"input_context\": 3}}\nnonsense\n{good}");
        let (_folder, path) = written(text.as_bytes());
        let reading = read_jsonl(&path, usize::MAX).unwrap();
        assert_eq!(reading.items.iter().map(|s| s.index).collect::<Vec<_>>(), [0, 3]);
        assert_eq!(reading.items[1].outputs, ["one"]);
        let lines: Vec<String> = reading.errors.iter().map(ToString::to_string).collect();
        assert!(lines[0].contains("validation.jsonl:3: "), "{lines:?}");
        assert!(lines[1].contains("validation.jsonl:4: "), "{lines:?}");
        let missing = read_jsonl(&path.with_file_name("no.jsonl"), 1).unwrap_err();
        assert!(missing.to_string().contains("no.jsonl"));
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        let line = r#"{"input_context": "c", "input_query": "q", "outputs": ["one"]}"#;
        let (_folder, path) = written(format!("\u{feff}{line}\n").as_bytes());
        let reading = read_jsonl(&path, usize::MAX).unwrap();
        assert_eq!((reading.items.len(), reading.errors.len()), (1, 0));
    }

    #[test]
    fn a_sample_without_answers_cannot_be_scored() {
        for outputs in ["[]", r#"[""]"#, r#"["right", "\n"]"#] {
            let line =
                format!(r#"{{"input_context": "c", "input_query": "q", "outputs": {outputs}}}"#);
            let (_folder, path) = written(line.as_bytes());
            let reading = read_jsonl(&path, usize::MAX).unwrap();
            assert_eq!(reading.items.len(), 0, "{outputs}");
            assert!(reading.errors[0].to_string().contains("compare with is empty"), "{outputs}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn foreign_bytes_never_panic(lines in prop::collection::vec(".{0,40}", 0..6), good in 0..4_usize) {
            let sample = r#"{"input_context": "c", "input_query": "q", "outputs": ["a"]}"#;
            let mut text = lines.join("\n");
            for _ in 0..good {
                text = format!("{sample}\n{text}");
            }
            let (_folder, path) = written(text.as_bytes());
            let reading = read_jsonl(&path, usize::MAX).unwrap();
            prop_assert!(reading.items.len() >= good);
            for error in reading.errors {
                let placed = matches!(error, EvalError::BadLine { line, .. } if line > good);
                prop_assert!(placed);
            }
        }
    }
}
