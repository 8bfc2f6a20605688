//! The CUDA backend: NVIDIA's libraries, found while the program runs, and what is computed with
//! them. The program builds without CUDA and starts without a GPU.
//!
//! * `backend`: a GPU as a [`Backend`](super::Backend)
//! * [`gpu`](Cuda): what follows, put together
//! * [`libraries`](Libraries): which of NVIDIA's libraries this machine has, or what to install
//! * [`device`](Device): a GPU and the one stream everything runs on, in order; `pool`: its memory
//! * [`buffer`](Buffer) and [`view`](View): memory of a device, owned and borrowed
//! * [`module`](Module): kernels of our own, compiled for the device while the program runs
//! * `kernel_cache`: what was compiled, kept between runs
//! * `staging`: uploads
//! * [`stream`](Stream): work beside the one stream, and [`piece`](Piece): memory that it is given
//! * [`graph`](Recording): steps recorded once and replayed; `recorder`: what they use
//! * [`linear`](Gemm): matrix products, by cuBLASLt
//! * `gemv`: products of few rows, by our own kernels
//! * `sparse`: attention over some tiles of keys, and what their choice takes
//! * `mass`: softmax weight per key, by our own kernel
//! * [`cudnn`](Cudnn): attention over whole blocks, by cuDNN
//!
//! All calls may come from any thread: each makes the device current first. All work of a device is
//! enqueued on one stream, so an operation sees what those before it wrote; only what brings data
//! back to the host waits. Messages to other GPUs have a stream of their own.

mod activations;
mod allocation;
mod attention;
mod backend;
mod buffer;
mod cudnn;
mod device;
mod error;
mod event;
mod flash;
mod gemv;
mod gpu;
mod graph;
mod kernel_cache;
mod kernels;
mod kv;
mod launch;
mod libraries;
mod linear;
mod loader;
mod mass;
mod memory;
mod module;
mod peak;
mod piece;
mod pool;
mod queries;
mod recorder;
mod rows;
mod search;
mod sparse;
mod staging;
mod statistics;
mod stream;
mod view;
mod weights;

pub use activations::Activations;
pub use buffer::Buffer;
pub use cudnn::{Attention, Cudnn};
pub use device::{Device, Properties};
pub use error::CudaError;
pub use event::Event;
pub use gpu::Cuda;
pub use graph::Recording;
pub use kernel_cache::KernelCache;
pub use kv::Kv;
pub use libraries::Libraries;
pub use linear::Gemm;
pub use loader::{Found, Missing, Version};
pub use memory::{Grown, Ids};
pub use module::{Argument, Function, Module, compile};
pub use piece::Piece;
pub use search::library_folders;
pub use stream::Stream;
pub use view::{Element, View, ViewMut};
pub use weights::{Embedding, Matrix};

#[cfg(test)]
pub(crate) use error::only_bf16;
#[cfg(test)]
pub(crate) use flash::no_heads_of;

#[cfg(test)]
mod tests;
