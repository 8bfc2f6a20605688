//! The engine for Python: `asterism._asterism`, which the package `asterism` shows as its own.
//!
//! Whatever takes long runs on a thread of its own ([`watch`]), without Python's lock, while the
//! calling thread hears of progress and of Ctrl-C.

#![forbid(unsafe_code)]

mod answer;
mod asking;
mod context;
mod engine;
mod error;
mod method;
mod plan;
mod source;
mod watch;

/// What the package is made of.
#[pyo3::pymodule]
mod _asterism {
    #[pymodule_export]
    use super::answer::Answer;
    #[pymodule_export]
    use super::context::Context;
    #[pymodule_export]
    use super::engine::Engine;
    #[pymodule_export]
    use super::plan::Plan;
    #[pymodule_export]
    use super::source::Source;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("CODES", asterism::engine::EngineError::CODES)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
