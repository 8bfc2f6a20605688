//! What rank 0 and the others say to each other, as bytes of a stream.

use std::io::{self, Read, Write};

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A sign of life, and nothing else.
    Beat,
    /// A rank comes to rank 0, and proves that it belongs here.
    Hello,
    /// It does.
    Welcome,
    /// What a rank has loaded.
    Facts,
    /// All have loaded the same.
    Agreed,
    /// A rank could not load.
    Failed,
    /// What all hosts are to do: the command of this number.
    Command,
    /// What a host did.
    Report,
    /// The command of this number is given up.
    GivenUp,
    /// A rank was lost, and why.
    Lost,
    /// There is nothing left to do.
    Bye,
    /// By what the messages between hosts find each other from the command of this number on.
    Key,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::Beat,
        Self::Hello,
        Self::Welcome,
        Self::Facts,
        Self::Agreed,
        Self::Failed,
        Self::Command,
        Self::Report,
        Self::GivenUp,
        Self::Lost,
        Self::Bye,
        Self::Key,
    ];
}

/// One message of the control connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    /// Of the command that it is about; 0 for other kinds.
    pub(crate) number: u64,
    pub(crate) body: Vec<u8>,
}

/// Bytes of a body at most: the tokens of the longest context that can be planned fit several
/// times.
pub(crate) const MOST: usize = 256 << 20;

/// Bytes in front of a body: its length, the kind and the number.
const HEADER: usize = 4 + 1 + 8;

impl Frame {
    pub(crate) fn new(kind: Kind, body: Vec<u8>) -> Self {
        Self { kind, number: 0, body }
    }

    pub(crate) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let len = u32::try_from(self.body.len()).ok().filter(|len| *len as usize <= MOST);
        let len = len.ok_or_else(|| io::Error::other("a command is too long to be sent"))?;
        // One write, so that a small frame is one packet.
        let mut bytes = Vec::with_capacity(HEADER + self.body.len());
        bytes.extend(len.to_le_bytes());
        bytes.push(self.kind as u8);
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(&self.body);
        to.write_all(&bytes)
    }

    /// Reads a frame whose body has at most `most` bytes.
    pub(crate) fn read(from: &mut impl Read, most: usize) -> io::Result<Self> {
        let mut header = [0; HEADER];
        from.read_exact(&mut header)?;
        let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let [len @ .., _, _, _, _, _, _, _, _, _] = header;
        let len = u32::from_le_bytes(len) as usize;
        let kind = Kind::ALL.get(usize::from(header[4])).copied();
        let kind = kind.ok_or_else(|| wrong("it speaks another language"))?;
        let [_, _, _, _, _, number @ ..] = header;
        if len > most {
            return Err(wrong("it sends too much at once"));
        }
        let mut body = vec![0; len];
        from.read_exact(&mut body)?;
        Ok(Self { kind, number: u64::from_le_bytes(number), body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(
            kind in 0..Kind::ALL.len(), number: u64, body: Vec<u8>
        ) {
            let frame = Frame { kind: Kind::ALL[kind], number, body };
            let mut bytes = Vec::new();
            frame.write(&mut bytes).unwrap();
            let read = Frame::read(&mut bytes.as_slice(), MOST).unwrap();
            prop_assert_eq!(read, frame);
        }

        #[test]
        fn no_bytes_make_it_panic_or_take_more_than_allowed(bytes: Vec<u8>) {
            if let Ok(frame) = Frame::read(&mut bytes.as_slice(), 16) {
                prop_assert!(frame.body.len() <= 16);
            }
        }
    }

    #[test]
    fn kinds_are_numbered_in_order() {
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
        }
    }
}
