//! Running text to hide things in.

use std::path::Path;

use super::EvalError;

/// The text that is compiled in; see `data/README.md`.
const WALDEN: &str = include_str!("data/walden.txt");

/// A text from which samples take the words or sentences that they hide their facts among.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Haystack {
    name: String,
    /// The text, each run of white space one space.
    text: String,
    /// Where word `i` ends in `text`.
    ends: Vec<usize>,
}

impl Haystack {
    /// *Walden*: 116 thousand words in the public domain. Models know it by heart, so scores are
    /// not to be compared with those on other essays to the last point.
    pub fn embedded() -> Self {
        Self::new("walden (embedded, Project Gutenberg 205)", WALDEN)
    }

    /// The text of a UTF-8 file, or the field `text` of a JSON file, as RULER's essays come.
    ///
    /// # Errors
    ///
    /// [`EvalError::Io`] when it cannot be read, [`EvalError::BadFile`] when it is no UTF-8, holds
    /// no words or is JSON without such a field.
    pub fn from_file(path: &Path) -> Result<Self, EvalError> {
        let bad = |reason: &str| EvalError::BadFile { path: path.into(), reason: reason.into() };
        let mut text = crate::files::read_text(path)?;
        if path.extension().is_some_and(|extension| extension == "json") {
            let json: serde_json::Value =
                serde_json::from_str(&text).map_err(|error| bad(&error.to_string()))?;
            let field = json.get("text").and_then(serde_json::Value::as_str);
            text = field.ok_or_else(|| bad("there is no string named \"text\""))?.to_owned();
        }
        let haystack = Self::new(&path.display().to_string(), &text);
        if haystack.words() == 0 { Err(bad("the file holds no words")) } else { Ok(haystack) }
    }

    /// `text` under a name that results are reported with.
    pub fn new(name: &str, text: &str) -> Self {
        let mut joined = String::with_capacity(text.len());
        let mut ends = Vec::new();
        for word in text.split_whitespace() {
            if !joined.is_empty() {
                joined.push(' ');
            }
            joined.push_str(word);
            ends.push(joined.len());
        }
        Self { name: name.to_owned(), text: joined, ends }
    }

    /// Where the text comes from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text, its words joined by single spaces.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The number of words.
    pub fn words(&self) -> usize {
        self.ends.len()
    }

    /// The first `words` words, from the start again as often as it takes.
    pub(crate) fn prefix(&self, words: usize) -> String {
        let mut text = String::new();
        let mut left = words;
        while left > 0 && self.words() > 0 {
            if !text.is_empty() {
                text.push(' ');
            }
            let taken = left.min(self.words());
            text.push_str(&self.text[..self.ends[taken - 1]]);
            left -= taken;
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_begins_again_at_the_end() {
        let haystack = Haystack::new("t", " one \n two\tthree ");
        assert_eq!((haystack.words(), haystack.text()), (3, "one two three"));
        assert_eq!(haystack.prefix(2), "one two");
        assert_eq!(haystack.prefix(7), "one two three one two three one");
        assert_eq!(Haystack::new("t", "").prefix(3), "");
        assert!(Haystack::embedded().words() > 110_000);
    }
}
