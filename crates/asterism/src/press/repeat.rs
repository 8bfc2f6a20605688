//! The repetition by which KVzip (arXiv 2505.23416) scores keys: a text that asks for a block to be
//! repeated, and the block itself, chunk by chunk. What its tokens look at is what the model needs
//! to say it again.

use crate::plan::Span;
use crate::text::{PromptFrame, Special, TextError, Tokenizer};
use serde::{Deserialize, Serialize};

/// Tokens that are repeated at a time.
pub const CHUNK: usize = 2048;

/// Tokens before a chunk that say where it begins.
const LEAD: usize = 8;

/// What asks for a text to be repeated, in tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RepeatPrompt {
    /// The whole of it.
    whole: Vec<u32>,
    /// From some words on, which follow.
    part: Vec<u32>,
    /// What a question ends with: the beginning of an answer.
    end: Vec<u32>,
}

/// A chunk of a block, to be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repetition {
    /// Its positions.
    pub chunk: Span,
    /// What asks for it, and then the chunk.
    pub tokens: Vec<u32>,
}

impl Repetition {
    /// How many of its tokens ask for it.
    #[must_use]
    pub fn asking(&self) -> usize {
        self.tokens.len() - self.chunk.len
    }
}

impl RepeatPrompt {
    /// The words of KVzip for a model whose questions stand in `frame`.
    ///
    /// # Errors
    /// If they have no tokens.
    pub fn new(frame: &PromptFrame, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        let words = |text| tokenizer.encode(text, Special::AsText);
        let end = match frame.tail() {
            "" => words("\n")?,
            tail => tokenizer.encode(tail, Special::Parse)?,
        };
        Ok(Self {
            whole: words("\n\nRepeat the previous context exactly.")?,
            part: words("\n\nRepeat the part of the previous context exactly, starting with")?,
            end,
        })
    }

    /// How the tokens `block` at the positions `span` are repeated. A block that is not the first
    /// does not begin what it stands behind: its own first words say where it begins.
    #[must_use]
    pub fn repetitions(&self, block: &[u32], span: Span) -> Vec<Repetition> {
        let of = |chunk: Span| {
            let from = chunk.start - span.start;
            let lead = match from {
                0 => &block[..LEAD.min(block.len())],
                _ => &block[from - LEAD..from],
            };
            let asks = if chunk.start == 0 { [&self.whole[..], &[]] } else { [&self.part, lead] };
            let own = &block[from..from + chunk.len];
            let tokens = [asks[0], asks[1], &self.end, own].concat();
            Repetition { chunk, tokens }
        };
        span.chunks(CHUNK).map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_is_asked_for_by_what_stands_before_it() {
        let prompt = RepeatPrompt { whole: vec![1], part: vec![2, 3], end: vec![4] };
        let block: Vec<u32> = (100..100 + CHUNK as u32 + 5).collect();
        let first = prompt.repetitions(&block, Span { start: 0, len: block.len() });
        assert_eq!(first.len(), 2);
        assert_eq!((first[0].asking(), &first[0].tokens[..3]), (2, &[1, 4, 100][..]));
        let lead: Vec<u32> = block[CHUNK - LEAD..CHUNK].to_vec();
        let expected = [&[2, 3][..], &lead, &[4], &block[CHUNK..]].concat();
        assert_eq!(first[1].tokens, expected);
        assert_eq!(first[1].chunk, Span { start: CHUNK, len: 5 });
        let later = prompt.repetitions(&block[..10], Span { start: 7, len: 10 });
        let expected = [&[2, 3][..], &block[..LEAD], &[4], &block[..10]].concat();
        assert_eq!(later, [Repetition { chunk: Span { start: 7, len: 10 }, tokens: expected }]);
    }
}
