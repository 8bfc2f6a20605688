//! Why a file is no document.

use crate::foreign::{Limits, ParseError};
use std::io;

/// Why a file could not be read. Every message names the file and says what can be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The system does not let it be read.
    #[error("cannot read {name}: {error}")]
    Io {
        /// The file.
        name: String,
        /// What the system says.
        error: io::Error,
    },
    /// More bytes than a file may have.
    #[error(
        "{name}: {bytes} bytes, and a file may have {most}: raise the limit, or split the file"
    )]
    TooLarge {
        /// The file.
        name: String,
        /// Its bytes.
        bytes: u64,
        /// Bytes that a file may have.
        most: u64,
    },
    /// It is no text, and of no kind that is read.
    #[error("{name} is binary (byte {at} is of no text): give text, HTML, EPUB, DOCX or PDF")]
    Binary {
        /// The file.
        name: String,
        /// The byte that is in no text.
        at: usize,
    },
    /// It is of a kind that is not read.
    #[error("{name} is {what}: {instead}")]
    Unsupported {
        /// The file.
        name: String,
        /// What it is.
        what: &'static str,
        /// What to do instead.
        instead: &'static str,
    },
    /// It is not in the encoding that was asked for.
    #[error(
        "{name} is not {encoding}: it has {bad} places that are no characters of it; \
             give another encoding, or none to have it guessed"
    )]
    Encoding {
        /// The file.
        name: String,
        /// The encoding.
        encoding: String,
        /// Places that are wrong.
        bad: usize,
    },
    /// There is no text in it.
    #[error("{name} has no text: {why}")]
    NoText {
        /// The file.
        name: String,
        /// What it has instead.
        why: String,
    },
    /// It is not what it seems to be, or damaged.
    #[error("{name} is damaged: {why}; repair it, or save it in another format")]
    Damaged {
        /// The file.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// It needs a password, or is locked to a reader.
    #[error("{name} is encrypted: save it without a password")]
    Encrypted {
        /// The file.
        name: String,
    },
    /// It unpacks to, or says, more than it may.
    #[error("{name} unpacks to more than {most} bytes: split it, or raise the limit")]
    TooMuch {
        /// The file.
        name: String,
        /// Bytes that it may have unpacked.
        most: u64,
    },
    /// Reading it took more memory than it may.
    #[error(
        "{name}: reading it takes more than {most} bytes of memory; split it, or save it in \
             another format"
    )]
    Memory {
        /// The file.
        name: String,
        /// Bytes of memory that it may take.
        most: u64,
    },
    /// Reading it took longer than it may.
    #[error(
        "{name}: reading it takes more than {seconds} seconds; split it, or save it in another \
             format"
    )]
    Time {
        /// The file.
        name: String,
        /// Seconds that it may take.
        seconds: u32,
    },
    /// The process that read it ended.
    #[error("{name}: what reads it broke down ({how}); save it in another format")]
    Crashed {
        /// The file.
        name: String,
        /// How the process ended.
        how: String,
    },
    /// It is not wanted any more.
    #[error("{name}: reading it was given up")]
    Cancelled {
        /// The file.
        name: String,
    },
    /// The process that is to read it could not be started.
    #[error("{name}: what is to read it could not be started: {error}")]
    NotStarted {
        /// The file.
        name: String,
        /// What the system says.
        error: io::Error,
    },
}

impl ReadError {
    /// Of the file `name`, whose parser, which was to keep to `limits`, said `error`.
    pub(crate) fn of(name: &str, error: ParseError, limits: &Limits) -> Self {
        let name = name.to_owned();
        match error {
            ParseError::Damaged(why) => Self::Damaged { name, why },
            ParseError::Encrypted => Self::Encrypted { name },
            ParseError::NoText(why) => Self::NoText { name, why },
            ParseError::TooMuch => Self::TooMuch { name, most: limits.unpacked },
            ParseError::Encoding(encoding, bad) => Self::Encoding { name, encoding, bad },
            ParseError::Binary(at) => Self::Binary { name, at },
            ParseError::Panicked(how) => Self::Crashed { name, how },
        }
    }

    /// All names that [`ReadError::code`] has.
    pub const CODES: [&'static str; 14] = [
        "file_not_read",
        "file_too_large",
        "file_binary",
        "file_unsupported",
        "file_encoding",
        "file_without_text",
        "file_damaged",
        "file_encrypted",
        "file_unpacks_to_too_much",
        "file_takes_too_much_memory",
        "file_takes_too_long",
        "file_reader_crashed",
        "cancelled",
        "file_reader_not_started",
    ];

    /// A name for programs that never changes.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "file_not_read",
            Self::TooLarge { .. } => "file_too_large",
            Self::Binary { .. } => "file_binary",
            Self::Unsupported { .. } => "file_unsupported",
            Self::Encoding { .. } => "file_encoding",
            Self::NoText { .. } => "file_without_text",
            Self::Damaged { .. } => "file_damaged",
            Self::Encrypted { .. } => "file_encrypted",
            Self::TooMuch { .. } => "file_unpacks_to_too_much",
            Self::Memory { .. } => "file_takes_too_much_memory",
            Self::Time { .. } => "file_takes_too_long",
            Self::Crashed { .. } => "file_reader_crashed",
            Self::Cancelled { .. } => "cancelled",
            Self::NotStarted { .. } => "file_reader_not_started",
        }
    }
}
