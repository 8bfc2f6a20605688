//! The tokens of one answer as they come from the hosts.

use super::EngineError;
use super::generate::{Finish, Generated, Logprobs};
use super::request::{AnswerEvent, Ended};
use super::sources::Source;
use crate::cancel::Cancel;
use std::sync::mpsc::Receiver;

/// An answer under way. Dropping it cancels what is left of it.
pub(super) struct Tokens {
    heard: Receiver<AnswerEvent>,
    /// Raised to end the answer where it is.
    enough: Cancel,
    /// Raised to give it up.
    cancel: Cancel,
    /// Tokens that end a sequence, unless the answer goes on behind them.
    eos: Vec<u32>,
    query_tokens: usize,
    /// All tokens so far.
    tokens: Vec<u32>,
    /// One of each token, if they were asked for.
    logprobs: Vec<Logprobs>,
    top_logits: Vec<(u32, f32)>,
    sources: Vec<Source>,
    ended: Option<Ended>,
}

impl Tokens {
    /// The answer that is `heard`; the hosts look at `enough` and `cancel`.
    pub(super) fn new(
        heard: Receiver<AnswerEvent>,
        enough: Cancel,
        cancel: Cancel,
        eos: &[u32],
        query_tokens: usize,
    ) -> Self {
        Self {
            heard,
            enough,
            cancel,
            eos: eos.to_vec(),
            query_tokens,
            tokens: Vec::new(),
            logprobs: Vec::new(),
            top_logits: Vec::new(),
            sources: Vec::new(),
            ended: None,
        }
    }

    /// Waits for the next token of the text; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<u32>, EngineError> {
        while self.ended.is_none() {
            match self.heard.recv().map_err(|_| EngineError::Stopped)? {
                AnswerEvent::Question { top_logits, sources } => {
                    (self.top_logits, self.sources) = (top_logits, sources);
                }
                AnswerEvent::Token(..) if self.is_stopped() => {}
                AnswerEvent::Token(token, logprobs) => {
                    self.tokens.push(token);
                    self.logprobs.extend(logprobs);
                    if !self.eos.contains(&token) {
                        return Ok(Some(token));
                    }
                }
                AnswerEvent::Done(result) => self.ended = Some(result?),
            }
        }
        Ok(None)
    }

    /// The tokens so far, and of each how likely it was, if that was asked for.
    pub(super) fn so_far(&self) -> (&[u32], &[Logprobs]) {
        (&self.tokens, &self.logprobs)
    }

    /// Where the question looked, once it has run.
    pub(super) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Ends the answer where it is: tokens that come later do not count.
    pub(super) fn stop(&self) {
        self.enough.raise();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.enough.is_raised()
    }

    /// Gives the answer up, and with it what it cost.
    pub(super) fn give_up(&self) {
        self.cancel.raise();
    }

    /// Waits for the end, and takes the tokens out.
    pub(super) fn finish(&mut self) -> Result<Generated, EngineError> {
        let ended = loop {
            match self.ended {
                Some(ended) => break ended,
                None => drop(self.next()?),
            }
        };
        let finish = match ended.eos {
            _ if self.is_stopped() => Finish::Stop,
            true => Finish::Eos,
            false => Finish::Length,
        };
        Ok(Generated {
            tokens: std::mem::take(&mut self.tokens),
            finish,
            query_tokens: self.query_tokens,
            query_time: ended.query_time,
            decode_time: ended.decode_time,
            bytes_sent: ended.bytes_sent,
            revisited: ended.revisited,
            logprobs: std::mem::take(&mut self.logprobs),
            top_logits: std::mem::take(&mut self.top_logits),
            sources: std::mem::take(&mut self.sources),
        })
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.give_up();
    }
}
