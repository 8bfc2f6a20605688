//! Running text to hide things in, and where its sentences end.

use std::ops::Range;
use std::path::Path;

use super::EvalError;

/// The text that is compiled in; see `data/README.md`.
const WALDEN: &str = include_str!("data/walden.txt");

/// A text of which samples take as many words or sentences as they need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Haystack {
    name: String,
    /// The text, each run of white space one space.
    text: String,
    /// Where word `i` ends in `text`.
    ends: Vec<usize>,
}

impl Haystack {
    /// *Walden*: 116 thousand words in the public domain. Models know it by heart, so scores are not
    /// to be compared with those on other essays to the last point.
    pub fn embedded() -> Self {
        Self::new("walden (embedded, Project Gutenberg 205)", WALDEN)
    }

    /// The text of a UTF-8 file, or the field `text` of a JSON file, as RULER's essays come.
    ///
    /// # Errors
    ///
    /// [`EvalError::Io`] when it cannot be read as UTF-8 text, [`EvalError::BadFile`] when it holds no
    /// words or is JSON without such a field.
    pub fn from_file(path: &Path) -> Result<Self, EvalError> {
        let bad = |reason: &str| EvalError::BadFile { path: path.into(), reason: reason.into() };
        let mut text = std::fs::read_to_string(path).map_err(EvalError::io(path))?;
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

/// Words with a full stop that ends no sentence, in lower case.
const ABBREVIATIONS: [&str; 22] = [
    "mr", "mrs", "ms", "dr", "st", "prof", "rev", "gen", "col", "capt", "hon", "jr", "sr", "vs",
    "etc", "e.g", "i.e", "no", "vol", "fig", "messrs", "mt",
];

/// The sentences of `text` as byte ranges, without the white space between them.
///
/// A stand-in for NLTK's Punkt: a sentence ends at `.`, `!` or `?` and any closing quotes, before white
/// space and something that is no lower-case letter, unless the word is an abbreviation or an initial.
/// Needle positions depend on it, and nothing else.
pub(crate) fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = None;
    let mut chars = text.char_indices().peekable();
    let mut word = 0; // where the current word begins
    while let Some((at, c)) = chars.next() {
        if c.is_whitespace() {
            word = at + c.len_utf8();
            continue;
        }
        let first = *start.get_or_insert(at);
        if !matches!(c, '.' | '!' | '?') {
            continue;
        }
        let mut end = at + 1;
        while let Some(&(next, close)) = chars.peek() {
            if !matches!(close, '.' | '!' | '?' | '"' | '\'' | ')' | ']' | '”' | '’') {
                break;
            }
            end = next + close.len_utf8();
            chars.next();
        }
        let rest = &text[end..];
        let follows = rest.trim_start();
        let apart = rest.len() > follows.len() || rest.is_empty();
        let begins = !follows.starts_with(char::is_lowercase);
        if apart && begins && !(c == '.' && abbreviates(&text[word..at])) {
            found.push(first..end);
            start = None;
        }
    }
    if let Some(first) = start {
        found.push(first..text.trim_end().len());
    }
    found
}

/// Whether a full stop after `word` belongs to it.
fn abbreviates(word: &str) -> bool {
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric());
    let mut letters = word.chars();
    let initial = letters.next().is_some_and(char::is_uppercase) && letters.next().is_none();
    (initial && word != "I") || ABBREVIATIONS.contains(&word.to_lowercase().as_str())
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

    #[test]
    fn sentences_end_where_a_reader_would_end_them() {
        let text = "Mr. Flint, of N. Hampshire, paid $3.50. \"Did he?\" asked I. No! He said e.g. this… \
                    and went home (late.) 7 men saw it";
        let found: Vec<_> = sentences(text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(
            found,
            [
                "Mr. Flint, of N. Hampshire, paid $3.50.",
                "\"Did he?\" asked I.",
                "No!",
                "He said e.g. this… and went home (late.)",
                "7 men saw it"
            ]
        );
        assert!(sentences("  \n").is_empty());
        let walden = Haystack::embedded();
        let found = sentences(walden.text());
        let joined: Vec<_> = found.iter().map(|range| &walden.text()[range.clone()]).collect();
        assert_eq!(joined.join(" "), walden.text());
        assert!((4_000..8_000).contains(&found.len()), "{}", found.len());
    }
}
