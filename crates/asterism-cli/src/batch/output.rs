//! The results of a batch: a journal that one run at a time adds to, after the model is loaded.
//!
//! Each line says which prompt it answers and by which model and settings, so that a run does not
//! go on from answers to something else.

use crate::error::CliError;
use crate::terminal::note;
use anyhow::{Context, anyhow};
use asterism_eval::run;
use asterism_eval::run::journal::{Contents, Journal, Part};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::Path;

/// Hexadecimal digits of a fingerprint.
const DIGITS: usize = 16;
/// The name of a record in errors.
const WHAT: &str = "result of batch";
/// How a record's line begins.
const FORM: [Part; 7] = [
    Part::Word("{\"index\":"),
    Part::Number,
    Part::Word(",\"prompt\":\""),
    Part::Hex,
    Part::Word("\",\"run\":\""),
    Part::Hex,
    Part::Word("\",\"pred\":\""),
];

/// A line of the output. [`FORM`] relies on the order of the fields.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// The sample's number.
    pub(super) index: i64,
    /// Fingerprint of context and query.
    pub(super) prompt: String,
    /// Fingerprint of model, method and settings.
    pub(super) run: String,
    /// The answer, without white space around it.
    pub(super) pred: String,
    /// Everything else.
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

/// The fingerprint of `parts`.
pub(super) fn fingerprint(parts: &[&str]) -> String {
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    let mut digits = run::sha256(&parts);
    digits.truncate(DIGITS);
    digits
}

/// Which prompts are answered.
#[derive(Debug)]
pub(super) struct Done {
    /// Their fingerprints by index.
    prompts: HashMap<i64, String>,
}

impl Done {
    /// Reads the results at `path`, none if there is no file, and changes nothing.
    ///
    /// # Errors
    /// Anything that is no result of batch, results of another `run`, and a file that is the input.
    pub(super) fn read(path: &Path, input: &Path, run: &str) -> Result<Self, CliError> {
        if is_same(path, input)? {
            let name = path.display();
            let message = format!("{name} is both input and output: give another output file");
            return Err(CliError::Usage(message));
        }
        Self::of(path, Journal::read(path, WHAT, &FORM)?, run)
    }

    fn of(path: &Path, contents: Contents<Record>, run: &str) -> Result<Self, CliError> {
        let name = path.display();
        let mut prompts = HashMap::new();
        for (line, record) in (1..).zip(contents.records) {
            if record.run != run {
                return Err(anyhow!(
                    "{name}:{line}: answered by another model, method or settings: choose another \
                     output file, or go on with what it was begun with"
                )
                .into());
            }
            let index = record.index;
            if prompts.insert(index, record.prompt).is_some() {
                return Err(anyhow!(
                    "{name}:{line}: a second answer to index {index}: remove one of the two"
                )
                .into());
            }
        }
        Ok(Self { prompts })
    }

    /// Whether the prompt of `index` is answered.
    ///
    /// # Errors
    /// If it was another prompt that was answered.
    pub(super) fn has(&self, index: i64, prompt: &str) -> Result<bool, String> {
        match self.prompts.get(&index) {
            None => Ok(false),
            Some(before) if before == prompt => Ok(true),
            Some(_) => Err(format!("index {index} was answered for another prompt")),
        }
    }
}

/// Opens the output, which no other run may have open, and returns what it holds.
///
/// # Errors
/// As [`Done::read`], and [`run::RunError::Busy`] while another run writes.
pub(super) fn open(path: &Path, input: &Path, run: &str) -> Result<(Journal, Done), CliError> {
    Done::read(path, input, run)?;
    let mut journal = Journal::open_locked(path.to_owned(), run::lock)?;
    let contents = journal.mend(WHAT, &FORM)?;
    if contents.is_cut() {
        note(format_args!("{}: removed a last line that was not finished", path.display()));
    }
    Ok((journal, Done::of(path, contents, run)?))
}

/// Whether both paths lead to one file.
fn is_same(output: &Path, input: &Path) -> Result<bool, CliError> {
    if !output.exists() {
        return Ok(false);
    }
    let about =
        |path: &Path| path.metadata().with_context(|| format!("cannot read {}", path.display()));
    let (a, b) = (about(output)?, about(input)?);
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = (a, b);
        Ok(std::fs::canonicalize(output).ok() == std::fs::canonicalize(input).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use tempfile::TempDir;

    fn line(index: i64) -> String {
        let (prompt, run) = (fingerprint(&["c", "q"]), fingerprint(&["run"]));
        let rest = Map::from_iter([("length".to_owned(), 3.into())]);
        let record = Record { index, prompt, run, pred: "a".to_owned(), rest };
        serde_json::to_string(&record).unwrap() + "\n"
    }

    fn files(output: &str) -> (TempDir, PathBuf, PathBuf) {
        let dir = TempDir::new().unwrap();
        let (input, path) = (dir.path().join("in"), dir.path().join("out"));
        std::fs::write(&input, "x").unwrap();
        std::fs::write(&path, output).unwrap();
        (dir, input, path)
    }

    #[test]
    fn two_runs_cannot_have_one_file() {
        let (_dir, input, output) = files("");
        let _first = open(&output, &input, "1").unwrap();
        let second = open(&output, &input, "1").map(drop).unwrap_err().to_string();
        assert!(second.contains("another run"), "{second}");
    }

    #[test]
    fn input_and_output_are_two_files() {
        let (dir, _, file) = files(&line(1));
        let link = dir.path().join("link");
        std::fs::hard_link(&file, &link).unwrap();
        for output in [&file, &link] {
            let error = open(output, &file, &fingerprint(&["run"])).map(drop).unwrap_err();
            assert!(error.to_string().contains("both input and output"), "{error}");
        }
    }

    #[test]
    fn a_line_begins_as_a_cut_one_is_recognised() {
        let whole = line(7);
        for cut in 1..whole.len() - 1 {
            let (_dir, input, output) = files(&format!("{}{}", line(6), &whole[..cut]));
            let (_, done) = open(&output, &input, &fingerprint(&["run"])).unwrap();
            assert_eq!(done.prompts.len(), 1);
            assert_eq!(std::fs::read_to_string(&output).unwrap(), line(6));
        }
    }

    #[test]
    fn other_settings_and_other_prompts_are_not_gone_on_with() {
        let (_dir, input, output) = files(&line(1));
        let other = open(&output, &input, &fingerprint(&["other"])).map(drop).unwrap_err();
        assert!(other.to_string().contains("another model, method or settings"), "{other}");
        let (_, done) = open(&output, &input, &fingerprint(&["run"])).unwrap();
        assert_eq!(done.has(1, &fingerprint(&["c", "q"])), Ok(true));
        assert_eq!(done.has(2, &fingerprint(&["c", "q"])), Ok(false));
        assert!(done.has(1, &fingerprint(&["cq"])).is_err());
        let (_dir, input, output) = files(&(line(1) + &line(1)));
        let twice = open(&output, &input, &fingerprint(&["run"])).map(drop).unwrap_err();
        assert!(twice.to_string().contains("second answer to index 1"), "{twice}");
    }
}
