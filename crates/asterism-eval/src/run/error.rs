//! Why an evaluation could not start or go on. What goes wrong with one sample is a
//! [`Failure`](super::Failure), not an error.

use crate::EvalError;
use asterism::plan::PlanError;
use std::path::PathBuf;

/// Why an evaluation stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Samples cannot be made, or files cannot be read or written.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// The model has fewer positions than a length needs.
    #[error("length {length}: the model has {max_positions} positions; leave this length out")]
    TooLong {
        /// The length asked for, in tokens.
        length: usize,
        /// Positions of the model.
        max_positions: usize,
    },
    /// A method that cannot encode a context of some length.
    #[error("{method} at length {length}: {source}")]
    Plan {
        /// The method, as it was given.
        method: String,
        /// The length, in tokens.
        length: usize,
        /// What is impossible.
        source: PlanError,
    },
    /// The folder holds the results of a run with other settings.
    #[error(
        "{} holds a run whose {what} is {before}, not {now}: choose another folder, or the same settings to go on",
        path.display()
    )]
    OtherRun {
        /// The file that describes the earlier run.
        path: PathBuf,
        /// The setting that differs.
        what: String,
        /// Its value in the earlier run.
        before: String,
        /// Its value now.
        now: String,
    },
    /// Another process writes into the folder or the file.
    #[error(
        "{}: another run is writing here: wait for it, or write somewhere else",
        path.display()
    )]
    Busy {
        /// The folder or the file.
        path: PathBuf,
    },
    /// The file system does not lock files, as some network mounts do not.
    #[error(
        "{} cannot be locked against other runs ({error}): write to another file system",
        path.display()
    )]
    NoLock {
        /// The folder or the file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A finished result belongs to another sample than the one that now has its number.
    #[error(
        "{}: sample {index} is not the one that was answered before: the samples have changed, choose another folder",
        path.display()
    )]
    OtherSample {
        /// The file with the earlier results.
        path: PathBuf,
        /// The sample's number.
        index: usize,
    },
    /// A finished result belongs to a sample that there is not.
    #[error(
        "{}: there is no sample {index}: the file was changed, or the samples have; choose another \
         folder",
        path.display()
    )]
    NoSample {
        /// The file with the earlier results.
        path: PathBuf,
        /// The sample's number.
        index: usize,
    },
    /// A finished result has another score than its answer earns.
    #[error(
        "{}: sample {index} has the score {before}, and its answer earns {now}: the file was changed, \
         or written by another version; choose another folder",
        path.display()
    )]
    OtherScore {
        /// The file with the earlier results.
        path: PathBuf,
        /// The sample's number.
        index: usize,
        /// The score in the file.
        before: f64,
        /// The score of its answer.
        now: f64,
    },
    /// The user asked to stop; everything answered so far is written.
    #[error("cancelled")]
    Cancelled,
}
