//! Common words: a numbered list in which ten words stand more often than the others.

use crate::random::PythonRandom;
use crate::words::{self, WordPairs};
use crate::{ChatFrame, EvalError};

use super::Variant;
use super::fit::{Draft, Draws, Family};
use super::texts::{CWE, fill};

/// Words asked for.
const COMMON: usize = 10;

/// The generator.
pub(super) struct CommonWords<'a> {
    pub(super) variant: Variant,
    pub(super) frame: &'a ChatFrame,
    pub(super) seed: u64,
    pub(super) length: usize,
    /// Whether samples are to be drawn as upstream draws them.
    pub(super) exact: bool,
    pub(super) reserved: usize,
    pub(super) pool: Vec<&'static str>,
    /// The source of further words, once the pool is used up.
    pub(super) pairs: &'a WordPairs,
}

impl CommonWords<'_> {
    pub(super) fn pool(seed: u64) -> Vec<&'static str> {
        words::pool(seed)
    }

    /// How often a common and another word stand in the list.
    fn repeats(&self) -> (usize, usize) {
        match self.variant {
            _ if self.length < 4096 => (6, 1),
            Variant::StarHead => (300, 30),
            _ => (30, 3),
        }
    }

    /// A list of `words` different words, and the common ones.
    fn list(
        &self,
        random: &mut PythonRandom,
        words: usize,
        repeats: (usize, usize),
    ) -> (String, Vec<String>) {
        // Pairs of words beyond the pool: their hyphen keeps them apart from its words.
        let beyond = self.variant == Variant::Clean && words > self.pool.len();
        let drawn: Vec<String> = if beyond {
            random.sample(self.pairs.len(), words).into_iter().map(|i| self.pairs.get(i)).collect()
        } else {
            let indices = random.sample(self.pool.len(), words);
            indices.into_iter().map(|i| self.pool[i].to_owned()).collect()
        };
        let (common, others) = drawn.split_at(COMMON.min(drawn.len()));
        let mut list: Vec<&str> = Vec::new();
        for (words, times) in [(common, repeats.0), (others, repeats.1)] {
            for _ in 0..times {
                list.extend(words.iter().map(String::as_str));
            }
        }
        PythonRandom::new(self.seed).shuffle(&mut list);
        (numbered(&list), common.to_vec())
    }
}

/// `1. word 2. word ...`
fn numbered<T: AsRef<str>>(words: &[T]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for (index, word) in words.iter().enumerate() {
        let space = if index == 0 { "" } else { " " };
        // Writing to a string does not fail.
        let _ = write!(text, "{space}{}. {}", index + 1, word.as_ref());
    }
    text
}

impl Family for CommonWords<'_> {
    fn step(&self) -> usize {
        10
    }

    fn most(&self) -> Option<usize> {
        (self.variant != Variant::Clean).then_some(self.pool.len())
    }

    fn reserved(&self) -> usize {
        self.reserved
    }

    fn probe(&self) -> Option<usize> {
        self.exact.then_some(4096)
    }

    fn guess(&self, length: usize, tokens_per_unit: f64) -> usize {
        (length as f64 / tokens_per_unit) as usize * 2
    }

    fn draw(&self, draws: &mut Draws, _: usize, units: usize) -> Result<Draft, EvalError> {
        let random = &mut draws.python;
        let (words, repeats) = if self.length < 4096 { (20, (3, 1)) } else { (40, (10, 3)) };
        let (example, example_answer) = self.list(random, words, repeats);
        let (list, outputs) = self.list(random, units, self.repeats());

        // The reference's example is a second chat, head and tail included, without an end of the
        // answer; `clean` keeps it within the user's turn.
        let (context, query) = (CWE.framed_context(self.frame), CWE.framed_query(self.frame));
        let (example_context, example_query) = match self.variant {
            Variant::Clean => (context.clone(), format!("{}{}", CWE.query, CWE.prefix)),
            _ => (context.clone(), query.clone()),
        };
        let main = if self.variant == Variant::Clean { CWE.context } else { &context };
        let space = if self.variant.is_star() { "" } else { " " };
        let context = format!(
            "{}{example_query}{space}{}\n{}",
            fill(&example_context, &[("context", &example)]),
            numbered(&example_answer),
            fill(main, &[("context", &list)])
        );
        Ok(Draft { context, query, outputs, ..Draft::default() })
    }

    fn counted_in_search(&self, draft: &Draft) -> String {
        let answer = if self.variant.is_star() {
            format!(" {}", numbered(&draft.outputs))
        } else {
            String::new()
        };
        format!("{}{}{answer}", draft.context, draft.query)
    }
}
