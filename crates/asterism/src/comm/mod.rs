//! Messages between hosts.
//!
//! Every host runs the same program with its own [`Comm`]. [`LocalComm`] connects hosts that are
//! threads of one process, [`MpiComm`] hosts that are processes and compute on CPUs, `NcclComm`
//! those that compute on a GPU each.

mod local;
mod mpi;
#[cfg(feature = "cuda")]
mod nccl;

pub use local::LocalComm;
pub use mpi::{MpiComm, Post};
#[cfg(feature = "cuda")]
pub use nccl::{NcclComm, Outside};

use crate::tensor::{Backend, HeadShape, KvPrecision, Memory, Part, PartMut, TensorError};
use std::ops::Range;
use std::sync::Arc;

/// Why a message did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommError {
    /// Another host gave up (it was cancelled, failed or panicked): its messages will not come.
    #[error("another host stopped")]
    Aborted,
    /// The sender and the receiver disagree about what comes next: a bug.
    #[error("host {rank} expected {expected} from host {from} and got something else")]
    Unexpected {
        /// Who received it.
        rank: usize,
        /// Who sent it.
        from: usize,
        /// What was expected.
        expected: &'static str,
    },
    /// What carries the messages failed.
    #[error("messages between hosts failed: {why}")]
    Failed {
        /// Its own words.
        why: String,
    },
}

/// Where a host of a group of processes hears of commands that other hosts gave up.
pub trait GivenUp: Send + Sync {
    /// A host gave up the command of this number.
    fn hear(&self, command: u64);

    /// Whether a host gave up the command of this number.
    fn has_heard(&self, command: u64) -> bool;
}

/// What one host sends to another. Buffers are shared with the sender, who may not change them.
pub enum Message<B: Backend> {
    /// What to do next: small integers.
    Words(Vec<u64>),
    /// Queries, or a partial output.
    Rows(Arc<B::Rows>),
    /// Log-sum-exps.
    Sums(Arc<B::Sums>),
    /// Keys or values, in the precision they are cached in.
    Kv(Arc<B::Kv>),
}

impl<B: Backend> Clone for Message<B> {
    fn clone(&self) -> Self {
        match self {
            Self::Words(words) => Self::Words(words.clone()),
            Self::Rows(rows) => Self::Rows(Arc::clone(rows)),
            Self::Sums(sums) => Self::Sums(Arc::clone(sums)),
            Self::Kv(kv) => Self::Kv(Arc::clone(kv)),
        }
    }
}

impl<B: Backend> Message<B> {
    /// Keys and values, rounded to what they are cached in.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn rounded(
        backend: &B,
        precision: KvPrecision,
        shape: HeadShape,
        [keys, values]: [Part<'_, B::Rows>; 2],
    ) -> Result<[Self; 2], TensorError> {
        let mut rounded =
            [backend.kv(precision, shape, keys.len)?, backend.kv(precision, shape, values.len)?];
        let [to_keys, to_values] = &mut rounded;
        backend.append([to_keys, to_values], [keys, values])?;
        Ok(rounded.map(|kv| Self::Kv(Arc::new(kv))))
    }

    /// Bytes of the payload.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Words(words) => 8 * words.len(),
            Self::Rows(rows) => rows.bytes(),
            Self::Sums(sums) => sums.bytes(),
            Self::Kv(kv) => kv.bytes(),
        }
    }
}

/// What a host waits for, with its number of elements: what carries messages may have to make room
/// before they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Small integers.
    Words(usize),
    /// Queries, or a partial output.
    Rows(usize),
    /// Log-sum-exps.
    Sums(usize),
    /// Keys or values, in the precision they are cached in.
    Kv(usize),
}

/// One host's end of the network. Messages between two hosts arrive in the order they were sent.
pub trait Comm<B: Backend>: Send {
    /// This host's number, from 0.
    fn rank(&self) -> usize;

    /// Number of hosts.
    fn size(&self) -> usize;

    /// Sends a message; returns once it is on its way.
    ///
    /// # Errors
    /// [`CommError::Aborted`] if some host gave up.
    fn send(&self, to: usize, message: Message<B>) -> Result<(), CommError>;

    /// Waits for the next message of `from`, which is to be what is `expected`; if it is something
    /// else, it may be returned all the same.
    ///
    /// # Errors
    /// [`CommError::Aborted`] if some host gave up.
    fn recv(&self, from: usize, expected: Expected) -> Result<Message<B>, CommError>;

    /// Sends keys and values `kv` to `to`, while those of `len` elements each come from `from`,
    /// which are to be received afterwards: what all hosts do at the same time in a ring.
    ///
    /// # Errors
    /// As [`Comm::send`].
    fn shift(
        &self,
        to: usize,
        kv: [&Arc<B::Kv>; 2],
        _from: usize,
        _len: usize,
    ) -> Result<(), CommError> {
        kv.into_iter().try_for_each(|kv| self.send(to, Message::Kv(Arc::clone(kv))))
    }

    /// Brings what every host has at its place in `rows` and in `sums`, which have places of equal
    /// size for all hosts in their order, to all others. False, and nothing done, if it has no
    /// better way than messages to each.
    ///
    /// # Errors
    /// As [`Comm::send`].
    fn gather_all(
        &self,
        _rows: Option<PartMut<'_, B::Rows>>,
        _sums: Option<PartMut<'_, B::Sums>>,
    ) -> Result<bool, CommError> {
        Ok(false)
    }

    /// Brings the elements `pieces` that each host has of `rows`, by rank, to all others. False as
    /// for [`Comm::gather_all`].
    ///
    /// # Errors
    /// As [`Comm::send`].
    fn share_rows(
        &self,
        _rows: PartMut<'_, B::Rows>,
        _pieces: &[Vec<Range<usize>>],
    ) -> Result<bool, CommError> {
        Ok(false)
    }

    /// Brings the elements `pieces` that each host has of `sums`, by rank, to the first. False as
    /// for [`Comm::gather_all`].
    ///
    /// # Errors
    /// As [`Comm::send`].
    fn collect_sums(
        &self,
        _sums: PartMut<'_, B::Sums>,
        _pieces: &[Vec<Range<usize>>],
    ) -> Result<bool, CommError> {
        Ok(false)
    }

    /// Whether each host has a processor of its own, so that all may compute the same at no cost.
    fn has_own_processors(&self) -> bool {
        false
    }

    /// Whether the hosts have to connect anew before the next command.
    fn is_broken(&self) -> bool {
        false
    }

    /// The host begins to obey the command of this number; commands count up from 1. Messages
    /// belong to the command in which they are sent.
    ///
    /// # Errors
    /// If the hosts cannot be connected.
    fn begin(&self, _command: u64) -> Result<(), CommError> {
        Ok(())
    }

    /// Waits until the messages of the command are where they should be.
    ///
    /// # Errors
    /// [`CommError::Aborted`] if some host gave up before they were.
    fn settle(&self) -> Result<(), CommError> {
        Ok(())
    }

    /// It has obeyed it, or given it up: no message is expected before the next.
    fn end(&self) {}

    /// Counts bytes that are sent without a call, by replaying a step.
    fn count(&self, _bytes: u64) {}

    /// Gives up what the hosts are doing together: every host that waits or will wait gets
    /// [`CommError::Aborted`], until [`Comm::renew`].
    fn abort(&self);

    /// Forgets the messages of what was given up, so that the group can do something else. Only
    /// when no host sends or waits.
    fn renew(&self);

    /// Bytes this host has sent.
    fn bytes_sent(&self) -> u64;

    /// Sends the same message to every other host.
    ///
    /// # Errors
    /// As [`Comm::send`].
    fn send_to_others(&self, message: &Message<B>) -> Result<(), CommError> {
        (0..self.size())
            .filter(|to| *to != self.rank())
            .try_for_each(|to| self.send(to, message.clone()))
    }

    /// Waits for `len` words of `from`.
    ///
    /// # Errors
    /// As [`Comm::recv`]; [`CommError::Unexpected`] for another kind or length.
    fn recv_words(&self, from: usize, len: usize) -> Result<Vec<u64>, CommError> {
        match self.recv(from, Expected::Words(len))? {
            Message::Words(words) if words.len() == len => Ok(words),
            _ => Err(CommError::Unexpected { rank: self.rank(), from, expected: "words" }),
        }
    }

    /// Waits for `len` numbers of `from`: queries or outputs.
    ///
    /// # Errors
    /// As [`Comm::recv`]; [`CommError::Unexpected`] for another kind or length.
    fn recv_rows(&self, from: usize, len: usize) -> Result<Arc<B::Rows>, CommError> {
        match self.recv(from, Expected::Rows(len))? {
            Message::Rows(rows) if rows.len() == len => Ok(rows),
            _ => Err(CommError::Unexpected { rank: self.rank(), from, expected: "rows" }),
        }
    }

    /// Waits for `len` log-sum-exps of `from`.
    ///
    /// # Errors
    /// As [`Comm::recv`]; [`CommError::Unexpected`] for another kind or length.
    fn recv_sums(&self, from: usize, len: usize) -> Result<Arc<B::Sums>, CommError> {
        match self.recv(from, Expected::Sums(len))? {
            Message::Sums(sums) if sums.len() == len => Ok(sums),
            _ => Err(CommError::Unexpected { rank: self.rank(), from, expected: "log-sum-exps" }),
        }
    }

    /// Waits for `len` elements of keys or values of `from`.
    ///
    /// # Errors
    /// As [`Comm::recv`]; [`CommError::Unexpected`] for another kind or length.
    fn recv_kv(&self, from: usize, len: usize) -> Result<Arc<B::Kv>, CommError> {
        match self.recv(from, Expected::Kv(len))? {
            Message::Kv(kv) if kv.len() == len => Ok(kv),
            _ => Err(CommError::Unexpected { rank: self.rank(), from, expected: "keys" }),
        }
    }
}
