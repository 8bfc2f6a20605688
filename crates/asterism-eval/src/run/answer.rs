//! Who answers samples: an engine, or in tests something quicker.

use super::record::Timings;
use crate::{CountTokens, EvalError, Sample};
use asterism::cancel::Cancel;
use asterism::engine::{
    Context, Engine, EngineError, Generation, Phase1, Room, Sparsity, TextOptions,
};
use asterism::plan::{Cost, Plan, PlanSpec, PressBy};
use asterism::text::{Prompt, Special, Tokenizer};
use std::ops::ControlFlow;
use std::sync::Arc;

/// A decoding step reads all weights for one token; encoding uses them for many at once. So a step
/// takes about this many times as long as its operations suggest.
const DECODE_WEIGHT: u64 = 16;

/// Something that can be asked a sample's question.
pub trait Answer {
    /// The tokens of a sample. Chat markers in the text are special tokens; none are added.
    ///
    /// # Errors
    ///
    /// What the tokenizer reports.
    fn tokens(&self, sample: &Sample) -> Result<Prompt, EngineError>;

    /// Answers `prompt` with at most `most` tokens. `on_work` gets the work done since its last
    /// call, on any thread, in the unit of [`Answer::work`].
    ///
    /// # Errors
    ///
    /// [`EngineError::Cancelled`], and whatever keeps this one prompt from being answered.
    fn answer(
        &self,
        prompt: &Prompt,
        plan: PlanSpec,
        most: usize,
        on_work: &(dyn Fn(u64) + Sync),
        cancel: &Cancel,
    ) -> Result<(String, Timings), EngineError>;

    /// How much work answering a prompt of `tokens` tokens is expected to be, in any one unit;
    /// nothing for a plan that is impossible.
    fn work(&self, plan: PlanSpec, tokens: usize, most: usize) -> u64;
}

impl CountTokens for Tokenizer {
    fn count(&self, text: &str) -> Result<usize, EvalError> {
        Ok(self.encode(text, Special::Parse)?.len())
    }
}

/// How context and query become tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tokenise {
    /// Each for itself, as the paper's code does for star and ring.
    #[default]
    Apart,
    /// As one text, as the paper's code does for dense: cut before the token that holds the
    /// boundary, which is the query's.
    Joint,
}

impl Tokenise {
    /// In words, as results record it.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Apart => "context and query separately",
            Self::Joint => "context and query as one text",
        }
    }
}

/// `prompt` with its question but for the last token at the end of its context, if `plan` presses
/// keys by what the question looks at.
fn with_question(prompt: &Prompt, plan: PlanSpec) -> Option<Prompt> {
    let sees = plan.press.is_some_and(|press| press.by == PressBy::SnapKvSeen);
    let (last, before) = prompt.query.split_last().filter(|_| sees)?;
    Some(Prompt { context: [&prompt.context, before].concat(), query: vec![*last] })
}

/// A model as an evaluation asks it: greedily, with the special tokens of the answer as text, until
/// a stop word, the model's own end, or the last token.
pub struct EngineAnswer {
    /// The model.
    pub engine: Arc<Engine>,
    /// Where answers end; what comes after the first of them is not generated.
    pub stop_words: Vec<String>,
    /// How samples become tokens, for all methods alike.
    pub tokenise: Tokenise,
}

impl Answer for EngineAnswer {
    fn tokens(&self, sample: &Sample) -> Result<Prompt, EngineError> {
        let tokenizer = self.engine.tokenizer();
        let (context, query) = (&sample.input_context, &sample.input_query);
        let (context, query) = match self.tokenise {
            Tokenise::Apart => (
                tokenizer.encode(context, Special::Parse)?,
                tokenizer.encode(query, Special::Parse)?,
            ),
            Tokenise::Joint => tokenizer.encode_joint(context, query)?,
        };
        Ok(Prompt { context, query })
    }

    fn answer(
        &self,
        prompt: &Prompt,
        plan: PlanSpec,
        most: usize,
        on_work: &(dyn Fn(u64) + Sync),
        cancel: &Cancel,
    ) -> Result<(String, Timings), EngineError> {
        let moved = with_question(prompt, plan);
        let prompt = moved.as_ref().unwrap_or(prompt);
        let context = prompt.context.len();
        let size = self.engine.model_size();
        let shape = Plan::new(plan, context)?;
        let (work, steps) =
            (Cost::of(&shape, &size).kiloflops(), Phase1::work(&shape, size.layers));
        let per_step = work as f64 / steps.max(1) as f64;
        let report = |progress: asterism::engine::Progress| {
            on_work((progress.work as f64 * per_step) as u64);
        };
        let engine = Arc::clone(&self.engine);
        let (tokens, room) =
            (prompt.context.clone(), Room { question: prompt.query.len(), answer: most });
        let context = Context::encode(engine, tokens, plan, room, &report, cancel)?;
        let settings = Generation { max_tokens: most, ..Generation::default() };
        let options = TextOptions { stop: self.stop_words.clone(), show_special: true };
        let mut quiet = |_: &str| ControlFlow::Continue(());
        let answer = context.answer(&prompt.query, &settings, &options, &mut quiet, cancel)?;
        let (phase1, generated) = (context.phase1(), &answer.generated);
        let timings = Timings {
            context_tokens: phase1.tokens,
            query_tokens: generated.query_tokens,
            answer_tokens: generated.tokens.len(),
            phase1_s: phase1.time.as_secs_f64(),
            query_s: generated.query_time.as_secs_f64(),
            revisited_tokens: generated.revisited.tokens,
            revisit_s: generated.revisited.time.as_secs_f64(),
            decode_s: generated.decode_time.as_secs_f64(),
            bytes_sent: phase1.bytes_sent + generated.bytes_sent,
            kv_bytes: phase1.kv_bytes,
            density: phase1.sparsity.map(Sparsity::density),
            kept_mass: phase1.sparsity.map(Sparsity::kept_mass),
        };
        Ok((answer.text, timings))
    }

    fn work(&self, plan: PlanSpec, tokens: usize, most: usize) -> u64 {
        let size = self.engine.model_size();
        let encode = Plan::new(plan, tokens).map_or(0, |plan| Cost::of(&plan, &size).kiloflops());
        encode + DECODE_WEIGHT * most as u64 * 2 * size.linear_weights / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use asterism::plan::Press;

    #[test]
    fn the_question_is_pressed_with_its_text_where_it_is_seen() {
        let prompt = Prompt { context: vec![1, 2, 3], query: vec![4, 5] };
        let press = Press::new(5000);
        let plan = |by| PlanSpec::dense().press(Some(press.by(by)));
        let moved = with_question(&prompt, plan(PressBy::SnapKvSeen)).unwrap();
        assert_eq!((moved.context, moved.query), (vec![1, 2, 3, 4], vec![5]));
        assert!(with_question(&prompt, plan(PressBy::SnapKv)).is_none());
        assert!(with_question(&prompt, PlanSpec::dense()).is_none());
    }
}
