//! Hosts as processes with a GPU each: messages by NCCL, on a stream beside that of the work.
//!
//! Sending and receiving only enqueue. Work that needs what was received waits for it on the GPU;
//! [`Comm::settle`], at the end of each command, waits for it here. When a host gives a command up,
//! all of them abort their communicators, each as soon as it hears of it and on a thread of its
//! own: that is what ends every wait, on the GPU and for it, and nothing else could, since a copy
//! to memory of the program may be behind it. With the next command they connect anew.

mod link;

pub use link::Outside;

use super::{Comm, CommError, Expected, GivenUp, Message};
use crate::tensor::cuda::{CudaError, Device, Event, Grown, Kv, Piece, Stream};
use crate::tensor::{Cuda, HeadShape, KvPrecision, Memory, PartMut};
use asterism_link::nccl::{self, Library, NcclError, Place};
use link::Link;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long to look whether messages have come before giving other threads the processor.
const BRISK: Duration = Duration::from_micros(500);

/// Messages on their way, and the memory they are in.
struct Travelling {
    device: Arc<Device>,
    done: Arc<Event>,
    _pieces: Vec<Piece>,
}

impl Drop for Travelling {
    fn drop(&mut self) {
        // What frees the memory comes after this. Where the device is lost, so is the memory.
        let _ = self.device.after(&self.done);
    }
}

/// A message that was asked for before the host receives it.
type Coming = (Message<Cuda>, Arc<Event>);

/// One host of a group of processes with a GPU each.
pub struct NcclComm {
    device: Arc<Device>,
    /// Where messages travel.
    stream: Stream,
    link: Arc<Link>,
    /// What keys and values are that come from others.
    precision: KvPrecision,
    shape: HeadShape,
    /// By sender: messages that come, in their order.
    coming: Mutex<Vec<VecDeque<Coming>>>,
    travelling: Mutex<VecDeque<Travelling>>,
    sent: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while one is held; what they hold is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<CudaError> for CommError {
    fn from(error: CudaError) -> Self {
        Self::Failed { why: error.to_string() }
    }
}

impl From<NcclError> for CommError {
    fn from(error: NcclError) -> Self {
        match error {
            // Only where the command was given up.
            NcclError::Stopped => Self::Aborted,
            error => Self::Failed { why: error.to_string() },
        }
    }
}

impl NcclComm {
    /// Rank `rank` of `size` on the GPU of `cuda`, whose hosts exchange keys in `precision`. They
    /// connect when the first command begins.
    ///
    /// # Errors
    /// The driver's.
    pub fn new(
        cuda: &Cuda,
        library: Arc<Library>,
        (rank, size): (usize, usize),
        (precision, shape): (KvPrecision, HeadShape),
        outside: Outside,
    ) -> Result<Self, CudaError> {
        let device = Arc::clone(cuda.device());
        let link = Link::new(library, Arc::clone(&device), (rank, size), outside);
        Ok(Self {
            stream: Stream::new(&device)?,
            device,
            link,
            precision,
            shape,
            coming: Mutex::new((0..size).map(|_| VecDeque::new()).collect()),
            travelling: Mutex::default(),
            sent: AtomicU64::new(0),
        })
    }

    /// Where it hears of commands that other hosts gave up.
    #[must_use]
    pub fn given_up(&self) -> Arc<dyn GivenUp> {
        Arc::clone(&self.link) as _
    }

    /// Gives up what travels, now: the process is about to end.
    pub fn let_go(&self) -> impl Fn() + Send + Sync + 'static {
        let link = Arc::clone(&self.link);
        move || link.let_go()
    }

    /// Enqueues messages to and from ranks; returns when they will be there.
    fn enqueue(&self, messages: &[nccl::Message<'_>]) -> Result<Arc<Event>, CommError> {
        let (mut sent, mut pieces) = (0, Vec::with_capacity(messages.len()));
        for message in messages {
            let (nccl::Message::To(_, piece) | nccl::Message::From(_, piece)) = *message;
            pieces.push(piece.clone());
            sent += if matches!(message, nccl::Message::To(..)) { piece.bytes() } else { 0 };
        }
        if sent > 0 {
            // What is sent must have been computed.
            self.stream.after_device()?;
        }
        self.link.with(|communicator, goes_on| {
            communicator.exchange(Place::Beside(&self.stream), messages, goes_on)
        })?;
        self.sent.fetch_add(sent as u64, Ordering::Relaxed);
        let done = Arc::new(self.stream.record()?);
        let (device, event) = (Arc::clone(&self.device), Arc::clone(&done));
        let mut travelling = lock(&self.travelling);
        while travelling.front().is_some_and(|first| first.done.is_past().unwrap_or(false)) {
            travelling.pop_front();
        }
        travelling.push_back(Travelling { device, done: event, _pieces: pieces });
        Ok(done)
    }

    /// Room for a message.
    fn room(&self, expected: Expected) -> Result<Message<Cuda>, CommError> {
        Ok(match expected {
            Expected::Words(_) => return Err(no_words()),
            Expected::Rows(len) => Message::Rows(Arc::new(Grown::to_fill(&self.stream, len)?)),
            Expected::Sums(len) => Message::Sums(Arc::new(Grown::to_fill(&self.stream, len)?)),
            Expected::Kv(len) => Message::Kv(Arc::new(self.room_for_keys(len)?)),
        })
    }

    /// Brings the pieces of each host, by rank, to the hosts `to`, on the stream of the work: the
    /// memory is kept as the work's is, and what was enqueued may be recorded.
    fn share(
        &self,
        pieces: &[Vec<Range<usize>>],
        piece: impl Fn(&Range<usize>) -> Result<Piece, CudaError>,
        to: Range<usize>,
    ) -> Result<(), CommError> {
        let (rank, mut out, mut into) = (self.link.rank, Vec::new(), Vec::new());
        for (from, pieces) in pieces.iter().enumerate() {
            for range in pieces {
                match from == rank {
                    true => out.push(piece(range)?),
                    false if to.contains(&rank) => into.push((from, piece(range)?)),
                    false => {}
                }
            }
        }
        let mut messages = Vec::new();
        let to_others = to.filter(|to| *to != rank);
        let others = to_others.clone().count();
        for to in to_others {
            messages.extend(out.iter().map(|piece| nccl::Message::To(to, piece)));
        }
        messages.extend(into.iter().map(|(from, piece)| nccl::Message::From(*from, piece)));
        if messages.is_empty() {
            return Ok(());
        }
        self.link.with(|communicator, goes_on| {
            communicator.exchange(Place::Device, &messages, goes_on)
        })?;
        let own: usize = out.iter().map(Piece::bytes).sum();
        self.sent.fetch_add((others * own) as u64, Ordering::Relaxed);
        Ok(())
    }

    fn room_for_keys(&self, len: usize) -> Result<Kv, CommError> {
        Ok(Kv::to_fill(&self.stream, self.precision, self.shape, len)?)
    }
}

fn no_words() -> CommError {
    CommError::Failed { why: "words do not travel between GPUs".to_owned() }
}

/// The memory of a message; none of one that is empty.
fn pieces(message: &Message<Cuda>) -> Result<Vec<Piece>, CommError> {
    if message.bytes() == 0 {
        return Ok(Vec::new());
    }
    Ok(match message {
        Message::Words(_) => return Err(no_words()),
        Message::Rows(rows) => vec![rows.piece(0..rows.len())?],
        Message::Sums(sums) => vec![sums.piece(0..sums.len())?],
        Message::Kv(kv) => kv.pieces()?,
    })
}

impl Comm<Cuda> for NcclComm {
    fn rank(&self) -> usize {
        self.link.rank
    }

    fn size(&self) -> usize {
        self.link.size
    }

    fn send(&self, to: usize, message: Message<Cuda>) -> Result<(), CommError> {
        let pieces = pieces(&message)?;
        let all: Vec<_> = pieces.iter().map(|piece| nccl::Message::To(to, piece)).collect();
        if all.is_empty() { Ok(()) } else { self.enqueue(&all).map(drop) }
    }

    fn recv(&self, from: usize, expected: Expected) -> Result<Message<Cuda>, CommError> {
        if let Some((message, done)) = lock(&self.coming)[from].pop_front() {
            self.link.check()?;
            self.device.after(&done)?;
            return Ok(message);
        }
        let message = self.room(expected)?;
        let pieces = pieces(&message)?;
        let all: Vec<_> = pieces.iter().map(|piece| nccl::Message::From(from, piece)).collect();
        if !all.is_empty() {
            let done = self.enqueue(&all)?;
            self.device.after(&done)?;
        }
        Ok(message)
    }

    fn shift(
        &self,
        to: usize,
        kv: [&Arc<Kv>; 2],
        from: usize,
        len: usize,
    ) -> Result<(), CommError> {
        let leave = kv.map(|kv| Message::Kv(Arc::clone(kv)));
        let come = [self.room(Expected::Kv(len))?, self.room(Expected::Kv(len))?];
        let (mut to_go, mut to_come) = (Vec::new(), Vec::new());
        for (leaves, comes) in leave.iter().zip(&come) {
            to_go.extend(pieces(leaves)?);
            to_come.extend(pieces(comes)?);
        }
        let leave = to_go.iter().map(|piece| nccl::Message::To(to, piece));
        let all: Vec<_> =
            leave.chain(to_come.iter().map(|piece| nccl::Message::From(from, piece))).collect();
        let done =
            if all.is_empty() { Arc::new(self.stream.record()?) } else { self.enqueue(&all)? };
        lock(&self.coming)[from].extend(come.map(|message| (message, Arc::clone(&done))));
        Ok(())
    }

    fn gather_all(
        &self,
        rows: Option<PartMut<'_, Grown<half::bf16>>>,
        sums: Option<PartMut<'_, Grown<f32>>>,
    ) -> Result<bool, CommError> {
        let mut all = Vec::with_capacity(2);
        if let Some(rows) = rows {
            all.push(rows.of.piece(rows.range())?);
        }
        if let Some(sums) = sums {
            all.push(sums.of.piece(sums.range())?);
        }
        let (rank, size) = (self.link.rank, self.link.size);
        self.link.with(|communicator, goes_on| {
            communicator.gather_all(Place::Device, rank, &all, goes_on)
        })?;
        let own: usize = all.iter().map(|piece| piece.bytes() / size).sum();
        self.sent.fetch_add(((size - 1) * own) as u64, Ordering::Relaxed);
        Ok(true)
    }

    fn share_rows(
        &self,
        rows: PartMut<'_, Grown<half::bf16>>,
        pieces: &[Vec<Range<usize>>],
    ) -> Result<bool, CommError> {
        let part = rows.as_part();
        let piece = |range: &Range<usize>| part.of.piece(part.slice(range.clone()).range());
        self.share(pieces, piece, 0..self.link.size)?;
        Ok(true)
    }

    fn collect_sums(
        &self,
        sums: PartMut<'_, Grown<f32>>,
        pieces: &[Vec<Range<usize>>],
    ) -> Result<bool, CommError> {
        let part = sums.as_part();
        let piece = |range: &Range<usize>| part.of.piece(part.slice(range.clone()).range());
        self.share(pieces, piece, 0..1)?;
        Ok(true)
    }

    fn has_own_processors(&self) -> bool {
        true
    }

    fn is_broken(&self) -> bool {
        self.link.check().is_err()
    }

    fn begin(&self, command: u64) -> Result<(), CommError> {
        lock(&self.coming).iter_mut().for_each(VecDeque::clear);
        lock(&self.travelling).clear();
        self.link.begin(command)
    }

    fn settle(&self) -> Result<(), CommError> {
        let last = lock(&self.travelling).back().map(|last| Arc::clone(&last.done));
        let since = Instant::now();
        while let Some(done) = &last
            && !done.is_past()?
        {
            self.link.check()?;
            let waited = since.elapsed();
            if waited > BRISK {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        // Perhaps it has come only because this host's communicator was aborted.
        self.link.check()
    }

    fn abort(&self) {
        self.link.give_up();
    }

    /// Nothing: hosts connect anew when the next command begins.
    fn renew(&self) {}

    fn bytes_sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn count(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for NcclComm {
    fn drop(&mut self) {
        // Not `let_go`'s: others may still be about to do the same, and this host need not wait.
        self.link.let_go();
    }
}
