//! The CPU as a [`Backend`](crate::Backend), a file for each of its traits: activations are f32
//! slices, keys [`Kv`]. Nothing here computes.

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

pub use tokens::Ids;

use super::{Kv, KvView};
use crate::{Aligned, Part, PartMut, TensorError};

type Result<T = ()> = std::result::Result<T, TensorError>;

fn floats(part: Part<'_, Aligned<f32>>) -> &[f32] {
    &part.of[part.range()]
}

fn floats_mut(part: PartMut<'_, Aligned<f32>>) -> &mut [f32] {
    let range = part.range();
    &mut part.of[range]
}

fn cached(part: Part<'_, Kv>) -> KvView<'_> {
    part.of.view(part.range())
}
