//! Why a backend could not do what it was asked to, by what it means to the caller: whatever the
//! processor, the same remedies help.

use std::error::Error;

/// Why a backend could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The processor's memory is full: less at once may fit.
    #[error(
        "out of memory: {bytes} bytes were asked for, {free} of {total} are free; take a shorter \
         context or smaller blocks, or close what else runs on this processor"
    )]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
        /// Bytes free.
        free: usize,
        /// Bytes the processor has.
        total: usize,
    },
    /// The processor, as it is, cannot do this; other settings or another processor can.
    #[error("{what}")]
    Unsupported {
        /// What was asked for and what to choose instead.
        what: String,
    },
    /// Something that is needed is not on this machine, or cannot be used.
    #[error("{what} cannot be used: {why}; {remedy}")]
    Missing {
        /// The library or the processor.
        what: String,
        /// Why not.
        why: String,
        /// What to install or to change.
        remedy: String,
    },
    /// It failed, by itself or at what it was given: trying again does not help.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}

#[cfg(test)]
#[cfg(feature = "cuda")]
mod tests {
    use crate::cuda::Missing;
    use crate::{CpuError, CudaError, Isa, TensorError};

    #[test]
    fn what_backends_report_is_sorted_by_what_it_means() {
        let full = CudaError::OutOfMemory { bytes: 10, free: 5, total: 8 };
        assert!(matches!(full.into(), TensorError::OutOfMemory { bytes: 10, free: 5, total: 8 }));
        for unsupported in [CpuError::NoFp8.into(), CpuError::MissingIsa(Isa::Amx).into()] {
            assert!(matches!(unsupported, TensorError::Unsupported { .. }), "{unsupported}");
        }
        let beyond = TensorError::from(CudaError::Ordinal { ordinal: 4, devices: 2 });
        assert!(matches!(beyond, TensorError::Unsupported { .. }));
        assert!(beyond.to_string().contains("GPU 4"), "{beyond}");
        let missing =
            Missing { library: "libcuda", why: "no such file".into(), remedy: "install it" };
        let text = missing.to_string();
        let missing = TensorError::from(CudaError::from(missing));
        assert!(matches!(missing, TensorError::Missing { .. }));
        assert_eq!(missing.to_string(), text);
        assert!(matches!(CudaError::NoDevice.into(), TensorError::Missing { .. }));
        let other = TensorError::from(CudaError::OtherDevice { what: "q" });
        assert!(matches!(other, TensorError::Failed(_)));
        assert_eq!(other.to_string(), CudaError::OtherDevice { what: "q" }.to_string());
    }

    #[test]
    fn no_message_names_an_option_of_a_program() {
        let messages = [
            CpuError::NoFp8.to_string(),
            CpuError::MissingIsa(Isa::Amx).to_string(),
            crate::cuda::only_bf16().to_string(),
            crate::cuda::no_heads_of(300).to_string(),
        ];
        for message in messages {
            assert!(!message.contains("--") && !message.contains("ASTERISM"), "{message}");
        }
    }
}
