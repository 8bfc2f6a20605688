//! Processes that were started together, each of them one host: on one machine or many.
//!
//! [`World::join`] finds out from the launcher's variables whether there are others, enters MPI and
//! connects every rank to rank 0. Tensors travel by MPI; commands, and the signs that everybody is
//! alive, by these connections. If a rank is lost, every rank says which and why, and ends: MPI
//! cannot take a process back.
//!
//! ```no_run
//! use asterism::engine::{Engine, EngineOptions};
//! use asterism::model::{FetchOptions, ModelSource};
//! use asterism::world::World;
//! use std::sync::Arc;
//!
//! # fn main() -> Result<(), asterism::engine::EngineError> {
//! // Under `mpirun -n 4`, say, every process runs this.
//! let world = World::join()?;
//! let hosts = world.as_ref().map_or(1, |world| world.size());
//! let files = "nano".parse::<ModelSource>()?.resolve(&FetchOptions::default())?;
//! let options = EngineOptions { processes: world.clone(), ..EngineOptions::default() };
//! let engine = Arc::new(Engine::load(files, &options)?);
//! if world.as_ref().is_some_and(|world| world.rank() > 0) {
//!     engine.serve()?; // until rank 0 has finished
//! } else {
//!     let book = engine.context("It was a long night.").hosts(hosts).encode()?;
//!     println!("{}", book.ask("How long was it?")?.finish()?.text);
//! }
//! drop(engine);
//! if let Some(world) = world {
//!     world.finish(0);
//! }
//! # Ok(())
//! # }
//! ```

mod agree;
mod control;
mod error;
mod frame;
mod launch;
mod meet;

pub(crate) use agree::{Fact, Facts};
pub use asterism_link::mpi::{Found as FoundMpi, MpiError, find as find_mpi};
pub(crate) use control::{Control, Events};
pub use error::WorldError;
pub(crate) use frame::{Frame, Kind};
pub use launch::{Launch, LaunchError, Launcher};

use asterism_link::mpi::{Mpi, Options};
use asterism_link::system;
use control::{Lost, Pulse};
use meet::{Door, Host};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The exit code of processes that end because a rank was lost.
pub const LOST: i32 = 13;

/// How long the processes may take to find each other.
const MEETING: Duration = Duration::from_secs(60);
/// How long they may take to part.
const PARTING: Duration = Duration::from_secs(5);
/// Between the first sign of a loss and the end: so long others have to hear of it.
const TELLING: Duration = Duration::from_millis(200);
/// How long MPI may take to end all processes, before each ends itself.
const ABORTING: Duration = Duration::from_secs(1);
/// Bytes in which a rank describes itself to the others.
const CARD: usize = 512;

/// The processes that were started together.
pub struct World {
    launch: Launch,
    /// How many ranks share this machine.
    neighbours: usize,
    mpi: Arc<Mpi>,
    control: Arc<Control>,
    /// Frames of other ranks, with the rank that sent them.
    events: Mutex<Events>,
    /// An engine works with them.
    is_taken: AtomicBool,
}

impl World {
    /// The processes that this one was started with; `None` if it was started alone.
    ///
    /// When a rank is lost later on, this process says so on standard error and ends with exit
    /// code [`LOST`], whatever it is doing.
    ///
    /// # Errors
    /// If the launcher's variables contradict each other, there is no MPI, or ranks are missing.
    pub fn join() -> Result<Option<Arc<Self>>, WorldError> {
        Launch::detect()?.map(|launch| Self::meet(launch).map(Arc::new)).transpose()
    }

    fn meet(launch: Launch) -> Result<Self, WorldError> {
        let mpi = Arc::new(Mpi::start(Options { wait: MEETING, ..Options::default() })?);
        let Launch { launcher, rank, size } = launch;
        if (mpi.rank(), mpi.size()) != (rank, size) {
            let library = mpi.library().to_owned();
            let (launched, rank, size) = (size, mpi.rank(), mpi.size());
            return Err(WorldError::OtherMpi { launcher, launched, library, rank, size });
        }
        let own = machine();
        let machines = mpi.all_gather(&own, MEETING)?;
        let neighbours = machines.iter().filter(|machine| **machine == own).count();
        let host = (rank == 0).then(|| Host::open(neighbours == size)).transpose();
        // Before an error is returned: the others wait for the door.
        let door = host.as_ref().ok().and_then(Option::as_ref).map(|host| host.door.clone());
        let door = exchange(&mpi, door)?;
        let streams = match host? {
            Some(host) => host.receive(size, MEETING)?,
            None => {
                let closed = WorldError::NoWay { why: "it opened no port".to_owned() };
                vec![(0, door.ok_or(closed)?.enter(rank, MEETING)?)]
            }
        };
        let mpi_to_abort = Arc::clone(&mpi);
        let on_lost = move |lost: &Lost| end(rank, lost, &mpi_to_abort);
        let started = Control::start(rank, streams, Pulse::default(), on_lost);
        let (control, events) = started.map_err(|error| WorldError::NoPort(error.to_string()))?;
        let (events, is_taken) = (Mutex::new(events), AtomicBool::new(false));
        Ok(Self { launch, neighbours, mpi, control, events, is_taken })
    }

    /// This process's number, from 0. Rank 0 leads.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.launch.rank
    }

    /// How many processes there are: hosts.
    #[must_use]
    pub fn size(&self) -> usize {
        self.launch.size
    }

    /// Who started them.
    #[must_use]
    pub fn launch(&self) -> Launch {
        self.launch
    }

    /// How many of them share this machine, this one included.
    #[must_use]
    pub fn neighbours(&self) -> usize {
        self.neighbours
    }

    /// The MPI library in use.
    #[must_use]
    pub fn library(&self) -> &str {
        self.mpi.library()
    }

    pub(crate) fn mpi(&self) -> &Arc<Mpi> {
        &self.mpi
    }

    pub(crate) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Frames of other ranks. One at a time reads them.
    pub(crate) fn events(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the processes for an engine.
    pub(crate) fn take(&self) -> Result<(), WorldError> {
        let was_taken = self.is_taken.swap(true, Ordering::AcqRel);
        if was_taken { Err(WorldError::Taken) } else { Ok(()) }
    }

    /// What a rank does that cannot take part: tells rank 0 why, and waits for the end.
    pub fn give_up(&self, why: &str) {
        if self.control.is_ending() {
            return;
        }
        self.control.send(&Frame::new(Kind::Failed, why.as_bytes().to_vec()));
        while let Ok((_, frame)) = self.events().recv() {
            if frame.kind == Kind::Bye {
                return;
            }
        }
    }

    /// Parts from the other processes, as the last thing before this one ends with `exit_code`:
    /// rank 0 when there is nothing left to do, the others when it has told them so. Where the
    /// others do not part within a few seconds, this process ends here.
    pub fn finish(&self, exit_code: i32) {
        self.control.end();
        if self.rank() == 0 {
            self.control.send(&Frame::new(Kind::Bye, Vec::new()));
        }
        let parted = self.mpi.finish(PARTING);
        self.control.close();
        if parted.is_err() {
            // The thread of MPI is still in it, where no destructor should run.
            system::leave(exit_code);
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("launch", &self.launch).finish_non_exhaustive()
    }
}

/// Everybody learns where rank 0 waits.
fn exchange(mpi: &Mpi, door: Option<Door>) -> Result<Option<Door>, WorldError> {
    // At most 16 addresses of 17 bytes, a port and a secret: they fit.
    let mut card = postcard::to_stdvec(&door).unwrap_or_default();
    card.resize(CARD, 0);
    let cards = mpi.all_gather(&card, MEETING)?;
    let first = cards.first().map_or(&[][..], Vec::as_slice);
    Ok(postcard::take_from_bytes(first).ok().and_then(|(door, _)| door))
}

/// What tells this machine, as far as its network goes, from others.
fn machine() -> [u8; 32] {
    let mut hash = Sha256::new();
    for file in ["/proc/sys/kernel/random/boot_id", "/etc/machine-id"] {
        hash.update(std::fs::read(file).unwrap_or_default());
    }
    let network = std::fs::read_link("/proc/self/ns/net").unwrap_or_default();
    hash.update(network.as_os_str().as_encoded_bytes());
    hash.finalize().into()
}

/// Says what was lost, and ends this process, by MPI's help or without it.
fn end(rank: usize, lost: &Lost, mpi: &Mpi) {
    let prefix = if rank == 0 { String::new() } else { format!("[rank {rank}] ") };
    eprintln!("{prefix}error: {lost}");
    std::thread::sleep(TELLING);
    mpi.abort(LOST);
    std::thread::sleep(ABORTING);
    system::leave(LOST);
}
