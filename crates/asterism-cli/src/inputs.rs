//! Documents and questions, from files and from standard input.

use super::error::CliError;
use super::report::count;
use anyhow::{Context, anyhow};
use asterism::engine::ModelText;
use asterism::files::{regular_size, without_mark};
use asterism::text::{Tokenizer, join_documents};
use std::fs::File;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

/// How long a text may be, in bytes: more are more tokens than are taken, whatever they say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    bytes: usize,
    tokens: usize,
}

impl Limit {
    /// As long as the longest tokens of `tokenizer` can make a text of `tokens` tokens.
    pub(crate) fn of(tokenizer: &Tokenizer, tokens: usize) -> Self {
        Self { bytes: tokenizer.most_bytes(tokens), tokens }
    }

    /// For the model of `text`.
    pub(crate) fn of_model(text: &ModelText) -> Self {
        Self::of(text.tokenizer(), text.config().max_positions)
    }

    /// Refuses a text of `bytes`, called `name`.
    pub(crate) fn check(self, name: &str, bytes: usize) -> Result<(), CliError> {
        if bytes <= self.bytes {
            return Ok(());
        }
        Err(anyhow!(
            "{name}: {} bytes or more, and the {} tokens that the model can hold have at most {}: \
             shorten it",
            count(bytes),
            count(self.tokens),
            count(self.bytes)
        )
        .into())
    }
}

/// Bytes that stand between two documents: a blank line.
const BETWEEN: usize = 2;

/// Bytes of a line of standard input, far more than any question has.
const MOST_QUESTION: u64 = 1 << 24;

/// Reads `-` or a file as UTF-8 text. Pipes are read as well, `-c <(pdftotext book.pdf -)`.
fn read(path: &Path, limit: Limit) -> Result<String, CliError> {
    let name = path.display().to_string();
    let cannot = || format!("cannot read {name}");
    if path.as_os_str() == "-" {
        let mut stdin = std::io::stdin().lock();
        return utf8(at_most(&mut stdin, "standard input", limit)?, "standard input");
    }
    if let Ok(size) = regular_size(path) {
        limit.check(&name, usize::try_from(size).unwrap_or(usize::MAX))?;
    }
    let mut file = File::open(path).with_context(cannot)?;
    utf8(at_most(&mut file, &name, limit)?, &name)
}

/// All bytes there are to read, unless they are too many.
fn at_most(from: &mut dyn Read, name: &str, limit: Limit) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    let most = (limit.bytes as u64).saturating_add(1);
    from.take(most).read_to_end(&mut bytes).with_context(|| format!("cannot read {name}"))?;
    limit.check(name, bytes.len())?;
    Ok(bytes)
}

/// The text in `bytes`, which came from `name`, without a byte order mark.
fn utf8(mut bytes: Vec<u8>, name: &str) -> Result<String, CliError> {
    let mark = bytes.len() - without_mark(&bytes).len();
    bytes.drain(..mark);
    String::from_utf8(bytes).map_err(|error| {
        let at = mark + error.utf8_error().valid_up_to();
        anyhow!("{name} is not UTF-8 text: byte {at} (counted from 0) starts no character; convert it first").into()
    })
}

/// The next line of standard input, `None` at its end.
pub(crate) fn line(stdin: &mut impl BufRead) -> Result<Option<String>, CliError> {
    let name = "standard input";
    let mut bytes = Vec::new();
    let read = stdin.take(MOST_QUESTION).read_until(b'\n', &mut bytes);
    match read.with_context(|| format!("cannot read {name}"))? {
        0 => Ok(None),
        read if read as u64 == MOST_QUESTION => {
            Err(anyhow!("{name}: a question of more than {MOST_QUESTION} bytes").into())
        }
        _ => Ok(Some(utf8(bytes, name)?)),
    }
}

/// Refuses files that are not there, before anything takes long.
pub(crate) fn check(paths: &[PathBuf]) -> Result<(), CliError> {
    for path in paths.iter().filter(|path| path.as_os_str() != "-") {
        let name = path.display();
        let about = path.metadata().with_context(|| format!("cannot read {name}"))?;
        if about.is_dir() {
            return Err(
                anyhow!("{name} is a folder: give the files in it, each with --context").into()
            );
        }
    }
    Ok(())
}

/// Documents as one text.
pub(crate) struct Joined {
    pub(crate) text: String,
    /// In their order.
    files: Vec<Part>,
}

/// A document's place in the text.
struct Part {
    name: String,
    /// Byte of the text where it begins, without white space around it.
    start: usize,
    /// Lines of the document before that.
    lines: usize,
}

impl Joined {
    /// The file that has byte `at` of the text, and the line of the file, counted from 1.
    pub(crate) fn line(&self, at: usize) -> Option<(&str, usize)> {
        let Part { name, start, lines } = self.files.iter().rfind(|file| file.start <= at)?;
        let before = self.text.get(*start..at)?;
        Some((name, lines + before.matches('\n').count() + 1))
    }
}

/// Reads all documents and joins them with blank lines.
pub(crate) fn documents(paths: &[PathBuf], limit: Limit) -> Result<Joined, CliError> {
    if paths.iter().filter(|path| path.as_os_str() == "-").count() > 1 {
        return Err(CliError::Usage(
            "--context - is given twice: standard input can be read once".to_owned(),
        ));
    }
    let mut texts: Vec<(String, String)> = Vec::new();
    let mut all = 0;
    for path in paths {
        let text = read(path, limit)?;
        all += text.len();
        limit.check("the documents together", all)?;
        texts.push((path.display().to_string(), text));
    }
    let parts: Vec<(&str, &str)> =
        texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let text = join_documents(&parts)?;
    let (mut files, mut start) = (Vec::with_capacity(parts.len()), 0);
    for (name, text) in parts {
        let begins = text.len() - text.trim_start().len();
        let lines = text[..begins].matches('\n').count();
        files.push(Part { name: name.to_owned(), start, lines });
        start += text.trim().len() + BETWEEN;
    }
    Ok(Joined { text, files })
}
