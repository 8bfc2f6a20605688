//! Which tiles hold a share of a row's weight.

#![allow(unsafe_code)]

use crate::cpu::Cpu;
use crate::cpu::shared::SharedMut;
use std::ops::Range;

impl Cpu {
    /// Of each row of `weights [heads, query tiles, key tiles]`, which hold `share` of it: the
    /// first tile and `own`, those of its query tile, whatever they weigh; then the heaviest until
    /// the share is reached, and all that weigh as much as the last of them. Tiles behind `own`
    /// weigh nothing. Gives a bit for each tile of keys, `[heads, query tiles, key tiles / 32]`,
    /// the lowest of a word first.
    ///
    /// # Panics
    /// If there are not as many weights.
    #[must_use]
    pub fn heaviest(
        &self,
        weights: &[f32],
        heads: usize,
        key_tiles: usize,
        own: &[Range<u32>],
        share: f32,
    ) -> Vec<u32> {
        assert_eq!(weights.len(), heads * own.len() * key_tiles, "weights of tiles");
        let words = key_tiles.div_ceil(32);
        let mut bits = vec![0; heads * own.len() * words];
        let shared = SharedMut::new(&mut bits);
        self.for_each(heads * own.len(), |row| {
            let weights = &weights[row * key_tiles..][..key_tiles];
            let own = &own[row % own.len()];
            let is_own = |tile: u32| tile == 0 || own.contains(&tile);
            let mut needed = share * weights.iter().sum::<f32>();
            for (tile, weight) in (0..).zip(weights) {
                needed -= if is_own(tile) { *weight } else { 0.0 };
            }
            let least = least(weights, needed, is_own);
            // SAFETY: a row is one task's alone.
            let bits = unsafe { shared.slice(row * words, words) };
            for (tile, weight) in (0..).zip(weights) {
                if is_own(tile) || *weight >= least {
                    bits[tile as usize / 32] |= 1 << (tile % 32);
                }
            }
        });
        bits
    }
}

/// The largest weight for which those from it on, but for a row's own, add up to `needed`; infinite
/// if nothing is. Positive floats are in the order of their bits.
fn least(weights: &[f32], needed: f32, is_own: impl Fn(u32) -> bool) -> f32 {
    if needed <= 0.0 {
        return f32::INFINITY;
    }
    // What weighs nothing is never kept.
    let (mut low, mut high) = (1, f32::INFINITY.to_bits());
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        let from = f32::from_bits(middle);
        let others = (0..).zip(weights).filter(|(tile, weight)| **weight >= from && !is_own(*tile));
        if others.map(|(_, weight)| weight).sum::<f32>() >= needed {
            low = middle;
        } else {
            high = middle;
        }
    }
    f32::from_bits(low)
}
