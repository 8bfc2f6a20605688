//! An answer as text: decoded as it comes, cut at stop strings.

use super::generate::{Finish, Generated, Generation};
use super::{Context, EngineError};
use crate::cancel::Cancel;
use crate::text::{Detokenizer, StopStrings, TextError};
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

impl Context {
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
        let engine = Arc::clone(self.engine());
        let mut pieces = Detokenizer::new(engine.tokenizer(), !options.show_special);
        let mut stops = StopStrings::new(options.stop.clone())?;
        let mut text = String::new();
        let mut failure: Option<TextError> = None;
        let mut emit = |piece: &str| {
            if piece.is_empty() {
                return ControlFlow::Continue(());
            }
            text.push_str(piece);
            on_text(piece)
        };
        let mut on_token = |token| {
            match pieces.push(token) {
                Err(error) => failure = Some(error),
                Ok(piece) => {
                    let step = stops.push(&piece);
                    let wanted = emit(&step.emit);
                    if !step.stopped {
                        return wanted;
                    }
                }
            }
            ControlFlow::Break(())
        };
        let generated = self.generate(query, settings, &mut on_token, cancel)?;
        if let Some(error) = failure {
            return Err(error.into());
        }
        if generated.finish != Finish::Stop {
            let step = stops.push(&pieces.finish()?);
            // The answer is complete: whether more is wanted makes no difference.
            if emit(&step.emit).is_continue() && !step.stopped {
                let _ = emit(&stops.finish());
            }
        }
        Ok(AnswerText { text, generated })
    }
}
