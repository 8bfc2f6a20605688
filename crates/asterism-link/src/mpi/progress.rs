//! The thread that owns MPI.

use super::abi::Handle;
use super::find;
use super::library::{self, Arrived, Loaded, Received, Receiving, Sending};
use super::payload::{Buffer, Kind, Payload, Pool};
use super::{Abi, MpiError};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

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

/// A message that was received.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// The rank that sent it.
    pub from: usize,
    /// The number that it was sent with.
    pub number: u16,
    /// What it carries.
    pub payload: Payload,
}

/// What becomes of messages that come.
struct Deliver {
    /// Elements of a head of their keys.
    head_dim: usize,
    /// Hears of messages, on the thread of MPI, and of the error that ends it.
    hear: Box<dyn Fn(Result<Envelope, MpiError>) + Send + Sync>,
}

/// This process's end of MPI. Messages between two ranks arrive in the order they were sent.
pub struct Mpi {
    rank: usize,
    size: usize,
    library: String,
    orders: Sender<Order>,
    deliver: Arc<OnceLock<Deliver>>,
}

/// What the thread is asked to do.
enum Order {
    Send { to: usize, tag: u16, payload: Payload },
    Gather { own: Vec<u8>, all: Sender<Result<Vec<u8>, MpiError>> },
    Busy(bool),
    Finish(Sender<Result<(), MpiError>>),
    Abort(i32),
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
    let incoming = (0..world.size).map(|_| VecDeque::new()).collect();
    let traffic = Traffic {
        world,
        piece: options.piece,
        sending: Vec::new(),
        incoming,
        pool: Pool::default(),
        deliver,
    };
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

/// A message that is coming, in one piece or several.
struct Incoming<H: Handle> {
    kind: Kind,
    number: u16,
    bytes: usize,
    state: State<H>,
    /// Pieces that have come and are not being received yet.
    pieces: VecDeque<Arrived<H>>,
    /// Its last piece has come.
    is_whole: bool,
}

enum State<H: Handle> {
    Waiting(Buffer),
    Receiving(Receiving<H>),
    /// Only in between, or after an error.
    Gone,
}

/// Messages on their way.
struct Traffic<'a, H: Handle> {
    world: library::World<H>,
    piece: usize,
    sending: Vec<Sending<H>>,
    /// By the rank they come from, oldest first.
    incoming: Vec<VecDeque<Incoming<H>>>,
    pool: Pool,
    deliver: &'a OnceLock<Deliver>,
}

/// Without news for so long, the thread begins to sleep between looks.
const SPIN: Duration = Duration::from_millis(1);
/// Without news for so long, longer.
const LONG: Duration = Duration::from_millis(100);
const NAPS: [Duration; 2] = [Duration::from_micros(50), Duration::from_micros(500)];
/// After the last of its work it looks for so long: commands come in quick succession, and what
/// others still sent for one that failed is taken off their hands.
const LINGER: Duration = Duration::from_millis(200);

impl<H: Handle> Traffic<'_, H> {
    /// Does what it is asked to, and moves messages, until it is to finish.
    fn run(mut self, orders: &Receiver<Order>) {
        let (mut is_busy, mut last_news) = (false, Instant::now());
        let mut failed = false;
        loop {
            let quiet = last_news.elapsed();
            let is_attentive = !failed && (is_busy || self.is_moving() || quiet < LINGER);
            let order = if !is_attentive {
                orders.recv().map_err(|_| TryRecvError::Disconnected)
            } else if quiet < SPIN {
                orders.try_recv()
            } else {
                let nap = NAPS[usize::from(quiet > LONG)];
                orders.recv_timeout(nap).map_err(|error| match error {
                    RecvTimeoutError::Timeout => TryRecvError::Empty,
                    RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
                })
            };
            let result = match order {
                Ok(Order::Busy(busy)) => {
                    is_busy = busy;
                    Ok(true)
                }
                Ok(Order::Send { to, tag, payload }) => self.send(to, tag, &payload).map(|()| true),
                Ok(Order::Gather { own, all }) => {
                    let _ = all.send(self.world.all_gather(&own));
                    Ok(true)
                }
                Ok(Order::Abort(code)) => {
                    self.world.abort(code);
                    Ok(true)
                }
                Ok(Order::Finish(done)) => {
                    let _ = done.send(self.finish());
                    return;
                }
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => self.advance(),
            };
            match result {
                Ok(true) => last_news = Instant::now(),
                Ok(false) if quiet < SPIN => std::thread::yield_now(),
                Ok(false) => {}
                Err(error) => {
                    failed = true;
                    if let Some(deliver) = self.deliver.get() {
                        (deliver.hear)(Err(error));
                    }
                }
            }
        }
    }

    /// Whether messages are on their way.
    fn is_moving(&self) -> bool {
        !self.sending.is_empty() || self.incoming.iter().any(|from| !from.is_empty())
    }

    fn send(&mut self, to: usize, tag: u16, payload: &Payload) -> Result<(), MpiError> {
        let bytes = payload.as_bytes().len();
        // A piece of full length is followed by another, be it an empty one.
        for start in (0..=bytes).step_by(self.piece) {
            let range = start..(start + self.piece).min(bytes);
            self.sending.push(self.world.send(to, tag, payload, range)?);
        }
        Ok(())
    }

    /// Looks once what has left and what has come. Whether there was any news.
    fn advance(&mut self) -> Result<bool, MpiError> {
        let mut news = self.let_go()?;
        if self.deliver.get().is_some() {
            while let Some(arrived) = self.world.arrived()? {
                news = true;
                self.note(arrived)?;
            }
            for from in 0..self.incoming.len() {
                news |= self.receive(from)?;
            }
        }
        Ok(news)
    }

    /// Lets go of what has left.
    fn let_go(&mut self) -> Result<bool, MpiError> {
        let before = self.sending.len();
        let mut result = Ok(());
        self.sending.retain_mut(|sending| match self.world.has_left(sending) {
            Ok(has_left) => !has_left,
            Err(error) => {
                result = Err(error);
                true
            }
        });
        result.map(|()| self.sending.len() < before)
    }

    /// Notes a piece that has come.
    fn note(&mut self, arrived: Arrived<H>) -> Result<(), MpiError> {
        let Arrived { from, tag, bytes, .. } = arrived;
        let strange = MpiError::Strange { from, tag, bytes };
        let is_whole = bytes < self.piece;
        let queue = self.incoming.get_mut(from).ok_or(strange.clone())?;
        let kind = Kind::of_tag(tag).ok_or(strange.clone())?;
        match queue.back_mut() {
            Some(last) if !last.is_whole => {
                last.is_whole = is_whole;
                last.pieces.push_back(arrived);
            }
            _ => {
                let head_dim = self.deliver.get().map_or(0, |deliver| deliver.head_dim);
                let buffer = self.pool.take(kind, head_dim, bytes).ok_or(strange)?;
                queue.push_back(Incoming {
                    kind,
                    number: tag >> Kind::BITS,
                    bytes: 0,
                    state: State::Waiting(buffer),
                    pieces: [arrived].into(),
                    is_whole,
                });
            }
        }
        Ok(())
    }

    /// Receives what has come from `from`, and hands over what is whole, in order. Whether there
    /// was any.
    fn receive(&mut self, from: usize) -> Result<bool, MpiError> {
        let Self { world, incoming, pool, deliver, .. } = self;
        let queue = &mut incoming[from];
        let mut news = false;
        for one in queue.iter_mut() {
            one.advance(world)?;
        }
        while let Some(first) = queue.pop_front_if(|first| first.is_done()) {
            news = true;
            let Incoming { kind, number, state: State::Waiting(buffer), .. } = first else { break };
            let payload = pool.share(kind, buffer);
            if let Some(deliver) = deliver.get() {
                (deliver.hear)(Ok(Envelope { from, number, payload }));
            }
        }
        Ok(news)
    }

    /// Waits until everything has left, then leaves MPI.
    fn finish(mut self) -> Result<(), MpiError> {
        while !self.sending.is_empty() {
            if !self.advance()? {
                std::thread::sleep(NAPS[0]);
            }
        }
        self.world.finalize()
    }
}

impl<H: Handle> Incoming<H> {
    /// All of it is in its buffer.
    fn is_done(&self) -> bool {
        self.is_whole && self.pieces.is_empty() && matches!(self.state, State::Waiting(_))
    }

    /// Goes on with its pieces, one after the other: its buffer grows between them.
    fn advance(&mut self, world: &library::World<H>) -> Result<(), MpiError> {
        loop {
            match std::mem::replace(&mut self.state, State::Gone) {
                State::Receiving(receiving) => match world.received(receiving)? {
                    Received::Whole(buffer) => self.state = State::Waiting(buffer),
                    Received::NotYet(receiving) => {
                        self.state = State::Receiving(receiving);
                        return Ok(());
                    }
                },
                State::Waiting(mut buffer) => {
                    let Some(piece) = self.pieces.pop_front() else {
                        self.state = State::Waiting(buffer);
                        return Ok(());
                    };
                    let Arrived { from, tag, bytes, .. } = piece;
                    if !buffer.resize(self.bytes + bytes) {
                        return Err(MpiError::Strange { from, tag, bytes });
                    }
                    self.state = State::Receiving(world.receive(piece, buffer, self.bytes)?);
                    self.bytes += bytes;
                }
                State::Gone => return Ok(()),
            }
        }
    }
}
