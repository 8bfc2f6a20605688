//! A loaded model and the settings by which one document is asked.

use super::error::CliError;
use super::inputs::Limit;
use super::interrupt::Interrupt;
use super::progress::Encoding;
use asterism::engine::{Context, Engine, Generation, Prepared, TextOptions};
use asterism::plan::{Plan, PlanError, PlanSpec};
use asterism::text::{Documents, PromptFrame};
use std::sync::Arc;

/// Everything but the document and the questions.
pub(crate) struct Asking {
    pub(crate) engine: Arc<Engine>,
    pub(crate) frame: PromptFrame,
    pub(crate) system: Option<String>,
    pub(crate) generation: Generation,
    pub(crate) text: TextOptions,
    pub(crate) interrupt: Interrupt,
    pub(crate) limit: Limit,
    pub(crate) json: bool,
}

/// How a context of `documents`, `tokens` tokens long, is encoded by `spec`: as
/// [`Asking::prepare`] has it done.
pub(crate) fn plan(
    spec: PlanSpec,
    tokens: usize,
    documents: Option<&Documents>,
) -> Result<Plan, PlanError> {
    match (documents, spec.method.as_star()) {
        (Some(documents), Some(star)) => {
            Plan::spaced(spec, tokens, &documents.borders_from(star.own_block()), 0)
        }
        _ => Plan::new(spec, tokens),
    }
}

impl Asking {
    /// Reads and plans a context of `documents`, names and texts, for questions of up to `query`
    /// tokens. Its blocks have room for `slack` tokens that are not there yet (star).
    pub(crate) fn prepare(
        &self,
        documents: &[(&str, &str)],
        spec: PlanSpec,
        query: usize,
        slack: usize,
    ) -> Result<Prepared, CliError> {
        let mut builder = self
            .engine
            .documents(documents)
            .method(spec.method)
            .hosts(spec.hosts)
            .room(query, self.generation.max_tokens)
            .cancel(self.interrupt.cancel());
        if let Some(star) = spec.method.as_star() {
            builder = builder.own_blocks_from(star.own_block()).slack(slack);
        }
        if let Some(system) = &self.system {
            builder = builder.system(system);
        }
        Ok(builder.prepare()?)
    }

    /// Phase 1, with a progress bar.
    pub(crate) fn encode(&self, prepared: Prepared) -> Result<Context, CliError> {
        let bar = Encoding::new(prepared.plan(), self.engine.config().layers);
        Ok(prepared.encode(&|step| bar.report(step), self.interrupt.cancel())?)
    }
}
