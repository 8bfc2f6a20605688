//! The CPU records no steps: to call one again takes it no longer than to replay it would.

use super::Result;
use crate::cpu::Cpu;
use crate::{Replaying, TensorError};
use std::convert::Infallible;

impl Replaying for Cpu {
    fn record<E: From<TensorError>>(
        &self,
        _step: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<Option<Infallible>, E> {
        Ok(None)
    }

    fn can_replay(&self, recording: &Infallible, _later: u32) -> bool {
        match *recording {}
    }

    fn replay(&self, recording: &mut Infallible, _later: u32) -> Result {
        match *recording {}
    }
}
