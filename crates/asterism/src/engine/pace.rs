//! How far the work handed to a processor may run ahead of what it has done.

use crate::tensor::{Backend, TensorError};

/// Lets at most one layer be ahead of what the processor does, so that other work handed over now
/// does not stand behind seconds of this.
pub(super) struct Pace<B: Backend>(Option<B::Mark>);

impl<B: Backend> Pace<B> {
    pub(super) fn new() -> Self {
        Self(None)
    }

    /// A layer was handed over: waits for the one before it, or, after the `last`, for all.
    pub(super) fn layer(&mut self, backend: &B, last: bool) -> Result<(), TensorError> {
        let now = backend.mark()?;
        if let Some(before) = self.0.replace(now) {
            backend.between(&before, &before)?;
        }
        if last { backend.synchronize() } else { Ok(()) }
    }

    /// Whether a layer may not be done yet.
    pub(super) fn is_ahead(&self) -> bool {
        self.0.is_some()
    }
}
