//! How long documents and questions may be, and questions from standard input.

use super::error::CliError;
use super::report::count;
use anyhow::{Context, anyhow};
use asterism::engine::ModelText;
use asterism::files::without_mark;
use asterism::text::Tokenizer;
use std::io::{BufRead, Read};

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

/// Bytes of a line of standard input, far more than any question has.
const MOST_QUESTION: u64 = 1 << 24;

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
