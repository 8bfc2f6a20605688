//! Questions in words.

use super::answer::{Answer, TextOptions};
use super::generate::Generation;
use super::{Context, EngineError};
use crate::cancel::Cancel;
use crate::plan::Revisit;

/// A question, and how it is to be answered. A plain string is a question with the default
/// settings: the likeliest tokens, [128 at most](Generation::default).
///
/// ```
/// # #[cfg(feature = "nano")]
/// # fn main() -> Result<(), asterism::engine::EngineError> {
/// use asterism::engine::{Ask, Engine};
///
/// let engine = Engine::open("nano")?;
/// let note = engine.context("The access code for the Lisbon vault is 48213.").encode()?;
/// let ask = Ask::new("What is the access code for the Lisbon vault?").max_tokens(24).stop("13");
/// let answer = note.ask(ask)?.finish()?;
/// assert!(answer.text.ends_with("482"), "{}", answer.text);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "nano"))]
/// # fn main() {}
/// ```
#[derive(Debug, Clone)]
pub struct Ask {
    question: String,
    generation: Generation,
    text: TextOptions,
    cancel: Cancel,
}

impl Ask {
    /// `question`, with the default settings.
    #[must_use]
    pub fn new(question: impl Into<String>) -> Self {
        Self {
            question: question.into(),
            generation: Generation::default(),
            text: TextOptions::default(),
            cancel: Cancel::new(),
        }
    }

    /// With an answer of at most `tokens` tokens.
    #[must_use]
    pub fn max_tokens(mut self, tokens: usize) -> Self {
        self.generation.max_tokens = tokens;
        self
    }

    /// With tokens chosen by chance: their logits are divided by `temperature`. 0, the default,
    /// takes the likeliest.
    #[must_use]
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.generation.sampling.temperature = temperature;
        self
    }

    /// With chance that begins at `seed`: the same seed and settings give the same answer.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.generation.sampling.seed = seed;
        self
    }

    /// With an answer that ends before `stop`, or before the first of several, one a call.
    #[must_use]
    pub fn stop(mut self, stop: impl Into<String>) -> Self {
        self.text.stop.push(stop.into());
        self
    }

    /// With so many tokens of the context computed anew for this question, instead of as many as
    /// the context's method says.
    #[must_use]
    pub fn revisit(mut self, revisit: Revisit) -> Self {
        self.generation.revisit = Some(revisit);
        self
    }

    /// With what it takes to say where in the context the question looked:
    /// [`AnswerText::sources`](super::AnswerText::sources). The answer stays the same.
    #[must_use]
    pub fn sources(mut self) -> Self {
        self.generation.sources = true;
        self
    }

    /// Answered as `generation` says, in all its settings.
    #[must_use]
    pub fn generation(mut self, generation: Generation) -> Self {
        self.generation = generation;
        self
    }

    /// Cancelled when `cancel` is raised, from any thread; the answer then brings
    /// [`EngineError::Cancelled`].
    #[must_use]
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancel = cancel.clone();
        self
    }
}

impl From<&str> for Ask {
    fn from(question: &str) -> Self {
        Self::new(question)
    }
}

impl From<&String> for Ask {
    fn from(question: &String) -> Self {
        Self::new(question)
    }
}

impl From<String> for Ask {
    fn from(question: String) -> Self {
        Self::new(question)
    }
}

impl From<&Ask> for Ask {
    fn from(ask: &Ask) -> Self {
        ask.clone()
    }
}

impl Context {
    /// Asks a question: a string, or an [`Ask`] with settings. What comes back at once is an
    /// iterator over the text of the answer.
    ///
    /// # Errors
    /// [`EngineError::NoFrame`] if the context was encoded from tokens; if the question is blank, a
    /// setting is out of range, or context, question and answer do not fit the model. What is found
    /// later comes from the answer. The context stays usable.
    pub fn ask(&self, ask: impl Into<Ask>) -> Result<Answer, EngineError> {
        let Ask { question, generation, text, cancel } = ask.into();
        let frame = self.frame().ok_or(EngineError::NoFrame)?;
        let query = frame.query_tokens(self.engine().tokenizer(), &question)?;
        self.ask_tokens(&query, &generation, &text, &cancel)
    }

    /// Asks several questions at once. They are answered together, a token of each in one step,
    /// whichever answer is read first; each is the answer that its question would get alone. More
    /// than a step has place for wait for their turn.
    ///
    /// ```
    /// # #[cfg(feature = "nano")]
    /// # fn main() -> Result<(), asterism::engine::EngineError> {
    /// use asterism::engine::Engine;
    ///
    /// let engine = Engine::open("nano")?;
    /// let text = "The code for the Lisbon vault is 48213, for the Madrid vault 90577.";
    /// let note = engine.context(text).encode()?;
    /// let cities = ["Lisbon", "Madrid"];
    /// let questions = cities.map(|city| format!("What is the code for the {city} vault?"));
    /// for (city, answer) in cities.iter().zip(note.ask_many(&questions)?) {
    ///     println!("{city}: {}", answer.finish()?.text);
    /// }
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "nano"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// As [`Context::ask`], for the first question that is refused. None is then answered.
    pub fn ask_many<A: Into<Ask>>(
        &self,
        asks: impl IntoIterator<Item = A>,
    ) -> Result<Vec<Answer>, EngineError> {
        asks.into_iter().map(|ask| self.ask(ask)).collect()
    }
}
