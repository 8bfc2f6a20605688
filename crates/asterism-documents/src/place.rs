//! Where in a document a piece of its text stands: a page, a chapter, a section, lines.
//!
//! Places are found again from the text alone, so that they stay right when a text is edited. A
//! page of a PDF and a chapter of a book end with a form feed, as in the output of `pdftotext`;
//! sections and titles are headings of Markdown.

use crate::Kind;
use serde::Serialize;
use std::fmt;
use std::ops::Range;

/// What stands between two pages, or two chapters, of a text.
pub(crate) const BREAK: char = '\u{c}';

/// A part of a document's text that has a place of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Piece {
    /// Bytes of the text.
    pub bytes: Range<usize>,
    /// The same in characters.
    pub chars: Range<usize>,
    /// Where it stands in the file.
    pub place: Place,
}

/// A place in a file, as a person looks it up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Place {
    /// A page of a PDF, from 1, whatever is printed on it.
    Page(usize),
    /// A chapter of a book.
    Chapter {
        /// In the order of reading, from 1.
        number: usize,
        /// Its first heading; empty if it has none.
        title: String,
    },
    /// What stands below a heading, by that heading; empty for what stands before the first.
    Section(String),
    /// Lines of the file, from 1.
    Lines {
        /// The first.
        first: usize,
        /// The last, at least as large.
        last: usize,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Page(number) => write!(f, "page {number}"),
            Self::Chapter { number, title } if title.is_empty() => write!(f, "chapter {number}"),
            Self::Chapter { number, title } => write!(f, "chapter {number}, \"{title}\""),
            Self::Section(title) if title.is_empty() => f.write_str("its beginning"),
            Self::Section(title) => write!(f, "\"{title}\""),
            Self::Lines { first, last } if first == last => write!(f, "line {first}"),
            Self::Lines { first, last } => write!(f, "lines {first}-{last}"),
        }
    }
}

/// The pieces of a document of kind `kind` with the text `text`, which begins, behind a header of
/// `body` bytes, with what the file says. They cover all of that.
#[must_use]
pub fn pieces(kind: Kind, text: &str, body: usize) -> Vec<Piece> {
    let said = &text[body..];
    let mut found = match kind {
        Kind::Pdf => parts(said).map(|(i, range)| (range, Place::Page(i + 1))).collect(),
        Kind::Epub => parts(said)
            .map(|(i, range)| {
                let title = headings(&said[range.clone()]).next().map(|(_, title)| title);
                (range, Place::Chapter { number: i + 1, title: title.unwrap_or_default() })
            })
            .collect(),
        Kind::Html | Kind::Docx => sections(said),
        Kind::Text => vec![(0..said.len(), Place::Lines { first: 1, last: last_line(said) })],
    };
    found.retain(|(range, _)| !range.is_empty());
    let (mut at, mut chars) = (0, 0);
    found
        .into_iter()
        .map(|(range, place)| {
            let bytes = body + range.start..body + range.end;
            chars += text[at..bytes.start].chars().count();
            let start = chars;
            chars += text[bytes.clone()].chars().count();
            at = bytes.end;
            Piece { bytes, chars: start..chars, place }
        })
        .collect()
}

/// The places of the bytes `bytes` of a text, in order: of lines only those that have some of them.
#[must_use]
pub fn places(pieces: &[Piece], text: &str, bytes: Range<usize>) -> Vec<Place> {
    // White space at either end is not what is looked for.
    let inside = text.get(bytes.clone()).unwrap_or_default();
    let start = bytes.start + inside.len() - inside.trim_start().len();
    let end = (bytes.start + inside.trim_end().len()).max(start);
    let meets = |piece: &&Piece| piece.bytes.start < end.max(start + 1) && start < piece.bytes.end;
    pieces
        .iter()
        .filter(meets)
        .map(|piece| match &piece.place {
            Place::Lines { first, .. } => {
                let line = |at: usize| {
                    let at = at.clamp(piece.bytes.start, piece.bytes.end);
                    let before = &text.as_bytes()[piece.bytes.start..at];
                    first + before.iter().filter(|byte| **byte == b'\n').count()
                };
                Place::Lines { first: line(start), last: line(end) }
            }
            other => other.clone(),
        })
        .collect()
}

/// `name` and where in it `places` are, as a person would write it: `paper.pdf, page 12`,
/// `src/engine/mod.rs:40-71`.
#[must_use]
pub fn cite(name: &str, places: &[Place]) -> String {
    match places {
        [] => name.to_owned(),
        [Place::Section(title)] if title.is_empty() => name.to_owned(),
        [Place::Lines { first, last }] if first == last => format!("{name}:{first}"),
        [Place::Lines { first, last }] => format!("{name}:{first}-{last}"),
        [one] => format!("{name}, {one}"),
        [Place::Page(first), .., Place::Page(last)] => format!("{name}, pages {first}-{last}"),
        [first, .., last] => format!("{name}, {first} to {last}"),
    }
}

/// The parts of `text` that end with a form feed, or with the text: each its number from 0 and its
/// bytes.
fn parts(text: &str) -> impl Iterator<Item = (usize, Range<usize>)> {
    let mut at = 0;
    text.split_inclusive(BREAK).enumerate().map(move |(i, part)| {
        let range = at..at + part.len();
        at = range.end;
        (i, range)
    })
}

/// What stands below each heading, and before the first.
fn sections(text: &str) -> Vec<(Range<usize>, Place)> {
    let mut starts = vec![(0, String::new())];
    starts.extend(headings(text));
    let ends = starts.iter().skip(1).map(|(at, _)| *at).chain([text.len()]).collect::<Vec<_>>();
    let sections = starts.into_iter().zip(ends);
    sections.map(|((start, title), end)| (start..end, Place::Section(title))).collect()
}

/// The headings of a text in Markdown outside of code, each with the byte at which its line begins.
fn headings(text: &str) -> impl Iterator<Item = (usize, String)> {
    let (mut at, mut is_code) = (0, false);
    text.split_inclusive('\n').filter_map(move |line| {
        let start = at;
        at += line.len();
        if line.starts_with("```") {
            is_code = !is_code;
        }
        let level = line.bytes().take_while(|byte| *byte == b'#').count();
        let title = line.get(level..)?.strip_prefix(' ')?.trim();
        ((1..=6).contains(&level) && !is_code && !title.is_empty())
            .then(|| (start, title.to_owned()))
    })
}

/// The number of the last line of a text, from 1.
fn last_line(text: &str) -> usize {
    text.trim_end_matches('\n').matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cited(kind: Kind, text: &str, passage: &str) -> String {
        let at = text.find(passage).unwrap();
        let found = places(&pieces(kind, text, 0), text, at..at + passage.len());
        cite("a", &found)
    }

    #[test]
    fn passages_have_the_place_that_a_person_would_look_up() {
        let pages = "one\n\u{c}two\n\u{c}\u{c}four\n\u{c}";
        assert_eq!(cited(Kind::Pdf, pages, "two"), "a, page 2");
        assert_eq!(cited(Kind::Pdf, pages, "four"), "a, page 4");
        assert_eq!(cited(Kind::Pdf, pages, "one\n\u{c}two"), "a, pages 1-2");
        let book = "# The Sea\nwaves\n\u{c}no title\n";
        assert_eq!(cited(Kind::Epub, book, "waves"), "a, chapter 1, \"The Sea\"");
        assert_eq!(cited(Kind::Epub, book, "no"), "a, chapter 2");
        let report = "before\n\n## Results\nfine\n```\n# no heading\n```\n# End\nbye";
        assert_eq!(cited(Kind::Docx, report, "before"), "a");
        assert_eq!(cited(Kind::Docx, report, "no heading"), "a, \"Results\"");
        assert_eq!(cited(Kind::Html, report, "fine"), "a, \"Results\"");
        assert_eq!(cited(Kind::Html, report, "bye"), "a, \"End\"");
        let source = "fn a() {\n}\n\nfn b() {\n}\n";
        assert_eq!(cited(Kind::Text, source, "fn b"), "a:4");
        assert_eq!(cited(Kind::Text, source, "\n\nfn b() {\n}\n"), "a:4-5");
        assert_eq!(cited(Kind::Text, source, "fn a() {\n}"), "a:1-2");
    }

    #[test]
    fn headers_have_no_lines() {
        let text = "==> a.rs <==\nfn a() {\n}\n";
        let pieces = pieces(Kind::Text, text, 13);
        assert_eq!(pieces[0].place, Place::Lines { first: 1, last: 2 });
        assert_eq!(pieces[0].chars, 13..text.len());
        let lines = |bytes| cite("a.rs", &places(&pieces, text, bytes));
        assert_eq!(lines(0..20), "a.rs:1");
        assert_eq!(lines(22..23), "a.rs:2");
        assert_eq!(lines(0..5), "a.rs");
    }

    proptest! {
        #[test]
        fn pieces_cover_a_text_and_count_its_characters(
            text in r"[ab# \n`é東\x0c]{0,60}",
            kind in prop::sample::select(vec![
                Kind::Text, Kind::Html, Kind::Epub, Kind::Docx, Kind::Pdf,
            ]),
            at in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let all = pieces(kind, &text, 0);
            let mut end = 0;
            for piece in &all {
                prop_assert_eq!(piece.bytes.start, end);
                let chars = text[..piece.bytes.end].chars().count();
                prop_assert_eq!(piece.chars.end, chars);
                end = piece.bytes.end;
            }
            prop_assert_eq!(end, text.len());
            // Whatever range is asked for, its places are in order and none panics.
            let (a, b) = (at.0.index(text.len() + 1), at.1.index(text.len() + 1));
            for place in places(&all, &text, a.min(b)..a.max(b)) {
                if let Place::Lines { first, last } = place {
                    prop_assert!(1 <= first && first <= last);
                }
            }
        }
    }
}
