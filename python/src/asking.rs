//! Questions as Python gives them.

use crate::error::raised;
use asterism::cancel::Cancel;
use asterism::engine::{self, EngineError, Generation, TextOptions};
use asterism::plan::words;
use asterism::tensor::Sampling;
use asterism_documents::Document;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::Arc;

/// What a question is about.
pub(crate) struct Asked {
    pub(crate) context: engine::Context,
    /// What the context was encoded from.
    pub(crate) documents: Arc<[Document]>,
}

/// A question: words, or tokens.
#[derive(FromPyObject, Clone)]
pub(crate) enum Question {
    /// Asked within the model's prompt.
    #[pyo3(transparent)]
    Words(String),
    /// Asked as they are.
    #[pyo3(transparent)]
    Tokens(Vec<u32>),
}

/// What was said of how it is answered.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) generation: Generation,
    pub(crate) text: TextOptions,
}

impl Settings {
    /// Checks what only Python can get wrong; the engine checks the rest.
    #[allow(clippy::too_many_arguments)] // Those of the method that Python calls.
    pub(crate) fn new(
        vocab: usize,
        max_tokens: usize,
        sampling: Sampling,
        stop: Vec<String>,
        revisit: Option<Bound<'_, PyAny>>,
        sources: bool,
        logits: bool,
    ) -> PyResult<Self> {
        let wrong = |error: String| PyValueError::new_err(format!("revisit: {error}"));
        let revisit = revisit.map(|given| given.str()).transpose()?;
        let revisit = match &revisit {
            Some(text) => Some(words::revisit(text.to_cow()?.as_ref()).map_err(wrong)?),
            None => None,
        };
        let top_logits = if logits { vocab } else { 0 };
        let ignore_eos = false;
        let generation = Generation {
            max_tokens,
            sampling,
            ignore_eos,
            revisit,
            sources,
            top_logits,
            ..Generation::default()
        };
        Ok(Self { generation, text: TextOptions { stop, show_special: false } })
    }
}

/// Sends `question` to the hosts of `context`.
pub(crate) fn begin(
    py: Python<'_>,
    context: &engine::Context,
    question: &Question,
    settings: &Settings,
    cancel: &Cancel,
) -> PyResult<engine::Answer> {
    let Settings { generation, text } = settings;
    let begun = py.detach(|| {
        let words;
        let tokens = match question {
            Question::Tokens(tokens) => tokens,
            Question::Words(question) => {
                let frame = context.frame().ok_or(EngineError::NoFrame)?;
                words = frame.query_tokens(context.engine().tokenizer(), question)?;
                &words
            }
        };
        context.ask_tokens(tokens, generation, text, cancel)
    });
    begun.map_err(|error| raised(py, &error))
}
