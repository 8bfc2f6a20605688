//! A reader of text columns in Parquet files, the format in which data sets are published.
//!
//! Receives a file and the names of its columns, and hands out row after row; of the file it keeps
//! a page of each column at a time. It reads what the published sets are made of (columns of text
//! that are not nested, plain or by dictionary, packed with Snappy, Zstandard or not at all) and
//! names everything else in its error. Nothing in a damaged file makes it panic or take memory
//! that the file does not account for. That is why it is ours: the complete readers panic on
//! damaged footers and pages, and are large for three columns of text.
//!
//! Format: <https://parquet.apache.org/docs/file-format>.

mod column;
mod encoding;
#[cfg(test)]
mod tests;
mod thrift;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::EvalError;
use column::{Chunk, Texts};
use thrift::{Value, structure};

/// Rows, and bytes of text, that a file of any size may hold; more only as its size allows.
const MOST_ROWS: u64 = 1 << 20;
const MOST_TEXT: u64 = 128 << 20;
/// What a file begins and ends with.
const MAGIC: &[u8; 4] = b"PAR1";
/// The physical type of texts.
const BYTE_ARRAY: i64 = 6;
const TYPES: [&str; 8] = [
    "booleans",
    "32-bit integers",
    "64-bit integers",
    "timestamps",
    "32-bit floats",
    "64-bit floats",
    "text",
    "binary values",
];

/// Reads the columns called `names`, row after row, until `row` breaks.
///
/// `row` receives a row's number from 0 and its texts, or the error of a row that has none.
///
/// # Errors
///
/// [`EvalError::Io`], [`EvalError::BadFile`] for a file that is no Parquet, and
/// [`EvalError::BadColumn`] for a column that is missing, holds no text or cannot be read on.
pub(crate) fn read_rows<const N: usize>(
    path: &Path,
    names: [&str; N],
    mut row: impl FnMut(usize, Result<[String; N], EvalError>) -> ControlFlow<()>,
) -> Result<(), EvalError> {
    let bad = |reason: String| EvalError::BadFile { path: path.into(), reason };
    let bad_column = |column: usize, reason: String| EvalError::BadColumn {
        path: path.into(),
        column: names[column].to_owned(),
        reason,
    };
    let size = asterism::files::regular_size(path).map_err(EvalError::io(path))?;
    let mut file = File::open(path).map_err(EvalError::io(path))?;
    let footer = footer(&mut file, size).map_err(bad)?;
    let mut optional = [false; N];
    for (column, name) in names.iter().enumerate() {
        optional[column] =
            is_optional(&footer, name).map_err(|reason| bad_column(column, reason))?;
    }

    // What a page's numbers name again and again takes no room in the file.
    let (mut rows_left, mut text_left) =
        (size.saturating_add(MOST_ROWS), size.saturating_mul(64).saturating_add(MOST_TEXT));
    let mut number = 0;
    let groups = footer.list(4).ok_or_else(|| bad("it does not list its rows".to_owned()))?;
    for group in groups {
        let rows = group.size(3).ok_or_else(|| bad("a group has no number of rows".to_owned()))?;
        let mut columns = Vec::with_capacity(N);
        for (column, name) in names.iter().enumerate() {
            let open = || {
                let chunk = chunk(group, name, optional[column], size)?;
                Texts::new(File::open(path).map_err(|error| error.to_string())?, chunk)
            };
            columns.push(open().map_err(|reason| bad_column(column, reason))?);
        }
        for _ in 0..rows {
            let too_much = || bad("its rows hold more than a file of its size can".to_owned());
            rows_left = rows_left.checked_sub(1).ok_or_else(too_much)?;
            let mut texts = [const { String::new() }; N];
            // Every column moves on, also past a row that has no text in one of them.
            let mut error = None;
            for (column, values) in columns.iter_mut().enumerate() {
                let value = values.next().map_err(|reason| bad_column(column, reason))?;
                let length = value.map_or(0, <[u8]>::len) as u64;
                text_left = text_left.checked_sub(length).ok_or_else(too_much)?;
                let value = value.ok_or("is empty").map(<[u8]>::to_vec);
                let text =
                    value.and_then(|value| String::from_utf8(value).map_err(|_| "is not UTF-8"));
                match text {
                    Ok(text) => texts[column] = text,
                    Err(reason) if error.is_none() => {
                        error = Some(bad_column(column, format!("row {number} {reason}")));
                    }
                    Err(_) => {}
                }
            }
            if row(number, error.map_or(Ok(texts), Err)).is_break() {
                return Ok(());
            }
            number += 1;
        }
    }
    Ok(())
}

/// The file's description of itself, from its end.
fn footer(file: &mut File, size: u64) -> Result<Value, String> {
    let no_parquet = || "it is no Parquet file, or its end is missing".to_owned();
    let mut end = [0; 8];
    let mut read_end = || {
        file.seek(SeekFrom::End(-8))?;
        file.read_exact(&mut end)
    };
    read_end().map_err(|_| no_parquet())?;
    let (length, magic) = end.split_at(4);
    let length = u64::from(u32::from_le_bytes(length.try_into().map_err(|_| no_parquet())?));
    let start = (size - 8).checked_sub(length).filter(|_| magic == MAGIC).ok_or_else(no_parquet)?;
    file.seek(SeekFrom::Start(start)).map_err(|error| error.to_string())?;
    structure(&mut std::io::BufReader::new(file.take(length)))
}

/// Whether the values of column `name` may be missing; refuses columns of anything but text.
fn is_optional(footer: &Value, name: &str) -> Result<bool, String> {
    let schema = footer.list(2).unwrap_or_default();
    let children = |element: &Value| element.size(5).unwrap_or(0);
    // Depth first: of the root's children, each is followed by its own.
    let (mut at, mut known) = (1, Vec::new());
    while let Some(element) = schema.get(at) {
        let called = element.text(4).unwrap_or_default();
        if called == name {
            let kind = element.int(1);
            return match (kind, element.int(3), children(element)) {
                (Some(BYTE_ARRAY), Some(repetition @ (0 | 1)), 0) => Ok(repetition == 1),
                (Some(kind), Some(0 | 1), 0) if kind != BYTE_ARRAY => {
                    let held = usize::try_from(kind).ok().and_then(|kind| TYPES.get(kind));
                    Err(format!("it holds {}, not text", held.unwrap_or(&"another type")))
                }
                _ => Err("it holds lists or structures, not text".to_owned()),
            };
        }
        known.push(called);
        let mut inside = 1_usize;
        while let (Some(element), 1..) = (schema.get(at), inside) {
            inside = (inside - 1).saturating_add(children(element));
            at += 1;
        }
    }
    Err(format!("there is no such column; the file has {}", known.join(", ")))
}

/// Where column `name` of a row group lies.
fn chunk(group: &Value, name: &str, optional: bool, size: u64) -> Result<Chunk, String> {
    let is_named = |column: &&Value| {
        let path = column.list(3).unwrap_or_default();
        path.len() == 1 && path[0].as_text() == Some(name)
    };
    let columns = group.list(1).unwrap_or_default().iter();
    let about = columns.filter_map(|column| column.inner(3)).find(is_named);
    let about = about.ok_or("a group of rows lacks it")?;
    let place = |number| about.size(number).map(|place| place as u64);
    let (Some(codec), Some(data), Some(bytes)) = (about.int(4), place(9), place(7)) else {
        return Err("it is not said where it lies".to_owned());
    };
    // A dictionary comes before the data.
    let start = place(11).filter(|&start| start > 0).map_or(data, |start| start.min(data));
    if start.checked_add(bytes).is_none_or(|end| end > size) {
        return Err("it lies beyond the end of the file".to_owned());
    }
    Ok(Chunk { codec, start, bytes, optional })
}

/// The files of a table called `path`: itself, or else its parts `NAME-00000-of-00002.parquet` and
/// so on, as data sets are published. None when there is neither.
///
/// # Errors
///
/// [`EvalError::BadFile`] naming a part that is missing.
pub(crate) fn parts(path: &Path) -> Result<Vec<PathBuf>, EvalError> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let (Some(folder), Some(stem)) = (path.parent(), path.file_stem()) else {
        return Ok(Vec::new());
    };
    let start = format!("{}-", stem.to_string_lossy());
    // (number, of how many)
    let part = |name: &str| -> Option<(usize, usize)> {
        let (number, count) =
            name.strip_prefix(&start)?.strip_suffix(".parquet")?.split_once("-of-")?;
        (number.len() == 5 && count.len() == 5).then_some(())?;
        Some((number.parse().ok()?, count.parse().ok()?))
    };
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let Some((_, count)) = names.filter_map(|name| part(&name)).max() else {
        return Ok(Vec::new());
    };
    let parts = (0..count).map(|number| {
        let part = folder.join(format!("{start}{number:05}-of-{count:05}.parquet"));
        if part.is_file() {
            return Ok(part);
        }
        let reason = format!("this one of {count} parts is missing");
        Err(EvalError::BadFile { path: part, reason })
    });
    parts.collect()
}

/// Whether there is a file `path`, or parts of a table of that name: `16k-00000-of-00002.parquet`
/// for `16k.parquet`. Parts that are missing come to light when they are read.
pub fn exists(path: &Path) -> bool {
    path.is_file() || !parts(path).is_ok_and(|parts| parts.is_empty())
}
