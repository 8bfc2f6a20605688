//! Several documents in one context, and where in them each token stands.
//!
//! Receives documents by name; returns the tokens of a context and, per document, what leads from
//! tokens back to its text. Each document is read by itself, so that its tokens are the same
//! whatever stands beside it; a blank line, read by itself as well, precedes all but the first.

use super::{PromptFrame, Special, TextError, Tokenizer};
use crate::cancel::Cancel;
use std::ops::Range;

/// What stands between two documents.
const BETWEEN: &str = "\n\n";

/// The documents of a context, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    documents: Vec<Document>,
    /// Tokens of what stands in front of all but the first.
    between: usize,
}

/// A document of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    name: String,
    text: String,
    /// Index of its first token in the context.
    first: usize,
    /// Bytes of `text` up to the end of each token, rising: `[tokens]`. Tokens that are parts of
    /// one character end where it ends.
    ends: Vec<u32>,
}

/// A part of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<'a> {
    /// Number of the document in its context, from 0.
    pub number: usize,
    /// The document.
    pub document: &'a Document,
    /// Bytes of its text, from the beginning of a character to the end of one.
    pub bytes: Range<usize>,
}

impl Document {
    /// The name it was given under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its text, as it was given. White space at either end has no tokens.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The indices of its tokens in the context.
    #[must_use]
    pub fn tokens(&self) -> Range<usize> {
        self.first..self.first + self.ends.len()
    }

    /// The bytes of its own tokens `tokens`, which are some.
    fn bytes(&self, tokens: Range<usize>) -> Range<usize> {
        let end = self.ends[tokens.end - 1];
        // A token begins where the one before ends, or, if that is a part of the same character,
        // where the character does.
        let before = self.ends.partition_point(|other| *other < self.ends[tokens.start]);
        let start = match before.checked_sub(1) {
            Some(last) => self.ends[last] as usize,
            None => self.text.len() - self.text.trim_start().len(),
        };
        start..end as usize
    }
}

impl<'a> Place<'a> {
    /// The text there.
    #[must_use]
    pub fn text(&self) -> &'a str {
        &self.document.text[self.bytes.clone()]
    }

    /// The same place counted in characters of the document, which are looked through for it.
    #[must_use]
    pub fn chars(&self) -> Range<usize> {
        let start = self.document.text[..self.bytes.start].chars().count();
        start..start + self.text().chars().count()
    }
}

impl Documents {
    /// The documents, in order.
    #[must_use]
    pub fn all(&self) -> &[Document] {
        &self.documents
    }

    /// Where the tokens `tokens` of the context stand: one place for each document that has some of
    /// them. Tokens of the prompt, and of what stands between documents, stand in none.
    #[must_use]
    pub fn places(&self, tokens: Range<usize>) -> Vec<Place<'_>> {
        let mut places = Vec::new();
        for (number, document) in self.documents.iter().enumerate() {
            let all = document.tokens();
            let start = tokens.start.max(all.start) - all.start;
            let end = tokens.end.min(all.end).saturating_sub(all.start);
            if start < end {
                places.push(Place { number, document, bytes: document.bytes(start..end) });
            }
        }
        places
    }

    /// Where each document but the first begins, with the blank line in front of it: indices of
    /// tokens of the context. The first one shares its beginning with the prompt.
    #[must_use]
    pub fn borders(&self) -> Vec<usize> {
        self.borders_from(0)
    }

    /// As [`Documents::borders`], of documents of at least `least` tokens.
    #[must_use]
    pub fn borders_from(&self, least: usize) -> Vec<usize> {
        let others = self.documents.iter().skip(1).filter(|other| other.ends.len() >= least);
        others.map(|document| document.first - self.between).collect()
    }
}

impl PromptFrame {
    /// The tokens of a context of `documents`, each a name and a text: the head of the frame, and
    /// the documents, each read by itself. Special-looking text in them stays text; names are not
    /// part of it. `cancel` is looked at between pieces of a document.
    ///
    /// # Errors
    /// [`TextError::EmptyContext`] without documents; [`TextError::EmptyDocument`] and
    /// [`TextError::LongDocument`] name the document; otherwise as
    /// [`PromptFrame::context_tokens_until`].
    pub fn documents_until(
        &self,
        tok: &Tokenizer,
        documents: &[(&str, &str)],
        cancel: &Cancel,
    ) -> Result<(Vec<u32>, Documents), TextError> {
        if documents.is_empty() {
            return Err(TextError::EmptyContext);
        }
        let between = tok.encode(BETWEEN, Special::AsText)?;
        let mut ids = tok.encode(self.head(), Special::Parse)?;
        let mut read = Vec::with_capacity(documents.len());
        for &(name, text) in documents {
            let (name, text) = (name.to_owned(), text.to_owned());
            if text.trim().is_empty() {
                return Err(TextError::EmptyDocument { name });
            }
            if u32::try_from(text.len()).is_err() {
                return Err(TextError::LongDocument { name, bytes: text.len() });
            }
            if !read.is_empty() {
                ids.extend_from_slice(&between);
            }
            let skipped = text.len() - text.trim_start().len();
            let (own, ends) = tok.encode_placed(text.trim(), Special::AsText, cancel)?;
            let ends = ends.into_iter().map(|end| (skipped + end) as u32).collect();
            read.push(Document { name, text, first: ids.len(), ends });
            ids.extend(own);
        }
        Ok((ids, Documents { documents: read, between: between.len() }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{nano_template, nano_tokenizer, sentencepiece_tokenizer};
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static TOKENIZERS: LazyLock<[Tokenizer; 2]> =
        LazyLock::new(|| [nano_tokenizer(), sentencepiece_tokenizer(serde_json::Value::Null)]);

    fn read(tok: &Tokenizer, texts: &[&str]) -> (Vec<u32>, Documents) {
        let frame = PromptFrame::from_template(Some(&nano_template()), None, None).unwrap();
        let named: Vec<_> = texts.iter().map(|text| ("a document", *text)).collect();
        frame.documents_until(tok, &named, &Cancel::new()).unwrap()
    }

    #[test]
    fn places_lead_from_tokens_to_text() {
        let texts = [" The sea, the sea.\n", "東京 is a city. 🦀🦀", "é"];
        let (ids, documents) = read(&nano_tokenizer(), &texts);
        let places = documents.places(0..ids.len());
        let found: Vec<_> = places.iter().map(|place| (place.number, place.text())).collect();
        assert_eq!(found, [(0, texts[0].trim()), (1, texts[1]), (2, "é")]);
        assert_eq!((places[0].bytes.clone(), places[1].chars()), (1..18, 0..16));
        // Tokens of the prompt, and of the blank line in front of a document.
        let first = documents.all()[0].tokens().start;
        assert_eq!(documents.places(0..first), []);
        let [second, _] = documents.borders()[..] else { panic!("{documents:?}") };
        assert_eq!(second, documents.all()[0].tokens().end);
        assert_eq!(documents.places(second..documents.all()[1].tokens().start), []);
        assert_eq!(documents.places(3..3), []);
    }

    #[test]
    fn blank_documents_and_none_are_errors() {
        let (tok, frame) = (nano_tokenizer(), PromptFrame::from_template(None, None, None));
        let frame = frame.unwrap();
        let error = |documents: &[(&str, &str)]| {
            frame.documents_until(&tok, documents, &Cancel::new()).unwrap_err()
        };
        assert_eq!(error(&[]), TextError::EmptyContext);
        let name = "b.txt".to_owned();
        assert_eq!(error(&[("a.txt", "a"), ("b.txt", " ")]), TextError::EmptyDocument { name });
    }

    proptest! {
        #[test]
        fn tokens_of_a_document_do_not_depend_on_its_neighbours_and_slice_its_text(
            texts in prop::collection::vec(r"[ab é東🦀\u{301}<|>.\n\t the sea]{0,20}[a東🦀]", 1..4),
            at in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            for tok in &*TOKENIZERS {
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                let (ids, together) = read(tok, &texts);
                for (text, document) in texts.iter().zip(together.all()) {
                    let (alone, apart) = read(tok, &[text]);
                    let own = &ids[document.tokens()];
                    prop_assert_eq!(own, &alone[apart.all()[0].tokens()]);
                    prop_assert_eq!(own, tok.encode(text.trim(), Special::AsText).unwrap());
                    // Any two neighbouring parts cover the whole; both begin and end at characters.
                    let cut = document.first + at.0.index(own.len());
                    let first = |tokens| together.places(tokens).first().cloned();
                    let front = first(document.first..cut);
                    let back = first(cut..ids.len()).unwrap();
                    prop_assert!(text.trim().ends_with(back.text()));
                    if let Some(front) = front {
                        prop_assert!(front.bytes.end >= back.bytes.start);
                        prop_assert!(text.trim().starts_with(front.text()));
                        prop_assert_eq!(&text[front.bytes.clone()], front.text());
                        let chars = front.chars();
                        let counted = text.chars().skip(chars.start).take(chars.len());
                        prop_assert_eq!(counted.collect::<String>(), front.text());
                    }
                }
                // What a token of bytes decodes to stands at its place, if it is whole characters.
                let token = at.1.index(ids.len());
                let decoded = tok.decode(&ids[token..=token], false).unwrap();
                if let [place] = &together.places(token..token + 1)[..] {
                    let is_part = decoded.contains(char::REPLACEMENT_CHARACTER);
                    let is_byte = decoded.starts_with("<0x");
                    let words = decoded.replace('▁', " ");
                    prop_assert!(
                        is_part || is_byte || place.text().contains(words.trim()),
                        "{decoded:?} {place:?}"
                    );
                }
            }
        }
    }
}
