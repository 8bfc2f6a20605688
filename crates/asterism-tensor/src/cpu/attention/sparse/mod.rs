//! Attention over some tiles of keys only, and what it takes to choose them.
//!
//! * [`attend`]: what a [`TileMask`](crate::TileMask) says
//! * [`lines`]: softmax weight per key and per distance, of a few rows
//! * [`coarse`]: estimates of the weight of whole tiles

mod attend;
mod coarse;
mod lines;
#[cfg(test)]
mod tests;

pub(super) use coarse::CoarseScratch;
