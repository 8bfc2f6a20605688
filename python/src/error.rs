//! Errors of the engine as exceptions, one class for each of their codes.

use asterism::engine::EngineError;
use pyo3::PyErr;
use pyo3::prelude::*;

/// The exception of `error`.
pub(crate) fn raised(py: Python<'_>, error: &EngineError) -> PyErr {
    of_code(py, error.code(), &error.to_string())
}

/// The exception of the class that has this code.
pub(crate) fn of_code(py: Python<'_>, code: &str, message: &str) -> PyErr {
    let made = || py.import("asterism.errors")?.call_method1("of_code", (code, message));
    made().map_or_else(|error| error, PyErr::from_value)
}
