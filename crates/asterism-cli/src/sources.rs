//! Where an answer comes from, for people and for programs.

use super::error::CliError;
use super::inputs::Joined;
use super::report::count;
use crate::terminal::Out;
use asterism::engine::{Context, Source};
use asterism::text::Documents;
use serde_json::{Value, json};
use std::io::Write;

/// Passages that are shown.
const SHOWN: usize = 3;
/// Characters that are shown of each.
const CHARACTERS: usize = 200;

/// What leads from the tokens of a context back to the files it was read from.
pub(crate) struct Files {
    /// All files as one document, as its tokens were read.
    pub(crate) documents: Documents,
    pub(crate) joined: Joined,
}

impl Files {
    /// The file that `source` of `context` stands in, and the line where its best passage begins,
    /// counted from 1; `None` for what the prompt has in front of the files.
    fn place(&self, context: &Context, source: &Source) -> Option<(&str, usize)> {
        let places = self.documents.places(context.plan().indices(source.best));
        let place = places.first()?;
        // White space at the passage's beginning is not where it is looked for.
        let skipped = place.text().len() - place.text().trim_start().len();
        self.joined.line(place.bytes.start + skipped)
    }

    /// Prints the first sources of an answer.
    pub(crate) fn print(
        &self,
        out: &mut Out,
        context: &Context,
        sources: &[Source],
    ) -> Result<(), CliError> {
        writeln!(out, "\nSources:")?;
        for (number, source) in (1..).zip(sources.iter().take(SHOWN)) {
            let place = match self.place(context, source) {
                Some((file, line)) => format!("{}, line {}", out.shown(file), count(line)),
                None => "the prompt".to_owned(),
            };
            let passage = shortened(&context.passage(source.best)?);
            let (share, best) = (100.0 * source.share, 100.0 * source.best_share);
            let passage = out.shown(&passage);
            writeln!(out, "{number}. {place} ({best:+.1}%, block {share:+.1}%): {passage}")?;
        }
        Ok(())
    }

    /// All sources of an answer.
    pub(crate) fn json(&self, context: &Context, sources: &[Source]) -> Result<Value, CliError> {
        let with_place = |source: &Source| {
            let mut value = as_json(context, source)?;
            if let Some((file, line)) = self.place(context, source) {
                (value["file"], value["line"]) = (file.into(), line.into());
            }
            Ok(value)
        };
        sources.iter().map(with_place).collect::<Result<_, CliError>>().map(Value::Array)
    }
}

/// All sources of an answer about `context`, without files.
pub(crate) fn json(context: &Context, sources: &[Source]) -> Result<Value, CliError> {
    sources
        .iter()
        .map(|source| as_json(context, source))
        .collect::<Result<_, _>>()
        .map(Value::Array)
}

fn as_json(context: &Context, source: &Source) -> Result<Value, CliError> {
    Ok(json!({
        "block": [source.span.start, source.span.end()],
        "share": source.share,
        "best": [source.best.start, source.best.end()],
        "best_share": source.best_share,
        "passage": context.passage(source.best)?,
    }))
}

/// The middle of `passage` on one line, with what is cut off or half a character marked.
fn shortened(passage: &str) -> String {
    let half = char::REPLACEMENT_CHARACTER;
    let words: Vec<&str> = passage.trim_matches(half).split_whitespace().collect();
    let line: Vec<char> = words.join(" ").chars().collect();
    let cut = line.len().saturating_sub(CHARACTERS).div_ceil(2);
    let middle: String = line[cut..line.len() - cut].iter().collect();
    format!("… {} …", middle.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_are_cut_to_a_line_at_both_ends() {
        assert_eq!(shortened("\u{fffd} a\n b\t"), "… a b …");
        let long = format!("{}middle{}", "é".repeat(300), "ü".repeat(300));
        let short = shortened(&long);
        assert!(short.chars().count() <= CHARACTERS + 4 && short.contains("middle"), "{short}");
    }
}
