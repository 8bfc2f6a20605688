//! This process's end of MPI: what may be asked of the thread that owns it.

use super::abi::Handle;
use super::find;
use super::library::{self, Loaded};
use super::payload::{Kind, Payload};
use super::traffic::{Deliver, Envelope, Order, Traffic};
use super::{Abi, MpiError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How messages are sent.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Messages are cut into pieces of so many bytes: lengths are ints in MPI. A multiple of 8, the
    /// same on all ranks.
    pub piece: usize,
    /// How long the other processes may take to enter MPI.
    pub wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { piece: 1 << 30, wait: Duration::from_secs(60) }
    }
}

/// This process's end of MPI. Messages between two ranks arrive in the order they were sent.
pub struct Mpi {
    rank: usize,
    size: usize,
    library: String,
    orders: Sender<Order>,
    deliver: Arc<OnceLock<Deliver>>,
}

/// What the thread says once it has entered MPI.
struct Entered {
    rank: usize,
    size: usize,
    library: String,
}

impl Mpi {
    /// Messages are numbered from 0 to one less than this; then numbers begin again. MPI promises
    /// 15 bits for a tag, and three say what the message carries.
    pub const NUMBERS: u16 = 1 << (15 - Kind::BITS);

    /// Enters MPI.
    ///
    /// # Errors
    /// If there is no MPI library, it fails, or the other processes do not come in time.
    pub fn start(options: Options) -> Result<Self, MpiError> {
        let (orders, receiver) = channel();
        let (entered, is_in) = channel();
        let deliver = Arc::<OnceLock<Deliver>>::default();
        let deliver_to = Arc::clone(&deliver);
        let run = move || {
            let failed = match find::load() {
                Ok((name, Loaded::Pointers(mpi))) => {
                    enter(mpi, &name, options, &entered, &receiver, &deliver_to)
                }
                Ok((name, Loaded::Ints(mpi))) => {
                    enter(mpi, &name, options, &entered, &receiver, &deliver_to)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = failed {
                // Of no account where nobody waits any more.
                let _ = entered.send(Err(error));
            }
        };
        std::thread::Builder::new()
            .name("asterism mpi".to_owned())
            .spawn(run)
            .map_err(|error| MpiError::NoThread(error.to_string()))?;
        let seconds = options.wait.as_secs();
        let Entered { rank, size, library } =
            is_in.recv_timeout(options.wait).map_err(|_| MpiError::NotUp { seconds })??;
        Ok(Self { rank, size, library, orders, deliver })
    }

    /// This process's number, from 0.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many processes there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// The library in use, and its version.
    #[must_use]
    pub fn library(&self) -> &str {
        &self.library
    }

    /// Every rank's `own`, all of the same length, in order of rank. Waits for all ranks, who must
    /// ask for the same thing, up to `wait`.
    ///
    /// # Errors
    /// If MPI fails, or others do not come.
    pub fn all_gather(&self, own: &[u8], wait: Duration) -> Result<Vec<Vec<u8>>, MpiError> {
        let (all, gathered) = channel();
        self.order(Order::Gather { own: own.to_vec(), all })?;
        let seconds = wait.as_secs();
        let all = gathered.recv_timeout(wait).map_err(|_| MpiError::NotUp { seconds })??;
        Ok(all.chunks(own.len().max(1)).map(<[u8]>::to_vec).collect())
    }

    /// From now on `hear` hears of messages, on the thread of MPI, and of the error that ends it;
    /// keys in them have heads of `head_dim` elements, which keys in 8 bits do not say. Messages
    /// that came before wait for it. Only the first call counts.
    pub fn deliver(
        &self,
        head_dim: usize,
        hear: impl Fn(Result<Envelope, MpiError>) + Send + Sync + 'static,
    ) {
        let _ = self.deliver.set(Deliver { head_dim, hear: Box::new(hear) });
    }

    /// Sends `payload` to `to`, with a number below [`Mpi::NUMBERS`]. Returns at once.
    ///
    /// # Errors
    /// [`MpiError::Ended`].
    pub fn send(&self, to: usize, number: u16, payload: Payload) -> Result<(), MpiError> {
        let tag = (number % Self::NUMBERS) << Kind::BITS | payload.kind().bits();
        self.order(Order::Send { to, tag, payload })
    }

    /// Says whether messages are expected from now on: only then, and while some are on their way,
    /// does the thread look for them.
    ///
    /// # Errors
    /// [`MpiError::Ended`].
    pub fn expect(&self, messages: bool) -> Result<(), MpiError> {
        self.order(Order::Busy(messages))
    }

    /// Leaves MPI once all messages have left. All ranks must.
    ///
    /// # Errors
    /// [`MpiError::NotUp`] if the others do not leave within `wait`, or if MPI fails.
    pub fn finish(&self, wait: Duration) -> Result<(), MpiError> {
        let (done, finished) = channel();
        self.order(Order::Finish(done))?;
        finished.recv_timeout(wait).map_err(|_| MpiError::NotUp { seconds: wait.as_secs() })?
    }

    /// Asks MPI to end the processes of all ranks. It may hang, but not the caller.
    pub fn abort(&self, exit_code: i32) {
        // Where the thread has ended there is nothing left to ask.
        let _ = self.order(Order::Abort(exit_code));
    }

    fn order(&self, order: Order) -> Result<(), MpiError> {
        self.orders.send(order).map_err(|_| MpiError::Ended)
    }
}

/// The life of the thread: enters MPI, tells so, and does what it is asked to.
fn enter<H: Handle>(
    mpi: library::Mpi<H>,
    name: &str,
    options: Options,
    entered: &Sender<Result<Entered, MpiError>>,
    orders: &Receiver<Order>,
    deliver: &OnceLock<Deliver>,
) -> Result<(), MpiError> {
    let library = describe(&mpi.version, name, mpi.abi);
    let world = mpi.init()?;
    let _ = entered.send(Ok(Entered { rank: world.rank, size: world.size, library }));
    let traffic = Traffic::new(world, options.piece, deliver);
    // A panic here must not leave others waiting for messages.
    let ended = catch_unwind(AssertUnwindSafe(|| traffic.run(orders)));
    if ended.is_err()
        && let Some(deliver) = deliver.get()
    {
        (deliver.hear)(Err(MpiError::Ended));
    }
    Ok(())
}

fn describe(version: &str, name: &str, abi: Abi) -> String {
    format!("{version} ({name}, {abi} interface)")
}
