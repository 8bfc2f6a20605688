//! Buffers and the operations on them. Everything above this module is safe Rust that knows
//! shapes; everything `unsafe` (vector instructions, disjoint writes from several threads, mapped
//! files) is here, each with the reason why it is sound.
//!
//! * `aligned`: buffers that start at a cache line
//! * [`bytes`](Bytes): the bytes of a model file
//! * [`elements`](Elements): a vector of f32 or bf16, the two precisions that weights are kept in
//! * [`Backend`]: what a machine must be able to do to run the model; [`Part`]: a range of its
//!   buffers; [`Slab`]: a part of a matrix
//! * [`KeptKeys`]: which keys each head has of a run of tokens, where not all
//! * [`Sampling`]: how a token is chosen by its logit
//! * [`cpu`]: the CPU backend: a team of threads, the kernels of the best instruction set found,
//!   and the operations built on them

#![deny(unsafe_code)]

#[cfg(not(unix))]
compile_error!(
    "asterism-tensor builds on Unix systems only: it looks for NVIDIA's libraries with dlopen \
     (cuda/loader.rs). On Windows, build it in WSL 2, which also sees the GPU."
);

mod aligned;
mod backend;
mod bytes;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
mod elements;
mod error;
mod head_shape;
mod kept;
mod kv_precision;
mod part;
mod sampling;
mod slab;
#[cfg(test)]
mod testing;
mod tile_mask;
pub mod user_cache;

pub use aligned::Aligned;
pub use backend::{
    Attention, Backend, Buffers, Caching, Choice, Choosing, LayerWidths, Linear, MassOver, Memory,
    Pass, Peak, Positions, Processor, Replaying, Rotation, RowReader, Segment, Sequence,
    SparseAttention, SplitQkv, Statistics, Tokens,
};
pub use bytes::Bytes;
pub use cpu::{
    Activations, Cpu, CpuError, Int8, Int8View, Isa, KeptHead, Kv, KvSegment, KvSequence, KvView,
    PackedMatrix, RowPositions,
};
#[cfg(feature = "cuda")]
pub use cuda::{Cuda, CudaError};
pub use elements::{Elements, ElementsView, Precision};
pub use error::TensorError;
pub use head_shape::HeadShape;
pub use kept::KeptKeys;
pub use kv_precision::{KvBytes, KvPrecision, UnknownKvPrecision};
pub use part::{Part, PartMut};
pub use sampling::{Sampling, SamplingError};
pub use slab::{GRAIN, Slab};
pub use tile_mask::{Grain, MASK_TILE, TileMask};
