//! Steps as graphs of the driver's.

use super::Result;
use crate::cuda::{Cuda, CudaError, Recording};
use crate::{Replaying, TensorError};

impl Replaying for Cuda {
    fn record<E: From<TensorError>>(
        &self,
        step: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<Option<Recording>, E> {
        // What the step itself returns comes out as it is.
        let mut failed = None;
        let recorded = Recording::of(&self.device, || {
            step().map_err(|error| {
                failed = Some(error);
                CudaError::Unsupported { what: "a step that failed".into() }
            })
        });
        match (failed, recorded) {
            (Some(error), _) => Err(error),
            (None, Ok(recording)) => Ok(Some(recording)),
            (None, Err(error)) => Err(TensorError::from(error).into()),
        }
    }

    fn can_replay(&self, recording: &Recording, later: u32) -> bool {
        recording.can_replay(later)
    }

    fn replay(&self, recording: &mut Recording, later: u32) -> Result {
        Ok(recording.replay(&self.device, later)?)
    }
}
