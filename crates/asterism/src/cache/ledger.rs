//! How much of a processor's memory is spoken for.
//!
//! Asking the processor what is free and allocating afterwards is a race as soon as two contexts
//! are encoded at once. A request reserves its bytes here before it does anything, and what it gets
//! returns when its last owner drops it.
//!
//! A GPU's memory is asked for once. Memory that other programs share is asked for again before
//! each reservation. What is free then, less what is reserved, would count twice what reservations
//! have taken by now; what is free alone would leave out what they have not. So what was free when
//! nothing was reserved counts for our own reservations, and no more is promised than is free now.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What says how many bytes are free now; `None` if it does not know.
type Free = dyn Fn() -> Option<u64> + Send + Sync;

/// The memory for keys and activations, and how much of it is reserved. Clones share the account.
#[derive(Clone)]
pub struct Ledger {
    account: Arc<Mutex<Account>>,
    /// Asked before each reservation, if others use the memory too.
    free: Option<Arc<Free>>,
}

#[derive(Debug)]
struct Account {
    /// Bytes of memory in all; `None` on processors that do not say.
    capacity: Option<u64>,
    /// Bytes that reservations hold.
    reserved: u64,
}

/// Reserved bytes; dropping it returns them.
#[derive(Debug)]
pub struct Reservation {
    ledger: Ledger,
    bytes: u64,
}

impl Ledger {
    /// An account of `capacity` bytes; without a limit if that is `None`.
    #[must_use]
    pub fn new(capacity: Option<u64>) -> Self {
        Self { account: Arc::new(Mutex::new(Account { capacity, reserved: 0 })), free: None }
    }

    /// An account of memory that other programs use too, of which `free` bytes are free at a time.
    #[must_use]
    pub fn shared(free: impl Fn() -> Option<u64> + Send + Sync + 'static) -> Self {
        Self { free: Some(Arc::new(free)), ..Self::new(None) }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        // No code that can panic runs while the lock is held.
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves `bytes`, or says how many are left.
    ///
    /// # Errors
    /// The bytes that are left, if they are fewer.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, u64> {
        let free = self.free.as_ref().and_then(|free| free());
        let mut account = self.account();
        if self.free.is_some() {
            account.capacity = match account.reserved {
                0 => free,
                // Others have gone meanwhile.
                _ => account.capacity.max(free),
            };
        }
        if let Some(capacity) = account.capacity {
            let left = capacity.saturating_sub(account.reserved).min(free.unwrap_or(u64::MAX));
            if bytes > left {
                return Err(left);
            }
        }
        account.reserved = account.reserved.saturating_add(bytes);
        Ok(Reservation { ledger: self.clone(), bytes })
    }

    /// Bytes that reservations hold.
    #[must_use]
    pub fn reserved(&self) -> u64 {
        self.account().reserved
    }

    /// Bytes of memory in all, as far as was known at the last reservation; `None` on processors
    /// that do not say.
    #[must_use]
    pub fn capacity(&self) -> Option<u64> {
        self.account().capacity
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Ledger").field(&*self.account()).finish()
    }
}

impl Reservation {
    /// Bytes that are reserved.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Divides the reservation: `bytes` of it, or all if it has fewer, become one of their own.
    #[must_use]
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { ledger: self.ledger.clone(), bytes }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.ledger.account().reserved -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    #[test]
    fn what_is_dropped_can_be_reserved_again() {
        let ledger = Ledger::new(Some(100));
        let mut first = ledger.reserve(60).unwrap();
        assert_eq!(ledger.reserve(50).unwrap_err(), 40);
        let part = first.split(25);
        drop(first);
        assert_eq!((part.bytes(), ledger.reserved()), (25, 25));
        let rest = ledger.reserve(75).unwrap();
        drop((part, rest));
        assert_eq!(ledger.reserved(), 0);
    }

    #[test]
    fn an_account_of_unknown_size_counts_all_the_same() {
        let ledger = Ledger::new(None);
        let one = ledger.reserve(u64::MAX).unwrap();
        assert_eq!((ledger.reserved(), ledger.capacity()), (u64::MAX, None));
        drop(one);
        assert_eq!(ledger.reserved(), 0);
    }

    #[test]
    fn memory_that_others_use_is_asked_for_again() {
        let free = Arc::new(AtomicU64::new(100));
        let now = |bytes| free.store(bytes, Relaxed);
        let source = Arc::clone(&free);
        let ledger = Ledger::shared(move || Some(source.load(Relaxed)));
        let first = ledger.reserve(60).unwrap();
        assert_eq!(ledger.reserve(50).unwrap_err(), 40, "nothing of the first is taken yet");
        now(50);
        assert_eq!(ledger.reserve(41).unwrap_err(), 40, "most of the first is taken");
        now(10);
        assert_eq!(ledger.reserve(11).unwrap_err(), 10, "others have come");
        now(200);
        assert_eq!(ledger.reserve(150).unwrap_err(), 140, "others have gone");
        drop(first);
        now(30);
        assert_eq!(ledger.reserve(31).unwrap_err(), 30);
        let unknown = Ledger::shared(|| None);
        assert_eq!(unknown.reserve(u64::MAX).unwrap().bytes(), u64::MAX);
    }

    proptest! {
        #[test]
        fn reservations_never_exceed_the_capacity(
            steps in prop::collection::vec((any::<bool>(), 0u64..50), 0..60),
        ) {
            let ledger = Ledger::new(Some(100));
            let mut held: Vec<Reservation> = Vec::new();
            for (give_back, bytes) in steps {
                if give_back {
                    held.pop();
                } else {
                    held.extend(ledger.reserve(bytes));
                }
                prop_assert_eq!(ledger.reserved(), held.iter().map(Reservation::bytes).sum::<u64>());
                prop_assert!(ledger.reserved() <= 100);
            }
        }
    }
}
