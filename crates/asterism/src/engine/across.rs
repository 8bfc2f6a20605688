//! What of a backend depends on its hosts being processes of their own.

use super::EngineError;
use crate::comm::{Comm, GivenUp, MpiComm};
use crate::tensor::{Backend, Cpu};
use crate::world::{Fact, Facts, World};
use std::sync::Arc;

/// This process's end of the messages between hosts, and where it hears what others gave up.
pub(super) type Across<B> = (Box<dyn Comm<B>>, GivenUp);

/// A backend whose hosts may be processes.
pub(super) trait Processes: Backend {
    /// What of the processor must be the same for all hosts.
    fn facts(&self) -> Facts;

    /// Connects this process's host to those of `world`.
    ///
    /// # Errors
    /// If there is nothing that carries this backend's messages.
    fn connect(world: &Arc<World>) -> Result<Across<Self>, EngineError>;
}

impl Processes for Cpu {
    fn facts(&self) -> Facts {
        vec![
            Fact::new("the instruction set", self.isa(), "name one that all machines have"),
            Fact::new("tokens in a pass", self.chunk_tokens(), "give all ranks as many threads"),
        ]
    }

    fn connect(world: &Arc<World>) -> Result<Across<Self>, EngineError> {
        let (control, failing) = (Arc::clone(world.control()), Arc::clone(world.control()));
        let rank = world.rank();
        let comm = MpiComm::new(
            Arc::clone(world.mpi()),
            move |command| control.give_up(command),
            move |error| failing.lost(rank, error.to_string()),
        );
        let given_up = comm.given_up();
        Ok((Box::new(comm), given_up))
    }
}

#[cfg(feature = "cuda")]
impl Processes for crate::tensor::Cuda {
    fn facts(&self) -> Facts {
        Facts::new()
    }

    fn connect(_: &Arc<World>) -> Result<Across<Self>, EngineError> {
        Err(EngineError::OnlyThreads)
    }
}
