//! Messages between the processes that `mpirun`, `mpiexec` or `srun` started together.
//!
//! [`Mpi::start`] loads the MPI library of the machine and enters MPI on a thread of its own, the
//! only one that ever calls it. That thread sends what it is given, and hands over what comes:
//! while it has work it looks again and again, since MPI moves large messages only while somebody
//! calls it; without work it sleeps, since an idle MPI would take a whole core.

mod abi;
mod find;
mod library;
mod payload;
mod process;
mod traffic;

pub use abi::Abi;
pub use find::{Found, find};
pub use payload::Payload;
pub use process::{Mpi, Options};
pub use traffic::Envelope;

/// Why MPI cannot be used, or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MpiError {
    /// There is no library of MPI.
    #[error(
        "no MPI library was found ({tried}): install Open MPI (Debian: openmpi-bin) or MPICH, or \
         name the library's file in ASTERISM_MPI_LIBRARY"
    )]
    Missing {
        /// The names that were looked for.
        tried: String,
    },
    /// A library is there, but cannot be loaded or lacks a function.
    #[error("the MPI library {library} cannot be used: {why}")]
    NotLoaded {
        /// Its name or file.
        library: String,
        /// Why not.
        why: String,
    },
    /// A call failed.
    #[error("{what} failed: {why}")]
    Failed {
        /// The function.
        what: &'static str,
        /// What the library says.
        why: String,
    },
    /// A message that no rank of this program sends.
    #[error("a message of {bytes} bytes with tag {tag} came from rank {from}, which none has")]
    Strange {
        /// The rank that sent it.
        from: usize,
        /// Its tag.
        tag: u16,
        /// Its length.
        bytes: usize,
    },
    /// The other processes did not enter MPI.
    #[error("MPI did not come up within {seconds} s: a process may be missing or hang")]
    NotUp {
        /// How long was waited.
        seconds: u64,
    },
    /// The thread could not be started.
    #[error("a thread for MPI could not be started: {0}")]
    NoThread(String),
    /// MPI has ended.
    #[error("MPI has ended")]
    Ended,
}
