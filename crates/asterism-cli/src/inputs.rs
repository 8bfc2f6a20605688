//! Documents from files and from standard input.

use super::error::CliError;
use anyhow::{Context, anyhow};
use asterism::text::join_documents;
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

/// Bytes of a line of standard input, far more than any question has.
const MOST_QUESTION: u64 = 1 << 30;

/// Reads `-` or a file as UTF-8 text.
fn read(path: &Path) -> Result<String, CliError> {
    let name = path.display();
    let bytes = if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
        bytes
    } else if path.is_dir() {
        return Err(anyhow!("{name} is a folder: give the files in it, each with --context").into());
    } else {
        std::fs::read(path).with_context(|| format!("cannot read {name}"))?
    };
    utf8(bytes, path)
}

/// The text in `bytes`, which came from `path`.
pub(crate) fn utf8(bytes: Vec<u8>, path: &Path) -> Result<String, CliError> {
    let name = path.display();
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow!("{name} is not UTF-8 text: byte {at} (counted from 0) starts no character; convert it first").into()
    })
}

/// The next line of standard input, `None` at its end.
pub(crate) fn line(stdin: &mut impl BufRead) -> Result<Option<String>, CliError> {
    let mut bytes = Vec::new();
    let read = stdin.take(MOST_QUESTION).read_until(b'\n', &mut bytes);
    match read.context("cannot read standard input")? {
        0 => Ok(None),
        _ => Ok(Some(utf8(bytes, Path::new("standard input"))?)),
    }
}

/// Reads all documents and joins them with blank lines.
pub(crate) fn documents(paths: &[PathBuf]) -> Result<String, CliError> {
    if paths.iter().filter(|path| path.as_os_str() == "-").count() > 1 {
        return Err(CliError::Usage(
            "--context - is given twice: standard input can be read once".to_owned(),
        ));
    }
    let mut texts = Vec::new();
    for path in paths {
        texts.push((path.display().to_string(), read(path)?));
    }
    let parts: Vec<(&str, &str)> =
        texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    Ok(join_documents(&parts)?)
}
