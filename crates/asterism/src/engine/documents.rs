//! Contexts of several documents, and the way back from tokens to their texts.

use super::{Context, EngineError, Prepared};
use crate::cancel::Cancel;
use crate::text::{Document, Documents, Place};
use std::ops::Range;
use std::sync::Arc;

/// The documents of a context, and how they were asked to be encoded.
#[derive(Debug, Clone)]
pub(super) struct Encoded {
    pub(super) documents: Arc<Documents>,
    /// Tokens from which on a document begins a block; `None` if none does for its own sake.
    pub(super) own_blocks: Option<usize>,
}

impl Encoded {
    /// Where blocks have to begin.
    pub(super) fn borders(&self) -> Vec<usize> {
        // The first document begins behind the prompt, within the first block.
        self.own_blocks.map_or_else(Vec::new, |least| self.documents.borders_from(least))
    }
}

impl Context {
    /// The documents that it was encoded from; none if it was not
    /// [begun](super::Engine::documents) with any.
    #[must_use]
    pub fn documents(&self) -> &[Document] {
        self.encoded().map_or(&[], |encoded| encoded.documents.all())
    }

    /// Where in its documents its tokens `tokens` stand, indices of [`Context::tokens`]: one place
    /// for each document that has some of them. The tokens of a block are those at
    /// [`Plan::indices`](crate::plan::Plan::indices).
    #[must_use]
    pub fn places(&self, tokens: Range<usize>) -> Vec<Place<'_>> {
        self.encoded().map_or_else(Vec::new, |encoded| encoded.documents.places(tokens))
    }

    /// The context of `documents`, which those of this one were changed into: some edited, added or
    /// taken out. As [`Context::edit`]; with [room](super::ContextBuilder::slack) in its blocks and
    /// [blocks of their own](super::ContextBuilder::own_blocks), an edit of one document leaves the
    /// blocks of the others. All blocks depend on the anchor, and so on the beginning of the first.
    ///
    /// # Errors
    /// [`EngineError::NoDocuments`] if this context was not [begun](super::Engine::documents) with
    /// any; otherwise as [`Context::edit`].
    pub fn edit_documents(&self, documents: &[(&str, &str)]) -> Result<Self, EngineError> {
        let cancel = Cancel::new();
        self.prepare_edit(documents, &cancel)?.encode(&|_| (), &cancel)
    }

    /// As [`Context::edit_documents`], up to the plan of what is to be encoded; `cancel` stops it.
    ///
    /// # Errors
    /// As [`Context::edit_documents`], before any work, and [`EngineError::Cancelled`].
    pub fn prepare_edit(
        &self,
        documents: &[(&str, &str)],
        cancel: &Cancel,
    ) -> Result<Prepared, EngineError> {
        let (Some(frame), Some(before)) = (self.frame(), self.encoded()) else {
            return Err(EngineError::NoDocuments);
        };
        let engine = Arc::clone(self.engine());
        let read = frame.documents_until(engine.tokenizer(), documents, cancel);
        let (tokens, read) = read.map_err(EngineError::of_cancelled)?;
        let encoded = Encoded { documents: Arc::new(read), own_blocks: before.own_blocks };
        let plan = self.plan().edited(self.tokens(), &tokens, &encoded.borders())?;
        let (frame, documents, room) = (frame.clone(), Some(encoded), self.room());
        let prepared = Prepared { engine, tokens, plan, frame, documents, room, saved: None };
        prepared.check()?;
        Ok(prepared)
    }
}
