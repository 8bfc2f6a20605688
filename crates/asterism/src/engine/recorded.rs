//! Steps that were recorded, which their host can take back: where messages between hosts are part
//! of them, they are of no use once the hosts have to connect anew, and in the way of that.

use super::members::Members;
use crate::tensor::{Backend, Buffers};
use std::sync::{Arc, Mutex, PoisonError, Weak};

type Slot<B> = Mutex<Option<<B as Buffers>::Recording>>;

/// A step that was recorded, unless it was taken back.
pub(super) struct Recorded<B: Backend>(Arc<Slot<B>>);

impl<B: Backend> Recorded<B> {
    /// Works with it; `None` if it was taken back.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut B::Recording) -> T) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(work)
    }
}

/// Those of a host.
pub(super) struct Recordings<B: Backend>(Mutex<Vec<Weak<Slot<B>>>>);

impl<B: Backend> Recordings<B> {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    /// One more.
    pub(super) fn add(&self, recording: B::Recording) -> Recorded<B> {
        let slot = Arc::new(Mutex::new(Some(recording)));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&slot));
        Recorded(slot)
    }

    /// Takes all of them back.
    pub(super) fn take_back(&self) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for slot in all.iter().filter_map(Weak::upgrade) {
            drop(slot.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

/// How far sequences that decode together have come towards replaying a recorded step. The first of
/// them has it: what was recorded goes with it, or when the others change.
pub(super) enum Decoding<B: Backend> {
    /// No step has run since the buffers it uses last changed: they may still grow, kernels may
    /// still be loaded.
    Cold,
    /// A step of these has run, as the pass of this number.
    Warm(Members, u64),
    /// The step of these was recorded, after the pass of number `pass`; it sends so many bytes.
    Recorded { recorded: Recorded<B>, members: Members, pass: u64, sent: u64 },
}
