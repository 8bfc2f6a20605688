//! A request to stop, raised by anybody and seen by every host.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that work checks between layers and between chunks. Clones share the flag.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Flag>);

#[derive(Debug, Default)]
struct Flag {
    raised: AtomicBool,
    parent: Option<Cancel>,
}

impl Cancel {
    /// A flag that is not raised.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A flag that is raised with this one, and may be raised alone: it stops a part of the work.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(Arc::new(Flag { raised: AtomicBool::new(false), parent: Some(self.clone()) }))
    }

    /// Asks the work to stop.
    pub fn raise(&self) {
        self.0.raised.store(true, Ordering::Release);
    }

    /// Takes the request back, so that the next piece of work may run. A flag that this one is the
    /// [child](Self::child) of stays as it is.
    pub fn reset(&self) {
        self.0.raised.store(false, Ordering::Release);
    }

    /// Whether the work was asked to stop.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        let Flag { raised, parent } = &*self.0;
        raised.load(Ordering::Acquire) || parent.as_ref().is_some_and(Self::is_raised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_raised_with_its_parent_and_not_the_other_way_round() {
        let parent = Cancel::new();
        let (one, other) = (parent.child(), parent.child());
        one.raise();
        assert!(one.is_raised() && !other.is_raised() && !parent.is_raised());
        parent.raise();
        assert!(other.is_raised() && other.child().is_raised());
        parent.reset();
        assert!(one.is_raised() && !other.is_raised());
    }
}
