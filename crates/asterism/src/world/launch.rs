//! Who started this process, and as which of how many: read from the variables that launchers set.

use std::fmt;

/// What started several processes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launcher {
    /// `torchrun`, or whatever sets its variables.
    Torchrun,
    /// Open MPI's `mpirun`.
    OpenMpi,
    /// The hydra of MPICH and Intel MPI: `mpiexec`.
    Hydra,
    /// Slurm's `srun`.
    Srun,
    /// A `LeaderWorkerSet` of Kubernetes, which counts pods.
    LeaderWorkerSet,
}

impl fmt::Display for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Torchrun => "torchrun",
            Self::OpenMpi => "Open MPI's mpirun",
            Self::Hydra => "MPICH's mpiexec",
            Self::Srun => "srun",
            Self::LeaderWorkerSet => "a LeaderWorkerSet",
        })
    }
}

/// This process among those that were started together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Who says so.
    pub launcher: Launcher,
    /// Its number, from 0.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
}

/// Variables that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// One half of a pair.
    #[error(
        "{set} is set and {missing} is not, so nobody can tell how many processes {launcher} \
         started: set both or neither"
    )]
    Half {
        /// Whose variables they are.
        launcher: Launcher,
        /// The one that is set.
        set: &'static str,
        /// The one that is missing.
        missing: &'static str,
    },
    /// Not a number.
    #[error("{name}={value:?} is not a number")]
    NotANumber {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
    },
    /// A rank that does not exist.
    #[error("{rank_name}={rank}, but {size_name}={size}: ranks count from 0")]
    NoSuchRank {
        /// The variable of the rank.
        rank_name: &'static str,
        /// The rank.
        rank: usize,
        /// The variable of the size.
        size_name: &'static str,
        /// The size.
        size: usize,
    },
    /// Two launchers that each started one process after the other's.
    #[error(
        "{} says rank {} of {}, {} says rank {} of {}: unset the variables of one of them",
        .0.launcher, .0.rank, .0.size, .1.launcher, .1.rank, .1.size
    )]
    Contradiction(Launch, Launch),
}

/// The variables of a launcher.
struct Variables {
    launcher: Launcher,
    rank: &'static str,
    size: &'static str,
    /// Also set where nothing was started by it: of no account unless `size` is set.
    rank_is_common: bool,
    /// It starts one process per machine, which may be another launcher: its ranks need not be
    /// those of the processes.
    is_outer: bool,
}

/// In order of preference.
const LAUNCHERS: [Variables; 5] = [
    Variables {
        launcher: Launcher::Torchrun,
        rank: "RANK",
        size: "WORLD_SIZE",
        rank_is_common: false,
        is_outer: false,
    },
    Variables {
        launcher: Launcher::OpenMpi,
        rank: "OMPI_COMM_WORLD_RANK",
        size: "OMPI_COMM_WORLD_SIZE",
        rank_is_common: false,
        is_outer: false,
    },
    Variables {
        launcher: Launcher::Hydra,
        rank: "PMI_RANK",
        size: "PMI_SIZE",
        rank_is_common: false,
        is_outer: false,
    },
    // SLURM_NTASKS is also set in the script of a job, where one process would wait for others for
    // ever. srun alone says how many tasks its step has.
    Variables {
        launcher: Launcher::Srun,
        rank: "SLURM_PROCID",
        size: "SLURM_STEP_NUM_TASKS",
        rank_is_common: true,
        is_outer: true,
    },
    Variables {
        launcher: Launcher::LeaderWorkerSet,
        rank: "LWS_WORKER_INDEX",
        size: "LWS_GROUP_SIZE",
        rank_is_common: false,
        is_outer: true,
    },
];

impl Launch {
    /// What the environment of this process says; `None` if it was started alone, or as the only
    /// one.
    ///
    /// # Errors
    /// [`LaunchError`], where variables are missing or contradict each other.
    pub fn detect() -> Result<Option<Self>, LaunchError> {
        Self::of(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, LaunchError> {
        let mut found: Option<(Self, bool)> = None;
        for variables in &LAUNCHERS {
            let Some(launch) = variables.read(&variable)? else { continue };
            match found {
                None => found = Some((launch, variables.is_outer)),
                Some((first, false)) if !variables.is_outer => {
                    if (first.rank, first.size) != (launch.rank, launch.size) {
                        return Err(LaunchError::Contradiction(first, launch));
                    }
                }
                Some(_) => {}
            }
        }
        Ok(found.map(|(launch, _)| launch).filter(|launch| launch.size > 1))
    }
}

impl Variables {
    fn read(
        &self,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Launch>, LaunchError> {
        let Self { launcher, rank: rank_name, size: size_name, .. } = *self;
        let half = |set, missing| Err(LaunchError::Half { launcher, set, missing });
        let (rank, size) = match (variable(rank_name), variable(size_name)) {
            (None, None) => return Ok(None),
            (Some(_), None) if self.rank_is_common => return Ok(None),
            (Some(_), None) => return half(rank_name, size_name),
            (None, Some(_)) => return half(size_name, rank_name),
            (Some(rank), Some(size)) => (number(rank_name, rank)?, number(size_name, size)?),
        };
        if rank >= size {
            return Err(LaunchError::NoSuchRank { rank_name, rank, size_name, size });
        }
        Ok(Some(Launch { launcher, rank, size }))
    }
}

pub(super) fn number<N: std::str::FromStr>(
    name: &'static str,
    value: String,
) -> Result<N, LaunchError> {
    value.trim().parse().map_err(|_| LaunchError::NotANumber { name, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(set: &str) -> Result<Option<Launch>, LaunchError> {
        let variable = |name: &str| {
            let mut pairs = set.split_whitespace().filter_map(|pair| pair.split_once('='));
            pairs.find(|(of, _)| *of == name).map(|(_, value)| value.to_owned())
        };
        Launch::of(variable)
    }

    #[test]
    fn every_launcher_is_known_by_its_variables() {
        use Launcher::{Hydra, LeaderWorkerSet, OpenMpi, Srun, Torchrun};
        for (set, launcher, rank, size) in [
            ("RANK=1 WORLD_SIZE=4 LOCAL_RANK=1 MASTER_ADDR=a MASTER_PORT=1", Torchrun, 1, 4),
            ("OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=3", OpenMpi, 2, 3),
            ("PMI_RANK=0 PMI_SIZE=2 MPI_LOCALRANKID=0", Hydra, 0, 2),
            ("SLURM_PROCID=3 SLURM_STEP_NUM_TASKS=4 SLURM_NTASKS=4", Srun, 3, 4),
            ("LWS_WORKER_INDEX=1 LWS_GROUP_SIZE=2 LWS_LEADER_ADDRESS=a", LeaderWorkerSet, 1, 2),
            // mpirun in a task of srun or in a pod, srun with MPICH's interface, torchrun under
            // srun on every machine.
            (
                "SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2 OMPI_COMM_WORLD_RANK=5 \
                 OMPI_COMM_WORLD_SIZE=8",
                OpenMpi,
                5,
                8,
            ),
            ("PMI_RANK=1 PMI_SIZE=2 SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2", Hydra, 1, 2),
            ("RANK=9 WORLD_SIZE=16 SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2", Torchrun, 9, 16),
            ("RANK=1 WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2", Torchrun, 1, 2),
        ] {
            assert_eq!(of(set), Ok(Some(Launch { launcher, rank, size })), "{set}");
        }
    }

    #[test]
    fn a_process_alone_was_not_launched() {
        for set in [
            "",
            // The script of a Slurm job.
            "SLURM_NTASKS=4 SLURM_PROCID=0 SLURM_JOB_ID=7",
            "RANK=0 WORLD_SIZE=1",
            "OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=1",
        ] {
            assert_eq!(of(set), Ok(None), "{set}");
        }
    }

    #[test]
    fn halves_and_contradictions_are_refused_by_name() {
        for (set, expected) in [
            ("RANK=0", "RANK is set and WORLD_SIZE is not"),
            ("WORLD_SIZE=2", "WORLD_SIZE is set and RANK is not"),
            ("PMI_SIZE=2", "PMI_RANK is not"),
            ("SLURM_STEP_NUM_TASKS=2", "SLURM_PROCID is not"),
            ("LWS_GROUP_SIZE=2", "LWS_WORKER_INDEX is not"),
            ("RANK=two WORLD_SIZE=2", "RANK=\"two\" is not a number"),
            ("RANK=2 WORLD_SIZE=2", "RANK=2, but WORLD_SIZE=2"),
            (
                "RANK=0 WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2",
                "torchrun says rank 0 of 2, Open MPI's mpirun says rank 1 of 2",
            ),
        ] {
            let message = of(set).unwrap_err().to_string();
            assert!(message.contains(expected), "{set}: {message}");
        }
    }
}
