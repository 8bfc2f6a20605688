//! What the CPU is: a team of threads in memory that other programs use, too.

use super::Result;
use crate::cpu::{Cpu, available};
use crate::{LayerWidths, Peak, Precision, Processor};
use std::time::{Duration, Instant};

/// Rows that pass through the linear layers together.
const LINEAR_ROWS: usize = 512;

/// Tokens of one forward pass of a large team.
const MOST_CHUNK_TOKENS: usize = 2048;

impl Processor for Cpu {
    /// It reads memory so slowly that any matrix worth a thought is worth dividing.
    const EXCHANGE_BYTES: u64 = 0;

    fn describe(&self) -> String {
        let threads = self.threads();
        format!("{threads} thread{}, {}", if threads == 1 { "" } else { "s" }, self.isa())
    }

    fn chunk_tokens(&self) -> usize {
        (128 * self.threads()).clamp(512, MOST_CHUNK_TOKENS)
    }

    fn linear_rows(&self) -> usize {
        LINEAR_ROWS
    }

    fn most_chunk_tokens() -> usize {
        MOST_CHUNK_TOKENS
    }

    fn pass_bytes(widths: LayerWidths, tokens: usize) -> u64 {
        let LayerWidths { hidden, intermediate, vocab, shape } = widths;
        let (rows, q) = (LINEAR_ROWS.min(tokens), shape.q_width());
        // All f32: residual stream, angles, log-sum-exps, logits, queries, outputs, keys and
        // values; of rows in a layer, those as projected, inputs, and the gated ones.
        let floats = tokens * (hidden + shape.head_dim + shape.heads + 2 * (q + shape.kv_width()))
            + vocab
            + rows * (shape.qkv_width() + hidden.max(q) + intermediate);
        (4 * floats) as u64
    }

    fn shares_memory() -> bool {
        true
    }

    fn free_memory(&self) -> Result<Option<u64>> {
        Ok(available::memory())
    }

    fn take_peak_memory(&self) -> Result<Option<u64>> {
        // The process's memory is the system's to count.
        Ok(None)
    }

    fn peak(&self, precision: Precision) -> Result<Peak> {
        Ok(self.peak(precision))
    }

    fn mark(&self) -> Result<Instant> {
        Ok(Instant::now())
    }

    fn between(&self, start: &Instant, end: &Instant) -> Result<Duration> {
        Ok(end.duration_since(*start))
    }

    fn synchronize(&self) -> Result {
        Ok(())
    }

    fn tasks(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        self.for_each(count, task);
    }
}
