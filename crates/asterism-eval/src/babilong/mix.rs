//! Facts scattered among the sentences of books.

use std::ops::Range;

use serde_json::json;

use crate::random::PythonRandom;
use crate::sentences::sentences;
use crate::{CountTokens, EvalError, Haystack};

use super::story::Asked;

/// Sentences shorter than this are left out, as are headings with them.
const LEAST: usize = 10;

/// A book's sentences and their lengths in tokens, a space before each.
#[derive(Debug)]
struct Book<'a> {
    text: &'a str,
    sentences: Vec<(Range<usize>, usize)>,
}

/// Books to take sentences from, counted once for all samples.
#[derive(Debug)]
pub(super) struct Library<'a> {
    books: Vec<Book<'a>>,
}

/// A text with facts in it.
pub(super) struct Mixed {
    pub(super) text: String,
    /// Where each fact begins, as a share of the text.
    pub(super) depths: Vec<f64>,
}

impl<'a> Library<'a> {
    pub(super) fn new(
        haystacks: &'a [Haystack],
        counter: &dyn CountTokens,
    ) -> Result<Self, EvalError> {
        let mut books = Vec::new();
        for haystack in haystacks {
            let text = haystack.text();
            let mut counted = Vec::new();
            for range in sentences(text) {
                let tokens = counter.count(&format!(" {}", &text[range.clone()]))?;
                counted.push((range, tokens));
            }
            books.push(Book { text, sentences: counted });
        }
        // Only books that can give something, so that the search for text ends.
        books.retain(|book| {
            let long = book.sentences.iter().filter(|(_, tokens)| *tokens >= LEAST).count();
            book.sentences.len() > 3 && long > book.sentences.len() / 2
        });
        Ok(Self { books })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.books.is_empty()
    }

    /// Sentences of together `budget` tokens from random places, the last one cut by words to fit.
    fn noise(
        &self,
        random: &mut PythonRandom,
        budget: usize,
        counter: &dyn CountTokens,
    ) -> Result<Vec<(String, usize)>, EvalError> {
        // Enough text for a sentence however little is wanted, and an end to the search for one.
        const WINDOW: usize = 4000;
        const FRUITLESS: usize = 1000;
        let (mut taken, mut left, mut fruitless) = (Vec::new(), budget, 0);
        while left > 0 && fruitless < FRUITLESS && !self.is_empty() {
            let book = random.choice(&self.books);
            let start = random.below(book.text.len());
            let end = start.saturating_add(budget.saturating_mul(10).max(WINDOW));
            let before = left;
            // The sentence that the place cuts is left out, and so is the last one.
            let inside = book.sentences.iter().filter(|(range, tokens)| {
                range.start > start && range.end < end.min(book.text.len()) && *tokens >= LEAST
            });
            for (range, tokens) in inside {
                let sentence = &book.text[range.clone()];
                if *tokens >= left {
                    taken.push((cut(sentence, left, counter)?, left));
                    return Ok(taken);
                }
                taken.push((sentence.to_owned(), *tokens));
                left -= tokens;
            }
            fruitless = if left < before { 0 } else { fruitless + 1 };
        }
        Ok(taken)
    }

    /// `asked`'s facts in order among sentences of `budget` tokens in all; `window` keeps them
    /// between two shares of the text.
    pub(super) fn mix(
        &self,
        asked: &Asked,
        random: &mut PythonRandom,
        budget: usize,
        window: Option<(f64, f64)>,
        counter: &dyn CountTokens,
    ) -> Result<Option<Mixed>, EvalError> {
        let mut facts = 0;
        for fact in &asked.facts {
            facts += counter.count(&format!(" {fact}"))?;
        }
        if facts > budget {
            return Ok(None);
        }
        let noise = self.noise(random, budget - facts, counter)?;
        // Gaps between sentences, one before the first and one after the last.
        let gaps: Vec<usize> = match window {
            None => (0..=noise.len()).collect(),
            Some((from, to)) => {
                let (from, to) = ((budget as f64 * from) as usize, (budget as f64 * to) as usize);
                let mut at = 0;
                let mut inside = Vec::new();
                for (gap, (_, tokens)) in noise.iter().enumerate() {
                    if at >= from && at + facts < to {
                        inside.push(gap);
                    }
                    at += tokens;
                }
                inside
            }
        };
        if gaps.is_empty() {
            return Ok(None);
        }
        let mut places: Vec<usize> = asked.facts.iter().map(|_| *random.choice(&gaps)).collect();
        places.sort_unstable();
        let mut hidden = places.iter().zip(&asked.facts).peekable();
        let (mut text, mut offsets) = (String::new(), Vec::new());
        for gap in 0..=noise.len() {
            while let Some((_, fact)) = hidden.next_if(|(place, _)| **place == gap) {
                append(&mut text, fact);
                offsets.push(text.len() - fact.len());
            }
            if let Some((sentence, _)) = noise.get(gap) {
                append(&mut text, sentence);
            }
        }
        let length = text.len().max(1) as f64;
        let depths = offsets.into_iter().map(|at| at as f64 / length).collect();
        Ok(Some(Mixed { text, depths }))
    }
}

impl Mixed {
    /// The depths of the facts the answer follows from, or of all of them where that is not known.
    pub(super) fn depths_of(&self, asked: &Asked) -> serde_json::Value {
        let supporting: Vec<f64> =
            asked.supports.iter().filter_map(|&fact| self.depths.get(fact).copied()).collect();
        json!(if supporting.is_empty() { &self.depths } else { &supporting })
    }
}

fn append(text: &mut String, sentence: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(sentence);
}

/// As many words of `sentence` as take at most `tokens` tokens.
fn cut(sentence: &str, tokens: usize, counter: &dyn CountTokens) -> Result<String, EvalError> {
    let ends: Vec<usize> = sentence
        .char_indices()
        .filter(|(_, c)| c.is_whitespace())
        .map(|(at, _)| at)
        .chain([sentence.len()])
        .collect();
    let (mut fits, mut over) = (0, ends.len() + 1);
    while over - fits > 1 {
        let middle = (fits + over) / 2;
        if counter.count(&format!(" {}", &sentence[..ends[middle - 1]]))? <= tokens {
            fits = middle;
        } else {
            over = middle;
        }
    }
    Ok(if fits == 0 { String::new() } else { sentence[..ends[fits - 1]].to_owned() })
}
