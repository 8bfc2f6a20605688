//! The border to the tokenizer library: its panics become errors, and its work can be stopped.
//!
//! A `tokenizer.json` is a small program of somebody else's. The library runs it without limits: a
//! pattern may take time without end, a replacement memory without end, and a table that is not
//! what it should be is a panic.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::cancel::Cancel;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread will be caught and returned as an error: a program's panic hook
/// need not print it.
#[must_use]
pub fn panics_are_caught() -> bool {
    GUARDED.get()
}

/// What `work` returns, or the words of its panic. Whatever `work` changes must not be used again
/// after a panic.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    result.map_err(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        format!("the tokenizer library failed ({words})")
    })
}

/// Bytes that a tokenizer's rules may make of each byte of a text. Published ones make up to 11 of
/// one, of a few rare characters that stand for a phrase, and three of a space.
const GROWTH: usize = 16;
/// Bytes that they may make beside: what is put in front of words, and a short text of rare ones.
const GROWTH_BYTES: usize = 4096;

/// Bytes that the rules may make of a text of `bytes`.
pub(super) fn most_grown(bytes: usize) -> usize {
    bytes.saturating_mul(GROWTH).saturating_add(GROWTH_BYTES)
}

/// How long one text may take, and how long it may become.
#[derive(Debug)]
pub(super) struct Effort<'c> {
    cancel: &'c Cancel,
    start: Instant,
    most: Duration,
    most_bytes: usize,
}

/// Why a text was given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum GivenUp {
    /// The user asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// It takes too long.
    #[error("its rules take more than {0} s on this text")]
    TooLong(u64),
    /// It becomes too long.
    #[error("its rules make {bytes} bytes of this text; at most {most} are taken")]
    TooLarge { bytes: usize, most: usize },
}

impl<'c> Effort<'c> {
    /// For a text of `bytes`: a hundredth of the speed of published tokenizers is enough.
    pub(super) fn new(bytes: usize, cancel: &'c Cancel) -> Self {
        let most = Duration::from_secs(20)
            + Duration::from_micros(10).saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX));
        Self { cancel, start: Instant::now(), most, most_bytes: most_grown(bytes) }
    }

    /// Asked between pieces of work.
    pub(super) fn check(&self) -> Result<(), GivenUp> {
        if self.cancel.is_raised() {
            return Err(GivenUp::Cancelled);
        }
        if self.start.elapsed() > self.most {
            return Err(GivenUp::TooLong(self.most.as_secs()));
        }
        Ok(())
    }

    /// Asked with the bytes that the text has become.
    pub(super) fn check_size(&self, bytes: usize) -> Result<(), GivenUp> {
        if bytes > self.most_bytes {
            return Err(GivenUp::TooLarge { bytes, most: self.most_bytes });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_words() {
        assert_eq!(guarded(|| 3), Ok(3));
        std::panic::set_hook(Box::new(|_| assert!(panics_are_caught())));
        let error = guarded(|| panic!("index {} of 2", 7)).unwrap_err();
        let _ = std::panic::take_hook();
        assert!(error.contains("index 7 of 2"), "{error}");
        assert!(!panics_are_caught());
    }

    #[test]
    fn effort_ends_when_somebody_asks_or_time_is_up() {
        let cancel = Cancel::new();
        let mut effort = Effort::new(0, &cancel);
        assert_eq!(effort.check(), Ok(()));
        effort.most = Duration::ZERO;
        assert_eq!(effort.check(), Err(GivenUp::TooLong(0)));
        cancel.raise();
        assert_eq!(effort.check(), Err(GivenUp::Cancelled));
    }
}
