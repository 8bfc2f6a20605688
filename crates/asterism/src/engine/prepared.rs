//! A text that was read and planned, and not encoded yet.

use super::documents::Encoded;
use super::memory::MemoryNeed;
use super::phase1::Progress;
use super::{Context, Engine, EngineError, Room};
use crate::cancel::Cancel;
use crate::plan::Plan;
use crate::text::{Document, PromptFrame};
use std::sync::Arc;

/// A context before its encoding: its tokens, and the plan by which they would be encoded.
pub struct Prepared {
    pub(super) engine: Arc<Engine>,
    /// `[plan.tokens]`
    pub(super) tokens: Vec<u32>,
    pub(super) plan: Plan,
    pub(super) frame: PromptFrame,
    pub(super) documents: Option<Encoded>,
    pub(super) room: Room,
}

impl Prepared {
    /// Checks that tokens, question and answer fit the model.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        let Room { question, answer } = self.room;
        self.engine.check(&self.tokens, self.plan.end(), question, answer)
    }

    /// The model that would encode it.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Which host would encode what.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Its tokens.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The documents that it was read from; none if it was not begun with any.
    #[must_use]
    pub fn documents(&self) -> &[Document] {
        self.documents.as_ref().map_or(&[], |encoded| encoded.documents.all())
    }

    /// Bytes of memory that it takes, question and answer included, if none of its blocks are there
    /// already.
    #[must_use]
    pub fn memory_need(&self) -> MemoryNeed {
        let Room { question, answer } = self.room;
        self.engine.compute.memory_need(&self.plan, question.saturating_add(answer))
    }

    /// Encodes it. `progress` hears of every step, and `cancel` stops it.
    ///
    /// # Errors
    /// As [`Context::encode`].
    pub fn encode(
        self,
        progress: &dyn Fn(Progress),
        cancel: &Cancel,
    ) -> Result<Context, EngineError> {
        let Self { engine, tokens, plan, frame, documents, room } = self;
        let context = Context::encode_plan(engine, tokens, plan, room, progress, cancel)?;
        let context = context.within(frame);
        Ok(match documents {
            Some(documents) => context.of_documents(documents),
            None => context,
        })
    }
}
