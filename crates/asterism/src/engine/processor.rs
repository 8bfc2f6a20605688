//! Where a choice of device leads.

use super::compute::Compute;
use super::loading::Loading;
use super::{DeviceChoice, EngineError, gpu};
use crate::model::ModelConfig;
use crate::plan::Slices;
use crate::tensor::Precision;
use crate::world::Carrier;

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
}
