//! What a GPU is: its name, its memory and its one stream.

use super::Result;
use crate::cuda::error::only_bf16;
use crate::cuda::{Cuda, Event, peak};
use crate::{LayerWidths, Peak, Precision, Processor};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Rows that pass through the linear layers together: far more than fill the GPU.
const LINEAR_ROWS: usize = 8192;

/// Tokens of one forward pass: long enough that cuDNN's attention runs at full speed.
const CHUNK_TOKENS: usize = 16384;

impl Processor for Cuda {
    /// 8.2 microseconds in a recorded step, in which an H200 reads weights at 4.4 TB/s.
    const EXCHANGE_BYTES: u64 = 36_000_000;

    fn describe(&self) -> String {
        let attention = if self.cudnn.is_some() { "cuDNN" } else { "own attention kernels" };
        format!("{}, {attention}", self.device.properties().name)
    }

    fn chunk_tokens(&self) -> usize {
        CHUNK_TOKENS
    }

    fn linear_rows(&self) -> usize {
        LINEAR_ROWS
    }

    fn most_chunk_tokens() -> usize {
        CHUNK_TOKENS
    }

    fn pass_bytes(widths: LayerWidths, tokens: usize) -> u64 {
        let LayerWidths { hidden, intermediate, vocab, shape } = widths;
        let (rows, q) = (LINEAR_ROWS.min(tokens), shape.q_width());
        // f32: residual stream, angles, log-sum-exps and logits; the rest bf16: queries, outputs,
        // keys and values; of rows in a layer, those as projected, inputs, and gate, up and both.
        let floats = tokens * (hidden + shape.head_dim + shape.heads) + vocab;
        let narrow = tokens * 2 * (q + shape.kv_width())
            + rows * (shape.qkv_width() + hidden.max(q) + 3 * intermediate);
        (4 * floats + 2 * narrow) as u64
    }

    fn shares_memory() -> bool {
        // The pool keeps what is freed: to the driver it is in use.
        false
    }

    fn free_memory(&self) -> Result<Option<u64>> {
        Ok(Some(self.device.memory()?.0 as u64))
    }

    fn take_peak_memory(&self) -> Result<Option<u64>> {
        Ok(Some(self.device.take_peak_memory()?))
    }

    fn peak(&self, precision: Precision) -> Result<Peak> {
        if precision != Precision::Bf16 {
            return Err(only_bf16().into());
        }
        Ok(peak::measure(&self.device, &self.gemm)?)
    }

    fn mark(&self) -> Result<Event> {
        Ok(Event::record(&self.device)?)
    }

    fn between(&self, start: &Event, end: &Event) -> Result<Duration> {
        Ok(start.until(end)?)
    }

    fn synchronize(&self) -> Result {
        Ok(self.device.synchronize()?)
    }

    fn tasks(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(count);
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return;
                        }
                        task(number);
                    }
                });
            }
        });
    }
}
