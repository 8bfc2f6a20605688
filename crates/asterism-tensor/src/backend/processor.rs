//! What a processor is: how fast, how much memory it has, and when its work is done.

use super::Buffers;
use crate::{HeadShape, Precision, TensorError};
use std::time::Duration;

/// Measured upper bounds of a machine. They are rates that real code reaches there, not figures
/// from a data sheet: a share of them says how far a stage is from the best that this program can
/// do on this machine as it is now, other load included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// Floating-point operations per second (a multiply-add counts two), by the instructions that
    /// products with weights in the given precision use: the best of several runs.
    pub flops_per_second: f64,
    /// Bytes per second read from memory: the best of several passes.
    pub bytes_per_second: f64,
}

impl Peak {
    /// The larger of each: of several measurements on a shared machine, the ones least disturbed.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            flops_per_second: self.flops_per_second.max(other.flops_per_second),
            bytes_per_second: self.bytes_per_second.max(other.bytes_per_second),
        }
    }
}

/// How wide the layers of a model are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerWidths {
    /// Elements of a row of the residual stream.
    pub hidden: usize,
    /// Outputs of the gate of an MLP.
    pub intermediate: usize,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Heads of attention.
    pub shape: HeadShape,
}

/// A processor as a whole. The engine plans its work, and measures it, by what this says.
pub trait Processor: Buffers {
    /// Bytes of weights that it reads in about the time of a small exchange between hosts with a
    /// processor of this kind each: what dividing a matrix among them must save.
    const EXCHANGE_BYTES: u64;

    /// Name and size of the processor, for people: "2 threads, avx2".
    fn describe(&self) -> String;

    /// Tokens of one forward pass: enough work for the whole processor, and no more, since it
    /// bounds the memory of activations and how late a cancel is seen.
    fn chunk_tokens(&self) -> usize;

    /// Rows that pass through the linear layers together: bounds the memory of the widest buffers.
    fn linear_rows(&self) -> usize;

    /// The most that [`Self::chunk_tokens`] is on any processor of this kind.
    fn most_chunk_tokens() -> usize;

    /// Bytes of the buffers of a forward pass of `tokens` tokens through layers of `widths`: those
    /// of all its activations, and of the products within a layer.
    fn pass_bytes(widths: LayerWidths, tokens: usize) -> u64;

    /// Whether other programs take from the same memory all the time and freed memory goes back to
    /// them, so that [`Self::free_memory`] has another answer each time. Otherwise what is free
    /// after loading is ours from then on.
    fn shares_memory() -> bool;

    /// Bytes of memory that are free for keys and activations, where the processor or its system
    /// says so.
    ///
    /// # Errors
    /// If the processor fails.
    fn free_memory(&self) -> Result<Option<u64>, TensorError>;

    /// The most bytes of its own memory that were in use since this was last asked, where it has
    /// any: weights, keys and activations.
    ///
    /// # Errors
    /// If the processor fails.
    fn take_peak_memory(&self) -> Result<Option<u64>, TensorError>;

    /// Measures [`Peak`] with weights in `precision`.
    ///
    /// # Errors
    /// If the processor fails.
    fn peak(&self, precision: Precision) -> Result<Peak, TensorError>;

    /// The moment at which the work handed over so far is done.
    ///
    /// # Errors
    /// If the processor fails.
    fn mark(&self) -> Result<Self::Mark, TensorError>;

    /// The time from one moment to a later one; waits for it.
    ///
    /// # Errors
    /// If the processor fails.
    fn between(&self, start: &Self::Mark, end: &Self::Mark) -> Result<Duration, TensorError>;

    /// Waits until all work handed over so far is done.
    ///
    /// # Errors
    /// If some of it failed.
    fn synchronize(&self) -> Result<(), TensorError>;

    /// Calls `task` with every number below `count`, on the threads of the program that are there
    /// for computing: for what is computed where the program runs, whatever the processor.
    fn tasks(&self, count: usize, task: &(dyn Fn(usize) + Sync));
}
