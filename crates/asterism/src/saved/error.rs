//! What can be wrong with a context on disk.

use crate::plan::PlanError;
use std::path::{Path, PathBuf};

/// Why a context cannot be written to disk or read from it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SavedError {
    /// The system refuses.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The folder holds no context, or one that was not written to its end.
    #[error("{path} holds no saved context", path = .0.display())]
    Nothing(PathBuf),
    /// A file is not what was written.
    #[error("{path} is damaged: {what}; encode the context again", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The plan in it is none.
    #[error("{path} is damaged: {source}; encode the context again", path = .path.display())]
    Plan {
        /// The file.
        path: PathBuf,
        /// What is wrong with the plan.
        source: PlanError,
    },
    /// It was written by an engine of another kind.
    #[error(
        "{path} was saved with {field} {found}, and this is {expected}: encode the context again",
        path = .path.display()
    )]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        field: &'static str,
        /// What the file says.
        found: String,
        /// What this engine says.
        expected: String,
    },
    /// The context was not encoded from documents or a text within a prompt.
    #[error("only contexts of texts or documents can be saved, and this one was made of tokens")]
    OnlyTokens,
}

impl SavedError {
    /// Of what the system says about `path`.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// Of `path`, in which `what` is wrong.
    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }
}
