//! Where the engine computes: chosen by the user, or the best there is.

use super::across::Processes;
use super::compute::{Compute, On};

use super::{EngineError, EngineOptions, gpu};
use crate::model::{Checkpoint, ModelConfig};
use crate::plan::Slices;
use crate::tensor::{Cpu, Precision, TensorError};
use crate::world::Carrier;
use std::str::FromStr;
use std::sync::Arc;

/// Which processor computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first GPU if there is one, else the CPU.
    Auto,
    /// The CPU.
    #[default]
    Cpu,
    /// The GPU of this number, counted from 0 among those the process sees. Of several processes on
    /// a machine that were started together the first takes this one and each other the next, as
    /// far as it sees more than one. Refused by builds without the feature `cuda`.
    Cuda(usize),
}

impl DeviceChoice {
    /// The precision of activations where this choice leads with weights in `weights`: bf16 on a
    /// GPU, f32 on the CPU. `Auto` looks whether there is a GPU, but opens none.
    #[must_use]
    pub fn row_precision(self, weights: Precision) -> Precision {
        gpu::row_precision(self, weights)
    }

    /// What carries tensors between processes that compute with this choice on weights in
    /// `weights`. `Auto` looks whether there is a GPU, but opens none.
    #[must_use]
    pub fn carrier(self, weights: Precision) -> Carrier {
        if gpu::is_gpu(self, weights) { Carrier::Nccl } else { Carrier::Mpi }
    }

    /// How `hosts` hosts that compute with this choice divide the weights of `config`, kept in
    /// `weights`, where they [do](super::DecodeWeights::Sliced). `Auto` looks whether there is a
    /// GPU, but opens none.
    #[must_use]
    pub fn slices(self, config: &ModelConfig, weights: Precision, hosts: usize) -> Slices {
        Slices::of(config.widths(), weights.bytes(), hosts, gpu::exchange_bytes(self, weights))
    }
}

/// A device of another name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown device {0:?}: expected auto, cpu, cuda or cuda:N with N from 0")]
pub struct UnknownDevice(String);

impl FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        let unknown = || UnknownDevice(text.to_owned());
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            other => match other.strip_prefix("cuda:") {
                Some(number) => number.parse().map(Self::Cuda).map_err(|_| unknown()),
                None => Err(unknown()),
            },
        }
    }
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// A model about to be loaded.
pub(super) struct Loading<'a> {
    pub(super) config: ModelConfig,
    pub(super) checkpoint: &'a Arc<Checkpoint>,
    pub(super) options: &'a EngineOptions,
    pub(super) progress: &'a dyn Fn(usize, usize),
}

impl Loading<'_> {
    /// Loads the model where the options say. What the user should know about that goes into
    /// `warnings`.
    pub(super) fn load(self, warnings: &mut Vec<String>) -> Result<Box<dyn Compute>, EngineError> {
        match self.options.device {
            DeviceChoice::Cpu => self.on_cpu(),
            DeviceChoice::Cuda(first) => self.on_gpu(first, warnings),
            DeviceChoice::Auto => self.on_best(warnings),
        }
    }

    pub(super) fn on_cpu(&self) -> Result<Box<dyn Compute>, EngineError> {
        self.on(Cpu::new(self.options.threads, self.options.isa).map_err(TensorError::from)?)
    }

    pub(super) fn on<B: Processes>(&self, backend: B) -> Result<Box<dyn Compute>, EngineError> {
        let config = self.config.clone();
        let loaded = On::load(backend, config, self.checkpoint, self.options, self.progress)?;
        Ok(Box::new(loaded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        for name in ["auto", "cpu", "cuda:0", "cuda:12"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            let error = wrong.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(error.contains("cuda:N"), "{error}");
        }
    }
}
