//! Where an answer comes from.

use crate::asking::Asked;
use asterism::engine::{self, EngineError};
use pyo3::prelude::*;

/// A passage of the context that a question looked at, and how much.
#[pyclass(module = "asterism", frozen, get_all)]
pub(crate) struct Source {
    /// Name of the document; None in a context of tokens.
    document: Option<String>,
    /// Where in it, as a person would look it up: "paper.pdf, page 12", "main.c:40-71".
    place: Option<String>,
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
    pub(crate) fn of(asked: &Asked, source: &engine::Source) -> Result<Self, EngineError> {
        let context = &asked.context;
        let places = context.places(context.plan().indices(source.best));
        // Of a passage at a border, what most of it is in.
        let place = places.into_iter().max_by_key(|place| place.bytes.len());
        let (best, block) = (source.best, source.span);
        Ok(Self {
            document: place.as_ref().map(|place| place.document.name().to_owned()),
            place: place.map(|place| asked.documents[place.number].cite(place.bytes)),
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
        let place = self.place.as_deref().unwrap_or("tokens");
        format!("Source({place} {:?}, {:+.3}: {:?})", self.span, self.share, self.text)
    }
}
