//! A model on its way onto a processor.

use super::across::Processes;
use super::compute::{Compute, On};
use super::{EngineError, EngineOptions};
use crate::model::{Checkpoint, ModelConfig};
use crate::tensor::{Cpu, TensorError};
use std::sync::Arc;

/// A model about to be loaded.
pub(super) struct Loading<'a> {
    pub(super) config: ModelConfig,
    pub(super) checkpoint: &'a Arc<Checkpoint>,
    pub(super) options: &'a EngineOptions,
    pub(super) progress: &'a dyn Fn(usize, usize),
}

impl Loading<'_> {
    /// Loads the model onto the CPU.
    pub(super) fn on_cpu(&self) -> Result<Box<dyn Compute>, EngineError> {
        self.on(Cpu::new(self.options.threads, self.options.isa).map_err(TensorError::from)?)
    }

    /// Loads the model onto `backend`.
    pub(super) fn on<B: Processes>(&self, backend: B) -> Result<Box<dyn Compute>, EngineError> {
        let config = self.config.clone();
        let loaded = On::load(backend, config, self.checkpoint, self.options, self.progress)?;
        Ok(Box::new(loaded))
    }
}
