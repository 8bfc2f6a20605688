//! A request to stop, raised by anybody and seen by every host.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that work checks between layers and between chunks. Clones share the flag.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A flag that is not raised.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the work to stop.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Takes the request back, so that the next piece of work may run.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Release);
    }

    /// Whether the work was asked to stop.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
