//! Hosts as processes: messages by MPI, which shares the backend's buffers with it where they are
//! in the machine's memory.

use super::{Comm, CommError, Expected, GivenUp, Message};
use crate::tensor::{Backend, Cpu};
use asterism_link::mpi::{Envelope, Mpi, MpiError, Payload};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A backend whose messages MPI can carry.
pub trait Post: Backend {
    /// What MPI sends of a message.
    fn payload(message: Message<Self>) -> Payload;

    /// The message that MPI received.
    fn message(payload: Payload) -> Message<Self>;
}

impl Post for Cpu {
    fn payload(message: Message<Self>) -> Payload {
        match message {
            Message::Words(words) => Payload::Words(Arc::new(words)),
            Message::Rows(rows) => Payload::Rows(rows),
            Message::Sums(sums) => Payload::Sums(sums),
            Message::Kv(kv) => Payload::Kv(kv),
        }
    }

    fn message(payload: Payload) -> Message<Self> {
        match payload {
            Payload::Words(words) => Message::Words(Arc::unwrap_or_clone(words)),
            Payload::Rows(rows) => Message::Rows(rows),
            Payload::Sums(sums) => Message::Sums(sums),
            Payload::Kv(kv) => Message::Kv(kv),
        }
    }
}

/// What has come, and for which command.
struct Mail {
    /// The command that is being obeyed; commands count from 1.
    current: u64,
    /// The latest command that a host gave up; 0 if none did.
    given_up: u64,
    /// By sender: messages, each with the number of its command.
    queues: Vec<VecDeque<(u64, Payload)>>,
}

/// Messages carry the number of the command that they belong to, as far as a tag has room. Those of
/// a command that was given up are dropped when they come.
struct Shared {
    mail: Mutex<Mail>,
    changed: Condvar,
}

impl Shared {
    fn new(size: usize) -> Self {
        let queues = (0..size).map(|_| VecDeque::new()).collect();
        // No command is being obeyed, and none was given up.
        let mail = Mail { current: 0, given_up: 0, queues };
        Self { mail: Mutex::new(mail), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        // Nothing panics while it is held; it is whole.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, envelope: Envelope) {
        let Envelope { from, number, payload } = envelope;
        let mut mail = self.lock();
        // A sender is at most one command ahead; what is far ahead is really behind.
        let numbers = u64::from(Mpi::NUMBERS);
        let ahead = (u64::from(number) + numbers - mail.current % numbers) % numbers;
        if ahead < numbers / 2 {
            let number = mail.current + ahead;
            mail.queues[from].push_back((number, payload));
            drop(mail);
            self.changed.notify_all();
        }
    }

    fn begin(&self, command: u64) {
        let mut mail = self.lock();
        mail.current = command;
        mail.queues.iter_mut().for_each(|queue| queue.retain(|(number, _)| *number >= command));
    }

    fn give_up(&self, command: u64) {
        let mut mail = self.lock();
        mail.given_up = mail.given_up.max(command);
        drop(mail);
        self.changed.notify_all();
    }

    /// The command that is being obeyed, unless a host gave it up.
    fn current(&self) -> Result<u64, CommError> {
        let mail = self.lock();
        if mail.given_up == mail.current { Err(CommError::Aborted) } else { Ok(mail.current) }
    }

    fn take(&self, from: usize) -> Result<Payload, CommError> {
        let mut mail = self.lock();
        loop {
            if mail.given_up == mail.current {
                return Err(CommError::Aborted);
            }
            let current = mail.current;
            if let Some((_, payload)) = mail.queues[from].pop_front_if(|(n, _)| *n == current) {
                return Ok(payload);
            }
            mail = self.changed.wait(mail).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Tells the other hosts that a command is given up.
type GiveUp = Box<dyn Fn(u64) + Send + Sync>;

/// One host of a group of processes.
pub struct MpiComm {
    mpi: Arc<Mpi>,
    shared: Arc<Shared>,
    give_up: GiveUp,
    sent: AtomicU64,
}

impl GivenUp for Shared {
    fn hear(&self, command: u64) {
        self.give_up(command);
    }

    fn has_heard(&self, command: u64) -> bool {
        self.lock().given_up == command
    }
}

impl MpiComm {
    /// This process's end of `mpi`, for keys in heads of `head_dim` elements. `give_up` tells the
    /// other processes that this host gave up the command of a number; `failed` hears of the error
    /// that ends MPI.
    pub fn new(
        mpi: Arc<Mpi>,
        head_dim: usize,
        give_up: impl Fn(u64) + Send + Sync + 'static,
        failed: impl Fn(MpiError) + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared::new(mpi.size()));
        let mailbox = Arc::clone(&shared);
        mpi.deliver(head_dim, move |message| match message {
            Ok(envelope) => mailbox.put(envelope),
            Err(error) => failed(error),
        });
        Self { mpi, shared, give_up: Box::new(give_up), sent: AtomicU64::new(0) }
    }

    /// Where it hears of commands that other hosts gave up.
    #[must_use]
    pub fn given_up(&self) -> Arc<dyn GivenUp> {
        Arc::clone(&self.shared) as _
    }
}

impl<B: Post> Comm<B> for MpiComm {
    fn rank(&self) -> usize {
        self.mpi.rank()
    }

    fn size(&self) -> usize {
        self.mpi.size()
    }

    fn send(&self, to: usize, message: Message<B>) -> Result<(), CommError> {
        let number = (self.shared.current()? % u64::from(Mpi::NUMBERS)) as u16;
        self.sent.fetch_add(message.bytes() as u64, Ordering::Relaxed);
        // Where MPI has ended, so has this process, almost.
        self.mpi.send(to, number, B::payload(message)).map_err(|_| CommError::Aborted)
    }

    fn recv(&self, from: usize, _: Expected) -> Result<Message<B>, CommError> {
        self.shared.take(from).map(B::message)
    }

    fn begin(&self, command: u64) -> Result<(), CommError> {
        self.shared.begin(command);
        // As in `send`.
        self.mpi.expect(true).map_err(|_| CommError::Aborted)
    }

    fn end(&self) {
        let _ = self.mpi.expect(false);
    }

    fn abort(&self) {
        let command = self.shared.lock().current;
        self.shared.give_up(command);
        (self.give_up)(command);
    }

    /// Nothing: messages of a command that was given up are known by its number.
    fn renew(&self) {}

    fn bytes_sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(word: u64) -> Payload {
        Payload::Words(Arc::new(vec![word]))
    }

    fn put(shared: &Shared, command: u64, word: u64) {
        let number = (command % u64::from(Mpi::NUMBERS)) as u16;
        shared.put(Envelope { from: 1, number, payload: words(word) });
    }

    #[test]
    fn messages_of_a_command_that_was_given_up_are_dropped_whenever_they_come() {
        // Around the place where numbers begin again.
        for first in [1, u64::from(Mpi::NUMBERS) - 1, 3 * u64::from(Mpi::NUMBERS)] {
            let shared = Shared::new(2);
            shared.begin(first);
            put(&shared, first, 1);
            put(&shared, first, 2);
            assert_eq!(shared.take(1), Ok(words(1)));
            shared.give_up(first);
            assert_eq!(shared.take(1), Err(CommError::Aborted));
            assert_eq!(shared.current(), Err(CommError::Aborted));
            // One host begins the next command before this one has.
            put(&shared, first + 1, 3);
            shared.begin(first + 1);
            put(&shared, first, 4);
            put(&shared, first + 1, 5);
            assert_eq!([shared.take(1), shared.take(1)], [Ok(words(3)), Ok(words(5))]);
        }
    }

    #[test]
    fn a_command_may_be_given_up_before_this_host_begins_it() {
        let shared = Shared::new(2);
        shared.begin(1);
        shared.give_up(2);
        assert_eq!(shared.current(), Ok(1));
        shared.begin(2);
        assert_eq!(shared.take(1), Err(CommError::Aborted));
        shared.begin(3);
        assert_eq!(shared.current(), Ok(3));
    }
}
