//! How much of a processor's memory is spoken for.
//!
//! Asking the processor what is free and allocating afterwards is a race as soon as two contexts
//! are encoded at once. A request reserves its bytes here before it does anything, and what it gets
//! returns when its last owner drops it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The memory for keys and activations, and how much of it is reserved. Clones share the account.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Mutex<Account>>);

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
        Self(Arc::new(Mutex::new(Account { capacity, reserved: 0 })))
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        // No code that can panic runs while the lock is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves `bytes`, or says how many are left.
    ///
    /// # Errors
    /// The bytes that are left, if they are fewer.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, u64> {
        let mut account = self.account();
        if let Some(capacity) = account.capacity {
            let left = capacity.saturating_sub(account.reserved);
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

    /// Bytes of memory in all; `None` on processors that do not say.
    #[must_use]
    pub fn capacity(&self) -> Option<u64> {
        self.account().capacity
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
