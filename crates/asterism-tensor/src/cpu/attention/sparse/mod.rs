//! Attention over some tiles of keys only, and what it takes to choose them.
//!
//! * [`attend`]: what a [`TileMask`](crate::TileMask) says
//! * [`lines`]: softmax weight per key and per distance, of a few rows
//! * [`coarse`]: estimates of the weight of whole tiles
//! * [`heaviest`]: which of them hold a share of it

mod attend;
mod coarse;
mod heaviest;
mod lines;
#[cfg(test)]
mod tests;

pub(super) use coarse::CoarseScratch;
