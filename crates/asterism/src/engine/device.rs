//! Where the engine computes: chosen by the user, or the best there is.

use super::EngineError;
use super::EngineOptions;
use super::compute::{Compute, On};
use crate::model::{Checkpoint, ModelConfig};
use crate::tensor::cuda::Device;
use crate::tensor::{Backend, Cpu, Cuda, CudaError, Precision, TensorError};
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
    /// The GPU of this number, counted from 0 among those the process sees.
    Cuda(usize),
}

impl DeviceChoice {
    /// The precision of activations where this choice leads with weights in `weights`: bf16 on a
    /// GPU, f32 on the CPU. `Auto` looks whether there is a GPU, but opens none.
    #[must_use]
    pub fn row_precision(self, weights: Precision) -> Precision {
        let on_gpu = match self {
            Self::Cpu => false,
            Self::Cuda(_) => true,
            // A GPU computes in bf16 only; `Auto` takes the CPU for anything else.
            Self::Auto => weights == Precision::Bf16 && Device::count().is_ok(),
        };
        if on_gpu { Cuda::ROWS } else { Cpu::ROWS }
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
            DeviceChoice::Cuda(ordinal) => {
                let cuda = self.open(ordinal)?;
                if let Some(why) = cuda.without_cudnn() {
                    warnings.push(format!("attention runs on slower kernels: {why}"));
                }
                self.on(cuda)
            }
            DeviceChoice::Auto => match Device::count() {
                // A machine without a GPU: nothing is missing.
                Err(CudaError::Missing(_) | CudaError::NoDevice) => self.on_cpu(),
                _ => self.on_gpu_if_possible(warnings),
            },
        }
    }

    fn on_gpu_if_possible(
        self,
        warnings: &mut Vec<String>,
    ) -> Result<Box<dyn Compute>, EngineError> {
        let instead = |why: &dyn std::fmt::Display| {
            format!("computing on the CPU, not on the GPU: {why} (--device cpu says so at once)")
        };
        let cuda = match self.open(0) {
            Ok(cuda) => cuda,
            Err(why) => {
                warnings.push(instead(&why));
                return self.on_cpu();
            }
        };
        let slow =
            cuda.without_cudnn().map(|why| format!("attention runs on slower kernels: {why}"));
        match self.on(cuda) {
            Err(EngineError::Tensor(why)) => {
                warnings.push(instead(&why));
                self.on_cpu()
            }
            loaded => {
                warnings.extend(slow);
                loaded
            }
        }
    }

    /// A GPU that can compute in the precision asked for.
    fn open(&self, ordinal: usize) -> Result<Cuda, TensorError> {
        if self.options.precision != Precision::Bf16 {
            let what = format!(
                "GPUs cannot compute in {}: compute in bf16, or on the CPU",
                self.options.precision
            );
            return Err(TensorError::Unsupported { what });
        }
        Ok(Cuda::open(ordinal)?)
    }

    fn on_cpu(&self) -> Result<Box<dyn Compute>, EngineError> {
        self.on(Cpu::new(self.options.threads, self.options.isa).map_err(TensorError::from)?)
    }

    fn on<B: Backend>(&self, backend: B) -> Result<Box<dyn Compute>, EngineError> {
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
