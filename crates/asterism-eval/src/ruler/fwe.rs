//! Frequent words: coded words whose counts follow Zipf's law, of which the three most frequent are
//! asked.

use std::collections::BTreeSet;

use crate::random::PythonRandom;
use crate::{ChatFrame, CountTokens, EvalError};

use super::Variant;
use super::fit::{Draft, Draws, Family};
use super::texts::{FWE, fill};

/// Letters of a coded word.
const LETTERS: usize = 6;
/// The sum of all k^-2: what the counts are divided by.
const ZETA_2: f64 = 1.644_934_066_848_226_4;

/// The generator.
pub(super) struct FrequentWords<'a> {
    pub(super) variant: Variant,
    pub(super) frame: &'a ChatFrame,
    pub(super) seed: u64,
    pub(super) length: usize,
    /// Whether samples are to be drawn as upstream draws them.
    pub(super) exact: bool,
    /// Tokens of the answer.
    pub(super) generated: usize,
}

impl Family for FrequentWords<'_> {
    fn first(&self) -> usize {
        (self.filled() / LETTERS).max(1)
    }

    fn step(&self) -> usize {
        let fine = !(self.variant.is_star() || self.exact);
        (self.filled() / if fine { 256 } else { 32 }).max(1)
    }

    /// The star variants fill the whole length with context, without room for question and answer.
    fn reserved(&self) -> usize {
        if self.variant.is_star() { 0 } else { self.generated }
    }

    fn counted(&self, draft: &Draft) -> String {
        let query = if self.variant.is_star() { "" } else { &draft.query };
        format!("{}{query}", draft.context)
    }

    fn length(
        &self,
        draft: &Draft,
        budgeted: usize,
        counter: &dyn CountTokens,
    ) -> Result<usize, EvalError> {
        if !self.variant.is_star() {
            return Ok(budgeted);
        }
        Ok(counter.count(&format!("{}{}", draft.context, draft.query))? + self.generated)
    }

    fn redraws(&self) -> bool {
        false
    }

    fn strict(&self) -> bool {
        true
    }

    fn draw(&self, draws: &mut Draws, _: usize, units: usize) -> Result<Draft, EvalError> {
        let vocabulary = self.vocabulary(&mut draws.python);
        let mut text: Vec<&str> = Vec::with_capacity(units);
        for (rank, word) in (1..).zip(&vocabulary) {
            let count = units as f64 * f64::from(rank).powf(-2.0) / ZETA_2;
            text.extend(std::iter::repeat_n(word.as_str(), count as usize));
        }
        PythonRandom::new(self.seed).shuffle(&mut text);
        let context = fill(&FWE.framed_context(self.frame), &[("context", &text.join(" "))]);
        let outputs = vocabulary.get(1..4).unwrap_or_default().to_vec();
        Ok(Draft { context, query: FWE.framed_query(self.frame), outputs, ..Draft::default() })
    }
}

impl FrequentWords<'_> {
    /// The tokens to fill, from which the sizes tried are derived.
    fn filled(&self) -> usize {
        self.length.saturating_sub(if self.exact { self.generated } else { 0 })
    }

    /// One coded word for 50 tokens; the most frequent one is noise.
    fn vocabulary(&self, random: &mut PythonRandom) -> Vec<String> {
        // Below 200 tokens there would be no three words to ask for.
        let size = (self.length / 50).max(4);
        let mut words = BTreeSet::new();
        while words.len() < size {
            words.insert(random.letters(b"abcdefghijklmnopqrstuvwxyz", LETTERS));
        }
        let mut words: Vec<String> = words.into_iter().collect();
        PythonRandom::new(self.seed).shuffle(&mut words);
        words[0] = "...".to_owned();
        words
    }
}
