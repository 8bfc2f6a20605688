//! By what the messages between hosts find each other: rank 0 makes it and tells the others.

#[cfg(any(feature = "cuda", test))]
use std::sync::MutexGuard;
use std::sync::{Condvar, Mutex, PoisonError};
#[cfg(any(feature = "cuda", test))]
use std::time::Duration;

/// The last key that came.
#[derive(Default)]
pub(crate) struct Keys {
    /// With the number of the command from which on it counts.
    last: Mutex<Option<(u64, Vec<u8>)>>,
    came: Condvar,
}

impl Keys {
    /// The key of command `number` came.
    pub(super) fn put(&self, number: u64, key: Vec<u8>) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, key));
        self.came.notify_all();
    }

    /// Waits for the key of command `number`. `None` if `goes_on` says no, at which it looks now
    /// and then.
    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn take(&self, number: u64, goes_on: &dyn Fn() -> bool) -> Option<Vec<u8>> {
        const NOW_AND_THEN: Duration = Duration::from_millis(20);
        let mut last: MutexGuard<'_, _> = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some((_, key)) = last.take_if(|(of, _)| *of == number) {
                return Some(key);
            }
            if !goes_on() {
                return None;
            }
            let waited = self.came.wait_timeout(last, NOW_AND_THEN);
            last = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
