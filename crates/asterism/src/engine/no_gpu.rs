//! What stands in for `gpu.rs` in a build without the feature `cuda`.

use super::compute::Compute;
use super::loading::Loading;
use super::{DeviceChoice, EngineError};
use crate::tensor::{Buffers, Cpu, Precision, Processor, TensorError};

/// As [`DeviceChoice::row_precision`].
pub(super) fn row_precision(_: DeviceChoice, _: Precision) -> Precision {
    Cpu::ROWS
}

/// [`EXCHANGE_BYTES`](crate::tensor::Processor::EXCHANGE_BYTES) of what would compute.
pub(super) fn exchange_bytes(_: DeviceChoice, _: Precision) -> u64 {
    Cpu::EXCHANGE_BYTES
}

/// Whether a GPU would compute.
pub(super) fn is_gpu(_: DeviceChoice, _: Precision) -> bool {
    false
}

impl Loading<'_> {
    /// Refuses a GPU.
    pub(super) fn on_gpu(
        self,
        ordinal: usize,
        _: &mut Vec<String>,
    ) -> Result<Box<dyn Compute>, EngineError> {
        Err(EngineError::Tensor(TensorError::Missing {
            what: DeviceChoice::Cuda(ordinal).to_string(),
            why: "this build does not compute on GPUs".to_owned(),
            remedy: "build asterism with its feature `cuda`, or compute on the CPU".to_owned(),
        }))
    }

    /// Loads the model onto the CPU.
    pub(super) fn on_best(self, _: &mut Vec<String>) -> Result<Box<dyn Compute>, EngineError> {
        self.on_cpu()
    }
}

#[cfg(test)]
#[cfg(feature = "nano")]
mod tests {
    use super::*;
    use crate::engine::{Engine, EngineOptions};
    use crate::model::{Shape, random_model};

    #[test]
    fn a_gpu_is_refused_and_auto_is_the_cpu() {
        let files = || random_model(&"small".parse::<Shape>().unwrap().with_layers(1), 0).unwrap();
        let options = |device| EngineOptions { device, ..EngineOptions::default() };
        let error = Engine::load(files(), &options(DeviceChoice::Cuda(2))).err().unwrap();
        let message = error.to_string();
        assert!(message.contains("cuda:2") && message.contains("feature `cuda`"), "{message}");
        let engine = Engine::load(files(), &options(DeviceChoice::Auto)).unwrap();
        assert_eq!(engine.warnings(), &[] as &[String]);
    }
}
