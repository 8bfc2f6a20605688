//! What this machine can do at most, measured: the yardstick for the rates that a benchmark
//! reports.

use super::Cpu;
use crate::{Aligned, Peak, Precision};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes that one pass of the bandwidth measurement reads: many times any cache.
const STREAMED: usize = 512 << 20;
/// Bytes of one task.
const PIECE: usize = 8 << 20;
/// Rounds of multiply-adds per thread: a few milliseconds, so that starting threads costs nothing.
const ROUNDS: usize = 200_000;
/// How often either is repeated; the best counts.
const REPEATS: usize = 5;

impl Cpu {
    /// Measures [`Peak`] with weights in `precision`: the best of five runs in which all threads
    /// multiply and add in registers, and of five passes in which all threads add up 512 MiB of
    /// integers, 8 MiB at a time. Takes about a second and half a gigabyte.
    #[must_use]
    pub fn peak(&self, precision: Precision) -> Peak {
        Peak {
            flops_per_second: self.arithmetic_rate(precision, ROUNDS),
            bytes_per_second: self.read_rate(STREAMED, PIECE),
        }
    }

    /// Operations per second of `rounds` rounds on every thread.
    fn arithmetic_rate(&self, precision: Precision, rounds: usize) -> f64 {
        let tiles = self.kernels.tiles.filter(|_| precision == Precision::Bf16);
        let peak = tiles.map_or(self.kernels.peak, |tiles| tiles.peak);
        // Two tasks per thread: one that comes late does not decide the figure alone.
        let tasks = 2 * self.threads();
        let done = AtomicU64::new(0);
        let best = fastest(|| {
            done.store(0, Ordering::Relaxed);
            self.for_each(tasks, |_| {
                done.fetch_add(peak(rounds), Ordering::Relaxed);
            });
        });
        done.into_inner() as f64 / best.as_secs_f64()
    }

    /// Bytes per second of reading a buffer of `size` bytes, `piece` at a time.
    fn read_rate(&self, size: usize, piece: usize) -> f64 {
        // One allocation, so large that it goes back to the system at once. The compute threads
        // write it first: on machines with several memory nodes its pages are spread over them.
        let mut floats = Aligned::<f32>::zeros(size / 4);
        self.fill_rows(&mut floats, piece / 64, |r, row| row.fill(r as f32 + 1.0));
        let words: &[u64] = bytemuck::cast_slice(&floats);
        let best = fastest(|| {
            self.for_each(size / piece, |i| {
                let words = &words[i * piece / 8..(i + 1) * piece / 8];
                black_box(words.iter().fold(0u64, |sum, word| sum.wrapping_add(*word)));
            });
        });
        size as f64 / best.as_secs_f64()
    }
}

/// The shortest of [`REPEATS`] runs, after one that does not count.
fn fastest(mut work: impl FnMut()) -> Duration {
    work();
    let run = |()| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    std::iter::repeat_n((), REPEATS).map(run).min().unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_plausible() {
        let cpu = Cpu::new(2, None).unwrap();
        for precision in [Precision::F32, Precision::Bf16] {
            let flops = cpu.arithmetic_rate(precision, 1000);
            assert!(flops > 1e7 && flops < 1e15, "{flops}");
        }
        let bytes = cpu.read_rate(4 << 20, 1 << 20);
        assert!(bytes > 1e7 && bytes < 1e14, "{bytes}");
    }

    #[test]
    fn the_larger_of_each_is_kept() {
        let peak = |flops_per_second, bytes_per_second| Peak { flops_per_second, bytes_per_second };
        assert_eq!(peak(1.0, 4.0).max(peak(3.0, 2.0)), peak(3.0, 4.0));
    }
}
