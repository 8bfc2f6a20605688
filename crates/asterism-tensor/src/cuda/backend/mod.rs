//! A GPU as a [`Backend`](crate::Backend), a file for each of its traits: activations in bf16, the
//! residual stream and all sums in f32. Operations are enqueued on the device's stream and return
//! at once; what reads results waits.

mod attention;
mod buffers;
mod caching;
mod choosing;
mod linear;
mod processor;
mod replaying;
mod sparse;
mod statistics;
mod tokens;

use crate::TensorError;

type Result<T = ()> = std::result::Result<T, TensorError>;
