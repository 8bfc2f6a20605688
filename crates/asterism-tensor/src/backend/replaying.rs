//! Steps that are recorded once and run many times.

use super::Buffers;
use crate::TensorError;

/// A step of decoding as something to run again, where that is cheaper than asking for it anew.
pub trait Replaying: Buffers {
    /// Runs `step`, a forward pass of one token of each of some sequences that grows no buffer, and
    /// keeps what it did, where that makes running it again cheaper. `None`, and `step` not run,
    /// where it does not.
    ///
    /// # Errors
    /// Those of `step`, or if the processor fails.
    fn record<E: From<TensorError>>(
        &self,
        step: impl FnOnce() -> Result<(), E>,
    ) -> Result<Option<Self::Recording>, E>;

    /// Whether [`Self::replay`] can run it so much later: there is room for the keys, and what
    /// comes out is to the last bit what the step would give if it were not recorded.
    fn can_replay(&self, recording: &Self::Recording, later: u32) -> bool;

    /// Runs a recorded step again, on the same buffers, for the ids that were set since: as if the
    /// token of every sequence stood `later` positions later, and as many keys had been appended
    /// behind its last ones meanwhile. It uses the buffers' memory as it was when the step was
    /// recorded, which it keeps.
    ///
    /// # Errors
    /// If it [cannot](Self::can_replay), the step was recorded by another backend, or the
    /// processor fails.
    fn replay(&self, recording: &mut Self::Recording, later: u32) -> Result<(), TensorError>;
}
