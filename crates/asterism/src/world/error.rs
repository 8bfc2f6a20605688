//! Why processes cannot work together.

use super::{LaunchError, Launcher};
use asterism_link::mpi::MpiError;

/// Why the processes that were started together cannot be one engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// The variables of the launcher.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// MPI.
    #[error(transparent)]
    Mpi(#[from] MpiError),
    /// The launcher and the MPI library belong to different installations.
    #[error(
        "{launcher} started {launched} processes, but {library} sees rank {rank} of {size}: start \
         them by the mpirun or mpiexec of that library{}, or name the launcher's library in \
         ASTERISM_MPI_LIBRARY",
        if matches!(launcher, Launcher::Srun) { " (srun needs --mpi=pmix or --mpi=pmi2)" } else { "" }
    )]
    OtherMpi {
        /// Who started them.
        launcher: Launcher,
        /// How many, by its variables.
        launched: usize,
        /// The MPI library.
        library: String,
        /// The rank there.
        rank: usize,
        /// The number of ranks there.
        size: usize,
    },
    /// NCCL.
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Nccl(#[from] asterism_link::nccl::NcclError),
    /// Nothing says where the ranks meet.
    #[error(
        "{launcher} does not say where rank 0 is: set MASTER_ADDR to its machine, and MASTER_PORT, \
         or start the processes by `asterism launch`"
    )]
    NoMeeting {
        /// Who started them.
        launcher: Launcher,
    },
    /// No port could be opened.
    #[error("rank 0 cannot wait for the other ranks: {0}")]
    NoPort(String),
    /// Ranks did not come to rank 0.
    #[error(
        "{} did not come to rank 0 within {seconds} s: look whether a firewall lets the machines \
         reach each other",
        ranks(missing)
    )]
    Missing {
        /// The ranks.
        missing: Vec<usize>,
        /// How long they were waited for.
        seconds: u64,
    },
    /// Rank 0 cannot be reached.
    #[error("rank 0 cannot be reached ({why}): look whether a firewall lets the machines reach it")]
    NoWay {
        /// What the last try came to.
        why: String,
    },
    /// Ranks that would compute different things.
    #[error("rank {rank} has {field} {theirs}, and rank 0 has {ours}: {remedy}")]
    Disagree {
        /// The rank.
        rank: usize,
        /// What differs.
        field: String,
        /// There.
        theirs: String,
        /// On rank 0.
        ours: String,
        /// What to do.
        remedy: String,
    },
    /// A rank that could not load.
    #[error("rank {rank}: {why}")]
    Failed {
        /// The rank.
        rank: usize,
        /// Its error.
        why: String,
    },
    /// Another engine leads these processes already.
    #[error("the processes work for another engine of this program already: load one at a time")]
    Taken,
    /// Rank 0 has ended.
    #[error("rank 0 has ended")]
    Ended,
}

/// `rank 2` or `ranks 1, 3`.
fn ranks(ranks: &[usize]) -> String {
    let list: Vec<String> = ranks.iter().map(usize::to_string).collect();
    format!("rank{} {}", if ranks.len() == 1 { "" } else { "s" }, list.join(", "))
}
