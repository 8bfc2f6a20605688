//! Loading a model onto an NVIDIA GPU.

use super::compute::Compute;
use super::loading::Loading;
use super::{DeviceChoice, EngineError};
use crate::tensor::cuda::Device;
use crate::tensor::{Buffers, Cpu, Cuda, CudaError, Precision, Processor, TensorError};

/// As [`DeviceChoice::row_precision`].
pub(super) fn row_precision(choice: DeviceChoice, weights: Precision) -> Precision {
    if is_gpu(choice, weights) { Cuda::ROWS } else { Cpu::ROWS }
}

/// [`EXCHANGE_BYTES`](crate::tensor::Processor::EXCHANGE_BYTES) of what would compute.
pub(super) fn exchange_bytes(choice: DeviceChoice, weights: Precision) -> u64 {
    if is_gpu(choice, weights) { Cuda::EXCHANGE_BYTES } else { Cpu::EXCHANGE_BYTES }
}

/// Whether a GPU would compute.
pub(super) fn is_gpu(choice: DeviceChoice, weights: Precision) -> bool {
    match choice {
        DeviceChoice::Cpu => false,
        DeviceChoice::Cuda(_) => true,
        // A GPU computes in bf16 only; `Auto` takes the CPU for anything else.
        DeviceChoice::Auto => weights == Precision::Bf16 && Device::count().is_ok(),
    }
}

impl Loading<'_> {
    /// Loads the model onto the GPU of number `first`, or this process's own behind it.
    pub(super) fn on_gpu(
        self,
        first: usize,
        warnings: &mut Vec<String>,
    ) -> Result<Box<dyn Compute>, EngineError> {
        let cuda = self.open(self.own(first))?;
        warnings.extend(slow(&cuda));
        self.on(cuda)
    }

    /// Loads the model onto the first GPU if there is one that can hold it, else onto the CPU.
    pub(super) fn on_best(
        self,
        warnings: &mut Vec<String>,
    ) -> Result<Box<dyn Compute>, EngineError> {
        // No driver or no GPU: the CPU is what the user expects, so there is nothing to warn of.
        if let Err(CudaError::Missing(_) | CudaError::NoDevice) = Device::count() {
            return self.on_cpu();
        }
        let instead =
            |why: &dyn std::fmt::Display| format!("computing on the CPU, not on the GPU: {why}");
        if self.options.processes.is_some() {
            // All must compute on the same kind of processor: none takes another on its own.
            return self.on_gpu(0, warnings);
        }
        let cuda = match self.open(0) {
            Ok(cuda) => cuda,
            Err(why) => {
                warnings.push(instead(&why));
                return self.on_cpu();
            }
        };
        let slow = slow(&cuda);
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

    /// The GPU that this process takes of those that processes of this machine share from `first`
    /// on; where its launcher shows it no other, that one.
    fn own(&self, first: usize) -> usize {
        let local_rank = self.options.processes.as_ref().map_or(0, |world| world.local_rank());
        match Device::count() {
            Ok(1) => first,
            _ => first + local_rank,
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
}

/// A warning where cuDNN is missing.
fn slow(cuda: &Cuda) -> Option<String> {
    cuda.without_cudnn().map(|why| format!("attention runs on slower kernels: {why}"))
}
