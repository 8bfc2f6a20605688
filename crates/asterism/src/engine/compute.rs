//! A decoder on a backend and the hosts that work with it, behind a type that does not say which
//! backend: the one place where it is chosen at run time.

use super::across::{Across, Processes};
use super::group::Group;
use super::host::Host;
use super::loaded::Loaded;
use super::memory::{MemoryNeed, MemoryUse};
use super::remote;
use super::request::Request;
use super::service::Service;
use super::{DecodeWeights, EngineError, EngineOptions};
use crate::cache::Ledger;
use crate::comm::{Comm, LocalComm};
use crate::model::{Checkpoint, Decoder, ModelConfig, Precisions, StageTimes};
use crate::plan::Plan;
use crate::tensor::{Backend, KvPrecision, Peak, Precision};
use crate::world::{Fact, Facts, World};
use std::collections::BTreeMap;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A loaded model.
pub(super) trait Compute: Send + Sync {
    fn precision(&self) -> Precision;
    fn kv_precision(&self) -> KvPrecision;
    fn row_precision(&self) -> Precision;
    fn weight_bytes(&self) -> usize;
    fn hardware(&self) -> String;
    fn peak(&self) -> Result<Peak, EngineError>;
    fn take_peak_memory(&self) -> Result<Option<u64>, EngineError>;
    fn take_stages(&self) -> Result<Option<StageTimes>, EngineError>;
    fn memory(&self) -> Result<MemoryUse, EngineError>;

    /// What `plan` takes of memory, with room for `reserve` tokens of question and answer.
    fn memory_need(&self, plan: &Plan, reserve: usize) -> MemoryNeed;

    /// Where the group of `hosts` hosts takes requests. It is started when it is first needed, and
    /// ends with the engine.
    fn requests(&self, hosts: usize) -> Result<Sender<Request>, EngineError>;

    /// What of it must be the same in all processes whose hosts work together.
    fn facts(&self) -> Facts;

    /// Obeys rank 0 as a host of [`EngineOptions::processes`] until that ends, and keeps up to
    /// `spare` bytes of blocks that no context holds.
    fn serve(&self, spare: u64) -> Result<(), EngineError>;
}

/// [`Compute`] on one kind of backend.
pub(super) struct On<B: Backend> {
    loaded: Arc<Loaded<B>>,
    ledger: Ledger,
    /// Bytes of blocks that no context holds which a group may keep.
    spare: u64,
    decode_weights: DecodeWeights,
    /// The processes that are its hosts; threads if there are none.
    world: Option<Arc<World>>,
    /// The groups that were started, by their number of hosts.
    groups: Mutex<BTreeMap<usize, Running>>,
}

/// A group of hosts at work.
struct Running {
    requests: Sender<Request>,
    thread: JoinHandle<()>,
}

impl<B: Processes> On<B> {
    pub(super) fn load(
        backend: B,
        config: ModelConfig,
        checkpoint: &Arc<Checkpoint>,
        options: &EngineOptions,
        progress: &dyn Fn(usize, usize),
    ) -> Result<Self, EngineError> {
        let EngineOptions { precision, kv_precision, time_stages, .. } = *options;
        if options.processes.is_some() {
            B::look_for_carrier()?;
        }
        let keys = kv_precision.unwrap_or(precision.into());
        let precisions = Precisions { weights: precision, keys };
        let decoder =
            Decoder::load(&backend, config, checkpoint, precisions, time_stages, progress)?;
        let loaded = Arc::new(Loaded { backend, decoder });
        let ledger = if B::shares_memory() {
            let loaded = Arc::clone(&loaded);
            // A system that fails to tell does not tell.
            Ledger::shared(move || loaded.backend.free_memory().ok().flatten())
        } else {
            Ledger::new(loaded.backend.free_memory()?)
        };
        let world = options.processes.clone();
        let EngineOptions { cache_bytes: spare, decode_weights, .. } = *options;
        Ok(Self { loaded, ledger, spare, decode_weights, world, groups: Mutex::default() })
    }

    /// Makes `ledger` the account of its memory.
    #[cfg(test)]
    pub(super) fn set_ledger(&mut self, ledger: Ledger) {
        self.ledger = ledger;
    }

    fn host(&self, comm: Box<dyn Comm<B>>, spare: u64) -> Host<B> {
        Host::new(Arc::clone(&self.loaded), comm, self.ledger.clone(), spare)
    }

    fn connect(&self, world: &Arc<World>) -> Result<Across<B>, EngineError> {
        let Loaded { backend, decoder } = &*self.loaded;
        backend.connect(world, (decoder.kv_precision(), decoder.shape()))
    }

    fn start(&self, hosts: usize) -> Result<Running, EngineError> {
        let group = match &self.world {
            None => {
                let comms = LocalComm::<B>::group(hosts).into_iter();
                let host = |comm| self.host(Box::new(comm), self.spare / hosts as u64);
                Group::threads(comms.map(host).collect(), self.decode_weights)?
            }
            Some(world) => {
                check_world(world, hosts)?;
                let (comm, given_up) = self.connect(world)?;
                world.control().on_given_up(move |command| given_up.hear(command));
                let lead = self.host(comm, self.spare / hosts as u64);
                Group::processes(lead, Arc::clone(world), self.decode_weights)
            }
        };
        let (requests, receiver) = channel();
        let service = Service::new(group, receiver, requests.clone());
        let name = format!("asterism {hosts} hosts");
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(move || service.run())
            .map_err(EngineError::NoThread)?;
        Ok(Running { requests, thread })
    }
}

impl<B: Processes> Compute for On<B> {
    fn precision(&self) -> Precision {
        self.loaded.decoder.precision()
    }

    fn kv_precision(&self) -> KvPrecision {
        self.loaded.decoder.kv_precision()
    }

    fn row_precision(&self) -> Precision {
        B::ROWS
    }

    fn weight_bytes(&self) -> usize {
        self.loaded.decoder.weight_bytes()
    }

    fn hardware(&self) -> String {
        self.loaded.backend.describe()
    }

    fn peak(&self) -> Result<Peak, EngineError> {
        Ok(self.loaded.backend.peak(self.precision())?)
    }

    fn take_stages(&self) -> Result<Option<StageTimes>, EngineError> {
        Ok(self.loaded.decoder.take_stages(&self.loaded.backend)?)
    }

    fn take_peak_memory(&self) -> Result<Option<u64>, EngineError> {
        Ok(self.loaded.backend.take_peak_memory()?)
    }

    fn memory(&self) -> Result<MemoryUse, EngineError> {
        let reserved = self.ledger.reserved();
        let free = if B::shares_memory() {
            self.loaded.backend.free_memory()?
        } else {
            self.ledger.capacity().map(|capacity| capacity.saturating_sub(reserved))
        };
        Ok(MemoryUse { reserved, free })
    }

    fn memory_need(&self, plan: &Plan, reserve: usize) -> MemoryNeed {
        let decoder = &self.loaded.decoder;
        MemoryNeed::on::<B>(decoder.config(), decoder.kv_precision(), plan, reserve)
    }

    fn requests(&self, hosts: usize) -> Result<Sender<Request>, EngineError> {
        // Only whole groups are ever put into the map.
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = groups.get(&hosts) {
            return Ok(running.requests.clone());
        }
        let running = self.start(hosts)?;
        let requests = running.requests.clone();
        groups.insert(hosts, running);
        Ok(requests)
    }

    fn facts(&self) -> Facts {
        let mut facts = vec![
            Fact::new("weights in", self.precision(), "load the same precision on all ranks"),
            Fact::new("keys in", self.kv_precision(), "cache the same precision on all ranks"),
            Fact::new(
                "activations in",
                B::ROWS,
                "compute on the same kind of processor everywhere",
            ),
        ];
        facts.extend(self.loaded.backend.facts());
        facts
    }

    fn serve(&self, spare: u64) -> Result<(), EngineError> {
        let Some(world) = &self.world else { return Err(EngineError::NotStartedTogether) };
        let (comm, given_up) = self.connect(world)?;
        let host = self.host(comm, spare / world.size() as u64);
        remote::serve(host, world, &given_up)
    }
}

/// Refuses to lead other hosts than the processes there are.
fn check_world(world: &World, hosts: usize) -> Result<(), EngineError> {
    let (rank, size) = (world.rank(), world.size());
    if rank > 0 {
        return Err(EngineError::NotLeading { rank });
    }
    if hosts != size {
        return Err(EngineError::OtherHosts { hosts, size });
    }
    Ok(())
}

impl<B: Backend> Drop for On<B> {
    fn drop(&mut self) {
        let groups = self.groups.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (_, Running { requests, thread }) in std::mem::take(groups) {
            // A group that has ended already needs no telling.
            let _ = requests.send(Request::Stop);
            let _ = thread.join();
        }
    }
}
