//! How an answer is generated, and what came of it.

use super::{Constraint, Source};
use crate::plan::Revisit;
use crate::tensor::Sampling;
use std::sync::Arc;
use std::time::Duration;

/// How an answer is generated.
#[derive(Debug, Clone)]
pub struct Generation {
    /// Tokens the answer has at most.
    pub max_tokens: usize,
    /// How each token is chosen.
    pub sampling: Sampling,
    /// Go on after an end-of-sequence token, to exactly `max_tokens`.
    pub ignore_eos: bool,
    /// How many tokens of a context that was encoded by star are computed anew for the question; as
    /// the context's [`Star::revisit`](crate::plan::Star) says if `None`. Of the keys of other
    /// methods, and of the first block, none can be better.
    pub revisit: Option<Revisit>,
    /// Say where in the context the question looked: [`Generated::sources`]. The question runs once
    /// more for it, unless it revisits the context anyway; the first one of a context also runs a
    /// question that asks nothing. The answer stays the same, to the last bit.
    pub sources: bool,
    /// Report this many of the largest logits of the answer's first position.
    pub top_logits: usize,
    /// Report of every token how likely it was, and so many of the likeliest tokens at its place:
    /// [`Generated::logprobs`].
    pub logprobs: Option<usize>,
    /// What the answer has to follow.
    pub constraint: Option<Arc<dyn Constraint>>,
}

impl Default for Generation {
    fn default() -> Self {
        Self {
            max_tokens: 128,
            sampling: Sampling::default(),
            ignore_eos: false,
            revisit: None,
            sources: false,
            top_logits: 0,
            logprobs: None,
            constraint: None,
        }
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    Eos,
    /// A stop string appeared.
    Stop,
    /// It reached the most tokens allowed.
    Length,
}

impl Finish {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eos => "eos",
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// How likely a token was: logarithms of probabilities by the model's own distribution, before
/// temperature, penalties and constraints.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// Of the token that was chosen.
    pub chosen: f32,
    /// Of the likeliest tokens, likeliest first.
    pub top: Vec<(u32, f32)>,
}

/// What was computed anew of a context for one question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Revisited {
    /// Tokens.
    pub tokens: usize,
    /// Time to choose and to compute them; a part of [`Generated::query_time`].
    pub time: Duration,
}

/// An answer, as tokens.
#[derive(Debug, Clone)]
pub struct Generated {
    /// The tokens, the end-of-sequence token included if there was one.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the question.
    pub query_tokens: usize,
    /// Time to encode the question and choose the first token.
    pub query_time: Duration,
    /// Time of all further tokens.
    pub decode_time: Duration,
    /// Bytes that the hosts sent each other.
    pub bytes_sent: u64,
    /// What was computed anew of the context.
    pub revisited: Revisited,
    /// Of each token, how likely it was; none unless [asked for](Generation::logprobs).
    pub logprobs: Vec<Logprobs>,
    /// The largest logits of the first position with their tokens, largest first.
    pub top_logits: Vec<(u32, f32)>,
    /// Blocks of the context, those that the question looked at most first, if they were
    /// [asked for](Generation::sources).
    pub sources: Vec<Source>,
}

impl Generated {
    /// Tokens per second after the first; zero if there was only one.
    #[must_use]
    pub fn tokens_per_second(&self) -> f64 {
        let seconds = self.decode_time.as_secs_f64();
        if seconds > 0.0 { (self.tokens.len().saturating_sub(1)) as f64 / seconds } else { 0.0 }
    }
}
