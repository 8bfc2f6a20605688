//! Readers of what is not plain text. They are run in a process of their own ([`crate::Child`]):
//! bytes that others wrote may make a parser panic, loop or take all memory.

mod archive;
mod docx;
mod epub;
mod html;
mod markdown;
mod pdf;
mod xml;

use crate::encoding::{NoText, Wanted, decode, note_of};
use crate::{Encoding, Kind};
use serde::{Deserialize, Serialize};

/// What reading one file may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory of the process that reads it.
    pub memory: u64,
    /// Seconds, by the clock and of a processor.
    pub seconds: u32,
    /// Bytes that its parts may have unpacked, all together; its text as well.
    pub unpacked: u64,
}

impl Default for Limits {
    /// 1 GiB of memory, 60 seconds, 256 MiB unpacked.
    fn default() -> Self {
        Self { memory: 1 << 30, seconds: 60, unpacked: 256 << 20 }
    }
}

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Its text, pages and chapters ended by form feeds.
    pub text: String,
    /// The encoding of its bytes, if they are a text.
    pub encoding: Option<Encoding>,
    /// What its reader should know.
    pub notes: Vec<String>,
}

/// Why a file of a foreign format could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ParseError {
    /// It breaks the rules of its format: how.
    Damaged(String),
    /// It needs a password.
    Encrypted,
    /// It has no text: what it has instead.
    NoText(String),
    /// It unpacks to more than it may.
    TooMuch,
    /// It is not in the encoding that was asked for: its name, and how many places are wrong.
    Encoding(String, usize),
    /// This byte of it is of no text.
    Binary(usize),
    /// The parser gave up: what it says.
    Panicked(String),
}

impl From<NoText> for ParseError {
    fn from(no: NoText) -> Self {
        match no {
            NoText::Binary(at) => Self::Binary(at),
            NoText::Other { encoding, bad } => Self::Encoding(encoding.to_owned(), bad),
        }
    }
}

/// Reads the bytes of a file of kind `kind`, in this process, without limits of time and memory.
///
/// # Errors
/// What is wrong with the file. Parsers of others may panic.
pub fn parse(
    kind: Kind,
    bytes: &[u8],
    wanted: Option<Wanted>,
    limits: &Limits,
) -> Result<Parsed, ParseError> {
    let mut parsed = match kind {
        Kind::Text => {
            let (text, encoding) = decode(bytes, wanted)?;
            let notes = note_of(&encoding).into_iter().collect();
            Parsed { text, encoding: Some(encoding), notes }
        }
        Kind::Html => html::read(bytes, wanted)?,
        Kind::Epub => epub::read(bytes, limits.unpacked)?,
        Kind::Docx => docx::read(bytes, limits.unpacked)?,
        Kind::Pdf => pdf::read(bytes, limits.unpacked)?,
    };
    if parsed.text.len() as u64 > limits.unpacked {
        return Err(ParseError::TooMuch);
    }
    // A text may be empty: nothing was lost of it.
    if kind != Kind::Text && parsed.text.trim().is_empty() {
        return Err(ParseError::NoText("nothing is left of it without its markup".to_owned()));
    }
    if kind != Kind::Text {
        parsed.text = tidy(&parsed.text);
    }
    Ok(parsed)
}

/// `text` without blanks at the ends of lines, without more than one blank line in a row, and
/// without control characters but the ends of lines and pages, and tabs.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut blank = 0;
    for line in text.split_inclusive(['\n', crate::place::BREAK]) {
        let ends_page = line.ends_with(crate::place::BREAK);
        let kept = |c: &char| !c.is_control() || *c == '\t';
        let start = out.len();
        out.extend(line.chars().filter(kept));
        out.truncate(start + out[start..].trim_end().len());
        blank = if out.len() == start { blank + 1 } else { 0 };
        match (ends_page, blank) {
            (true, _) => {
                out.push(crate::place::BREAK);
                blank = 1;
            }
            (false, 0 | 1) => out.push('\n'),
            (false, _) => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blanks_and_control_characters_go() {
        assert_eq!(tidy("a \r\n\n\n\nb\u{0}\tc\u{c}\n\nd"), "a\n\nb\tc\u{c}d\n");
    }

    proptest! {
        #[test]
        fn words_and_pages_stay(text in r"[ab \n\x0c\t\x00é]{0,80}") {
            let tidied = tidy(&text);
            let words = |text: &str| -> Vec<String> {
                text.replace('\0', "").split_whitespace().map(str::to_owned).collect()
            };
            prop_assert_eq!(words(&tidied), words(&text));
            prop_assert_eq!(tidied.matches('\u{c}').count(), text.matches('\u{c}').count());
            prop_assert!(!tidied.contains("\n\n\n"));
        }

        #[test]
        fn no_bytes_make_a_reader_of_ours_panic(
            bytes in any::<Vec<u8>>(),
            kind in prop::sample::select(vec![Kind::Html, Kind::Epub, Kind::Docx]),
        ) {
            let _ = parse(kind, &bytes, None, &Limits::default());
        }
    }
}
