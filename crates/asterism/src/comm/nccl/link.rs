//! The communicator of a host: connected when a command needs one, aborted when one is given up.

use super::lock;
use crate::comm::{CommError, GivenUp};
use crate::tensor::cuda::Device;
use asterism_link::nccl::{Communicator, Id, Library, NcclError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long the hosts may take to connect.
const CONNECTING: Duration = Duration::from_secs(60);
/// How long one may take to let go of what travels, when all do.
const ABORTING: Duration = Duration::from_secs(2);
/// How often a communicator is asked whether something went wrong.
const LOOKING: Duration = Duration::from_millis(250);

/// Says whether to go on waiting.
pub(crate) type GoesOn<'a> = &'a dyn Fn() -> bool;

/// Waits for the id by which the hosts connect for the command of a number, as long as it should.
type HearId = Box<dyn Fn(u64, GoesOn<'_>) -> Option<Vec<u8>> + Send + Sync>;

/// What a host needs of the connections to other processes that are not for tensors.
pub struct Outside {
    /// Tells the other hosts that the command of a number is given up.
    pub give_up: Box<dyn Fn(u64) + Send + Sync>,
    /// On rank 0: tells them the id by which they connect for the command of a number.
    pub tell_id: Box<dyn Fn(u64, Vec<u8>) + Send + Sync>,
    /// On the others: waits for it.
    pub hear_id: HearId,
    /// Hears of the error after which this process is of no use to the others.
    pub failed: Box<dyn Fn(String) + Send + Sync>,
}

/// The communicator and what becomes of it.
pub(super) struct Link {
    library: Arc<Library>,
    device: Arc<Device>,
    pub(super) rank: usize,
    pub(super) size: usize,
    outside: Outside,
    /// The command that is being obeyed; commands count from 1.
    current: AtomicU64,
    /// The latest command that a host gave up; 0 if none did.
    given_up: AtomicU64,
    communicator: Mutex<Option<Communicator>>,
    /// Communicators that are being aborted.
    aborting: Mutex<Vec<Receiver<()>>>,
}

impl Link {
    pub(super) fn new(
        library: Arc<Library>,
        device: Arc<Device>,
        (rank, size): (usize, usize),
        outside: Outside,
    ) -> Arc<Self> {
        let link = Arc::new(Self {
            library,
            device,
            rank,
            size,
            outside,
            current: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            communicator: Mutex::default(),
            aborting: Mutex::default(),
        });
        let watched = Arc::downgrade(&link);
        let watch = move || {
            while let Some(link) = watched.upgrade() {
                link.look();
                drop(link);
                std::thread::sleep(LOOKING);
            }
        };
        // Without it errors are seen when the next message is to be sent.
        let _ = std::thread::Builder::new().name("asterism nccl".to_owned()).spawn(watch);
        link
    }

    /// Looks whether something went wrong that no host caused: what is lost on the way never comes.
    fn look(&self) {
        let failed = match self.communicator.try_lock() {
            Ok(communicator) => communicator.as_ref().and_then(|all| all.health().err()),
            Err(_) => None,
        };
        if let Some(error) = failed
            && !self.is_given_up()
        {
            (self.outside.failed)(error.to_string());
        }
    }

    fn is_given_up(&self) -> bool {
        let current = self.current.load(Ordering::Acquire);
        self.given_up.load(Ordering::Acquire) >= current.max(1)
    }

    /// # Errors
    /// [`CommError::Aborted`] if a host gave up the command that is being obeyed.
    pub(super) fn check(&self) -> Result<(), CommError> {
        if self.is_given_up() { Err(CommError::Aborted) } else { Ok(()) }
    }

    /// Begins command `command`: connects the hosts if they are not.
    pub(super) fn begin(&self, command: u64) -> Result<(), CommError> {
        self.await_aborts()?;
        self.current.store(command, Ordering::Release);
        if self.size == 1 || lock(&self.communicator).is_some() {
            return Ok(());
        }
        let since = Instant::now();
        let goes_on = || !self.is_given_up() && since.elapsed() < CONNECTING;
        let id = self.id(command, &goes_on)?;
        let connected = id.map(|id| {
            let (library, place) = (&self.library, (self.rank, self.size));
            Communicator::connect(library, &self.device, &id, place, &goes_on)
        });
        match connected {
            Some(Ok(communicator)) => *lock(&self.communicator) = Some(communicator),
            Some(Err(error)) if error != NcclError::Stopped => return Err(error.into()),
            _ => {
                self.check()?;
                let seconds = CONNECTING.as_secs();
                let why = format!("not all GPUs were connected within {seconds} s");
                return Err(CommError::Failed { why });
            }
        }
        // Given up meanwhile: who was to abort it found none.
        if self.is_given_up() {
            self.start_abort();
        }
        self.check()
    }

    /// The id of the group that command `command` begins with.
    fn id(&self, command: u64, goes_on: GoesOn<'_>) -> Result<Option<Id>, CommError> {
        if self.rank > 0 {
            let bytes = (self.outside.hear_id)(command, goes_on);
            return Ok(bytes.and_then(|bytes| Id::of(&bytes)));
        }
        let id = self.library.new_id()?;
        (self.outside.tell_id)(command, id.bytes().to_vec());
        Ok(Some(id))
    }

    /// Works with the communicator.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&mut Communicator, GoesOn<'_>) -> Result<T, NcclError>,
    ) -> Result<T, CommError> {
        self.check()?;
        let mut communicator = lock(&self.communicator);
        let communicator = communicator.as_mut().ok_or(CommError::Aborted)?;
        Ok(work(communicator, &|| !self.is_given_up())?)
    }

    /// This host gives up the command that it obeys.
    pub(super) fn give_up(self: &Arc<Self>) {
        let command = self.current.load(Ordering::Acquire);
        self.hear(command);
        (self.outside.give_up)(command);
    }

    /// Aborts the communicator, on a thread of its own: it may hang.
    fn start_abort(&self) -> bool {
        let Some(communicator) = lock(&self.communicator).take() else { return false };
        let (done, is_done) = channel();
        let abort = move || {
            communicator.abort();
            let _ = done.send(());
        };
        // Where there is no thread for it, it is dropped here, which does the same.
        let _ = std::thread::Builder::new().name("asterism abort".to_owned()).spawn(abort);
        lock(&self.aborting).push(is_done);
        true
    }

    /// Waits until what was aborted is gone; if it does not go, this process does.
    fn await_aborts(&self) -> Result<(), CommError> {
        let deadline = Instant::now() + ABORTING;
        for is_done in lock(&self.aborting).drain(..) {
            let left = deadline.saturating_duration_since(Instant::now());
            if is_done.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                let seconds = ABORTING.as_secs();
                (self.outside.failed)(format!("NCCL did not let go within {seconds} s"));
                return Err(CommError::Aborted);
            }
        }
        Ok(())
    }

    /// Lets go of what travels, and waits for that as long as it may take.
    pub(super) fn let_go(&self) {
        self.given_up.store(u64::MAX, Ordering::Release);
        self.start_abort();
        let deadline = Instant::now() + ABORTING;
        for is_done in lock(&self.aborting).drain(..) {
            let _ = is_done.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        }
    }
}

impl GivenUp for Link {
    fn hear(&self, command: u64) {
        self.given_up.fetch_max(command, Ordering::AcqRel);
        if command >= self.current.load(Ordering::Acquire) {
            self.start_abort();
        }
    }

    fn has_heard(&self, command: u64) -> bool {
        self.given_up.load(Ordering::Acquire) == command
    }
}
