//! Contexts of several documents, and the way back from tokens to their texts.

use super::{Context, ContextBuilder, Engine, EngineError};
use crate::cancel::Cancel;
use crate::text::{Document, Documents, Place};
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

impl Engine {
    /// Begins a context of `documents`, each a name and a text, which are to be asked questions
    /// together. Each is read by itself: its tokens are the same whatever stands beside it. Names
    /// are not part of the text. The context leads from tokens back to the documents.
    ///
    /// ```
    /// # #[cfg(feature = "nano")]
    /// # fn main() -> Result<(), asterism::engine::EngineError> {
    /// use asterism::engine::Engine;
    ///
    /// let engine = Engine::open("nano")?;
    /// let (sky, sea) = ("The sky is blue. ".repeat(20), "Das Meer ist grün. ".repeat(20));
    /// let documents = [("sky.txt", sky.as_str()), ("sea.txt", sea.as_str())];
    /// let context = engine.documents(&documents).star(64).anchor(32).own_blocks().encode()?;
    ///
    /// // From the last block to the text that it was made of.
    /// let last = context.plan().hosts.iter().flatten().last().unwrap();
    /// let places = context.places(context.plan().indices(*last));
    /// assert_eq!(places[0].document.name(), "sea.txt");
    /// assert_eq!(places[0].text(), &sea[places[0].bytes.clone()]);
    ///
    /// // Another sky: the blocks of the sea stay, if it has as many tokens.
    /// let grey = sky.replacen("blue", "grey", 1);
    /// let after = context.edit_documents(&[("sky.txt", grey.as_str()), documents[1]])?;
    /// assert_eq!(after.documents()[0].text(), grey);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "nano"))]
    /// # fn main() {}
    /// ```
    pub fn documents<'a>(
        self: &Arc<Self>,
        documents: &'a [(&'a str, &'a str)],
    ) -> ContextBuilder<'a> {
        ContextBuilder::of(Arc::clone(self), super::builder::Source::Documents(documents))
    }
}

impl Context {
    /// The documents that it was encoded from; none if it was not [begun](Engine::documents) with
    /// any.
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
    /// taken out. As [`Context::edit`]; with [room](ContextBuilder::slack) in its blocks and
    /// [blocks of their own](ContextBuilder::own_blocks), an edit of one document leaves the blocks
    /// of the others. All blocks depend on the anchor, and so on the beginning of the first.
    ///
    /// # Errors
    /// [`EngineError::NoDocuments`] if this context was not [begun](Engine::documents) with any;
    /// otherwise as [`Context::edit`].
    pub fn edit_documents(&self, documents: &[(&str, &str)]) -> Result<Self, EngineError> {
        let (Some(frame), Some(before)) = (self.frame(), self.encoded()) else {
            return Err(EngineError::NoDocuments);
        };
        let cancel = Cancel::new();
        let (tokens, read) =
            frame.documents_until(self.engine().tokenizer(), documents, &cancel)?;
        let encoded = Encoded { documents: Arc::new(read), own_blocks: before.own_blocks };
        let edited =
            self.edit_between(tokens, &encoded.borders(), self.room(), &|_| (), &cancel)?;
        Ok(edited.of_documents(encoded))
    }
}
