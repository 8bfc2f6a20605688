//! Tests that need a GPU: each skips itself, by name, where there is none. Inputs are fresh at
//! every run; outputs are poisoned with NaN before they are computed.

mod both;
mod choice;
mod few;
mod gemm;
mod gemv;
mod kept;
mod kernels;
mod mass;
mod memory;
mod ops;
mod replay;
mod sequences;
mod sparse;
mod statistics;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use half::bf16;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::{Buffer, Device, Element, Event};
// What most of these tests hold results to.
pub(super) use crate::testing::relative_error;

/// The first GPU, or `None` after saying why the test does nothing.
pub(super) fn device() -> Option<Arc<Device>> {
    match Device::open(0) {
        Ok(device) => Some(device),
        Err(error) => {
            println!("skipped: no GPU ({error})");
            None
        }
    }
}

/// Random numbers, other ones at every run; the seed is printed, and shown when a test fails.
pub(super) fn random() -> Xoshiro256PlusPlus {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    println!("seed {seed}");
    Xoshiro256PlusPlus::seed_from_u64(seed as u64)
}

/// `len` numbers in -scale..scale.
pub(super) fn numbers(random: &mut Xoshiro256PlusPlus, len: usize, scale: f32) -> Vec<f32> {
    let mut number = || (random.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0;
    (0..len).map(|_| number() * scale).collect()
}

/// The same, rounded to bf16.
pub(super) fn halves(random: &mut Xoshiro256PlusPlus, len: usize, scale: f32) -> Vec<bf16> {
    numbers(random, len, scale).into_iter().map(bf16::from_f32).collect()
}

/// `len` NaNs on the device (all bits set, in bf16 and in f32).
pub(super) fn poisoned<T: Element>(device: &Arc<Device>, len: usize) -> Buffer<T> {
    let mut buffer = Buffer::uninit(device, len).unwrap();
    buffer.view_mut().fill_bytes(0xFF).unwrap();
    buffer
}

/// The median time of `run` on the device, after warming up.
pub(super) fn median(device: &Arc<Device>, repeats: usize, mut run: impl FnMut()) -> Duration {
    (0..3).for_each(|_| run());
    let mut times: Vec<Duration> = (0..repeats)
        .map(|_| {
            let start = Event::record(device).unwrap();
            run();
            start.until(&Event::record(device).unwrap()).unwrap()
        })
        .collect();
    times.sort();
    times[repeats / 2]
}
