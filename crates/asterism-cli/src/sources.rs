//! Where an answer comes from, for people and for programs.

use super::error::CliError;
use crate::terminal::Out;
use asterism::engine::{Context, Source};
use asterism_documents::{Document, Place};
use serde_json::{Value, json};
use std::io::Write;
use std::ops::Range;

/// Passages that are shown.
const SHOWN: usize = 3;
/// Characters that are shown of each: mostly all of its 64 tokens.
const CHARACTERS: usize = 320;

/// Where the best passage of `source` stands: in which of `documents`, which `context` was encoded
/// from, and which bytes of its text; `None` for what the prompt has in front of them.
fn place<'d>(
    documents: &'d [Document],
    context: &Context,
    source: &Source,
) -> Option<(&'d Document, Range<usize>)> {
    let places = context.places(context.plan().indices(source.best));
    // Of a passage at a border, what most of it is in.
    let place = places.into_iter().max_by_key(|place| place.bytes.len())?;
    Some((documents.get(place.number)?, place.bytes))
}

/// Prints the first sources of an answer.
pub(crate) fn print(
    out: &mut Out,
    documents: &[Document],
    context: &Context,
    sources: &[Source],
) -> Result<(), CliError> {
    writeln!(out, "\nSources:")?;
    for (number, source) in (1..).zip(sources.iter().take(SHOWN)) {
        let place = match place(documents, context, source) {
            Some((document, bytes)) => document.cite(bytes),
            None => "the prompt".to_owned(),
        };
        let passage = shortened(&context.passage(source.best)?);
        let (share, best) = (100.0 * source.share, 100.0 * source.best_share);
        let (place, passage) = (out.shown(&place), out.shown(&passage));
        writeln!(out, "{number}. {place} ({best:+.1}%, block {share:+.1}%): {passage}")?;
    }
    Ok(())
}

/// All sources of an answer, with their places in `documents`.
pub(crate) fn json_in(
    documents: &[Document],
    context: &Context,
    sources: &[Source],
) -> Result<Value, CliError> {
    let with_place = |source: &Source| {
        let mut value = as_json(context, source)?;
        if let Some((document, bytes)) = place(documents, context, source) {
            value["file"] = document.name.as_str().into();
            value["kind"] = document.kind.name().into();
            value["place"] = document.cite(bytes.clone()).into();
            let chars = |bytes: usize| document.text[..bytes].chars().count();
            value["characters"] = json!([chars(bytes.start), chars(bytes.end)]);
            let places = document.places(bytes);
            if let Some(Place::Lines { first, last }) = places.first() {
                (value["line"], value["last_line"]) = ((*first).into(), (*last).into());
            }
            value["places"] = json!(places);
        }
        Ok(value)
    };
    sources.iter().map(with_place).collect::<Result<_, CliError>>().map(Value::Array)
}

/// All sources of an answer about `context`, without documents.
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
