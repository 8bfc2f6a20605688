//! The CPU backend: one thread pool and the kernels of the best instruction set this machine has.
//!
//! * [`kernels`]: the inner loops, one table of functions per instruction set
//! * [`matmul`](PackedMatrix): linear layers over weights packed once
//! * [`attention`](Cpu::attend): blockwise attention with an online softmax and a log-sum-exp
//! * [`ops`](Cpu::rms_norm): normalisation, activation, rotation
//!
//! All in-process hosts share one backend: a host that waits for a message leaves its cores to the
//! others.

mod attention;
mod attention_few;
pub mod kernels;
mod matmul;
mod ops;
mod peak;
mod shared;

pub use attention::{HeadShape, KvSegment};
pub use kernels::Isa;
pub use matmul::PackedMatrix;
pub use peak::Peak;

use kernels::Kernels;

/// What can go wrong when the backend is set up.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// The named instruction set is not one we have kernels for.
    #[error("unknown instruction set {0:?}: expected one of auto, avx512, avx2, portable")]
    UnknownIsa(String),
    /// The instruction set exists but not on this machine.
    #[error("this machine has no {0}: leave ASTERISM_CPU unset to take the best it has")]
    MissingIsa(Isa),
    /// The operating system refused the threads.
    #[error("cannot start {threads} compute threads: {source}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// Why not.
        source: rayon::ThreadPoolBuildError,
    },
}

/// A pool of compute threads and the kernels they run.
pub struct Cpu {
    pool: rayon::ThreadPool,
    kernels: &'static Kernels,
}

impl Cpu {
    /// Starts `threads` compute threads (at least one) that use `isa`, or the best instruction set
    /// of this machine when `None`.
    ///
    /// # Errors
    /// If this machine lacks `isa`, or the threads cannot be started.
    pub fn new(threads: usize, isa: Option<Isa>) -> Result<Self, CpuError> {
        let isa = isa.unwrap_or_else(Isa::best);
        let kernels = Kernels::of(isa).ok_or(CpuError::MissingIsa(isa))?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .thread_name(|i| format!("compute-{i}"))
            .build()
            .map_err(|source| CpuError::Threads { threads, source })?;
        Ok(Self { pool, kernels })
    }

    /// Number of compute threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// The instruction set in use.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.kernels.isa
    }

    /// Runs `f(i)` for every `i` in `0..tasks` on the pool and waits for all of them.
    pub fn for_each(&self, tasks: usize, f: impl Fn(usize) + Sync) {
        self.for_each_with(tasks, || (), |(), i| f(i));
    }

    /// Like [`Cpu::for_each`], with scratch memory that each thread makes once per batch of tasks.
    pub fn for_each_with<S: Send>(
        &self,
        tasks: usize,
        scratch: impl Fn() -> S + Sync + Send,
        f: impl Fn(&mut S, usize) + Sync + Send,
    ) {
        use rayon::prelude::*;
        if tasks <= 1 {
            // Not worth waking a thread.
            let mut s = scratch();
            (0..tasks).for_each(|i| f(&mut s, i));
            return;
        }
        self.pool.install(|| {
            (0..tasks).into_par_iter().with_max_len(1).for_each_init(scratch, |s, i| f(s, i));
        });
    }
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cpu({} x {} threads)", self.isa(), self.threads())
    }
}
