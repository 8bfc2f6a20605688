//! Softmax weight per key and per distance, of a few rows: the vertical and slash lines of
//! MInference (arXiv 2407.02490) and FlexPrefill (arXiv 2502.20766).

#![allow(unsafe_code)]

use crate::HeadShape;
use crate::cpu::Cpu;
use crate::cpu::attention::queries::Queries;
use crate::cpu::attention::{KeyRange, KvSequence};
use crate::cpu::shared::SharedMut;

/// Keys of one task.
const KEYS: usize = 256;

/// Rows of queries per KV head whose scores are computed at a time.
const ROWS: usize = 16;

impl Cpu {
    /// Softmax weights of the rows of `sequence`, which are the last of its keys, summed in two
    /// ways for each query head: `vertical [heads, keys]` over the rows, by key; `slash [heads,
    /// keys]` over rows and keys, by how many keys a key is before the row's own. `lse [tokens,
    /// heads]` is that of attention over all keys.
    ///
    /// # Panics
    /// If there are more rows than keys, or a buffer is too short.
    pub fn lines(
        &self,
        q: &[f32],
        shape: HeadShape,
        sequence: &KvSequence<'_>,
        lse: &[f32],
        vertical: &mut [f32],
        slash: &mut [f32],
    ) {
        let KvSequence { rows, positions, segments } = sequence;
        let keys: usize = segments.iter().map(|s| s.tokens).sum();
        let (count, heads) = (rows.len(), shape.heads);
        assert!(count <= keys, "{count} rows of {keys} keys");
        assert_eq!(vertical.len(), heads * keys, "vertical must be [heads, keys]");
        assert_eq!(slash.len(), heads * keys, "slash must be [heads, keys]");
        vertical.fill(0.0);
        slash.fill(0.0);
        let q = &q[rows.start * shape.q_width()..rows.end * shape.q_width()];
        let lse = &lse[rows.start * heads..rows.end * heads];
        let all = KeyRange { segments, head: None, range: 0..keys };
        let mut first = 0;
        let mut tiles = Vec::new();
        for tile in all.tiles(shape, KEYS, usize::MAX - 1) {
            tiles.push((first, tile));
            first += tile.tokens;
        }
        // A task's weights by distance, the largest distance first, as keys ascend.
        let band = KEYS + count;
        let mut bands = vec![0.0; tiles.len() * heads * band];
        let (vertical, shared) = (SharedMut::new(vertical), SharedMut::new(&mut bands));
        let step = (ROWS / shape.group()).max(1);
        self.for_each_with(tiles.len(), |scratch, task| {
            let (key, tile) = tiles[task];
            for first in (0..count).step_by(step) {
                let tokens = step.min(count - first);
                let queries = |head| Queries::new(q, *positions, shape, head, (first, tokens));
                self.weigh_tile(queries, tile, lse, &mut scratch.attention, |_, row, weights| {
                    let (token, head) = (row / heads, row % heads);
                    // SAFETY: these keys are this task's alone.
                    let by_key = unsafe { vertical.slice(head * keys + key, weights.len()) };
                    (self.kernels.add_scaled)(by_key, 1.0, weights);
                    let at = (task * heads + head) * band + count - 1 - token;
                    // SAFETY: the band is this task's alone.
                    let by_distance = unsafe { shared.slice(at, weights.len()) };
                    (self.kernels.add_scaled)(by_distance, 1.0, weights);
                });
            }
        });
        let slash = SharedMut::new(slash);
        self.for_each(heads, |head| {
            // SAFETY: a head is one task's alone.
            let slash = unsafe { slash.slice(head * keys, keys) };
            for (task, (key, _)) in tiles.iter().enumerate() {
                let band = &bands[(task * heads + head) * band..][..band];
                // The first is the distance of the last row from the first key of the tile.
                for (sum, weight) in slash[..keys - key].iter_mut().rev().zip(band) {
                    *sum += weight;
                }
            }
        });
    }
}
