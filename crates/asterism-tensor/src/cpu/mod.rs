//! The CPU backend: one team of threads and the kernels of the best instruction set this machine
//! has.
//!
//! * [`kernels`]: the inner loops, one table of functions per instruction set
//! * [`activations`](Activations): what goes into a linear layer
//! * [`linear`](PackedMatrix): linear layers over weights packed once
//! * [`attention`](Cpu::attend): blockwise attention with an online softmax and a log-sum-exp
//! * [`ops`](Cpu::split_and_rotate): rotation, rounding, rows
//! * `statistics`: what queries and keys are like
//!
//! All in-process hosts share one backend and take turns, loop by loop: a host that waits for a
//! message leaves the threads to the others.

mod activations;
mod attention;
mod available;
mod backend;
pub mod kernels;
mod kv;
mod linear;
mod ops;
mod peak;
mod shared;
mod statistics;
mod team;

pub use activations::Activations;
pub use attention::{KeptHead, KvSegment, KvSequence, RowPositions};
pub use backend::Ids;
pub use kernels::Isa;
pub use kv::{Int8, Int8View, Kv, KvView};
pub use linear::PackedMatrix;

use super::{Aligned, TensorError};
use kernels::Kernels;
use linear::FEW_ROWS;
use std::sync::{Mutex, MutexGuard, PoisonError};
use team::Team;

/// What can go wrong when the backend is set up.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// The named instruction set is not one we have kernels for.
    #[error(
        "unknown instruction set {0:?}: expected auto or one of amx, avx512bf16, avx512, avx2, portable, tiles"
    )]
    UnknownIsa(String),
    /// The instruction set exists but not on this machine.
    #[error("this machine has no {0}: name no instruction set, and the best it has is taken")]
    MissingIsa(Isa),
    /// Floats of 8 bits are unpacked by a GPU's kernels only.
    #[error("keys are cached in fp8 on GPUs only: cache them in bf16, f32 or int8 on the CPU")]
    NoFp8,
    /// The operating system refused the threads.
    #[error("cannot start {threads} compute threads: {source}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// Why not.
        source: std::io::Error,
    },
}

impl From<CpuError> for TensorError {
    fn from(error: CpuError) -> Self {
        match error {
            CpuError::UnknownIsa(_) | CpuError::MissingIsa(_) | CpuError::NoFp8 => {
                Self::Unsupported { what: error.to_string() }
            }
            CpuError::Threads { .. } => Self::Failed(error.into()),
        }
    }
}

/// A team of compute threads and the kernels they run.
pub struct Cpu {
    team: Team,
    kernels: &'static Kernels,
    /// One per thread of the team. A thread holds its own while it runs a task: never contended.
    scratch: Vec<Mutex<Scratch>>,
    /// What several parts of an attention leave to be merged: one for each call that runs.
    parts: Mutex<Vec<attention::Parts>>,
}

/// A thread's working memory, kept between calls. Buffers only grow.
#[derive(Default)]
struct Scratch {
    /// One row of activations.
    row: Aligned<f32>,
    /// Part of a panel of weights, as f32.
    panel: Aligned<f32>,
    /// Products that are not finished yet.
    sums: Aligned<f32>,
    attention: attention::AttentionScratch,
}

/// Scratch memory has no invariant that a panic could break.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cpu {
    /// A team of `threads` compute threads (at least one; the caller is one of them) that use
    /// `isa`, or the best instruction set of this machine when `None`.
    ///
    /// # Errors
    /// If this machine lacks `isa`, or the threads cannot be started.
    pub fn new(threads: usize, isa: Option<Isa>) -> Result<Self, CpuError> {
        let isa = isa.unwrap_or_else(Isa::best);
        let kernels = Kernels::of(isa).ok_or(CpuError::MissingIsa(isa))?;
        let threads = threads.max(1);
        let team = Team::new(threads).map_err(|source| CpuError::Threads { threads, source })?;
        let scratch = (0..threads).map(|_| Mutex::default()).collect();
        Ok(Self { team, kernels, scratch, parts: Mutex::default() })
    }

    /// Number of compute threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.team.threads()
    }

    /// The instruction set in use.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.kernels.isa
    }

    /// Runs `f(i)` for every `i` in `0..tasks` on the team and waits for all of them. Tasks must
    /// not start loops of their own.
    pub fn for_each(&self, tasks: usize, f: impl Fn(usize) + Sync) {
        self.team.run(tasks, &|_, task| f(task));
    }

    /// Like [`Cpu::for_each`], with the working memory of the thread that runs the task.
    fn for_each_with(&self, tasks: usize, f: impl Fn(&mut Scratch, usize) + Sync) {
        self.team.run(tasks, &|thread, task| f(&mut lock(&self.scratch[thread]), task));
    }

    fn take_parts(&self) -> attention::Parts {
        lock(&self.parts).pop().unwrap_or_default()
    }

    fn give_back_parts(&self, parts: attention::Parts) {
        lock(&self.parts).push(parts);
    }
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cpu({} x {} threads)", self.isa(), self.threads())
    }
}
