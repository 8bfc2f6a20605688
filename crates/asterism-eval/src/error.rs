//! The one error type of `eval`: each variant names the value at fault and what to change.

use std::path::PathBuf;

use asterism::text::TextError;

/// Why samples cannot be made, read or scored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    // === Names ===
    /// A name that is not one of a closed list: a task, a variant, a template.
    #[error("there is no {what} {name:?}; use one of {}", known.join(", "))]
    Unknown {
        /// The kind of thing that the name was taken for: a task, a variant, a template.
        what: &'static str,
        /// The name given.
        name: String,
        /// Every name that exists.
        known: Vec<String>,
    },

    // === Files ===
    /// A task draws on a file that the user has to supply.
    #[error("{task} needs {needs}, which cannot be shipped; give the file")]
    MissingData {
        /// The task.
        task: String,
        /// The file, in words, with where to get it.
        needs: &'static str,
        /// The name of the setting that takes it.
        setting: &'static str,
    },
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said. Part of the message, so that one line says both.
        error: std::io::Error,
    },
    /// A line that does not hold what its format says.
    #[error("{}:{line}: {reason}", path.display())]
    BadLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A whole file that does not hold what its format says.
    #[error("{}: {reason}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A column of a table that does not hold what its format says.
    #[error("{}: column {column:?}: {reason}", path.display())]
    BadColumn {
        /// The file.
        path: PathBuf,
        /// The column's name.
        column: String,
        /// What is wrong with it, and in which row where it is one row's.
        reason: String,
    },

    /// A picture of a report cannot be drawn.
    #[error("cannot draw: {reason}")]
    Picture {
        /// What the drawing library said.
        reason: String,
    },

    // === Lengths ===
    /// No sample of this task fits into the length asked for.
    #[error(
        "{task} does not fit into {length} tokens: its smallest sample takes {least}; use a length of at least {least}"
    )]
    TooShort {
        /// The task.
        task: String,
        /// The length asked for, in tokens.
        length: usize,
        /// The least length that works with this tokenizer and template, in tokens.
        least: usize,
    },
    /// There is less material (words, questions, documents) than the samples asked for take.
    #[error("{task} needs {wanted} {material}, and there are {available}; {remedy}")]
    NotEnough {
        /// The task.
        task: String,
        /// The material that there is too little of.
        material: &'static str,
        /// How much of it there is.
        available: usize,
        /// How much is asked for.
        wanted: usize,
        /// What to change.
        remedy: &'static str,
    },

    // === Tokens ===
    /// The tokenizer failed on a text.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A counter other than the engine's tokenizer failed.
    #[error("tokens cannot be counted: {reason}")]
    Count {
        /// What the counter said.
        reason: String,
    },
}

impl EvalError {
    /// A closed list's error for `name`.
    pub(crate) fn unknown<'a>(
        what: &'static str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let known = known.into_iter().map(str::to_owned).collect();
        Self::Unknown { what, name: name.to_owned(), known }
    }

    /// An error of the file system at `path`.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { path, error }
    }
}
