//! Messages between hosts.
//!
//! Every host runs the same program with its own [`Comm`]. [`LocalComm`] connects hosts that are
//! threads of one process.

mod local;

pub use local::LocalComm;

use crate::tensor::Elements;

/// Why a message did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommError {
    /// Some host gave up (cancelled, failed or panicked): nobody waits for it.
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
}

/// What one host sends to another.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// What to do next: small integers.
    Words(Vec<u64>),
    /// Queries, or a partial output.
    Floats(Vec<f32>),
    /// Keys or values, in the precision they are cached in.
    Elements(Elements),
}

impl Message {
    /// Bytes of the payload.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Words(w) => 8 * w.len(),
            Self::Floats(f) => 4 * f.len(),
            Self::Elements(e) => e.bytes(),
        }
    }
}

/// One host's end of the network. Messages between two hosts arrive in the order they were sent.
pub trait Comm: Send {
    /// This host's number, from 0.
    fn rank(&self) -> usize;

    /// Number of hosts.
    fn size(&self) -> usize;

    /// Sends a message; returns once it is on its way.
    ///
    /// # Errors
    /// [`CommError::Aborted`] if some host gave up.
    fn send(&self, to: usize, message: Message) -> Result<(), CommError>;

    /// Waits for the next message of `from`.
    ///
    /// # Errors
    /// [`CommError::Aborted`] if some host gave up.
    fn recv(&self, from: usize) -> Result<Message, CommError>;

    /// Gives up: every host that waits or will wait gets [`CommError::Aborted`].
    fn abort(&self);

    /// Bytes this host has sent.
    fn bytes_sent(&self) -> u64;

    /// Sends the same message to every other host.
    ///
    /// # Errors
    /// As [`Comm::send`].
    fn send_to_others(&self, message: &Message) -> Result<(), CommError> {
        (0..self.size())
            .filter(|to| *to != self.rank())
            .try_for_each(|to| self.send(to, message.clone()))
    }

    /// Waits for words of `from`.
    ///
    /// # Errors
    /// As [`Comm::recv`]; [`CommError::Unexpected`] for another kind of message.
    fn recv_words(&self, from: usize) -> Result<Vec<u64>, CommError> {
        match self.recv(from)? {
            Message::Words(words) => Ok(words),
            _ => Err(CommError::Unexpected { rank: self.rank(), from, expected: "words" }),
        }
    }

    /// Waits for `len` floats of `from`.
    ///
    /// # Errors
    /// As [`Comm::recv`]; [`CommError::Unexpected`] for another kind or length.
    fn recv_floats(&self, from: usize, len: usize) -> Result<Vec<f32>, CommError> {
        match self.recv(from)? {
            Message::Floats(floats) if floats.len() == len => Ok(floats),
            _ => Err(CommError::Unexpected { rank: self.rank(), from, expected: "floats" }),
        }
    }

    /// Waits for keys or values of `from`.
    ///
    /// # Errors
    /// As [`Comm::recv`]; [`CommError::Unexpected`] for another kind of message.
    fn recv_elements(&self, from: usize) -> Result<Elements, CommError> {
        match self.recv(from)? {
            Message::Elements(elements) => Ok(elements),
            _ => Err(CommError::Unexpected { rank: self.rank(), from, expected: "elements" }),
        }
    }
}
