//! Processes that were started together, each of them one host: on one machine or many.
//!
//! [`World::join`] finds out from the launcher's variables whether there are others, enters MPI and
//! connects every rank to rank 0. Tensors travel by MPI, or by NCCL where hosts compute on GPUs
//! ([`World::join_by`]); commands, and the signs that everybody is alive, by these connections. If
//! a rank is lost, every rank says which and why, and ends: MPI cannot take a process back.
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
mod keys;
mod launch;
mod meet;
mod rendezvous;

pub(crate) use agree::{Fact, Facts};
pub use asterism_link::mpi::{Found as FoundMpi, MpiError, find as find_mpi};
#[cfg(feature = "cuda")]
pub use asterism_link::nccl::{Found as FoundNccl, NcclError, find as find_nccl};
pub use asterism_link::system::family;
pub(crate) use control::{Control, Events};
pub use error::WorldError;
pub(crate) use frame::{Frame, Kind};
pub use launch::{Launch, LaunchError, Launcher};

use asterism_link::mpi::{Mpi, Options};
use asterism_link::system;
use control::{Lost, Pulse};
use meet::{Door, Host};
use rendezvous::Rendezvous;
use sha2::{Digest, Sha256};
use std::fmt;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

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
/// How long whatever carries tensors may take to let go.
const LETTING_GO: Duration = Duration::from_secs(2);
/// Bytes in which a rank describes itself to the others.
const CARD: usize = 512;

/// What carries tensors between the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// MPI: between hosts that compute on CPUs.
    Mpi,
    /// NCCL: between GPUs.
    Nccl,
}

/// Lets go of what carries tensors, before the process ends because a rank was lost.
type LetGo = Box<dyn Fn() + Send + Sync>;

/// The processes that were started together.
pub struct World {
    launch: Launch,
    /// How many ranks share this machine, and which of them this is.
    neighbours: usize,
    local_rank: usize,
    /// Where it brought the processes together.
    mpi: Option<Arc<Mpi>>,
    control: Arc<Control>,
    let_go: Arc<OnceLock<LetGo>>,
    /// Frames of other ranks, with the rank that sent them.
    events: Mutex<Events>,
    /// An engine works with them.
    is_taken: AtomicBool,
}

impl World {
    /// The processes that this one was started with; `None` if it was started alone. They compute
    /// on CPUs.
    ///
    /// When a rank is lost later on, this process says so on standard error and ends with exit
    /// code [`LOST`], whatever it is doing.
    ///
    /// # Errors
    /// If the launcher's variables contradict each other, there is no MPI, or ranks are missing.
    pub fn join() -> Result<Option<Arc<Self>>, WorldError> {
        Self::join_by(Carrier::Mpi)
    }

    /// As [`World::join`], for hosts whose tensors go by `carrier`. With NCCL, which is loaded
    /// later, ranks meet where the launcher's variables say, or by MPI if that started them. Sets a
    /// variable of NCCL's, so it is to be called when the program begins.
    ///
    /// # Errors
    /// As [`World::join`]; [`WorldError::NoMeeting`].
    pub fn join_by(carrier: Carrier) -> Result<Option<Arc<Self>>, WorldError> {
        let Some(launch) = Launch::detect()? else { return Ok(None) };
        let meet = || match carrier {
            Carrier::Mpi => Self::meet_by_mpi(launch),
            Carrier::Nccl => {
                #[cfg(feature = "cuda")]
                asterism_link::nccl::avoid_multicast();
                match Rendezvous::of(launch, &variable)? {
                    Some(place) => Self::meet_at(launch, &place),
                    None if matches!(launch.launcher, Launcher::OpenMpi | Launcher::Hydra) => {
                        Self::meet_by_mpi(launch)
                    }
                    None => Err(WorldError::NoMeeting { launcher: launch.launcher }),
                }
            }
        };
        meet().map(|world| Some(Arc::new(world)))
    }

    fn meet_by_mpi(launch: Launch) -> Result<Self, WorldError> {
        let mpi = Arc::new(Mpi::start(Options { wait: MEETING, ..Options::default() })?);
        let Launch { launcher, rank, size } = launch;
        if (mpi.rank(), mpi.size()) != (rank, size) {
            let library = mpi.library().to_owned();
            let (launched, rank, size) = (size, mpi.rank(), mpi.size());
            return Err(WorldError::OtherMpi { launcher, launched, library, rank, size });
        }
        let own = machine();
        let machines = mpi.all_gather(&own, MEETING)?;
        let on_this = |machines: &[Vec<u8>]| machines.iter().filter(|m| **m == own).count();
        let (neighbours, local_rank) = (on_this(&machines), on_this(&machines[..rank]));
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
        let world = Self::of(launch, (neighbours, local_rank), Some(Arc::clone(&mpi)), streams)?;
        world.on_loss(move || {
            mpi.abort(LOST);
            // It ends this process, or does not.
            std::thread::sleep(ABORTING);
        });
        Ok(world)
    }

    fn meet_at(launch: Launch, place: &Rendezvous) -> Result<Self, WorldError> {
        let Launch { rank, size, .. } = launch;
        let streams = match rank {
            0 => place.receive(size, MEETING)?,
            _ => vec![(0, place.enter(rank, MEETING)?)],
        };
        let neighbours = match variable("LOCAL_WORLD_SIZE") {
            Some(value) => launch::number("LOCAL_WORLD_SIZE", value)?,
            None if place.is_local() => size,
            None => 1,
        };
        let local_rank = rendezvous::local_rank(&variable)?;
        let local_rank = local_rank.unwrap_or(if place.is_local() { rank } else { 0 });
        Self::of(launch, (neighbours, local_rank), None, streams)
    }

    fn of(
        launch: Launch,
        (neighbours, local_rank): (usize, usize),
        mpi: Option<Arc<Mpi>>,
        streams: Vec<(usize, TcpStream)>,
    ) -> Result<Self, WorldError> {
        let let_go = Arc::<OnceLock<LetGo>>::default();
        let (rank, letting_go) = (launch.rank, Arc::clone(&let_go));
        let on_lost = move |lost: &Lost| end(rank, lost, &letting_go);
        let started = Control::start(rank, streams, Pulse::default(), on_lost);
        let (control, events) = started.map_err(|error| WorldError::NoPort(error.to_string()))?;
        let (events, is_taken) = (Mutex::new(events), AtomicBool::new(false));
        Ok(Self { launch, neighbours, local_rank, mpi, control, let_go, events, is_taken })
    }

    /// When a rank is lost, `let_go` runs before this process ends, which does not wait for it for
    /// more than seconds. Only the first call counts.
    pub(crate) fn on_loss(&self, let_go: impl Fn() + Send + Sync + 'static) {
        let _ = self.let_go.set(Box::new(let_go));
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

    /// Which of them this one is, from 0: of several GPUs, each takes its own.
    #[must_use]
    pub fn local_rank(&self) -> usize {
        self.local_rank
    }

    /// The MPI library in use, if one is.
    #[must_use]
    pub fn library(&self) -> Option<&str> {
        self.mpi.as_deref().map(Mpi::library)
    }

    pub(crate) fn mpi(&self) -> Option<&Arc<Mpi>> {
        self.mpi.as_ref()
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
        let parted = match &self.mpi {
            Some(mpi) => mpi.finish(PARTING).is_ok(),
            None => self.rank() > 0 || self.all_have_left(),
        };
        self.control.close();
        if !parted {
            // Where a thread of MPI is still in it, no destructor should run.
            system::leave(exit_code);
        }
    }

    /// Waits until all others have closed their connections, so that none misses the last word.
    fn all_have_left(&self) -> bool {
        let (events, deadline) = (self.events(), Instant::now() + PARTING);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match events.recv_timeout(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
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

/// A variable of the environment that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Says what was lost, and ends this process, as soon as what carries tensors has let go or has
/// taken too long for that.
fn end(rank: usize, lost: &Lost, let_go: &Arc<OnceLock<LetGo>>) {
    let prefix = if rank == 0 { String::new() } else { format!("[rank {rank}] ") };
    eprintln!("{prefix}error: {lost}");
    std::thread::sleep(TELLING);
    let (let_go, (done, is_done)) = (Arc::clone(let_go), channel());
    let letting_go = std::thread::Builder::new().spawn(move || {
        if let Some(let_go) = let_go.get() {
            let_go();
        }
        let _ = done.send(());
    });
    if letting_go.is_ok() {
        // Where it hangs, or panicked, the process ends all the same.
        let _ = is_done.recv_timeout(LETTING_GO);
    }
    system::leave(LOST);
}
