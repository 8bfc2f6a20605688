//! The engine for Python: `asterism._asterism`, which the package `asterism` shows as its own.
//!
//! Whatever takes long runs on a thread of its own ([`watch`]), without Python's lock, while the
//! calling thread hears of progress and of Ctrl-C.

#![forbid(unsafe_code)]

mod answer;
mod asking;
mod context;
mod document;
mod engine;
mod error;
mod plan;
mod source;
mod texts;
mod watch;

/// What the package is made of.
#[pyo3::pymodule]
mod _asterism {
    #[pymodule_export]
    use super::answer::Answer;
    #[pymodule_export]
    use super::context::Context;
    #[pymodule_export]
    use super::document::{Document, read_files, serve_parent};
    #[pymodule_export]
    use super::engine::Engine;
    #[pymodule_export]
    use super::plan::Plan;
    #[pymodule_export]
    use super::source::Source;
    use asterism::engine::EngineError;
    use asterism_documents::ReadError;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let [engine, documents] = [EngineError::CODES, &ReadError::CODES];
        // Both can be cancelled.
        let of_documents = documents.iter().filter(|code| !engine.contains(code));
        module.add("CODES", engine.iter().chain(of_documents).collect::<Vec<_>>())?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
