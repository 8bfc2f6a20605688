//! Where an answer comes from.

use asterism::engine::{self, EngineError};
use pyo3::prelude::*;

/// A passage of the context that a question looked at, and how much.
#[pyclass(module = "asterism", frozen, get_all)]
pub(crate) struct Source {
    /// Name of the document; None in a context of tokens.
    document: Option<String>,
    /// The passage.
    text: String,
    /// Positions of its first token and the one after its last.
    span: (usize, usize),
    /// Positions of the first token of its block and the one after its last.
    block: (usize, usize),
    /// The passage's share of the question's softmax weight beyond that of a question that asks
    /// nothing.
    share: f32,
}

impl Source {
    pub(crate) fn of(
        context: &engine::Context,
        source: &engine::Source,
    ) -> Result<Self, EngineError> {
        let places = context.places(context.plan().indices(source.best));
        let (best, block) = (source.best, source.span);
        Ok(Self {
            document: places.first().map(|place| place.document.name().to_owned()),
            text: context.passage(best)?,
            span: (best.start, best.start + best.len),
            block: (block.start, block.start + block.len),
            share: source.best_share,
        })
    }
}

#[pymethods]
impl Source {
    fn __repr__(&self) -> String {
        let document = self.document.as_deref().unwrap_or("tokens");
        format!("Source({document} {:?}, {:+.3}: {:?})", self.span, self.share, self.text)
    }
}
