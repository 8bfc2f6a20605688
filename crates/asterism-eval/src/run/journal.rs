//! Files of JSON lines that grow: results, one a line, and the next run goes on where the last one
//! stopped.
//!
//! Nothing that is not ours is ever written over. Lines are added at the end, each in one write.
//! Only the beginning of one of our own lines, at the very end, is removed: that is what a run
//! leaves that was stopped while it wrote. Any other text that is no result is an error, and the
//! file stays as it is.

use crate::EvalError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Bytes of the longest line; an answer of a million tokens has some ten million.
const MOST_LINE: u64 = 64 << 20;

/// How the lines of a journal begin.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    /// Exactly this.
    Word(&'static str),
    /// A whole number.
    Number,
    /// Hexadecimal digits.
    Hex,
}

impl Part {
    /// Takes this part off the front of `line`, or as much of it as there is; whether all of
    /// `line` was taken or all of the part.
    fn take(self, line: &mut &[u8]) -> bool {
        let count = match self {
            Self::Word(word) => {
                let same = line.iter().zip(word.as_bytes()).take_while(|(a, b)| a == b).count();
                if same < word.len() && same < line.len() {
                    return false;
                }
                same
            }
            Self::Number => {
                let sign = usize::from(line.starts_with(b"-"));
                sign + line[sign..].iter().take_while(|byte| byte.is_ascii_digit()).count()
            }
            Self::Hex => line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count(),
        };
        *line = &line[count..];
        true
    }
}

/// What a file ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// Its last line's end.
    None,
    /// A whole record that lacks the end of its line.
    NoNewline,
    /// The beginning of a record.
    Cut,
}

/// What a file holds.
#[derive(Debug)]
pub struct Contents<R> {
    /// Its records in the order of their lines.
    pub records: Vec<R>,
    /// Bytes of whole lines.
    whole: u64,
    tail: Tail,
}

impl<R> Default for Contents<R> {
    fn default() -> Self {
        Self { records: Vec::new(), whole: 0, tail: Tail::None }
    }
}

impl<R> Contents<R> {
    /// Whether the file ends within a record.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.tail == Tail::Cut
    }
}

/// The open file.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Reads the records of `path`, none if there is no file, and changes nothing. `what` is what
    /// errors call a record, and `form` how its line begins.
    ///
    /// # Errors
    /// A file that cannot be read or is no regular one, and a line that is no record.
    pub fn read<R: DeserializeOwned>(
        path: &Path,
        what: &str,
        form: &[Part],
    ) -> Result<Contents<R>, EvalError> {
        match path.metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Contents::default()),
            Err(error) => Err(EvalError::io(path)(error)),
            // Others would be waited for without end, or hold nothing to go on from.
            Ok(about) if !about.is_file() => Err(EvalError::BadFile {
                path: path.to_owned(),
                reason: "not a regular file: results are added to one and gone on with".to_owned(),
            }),
            Ok(_) => scan(path, &File::open(path).map_err(EvalError::io(path))?, what, form),
        }
    }

    /// Opens or creates `path` to add records, and returns what it already holds. Not locked.
    ///
    /// # Errors
    /// As [`Journal::read`], and a file that cannot be written.
    pub fn open<R: DeserializeOwned>(
        path: PathBuf,
        what: &str,
        form: &[Part],
    ) -> Result<(Self, Contents<R>), EvalError> {
        // Before it is opened, so that no special file is waited for.
        let _: Contents<R> = Self::read(&path, what, form)?;
        let mut journal = Self::open_locked(path, |_, _| Ok::<(), EvalError>(()))?;
        let contents = journal.mend(what, form)?;
        Ok((journal, contents))
    }

    /// Opens or creates `path` and gives it to `lock` before anything is read or written; next,
    /// call [`Journal::mend`].
    ///
    /// # Errors
    /// A file that cannot be opened, and what `lock` returns.
    pub fn open_locked<E: From<EvalError>>(
        path: PathBuf,
        lock: impl FnOnce(&File, &Path) -> Result<(), E>,
    ) -> Result<Self, E> {
        let open = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let file = open.map_err(EvalError::io(&path))?;
        lock(&file, &path)?;
        Ok(Self { path, file })
    }

    /// Returns what the file holds, and makes its end one to add lines at.
    ///
    /// # Errors
    /// A line that is no record; the file is then left unchanged.
    pub fn mend<R: DeserializeOwned>(
        &mut self,
        what: &str,
        form: &[Part],
    ) -> Result<Contents<R>, EvalError> {
        self.file.rewind().map_err(EvalError::io(&self.path))?;
        let contents = scan(&self.path, &self.file, what, form)?;
        let mended = match contents.tail {
            Tail::None => Ok(()),
            Tail::NoNewline => self.file.write_all(b"\n"),
            Tail::Cut => self.file.set_len(contents.whole),
        };
        mended.map_err(EvalError::io(&self.path))?;
        Ok(contents)
    }

    /// Adds a line, in one write: a stop can tear only the last one.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn append(&mut self, record: &impl Serialize) -> Result<(), EvalError> {
        let mut line = serde_json::to_vec(record).map_err(|error| EvalError::BadFile {
            path: self.path.clone(),
            reason: error.to_string(),
        })?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(EvalError::io(&self.path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn scan<R: DeserializeOwned>(
    path: &Path,
    file: &File,
    what: &str,
    form: &[Part],
) -> Result<Contents<R>, EvalError> {
    let mut contents = Contents::default();
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = (&mut reader).take(MOST_LINE).read_until(b'\n', &mut line);
        let read = read.map_err(EvalError::io(path))?;
        if read == 0 {
            break;
        }
        if read as u64 == MOST_LINE {
            let reason = format!("no {what}, so the file is left as it is: more than {read} bytes");
            return Err(EvalError::BadLine { path: path.to_owned(), line: number, reason });
        }
        let finished = line.ends_with(b"\n");
        match serde_json::from_slice(&line) {
            Ok(record) => contents.records.push(record),
            Err(_) if !finished && is_beginning(&line, form) => {
                contents.tail = Tail::Cut;
                break;
            }
            Err(error) => {
                let reason = format!("no {what}, so the file is left as it is: {error}");
                return Err(EvalError::BadLine { path: path.to_owned(), line: number, reason });
            }
        }
        if finished {
            contents.whole += line.len() as u64;
        } else {
            contents.tail = Tail::NoNewline;
        }
    }
    Ok(contents)
}

/// Whether a line that ends within `line` could begin by `form`.
fn is_beginning(mut line: &[u8], form: &[Part]) -> bool {
    form.iter().all(|part| part.take(&mut line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Record {
        index: i64,
        mark: String,
        text: String,
    }

    const FORM: [Part; 5] = [
        Part::Word("{\"index\":"),
        Part::Number,
        Part::Word(",\"mark\":\""),
        Part::Hex,
        Part::Word("\",\"text\":\""),
    ];

    fn record(index: i64, text: &str) -> Record {
        Record { index, mark: "0123456789abcdef".to_owned(), text: text.to_owned() }
    }

    fn line(index: i64, text: &str) -> String {
        serde_json::to_string(&record(index, text)).unwrap() + "\n"
    }

    /// The file after a run that adds one record; or the error, with the file left unchanged.
    fn run_over(before: &[u8]) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results");
        std::fs::write(&path, before).unwrap();
        match Journal::open::<Record>(path.clone(), "result", &FORM) {
            Ok((mut journal, _)) => {
                journal.append(&record(99, "new")).unwrap();
                Ok(std::fs::read_to_string(&path).unwrap())
            }
            Err(error) => {
                assert_eq!(std::fs::read(&path).unwrap(), before, "{error}");
                Err(error.to_string())
            }
        }
    }

    #[test]
    fn a_file_that_is_not_ours_is_left_as_it_is() {
        for text in ["precious", "{}", "{\"index\":1}", "[1]\n", "\n", "\0\0", "{\"index\":x"] {
            let error = run_over(text.as_bytes()).unwrap_err();
            assert!(error.contains("results:1: no result"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_regular_files_are_opened() {
        let path = PathBuf::from("/dev/full");
        let error = Journal::open::<Record>(path, "result", &FORM).unwrap_err().to_string();
        assert!(error.contains("/dev/full") && error.contains("regular file"), "{error}");
    }

    proptest! {
        #[test]
        fn a_run_stopped_at_any_byte_is_gone_on_with(
            lines in 0..3_i64, index: i64, text in "\\PC{0,12}", cut in any::<prop::sample::Index>(),
        ) {
            let whole: String = (0..lines).map(|i| line(i - 10, "x")).collect();
            let last = line(index, &text);
            let cut = cut.index(last.len() + 1);
            let before = [whole.as_bytes(), &last.as_bytes()[..cut]].concat();
            // The line is whole from its closing bracket on.
            let kept = if cut + 1 >= last.len() { last.as_str() } else { "" };
            prop_assert_eq!(run_over(&before).unwrap(), whole + kept + &line(99, "new"));
        }

        #[test]
        fn no_byte_of_another_file_is_lost(
            lines in 0..3_i64, tail in prop_oneof![
                "[^{]\\PC{0,30}",
                "\\{\"index\":[0-9]{1,3},\"(text|mark)\":[0-9]{1,9}",
                "\\{\"[a-hj-z]{1,9}\":.{0,20}",
            ],
        ) {
            let before: String = (0..lines).map(|i| line(i, "x")).collect::<String>() + &tail;
            prop_assert!(run_over(before.as_bytes()).is_err());
        }
    }
}
