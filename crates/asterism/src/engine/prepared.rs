//! A text that was read and planned, and not encoded yet.

use super::documents::Encoded;
use super::memory::MemoryNeed;
use super::phase1::Progress;
use super::{Context, Engine, EngineError, Room};
use crate::cancel::Cancel;
use crate::plan::Plan;
use crate::text::{Document, PromptFrame};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A context before its encoding: its tokens, and the plan by which they would be encoded.
pub struct Prepared {
    pub(super) engine: Arc<Engine>,
    /// `[plan.tokens]`
    pub(super) tokens: Vec<u32>,
    pub(super) plan: Plan,
    pub(super) frame: PromptFrame,
    pub(super) documents: Option<Encoded>,
    pub(super) room: Room,
    pub(super) saved: Option<Saved>,
}

/// A context on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// Where it is.
    pub folder: PathBuf,
    /// Bytes of its keys and values.
    pub kv_bytes: u64,
    /// What encoding it took, on the machine where that was done.
    pub encode_time: Duration,
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

    /// Where its keys [were saved](Engine::saved): they will be read from there.
    #[must_use]
    pub fn saved(&self) -> Option<&Saved> {
        self.saved.as_ref()
    }

    /// The same, to be encoded though its keys may have been saved.
    #[must_use]
    pub fn anew(self) -> Self {
        Self { saved: None, ..self }
    }

    /// Encodes it, or reads its keys from where they [were saved](Engine::saved). `progress` hears
    /// of every step, and `cancel` stops it.
    ///
    /// # Errors
    /// As [`Context::encode`]; [`SavedError`](crate::saved::SavedError) if what was saved cannot be
    /// used: encode it [anew](Self::anew) then.
    pub fn encode(
        self,
        progress: &dyn Fn(Progress),
        cancel: &Cancel,
    ) -> Result<Context, EngineError> {
        let Self { engine, tokens, plan, frame, documents, room, saved } = self;
        let from = saved.map(|saved| saved.folder);
        let context = Context::encode_from(engine, tokens, plan, room, from, progress, cancel)?;
        let context = context.within(frame);
        Ok(match documents {
            Some(documents) => context.of_documents(documents),
            None => context,
        })
    }
}
