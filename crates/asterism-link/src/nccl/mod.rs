//! Messages between GPUs, by NVIDIA's NCCL.
//!
//! [`Library::load`] finds the library; rank 0 makes an [`Id`], which reaches the others some other
//! way, and each rank [connects](Communicator::connect) with it. What a [`Communicator`] is given
//! goes to a stream of the device, in order, and does not wait for the other ranks: they get it
//! when their own streams come to it.
//!
//! A rank that is gone is not reported: its messages stay away, and streams that wait for them wait
//! for ever. Whoever finds out that a rank is gone, or gave up, [aborts](Communicator::abort) the
//! communicator, from any thread; then those streams go on. Until that has happened nobody may rely
//! on what they have read.

mod communicator;
mod find;
mod library;

/// Has NCCL leave NVLink multicast alone, unless the user has set `NCCL_NVLS_ENABLE`: what travels
/// here does not gain by it, and on shared machines it may harm others. To be called when the
/// program begins, before anything else of it runs that reads the environment.
pub fn avoid_multicast() {
    crate::system::set_default("NCCL_NVLS_ENABLE", "0");
}

pub use communicator::{Communicator, Message, Place};
pub use find::{Found, find};
pub use library::{Id, Library};

use asterism_tensor::cuda::CudaError;

/// Why NCCL cannot be used, or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NcclError {
    /// There is no such library.
    #[error(
        "no NCCL library was found ({tried}): `pip install nvidia-nccl-cu13` in the active Python \
         environment, install libnccl2 with the system's packages, or name the library's file in \
         ASTERISM_NCCL_LIBRARY"
    )]
    Missing {
        /// What was looked for.
        tried: String,
    },
    /// A library is there, but cannot be loaded or lacks a function.
    #[error("the NCCL library {library} cannot be used: {why}")]
    NotLoaded {
        /// Its name or file.
        library: String,
        /// Why not.
        why: String,
    },
    /// A call failed.
    #[error("{call} failed with code {code}: {text}{}", after(last))]
    Failed {
        /// The function.
        call: &'static str,
        /// The number it returned.
        code: i32,
        /// What that means, in the library's words.
        text: String,
        /// The last error that the library noted, which may say more.
        last: String,
    },
    /// It was told to stop while it waited for other ranks.
    #[error("NCCL was told to stop")]
    Stopped,
    /// The GPU.
    #[error("{0}")]
    Gpu(String),
}

impl From<CudaError> for NcclError {
    fn from(error: CudaError) -> Self {
        Self::Gpu(error.to_string())
    }
}

/// The last error, if there was one.
fn after(last: &str) -> String {
    if last.is_empty() { String::new() } else { format!(" ({last})") }
}

#[cfg(test)]
mod tests;
