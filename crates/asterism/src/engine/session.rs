//! A context encoded once, asked many times.

use super::compute::Encoded;
use super::generate::{Generated, Generation, Question};
use super::prefill::{Phase1, Progress};
use super::{Engine, EngineError};
use crate::cancel::Cancel;
use crate::plan::{Plan, PlanSpec};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Tokens of a question and its answer that the query host has room for from the start.
pub const RESERVE: usize = 1024;

/// The keys of an encoded context, spread over hosts as its plan says.
pub struct Session {
    engine: Arc<Engine>,
    plan: Plan,
    context: Vec<u32>,
    keys: Box<dyn Encoded>,
    phase1: Phase1,
}

impl Session {
    /// Phase 1: encodes `context`. `progress` is called from every host's thread.
    ///
    /// # Errors
    /// Before any work, if the plan is impossible or the context does not fit the model with at
    /// least one token of question and one of answer; later [`EngineError::Cancelled`], within one
    /// layer of one chunk.
    pub fn encode(
        engine: Arc<Engine>,
        context: Vec<u32>,
        spec: PlanSpec,
        progress: &(dyn Fn(Progress) + Sync),
        cancel: &Cancel,
    ) -> Result<Self, EngineError> {
        let plan = Plan::new(spec, context.len())?;
        engine.check(&context, context.len(), 1, 1)?;
        let (keys, phase1) = engine.compute.encode(&plan, &context, RESERVE, progress, cancel)?;
        Ok(Self { engine, plan, context, keys, phase1 })
    }

    /// Phase 2: answers `query` from the context. Questions are independent: each is answered as if
    /// it were the first. `on_token` sees every token but the end-of-sequence token, and may end
    /// the answer.
    ///
    /// # Errors
    /// If context, question and answer do not fit the model, a setting is out of range, or the
    /// logits are not finite. The session stays usable.
    pub fn generate(
        &mut self,
        query: &[u32],
        settings: &Generation,
        on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
        cancel: &Cancel,
    ) -> Result<Generated, EngineError> {
        if query.is_empty() {
            return Err(EngineError::EmptyQuery);
        }
        self.engine.check(query, self.context.len(), query.len(), settings.max_tokens)?;
        let spelled = self.engine.tokenizer().vocab_size().min(self.engine.config().vocab);
        let question = Question { context: &self.context, query, settings, spelled };
        let result = self.keys.generate(&question, on_token, cancel);
        // Whatever happened, the next question starts from the context alone.
        self.keys.truncate(self.plan.host_tokens(0));
        result
    }

    /// The model behind this session.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Which host encoded what.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What encoding took.
    #[must_use]
    pub fn phase1(&self) -> &Phase1 {
        &self.phase1
    }
}
