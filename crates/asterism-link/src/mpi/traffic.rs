//! Messages on their way, moved by the thread that owns MPI.

use super::MpiError;
use super::abi::Handle;
use super::library::{self, Arrived, Received, Receiving, Sending};
use super::payload::{Buffer, Kind, Payload, Pool};
use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};

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
pub(super) struct Deliver {
    /// Elements of a head of their keys.
    pub(super) head_dim: usize,
    /// Hears of messages, on the thread of MPI, and of the error that ends it.
    pub(super) hear: Box<dyn Fn(Result<Envelope, MpiError>) + Send + Sync>,
}

/// What the thread is asked to do.
pub(super) enum Order {
    Send { to: usize, tag: u16, payload: Payload },
    Gather { own: Vec<u8>, all: Sender<Result<Vec<u8>, MpiError>> },
    Busy(bool),
    Finish(Sender<Result<(), MpiError>>),
    Abort(i32),
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
pub(super) struct Traffic<'a, H: Handle> {
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

impl<'a, H: Handle> Traffic<'a, H> {
    /// None yet, in `world`; messages are cut into pieces of `piece` bytes, and those that come go
    /// to `deliver`.
    pub(super) fn new(
        world: library::World<H>,
        piece: usize,
        deliver: &'a OnceLock<Deliver>,
    ) -> Self {
        let incoming = (0..world.size).map(|_| VecDeque::new()).collect();
        Self { world, piece, sending: Vec::new(), incoming, pool: Pool::default(), deliver }
    }

    /// Does what it is asked to, and moves messages, until it is to finish.
    pub(super) fn run(mut self, orders: &Receiver<Order>) {
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
