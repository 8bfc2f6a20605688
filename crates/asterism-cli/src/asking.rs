//! A loaded model and the settings by which one document is asked.

use super::error::CliError;
use super::inputs::Limit;
use super::interrupt::Interrupt;
use super::progress::Encoding;
use asterism::engine::{Context, Engine, Generation, Room, TextOptions};
use asterism::plan::{Plan, PlanSpec};
use asterism::text::PromptFrame;
use std::sync::Arc;

/// Everything but the document and the questions.
pub(crate) struct Asking {
    pub(crate) engine: Arc<Engine>,
    pub(crate) frame: PromptFrame,
    pub(crate) generation: Generation,
    pub(crate) text: TextOptions,
    pub(crate) interrupt: Interrupt,
    pub(crate) limit: Limit,
    pub(crate) json: bool,
}

impl Asking {
    /// Phase 1, with a progress bar, for questions of up to `query` tokens within the frame.
    pub(crate) fn encode(
        &self,
        context: Vec<u32>,
        spec: PlanSpec,
        query: usize,
    ) -> Result<Context, CliError> {
        let plan = Plan::new(spec, context.len())?;
        let bar = Encoding::new(&plan, self.engine.config().layers);
        let engine = Arc::clone(&self.engine);
        let cancel = self.interrupt.cancel();
        let room = Room { question: query, answer: self.generation.max_tokens };
        let context = Context::encode(engine, context, spec, room, &|p| bar.report(p), cancel)?;
        Ok(context.within(self.frame.clone()))
    }
}
