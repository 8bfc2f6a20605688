//! The CUDA C++ sources of our own kernels, and the sizes they are compiled with. NVRTC compiles
//! them when a GPU is opened; nothing of them is compiled before. They include no header: NVRTC
//! alone is enough.
//!
//! * `common.cuh`: bf16, reductions; in front of every source
//! * `rows.cu`: what of a layer is neither product nor attention
//! * `attend.cu`: attention on tensor cores; `attend_hopper.cu`: with Hopper's; `attend_naive.cu`:
//!   their readable twin; `sequences.cuh`, `attend.cuh`, `copies.cuh`, `tiles.cuh`, `mma.cuh`:
//!   what they share
//! * `gemv.cu`: products of few rows
//! * `mask.cuh`: both for some tiles of keys; `attend_tiles_naive.cu`: the readable twin of that
//! * `lines.cu`, `coarse.cu`: what the choice of these tiles takes
//! * `mass.cu`: softmax weight per key; `mass_naive.cu`: its readable twin
//! * `statistics.cu`: what queries and keys are like
//! * `gather.cu`: chosen keys
//! * `put.cu`: tables from the host
//! * `append.cu`: keys and values of a new token
//! * `merge.cu`: partial attentions into one
//! * `argmax.cu`: the greedy choice of a token
//! * `sample.cu`: its random choice
//! * `fp8.cu`: keys and values in 8 bits

mod attention;
mod sizes;
mod source;
#[cfg(test)]
mod tests;

pub(super) use attention::{AttentionTile, FEW_ROWS, Room};
pub(super) use sizes::{
    APPEND_THREADS, CHOICE_THREADS, CHOICES, COARSE_THREADS, GEMV_OPTIONS, GEMV_RESIDENT,
    GEMV_THREADS, LinesTile, MERGE_THREADS, MassTile, PUT_THREADS, PUT_WORDS, StatisticsTile,
    WEIGH_THREADS,
};
#[cfg(test)]
pub(super) use source::{ATTENTION_NAIVE, ATTENTION_SPARSE_NAIVE, MASS_NAIVE};
pub(super) use source::{COARSE, GEMV, LINES, MASS, ROWS, STATISTICS, Source};
