//! Files as documents, for `asterism.documents`.

use crate::error::of_code;
use crate::watch::watch;
use asterism::cancel::Cancel;
use asterism_documents::{
    Child, Limits, Listing, ReadError, Reader, Reason, Selection, Wanted, list, read_for_parent,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::path::PathBuf;

/// Runs in a Python of its own, which has neither the package nor its environment: loads the engine
/// from the file it is given, and has it read one document.
const CHILD: &str = "\
import sys
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location('_asterism', sys.argv[1])
engine = module_from_spec(spec)
spec.loader.exec_module(engine)
engine.read_for_parent()
";

/// A text with a name, that knows where on pages, in chapters or lines its parts stand.
#[pyclass(module = "asterism", frozen)]
pub(crate) struct Document {
    pub(crate) inner: asterism_documents::Document,
}

#[pymethods]
impl Document {
    /// A text that was in no file; its name's ending says what it is a text of.
    #[new]
    fn new(name: String, text: String) -> Self {
        Self { inner: asterism_documents::Document::of_text(name, text) }
    }

    /// What it is called: of a file, its path.
    #[getter]
    fn name(&self) -> &str {
        &self.inner.name
    }

    /// All of it. Files of folders begin with a line that has their name.
    #[getter]
    fn text(&self) -> &str {
        &self.inner.text
    }

    /// "text", "html", "epub", "docx" or "pdf".
    #[getter]
    fn kind(&self) -> &'static str {
        self.inner.kind.name()
    }

    /// The encoding that its bytes were read in; None where the format itself says it.
    #[getter]
    fn encoding(&self) -> Option<&str> {
        self.inner.encoding.as_ref().map(|encoding| &*encoding.name)
    }

    /// What its reader should know: an encoding that was guessed, a page without text.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.inner.notes.clone()
    }

    /// Where the characters from start to before end stand, as "paper.pdf, page 12" or
    /// "main.c:40-71".
    fn cite(&self, start: usize, end: usize) -> PyResult<String> {
        let text = &self.inner.text;
        let byte =
            |at: usize| text.char_indices().map(|(byte, _)| byte).chain([text.len()]).nth(at);
        match (byte(start), byte(end)) {
            (Some(first), Some(last)) if first <= last => Ok(self.inner.cite(first..last)),
            _ => Err(PyValueError::new_err(format!(
                "{start} to {end} is no part of {}, which has {} characters",
                self.inner.name,
                text.chars().count()
            ))),
        }
    }

    fn __len__(&self) -> usize {
        self.inner.text.chars().count()
    }

    fn __repr__(&self) -> String {
        format!("Document({:?}, {}, {} characters)", self.name(), self.kind(), self.__len__())
    }
}

/// Documents, each with the number of the path it comes from, and what of folders was left out and
/// why, with the code of the reason.
type Read = (Vec<(usize, Document)>, Vec<(String, String, &'static str)>);

/// Reads files and folders.
///
/// paths that are folders give their files, but for those that a .gitignore names and hidden ones;
/// include and exclude are patterns like those of a .gitignore. encoding are names of that of text,
/// the first known one counts; with none it is guessed. max_file are MiB, seconds those that a file
/// of another format may take.
#[pyfunction]
#[allow(clippy::too_many_arguments)] // asterism.documents gives names to them.
pub(crate) fn read_files(
    py: Python<'_>,
    paths: Vec<PathBuf>,
    include: Vec<String>,
    exclude: Vec<String>,
    encoding: Vec<String>,
    max_file: u32,
    seconds: u32,
) -> PyResult<Read> {
    let named: Vec<Result<Wanted, String>> = encoding.iter().map(|name| name.parse()).collect();
    let encoding = match (named.iter().flatten().next(), named.first()) {
        (Some(wanted), _) => Some(*wanted),
        (None, Some(Err(error))) => {
            return Err(PyValueError::new_err(format!("encoding: {error}")));
        }
        _ => None,
    };
    let limits = Limits { seconds, ..Limits::default() };
    let reader = Reader { limits, encoding, ..Reader::new(child(py)?) };
    let reader = Reader { most_bytes: u64::from(max_file) << 20, ..reader };
    let selection = Selection { include, exclude };
    let cancel = Cancel::new();
    watch(py, &cancel, None, |_| read(&reader, &paths, &selection, &cancel))?
        .map_err(|error| of_code(py, error.code(), &error.to_string()))
}

fn read(
    reader: &Reader,
    paths: &[PathBuf],
    selection: &Selection,
    cancel: &Cancel,
) -> Result<Read, ReadError> {
    let Listing { sources, skipped } = list(paths, selection)?;
    let mut left_out: Vec<_> = skipped
        .into_iter()
        .map(|one| (one.name, one.reason.to_string(), one.reason.code()))
        .collect();
    let mut documents = Vec::new();
    for source in sources {
        let mut skip = |reason: Reason| {
            left_out.push((source.name(), reason.to_string(), reason.code()));
        };
        match reader.file_while(&source, &|| !cancel.is_raised()) {
            Ok(inner) if source.in_folder && inner.is_blank() => skip(Reason::Empty),
            Ok(inner) => documents.push((source.given, Document { inner })),
            Err(error @ ReadError::Cancelled { .. }) => return Err(error),
            Err(error) if source.in_folder => skip(Reason::Failed(error)),
            Err(error) => return Err(error),
        }
    }
    Ok((documents, left_out))
}

/// The Python that reads a file of a foreign format.
fn child(py: Python<'_>) -> PyResult<Child> {
    let program: PathBuf = py.import("sys")?.getattr("executable")?.extract()?;
    let engine: PathBuf = py.import("asterism._asterism")?.getattr("__file__")?.extract()?;
    // Isolated, and without the packages of its site: nothing but the engine is loaded.
    let arguments = ["-I", "-S", "-c", CHILD].into_iter().map(Into::into);
    Ok(Child { program, arguments: arguments.chain([engine.into()]).collect() })
}

/// Reads one document for the process that started this one.
#[pyfunction(name = "read_for_parent")]
pub(crate) fn serve_parent() -> PyResult<()> {
    Ok(read_for_parent()?)
}
