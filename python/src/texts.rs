//! What Python means by `texts`: texts, files, or folders of them.

use crate::document::Document;
use pyo3::prelude::*;
use std::sync::Arc;

/// The documents that `texts` are.
pub(crate) fn read_documents(
    texts: &Bound<'_, PyAny>,
) -> PyResult<Arc<[asterism_documents::Document]>> {
    let read = texts.py().import("asterism.documents")?.call_method1("read", (texts,))?;
    let read: Vec<Bound<'_, Document>> = read.extract()?;
    Ok(read.iter().map(|document| document.get().inner.clone()).collect())
}

/// Names and texts, as the engine takes them.
pub(crate) fn names_and_texts(documents: &[asterism_documents::Document]) -> Vec<(&str, &str)> {
    documents.iter().map(|document| (&*document.name, &*document.text)).collect()
}
