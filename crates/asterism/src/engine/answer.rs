//! An answer as text: decoded as it comes, cut at stop strings.

use super::generate::{Generated, Generation, Logprobs};
use super::tokens::Tokens;
use super::{Context, EngineError, Source};
use crate::cancel::Cancel;
use crate::text::{Detokenizer, StopStrings, Tokenizer};
use std::iter::FusedIterator;
use std::ops::ControlFlow;
use std::sync::Arc;

/// How tokens become text.
#[derive(Debug, Clone, Default)]
pub struct TextOptions {
    /// The answer ends before the first of these.
    pub stop: Vec<String>,
    /// Show special tokens such as `<|eot_id|>` as text.
    pub show_special: bool,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct AnswerText {
    /// The text, without stop string and end-of-sequence token.
    pub text: String,
    /// The tokens and what they cost.
    pub generated: Generated,
}

impl AnswerText {
    /// Where in the context the question looked, most of all first; none unless
    /// [asked for](Generation::sources).
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.generated.sources
    }
}

/// An answer under way: an iterator over the pieces of its text, each as soon as it is certain.
/// The hosts do not wait for those who read it, and answer others at the same time.
///
/// [`finish`](Self::finish) reads what is left, and says what the whole answer was. Dropping it
/// before cancels the question.
///
/// ```
/// # #[cfg(feature = "nano")]
/// # fn main() -> Result<(), asterism::engine::EngineError> {
/// use asterism::engine::{Engine, Finish};
///
/// let engine = Engine::open("nano")?;
/// let note = engine.context("The access code for the Lisbon vault is 48213.").encode()?;
/// let mut answer = note.ask("What is the access code for the Lisbon vault?")?;
/// while let Some(piece) = answer.next().transpose()? {
///     print!("{piece}");
///     if answer.text().contains("482") {
///         answer.stop(); // that is enough
///     }
/// }
/// assert_eq!(answer.finish()?.generated.finish, Finish::Stop);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "nano"))]
/// # fn main() {}
/// ```
#[must_use = "dropping an answer cancels its question"]
pub struct Answer {
    tokens: Tokens,
    pieces: Detokenizer<Arc<Tokenizer>>,
    stops: StopStrings,
    /// The text so far.
    text: String,
    /// All text has come.
    is_complete: bool,
    /// Code and message of the error that ended it, which the iterator has brought.
    failed: Option<(&'static str, String)>,
}

impl Answer {
    /// Ends the answer where it is: no more text comes, and [`finish`](Self::finish) returns what
    /// there is.
    pub fn stop(&mut self) {
        self.tokens.stop();
    }

    /// The text so far.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its tokens so far, and of each how likely it was, if that was
    /// [asked for](Generation::logprobs): the text of the last ones may still be to come.
    #[must_use]
    pub fn tokens(&self) -> (&[u32], &[Logprobs]) {
        self.tokens.so_far()
    }

    /// Where in the context the question looked, most of all first: known when the first piece of
    /// text is, and none before, or unless [asked for](Generation::sources).
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        self.tokens.sources()
    }

    /// Waits for the end; the whole answer, with what was read of it before.
    ///
    /// # Errors
    /// What the iterator would bring. If it has brought an error before,
    /// [`EngineError::AnswerFailed`], with the same code.
    pub fn finish(mut self) -> Result<AnswerText, EngineError> {
        if let Some((code, message)) = self.failed.take() {
            return Err(EngineError::AnswerFailed { code, message });
        }
        while self.next_piece()?.is_some() {}
        Ok(AnswerText { text: std::mem::take(&mut self.text), generated: self.tokens.finish()? })
    }

    /// Waits for the next piece of text; `None` at the end.
    fn next_piece(&mut self) -> Result<Option<String>, EngineError> {
        while !self.is_complete {
            let piece = match self.tokens.next()? {
                Some(token) => {
                    let step = self.stops.push(&self.pieces.push(token)?);
                    if step.stopped {
                        self.tokens.stop();
                    }
                    step.emit
                }
                None => {
                    self.is_complete = true;
                    self.held_back()?
                }
            };
            if !piece.is_empty() {
                self.text.push_str(&piece);
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// The text that waited for more to come, now that nothing comes.
    fn held_back(&mut self) -> Result<String, EngineError> {
        if self.tokens.is_stopped() {
            return Ok(String::new());
        }
        let step = self.stops.push(&self.pieces.finish()?);
        Ok(if step.stopped { step.emit } else { step.emit + &self.stops.finish() })
    }
}

impl Iterator for Answer {
    type Item = Result<String, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed.is_some() {
            return None;
        }
        let piece = self.next_piece();
        if let Err(error) = &piece {
            self.tokens.give_up();
            self.failed = Some((error.code(), error.to_string()));
        }
        piece.transpose()
    }
}

impl FusedIterator for Answer {}

impl Context {
    /// Sends the hosts the question `query`; the answer is read from what this returns.
    ///
    /// # Errors
    /// Of [`Context::generate`] those that are found before any work, or if a stop string is empty.
    pub fn ask_tokens(
        &self,
        query: &[u32],
        settings: &Generation,
        options: &TextOptions,
        cancel: &Cancel,
    ) -> Result<Answer, EngineError> {
        let stops = StopStrings::new(options.stop.clone())?;
        let tokenizer = self.engine().text().shared_tokenizer();
        Ok(Answer {
            tokens: self.begin(query, settings, cancel)?,
            pieces: Detokenizer::new(tokenizer, !options.show_special),
            stops,
            text: String::new(),
            is_complete: false,
            failed: None,
        })
    }

    /// As [`Context::generate`], with `on_text` called for every piece of text as it is certain. It
    /// may end the answer.
    ///
    /// # Errors
    /// As [`Context::generate`], or if a stop string is empty.
    pub fn answer(
        &self,
        query: &[u32],
        settings: &Generation,
        options: &TextOptions,
        on_text: &mut dyn FnMut(&str) -> ControlFlow<()>,
        cancel: &Cancel,
    ) -> Result<AnswerText, EngineError> {
        let mut answer = self.ask_tokens(query, settings, options, cancel)?;
        while let Some(piece) = answer.next_piece()? {
            // Of a complete answer it makes no difference whether more is wanted.
            if on_text(&piece).is_break() && !answer.is_complete {
                answer.stop();
            }
        }
        answer.finish()
    }
}
