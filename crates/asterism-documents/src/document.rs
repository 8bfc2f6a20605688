//! A file as a text with places.

use crate::place::{BREAK, Piece, Place, cite, pieces, places};
use crate::{Encoding, Kind};
use serde::Serialize;
use std::ops::Range;

/// A file as a text with places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Document {
    /// The name it was given under, or its path from where it was found.
    pub name: String,
    /// What the file is.
    pub kind: Kind,
    /// What a model is to read: a header, if it has one, and what the file says.
    pub text: String,
    /// Bytes of the header; 0 without one.
    pub header: usize,
    /// Parts of the text behind the header, each with its place in the file.
    pub pieces: Vec<Piece>,
    /// Its encoding, if it is one of texts.
    pub encoding: Option<Encoding>,
    /// What a reader should know: pages without text, an encoding that was guessed.
    pub notes: Vec<String>,
}

impl Document {
    /// A document of what the file `name` says.
    #[must_use]
    pub fn new(name: String, kind: Kind, text: String) -> Self {
        let pieces = pieces(kind, &text, 0);
        Self { name, kind, text, header: 0, pieces, encoding: None, notes: Vec::new() }
    }

    /// A document of the text `text`, which was read, or changed, in the file `name`. Its places
    /// are those of the file's kind if the text has what such a text has: ends of pages, headings.
    /// Of other texts they are lines.
    #[must_use]
    pub fn of_text(name: String, text: String) -> Self {
        let kind = match Kind::of_name(&name) {
            Kind::Pdf | Kind::Epub if !text.contains(BREAK) => Kind::Text,
            kind => kind,
        };
        match Self::new(name, kind, text) {
            Self { kind: Kind::Html | Kind::Docx, pieces, name, text, .. } if pieces.len() < 2 => {
                Self::new(name, Kind::Text, text)
            }
            document => document,
        }
    }

    /// The same behind a line with its name, by which a model tells the files of a folder apart.
    #[must_use]
    pub fn with_header(self) -> Self {
        let header = format!("==> {} <==\n", self.name);
        let text = header.clone() + &self.text[self.header..];
        let pieces = pieces(self.kind, &text, header.len());
        Self { text, header: header.len(), pieces, ..self }
    }

    /// The places of bytes of its text, in order.
    #[must_use]
    pub fn places(&self, bytes: Range<usize>) -> Vec<Place> {
        places(&self.pieces, &self.text, bytes)
    }

    /// Where bytes of its text are found, as a person would write it: `paper.pdf, page 12`,
    /// `src/engine/mod.rs:40-71`.
    #[must_use]
    pub fn cite(&self, bytes: Range<usize>) -> String {
        cite(&self.name, &self.places(bytes))
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.text[self.header..].trim().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_files_have_the_places_of_their_kind_if_they_look_like_it() {
        let cite = |name: &str, text: &str| {
            let document = Document::of_text(name.into(), text.into());
            let at = text.find("it").unwrap();
            document.cite(at..at + 2)
        };
        assert_eq!(cite("a.pdf", "one\n\u{c}it\n\u{c}"), "a.pdf, page 2");
        assert_eq!(cite("a.pdf", "one\nit"), "a.pdf:2");
        assert_eq!(cite("a.docx", "# One\n\nx\n\n# Two\n\nit"), "a.docx, \"Two\"");
        assert_eq!(cite("a.html", "<p>\nit</p>"), "a.html:2");
        assert_eq!(cite("a.md", "# One\nit"), "a.md:2");
    }

    #[test]
    fn a_header_moves_the_text_and_no_place() {
        let plain = Document::new("b/a.txt".into(), Kind::Text, "one\ntwo\n".into());
        let headed = plain.clone().with_header();
        assert_eq!(headed.text, "==> b/a.txt <==\none\ntwo\n");
        let at = headed.text.find("two").unwrap();
        assert_eq!(headed.cite(at..at + 3), "b/a.txt:2");
        assert_eq!(plain.cite(4..7), "b/a.txt:2");
        assert_eq!(headed.clone().with_header(), headed);
    }
}
