//! What of a backend depends on its hosts being processes of their own.

use super::EngineError;
use crate::comm::{Comm, GivenUp, MpiComm};
use crate::tensor::{Backend, Cpu, HeadShape, KvPrecision, Processor};
use crate::world::{Fact, Facts, World};
use std::sync::Arc;

/// This process's end of the messages between hosts, and where it hears what others gave up.
pub(super) type Across<B> = (Box<dyn Comm<B>>, Arc<dyn GivenUp>);

/// A backend whose hosts may be processes.
pub(super) trait Processes: Backend {
    /// What of the processor must be the same for all hosts.
    fn facts(&self) -> Facts;

    /// Looks for what carries this backend's messages between processes, before anything is loaded.
    ///
    /// # Errors
    /// If it is not there.
    fn look_for_carrier() -> Result<(), EngineError>;

    /// Connects this process's host to those of `world`; `keys` says how keys are cached.
    ///
    /// # Errors
    /// If there is nothing that carries this backend's messages.
    fn connect(
        &self,
        world: &Arc<World>,
        keys: (KvPrecision, HeadShape),
    ) -> Result<Across<Self>, EngineError>;
}

impl Processes for Cpu {
    fn facts(&self) -> Facts {
        vec![
            Fact::new("the instruction set", self.isa(), "name one that all machines have"),
            Fact::new("tokens in a pass", self.chunk_tokens(), "give all ranks as many threads"),
        ]
    }

    /// Nothing: it brought the processes together.
    fn look_for_carrier() -> Result<(), EngineError> {
        Ok(())
    }

    fn connect(
        &self,
        world: &Arc<World>,
        (_, shape): (KvPrecision, HeadShape),
    ) -> Result<Across<Self>, EngineError> {
        let mpi = world.mpi().ok_or(EngineError::OnlyGpus)?;
        let (control, failing) = (Arc::clone(world.control()), Arc::clone(world.control()));
        let rank = world.rank();
        let comm = MpiComm::new(
            Arc::clone(mpi),
            shape.head_dim,
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
        let version = crate::world::find_nccl().map(|found| found.version.to_string());
        let version = version.unwrap_or_else(|_| "none".to_owned());
        vec![
            Fact::new("a GPU like", &self.device().properties().name, "use GPUs of one kind"),
            Fact::new("NCCL", version, "install the same version everywhere"),
        ]
    }

    fn look_for_carrier() -> Result<(), EngineError> {
        crate::world::find_nccl()
            .map(drop)
            .map_err(|error| EngineError::World(crate::world::WorldError::Nccl(error)))
    }

    fn connect(
        &self,
        world: &Arc<World>,
        keys: (KvPrecision, HeadShape),
    ) -> Result<Across<Self>, EngineError> {
        use crate::comm::{NcclComm, Outside};
        let library = asterism_link::nccl::Library::load()
            .map_err(|error| EngineError::World(crate::world::WorldError::Nccl(error)))?;
        let control = || Arc::clone(world.control());
        let (giving_up, telling, hearing, failing) = (control(), control(), control(), control());
        let rank = world.rank();
        let outside = Outside {
            give_up: Box::new(move |command| giving_up.give_up(command)),
            tell_id: Box::new(move |command, id| telling.send_key(command, id)),
            hear_id: Box::new(move |command, goes_on| hearing.keys().take(command, goes_on)),
            failed: Box::new(move |why| failing.lost(rank, why)),
        };
        let place = (rank, world.size());
        let comm = NcclComm::new(self, Arc::new(library), place, keys, outside)
            .map_err(crate::tensor::TensorError::from)?;
        world.on_loss(comm.let_go());
        let given_up = comm.given_up();
        Ok((Box::new(comm), given_up))
    }
}
