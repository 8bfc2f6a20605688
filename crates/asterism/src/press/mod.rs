//! Pressing encoded keys: which of a block's keys and values are kept when no question is known
//! yet.
//!
//! A [`Scorer`] goes along while a block is encoded and notes what its scores depend on; then it
//! scores every key of every head, layer after layer, and [`select`] says which are kept. Nothing
//! of it leaves the host: what is kept of a block depends on the block and what it is encoded
//! behind.
//!
//! * [`plain`]: scores that need nothing but keys: their length, their place, none
//! * [`window`]: what the block's last tokens look at (SnapKV)
//! * [`expected`]: the attention of queries to come (Expected Attention)
//! * [`compactor`]: leverage of keys, and attention within 256 tokens (Compactor)
//! * [`repeat`]: the text with which a block is repeated (KVzip)

pub mod compactor;
pub mod expected;
pub mod plain;
pub mod repeat;
mod rotation;
mod scorer;
pub mod select;
pub mod window;

pub use repeat::{RepeatPrompt, Repetition};
pub use scorer::Scorer;

use crate::tensor::Backend;
use std::sync::OnceLock;

/// What `task` gives for every number below `count`, computed by all threads of `backend`.
fn each<B: Backend, T: Send + Sync>(
    backend: &B,
    count: usize,
    task: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let done: Vec<OnceLock<T>> = (0..count).map(|_| OnceLock::new()).collect();
    backend.tasks(count, &|number| {
        let _ = done[number].set(task(number));
    });
    done.into_iter().filter_map(OnceLock::into_inner).collect()
}

#[cfg(test)]
mod testing {
    /// Numbers from -1 to 1.
    pub(super) fn random(seed: &mut u64, len: usize) -> Vec<f32> {
        let mut next = || {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (*seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    /// The largest difference, relative to the largest number expected; not a number if one is not.
    pub(super) fn error(found: &[f32], expected: &[f64]) -> f64 {
        assert_eq!(found.len(), expected.len());
        let most = expected.iter().fold(1e-30, |most: f64, x| most.max(x.abs()));
        let differences = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs() / most);
        differences.fold(0.0, |most, x| if x.is_nan() || x > most { x } else { most })
    }
}
