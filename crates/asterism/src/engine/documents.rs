//! Contexts of several documents, and the way back from tokens to their texts.

use super::{Context, EngineError, Progress};
use crate::cancel::Cancel;
use crate::text::{Document, Documents, Place, TextError};
use std::ops::Range;
use std::sync::Arc;

/// The documents of a context, and how they were asked to be encoded.
#[derive(Debug, Clone)]
pub(super) struct Encoded {
    pub(super) documents: Arc<Documents>,
    /// Whether each begins a block.
    pub(super) own_blocks: bool,
}

impl Encoded {
    /// Where blocks have to begin.
    pub(super) fn borders(&self) -> Vec<usize> {
        if self.own_blocks { self.documents.borders() } else { Vec::new() }
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
        self.edit_documents_until(documents, &|_| (), &Cancel::new())
    }

    /// As [`Context::edit_documents`]; `progress` hears of every step, and `cancel` stops it.
    ///
    /// # Errors
    /// As [`Context::edit_documents`], and [`EngineError::Cancelled`].
    pub fn edit_documents_until(
        &self,
        documents: &[(&str, &str)],
        progress: &dyn Fn(Progress),
        cancel: &Cancel,
    ) -> Result<Self, EngineError> {
        let (Some(frame), Some(before)) = (self.frame(), self.encoded()) else {
            return Err(EngineError::NoDocuments);
        };
        let read = frame.documents_until(self.engine().tokenizer(), documents, cancel);
        let (tokens, read) = read.map_err(|error| match error {
            TextError::Cancelled => EngineError::Cancelled,
            error => error.into(),
        })?;
        let encoded = Encoded { documents: Arc::new(read), own_blocks: before.own_blocks };
        let edited =
            self.edit_between(tokens, &encoded.borders(), self.room(), progress, cancel)?;
        Ok(edited.of_documents(encoded))
    }
}
