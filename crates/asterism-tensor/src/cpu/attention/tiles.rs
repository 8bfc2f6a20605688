//! Many queries over keys in bf16 or 8 bits: queries, keys, weights and values are bf16 tiles,
//! scores and outputs f32.

#![allow(unsafe_code)]

use super::cached::Decoded;
use super::queries::{HeadPlace, Queries, Running};
use super::{KeyRange, KvSegment};
use crate::Aligned;
use crate::cpu::Cpu;
use crate::cpu::kernels::tiles::{
    BLOCK, PANEL_STEP, Panels, STEP, STRIP, SoftmaxRows, Strips, TILE, TileKernels,
};
use half::bf16;

/// Keys of one tile: so many that what is done once per row and tile (rescaling outputs, reducing a
/// maximum across a register) costs little, so few that scores of 32 rows and keys stay in the
/// second-level cache. Measured: 64, 128, 256, 512, 1024 keys give 285, 395, 465, 668, 530 GFLOP/s.
pub(super) const KEYS: usize = 512;

/// Steps of [`KEYS`] along the summed dimension of the second product.
const KEY_STEPS: usize = KEYS / STEP;

/// A thread's working memory.
#[derive(Default)]
pub(super) struct TileScratch {
    /// `[head_dim]`: one query, scaled
    row: Aligned<f32>,
    /// `[strips, depth, 16, 32]`: queries of the task, an even number of strips
    queries: Aligned<bf16>,
    /// `[KEYS / 32, depth, 2, 16, 16, 2]`
    keys: Aligned<bf16>,
    /// `[head_dim / 32, KEY_STEPS, 2, 16, 16, 2]`
    values: Aligned<bf16>,
    /// `[32, KEYS]`
    scores: Aligned<f32>,
    /// `[2, key steps, 16, 32]`
    weights: Aligned<bf16>,
    /// some keys, or values, if they are in 8 bits
    decoded: Decoded,
}

impl Cpu {
    pub(super) fn attend_in_tiles(
        &self,
        kernels: &TileKernels,
        queries: Queries<'_>,
        keys: &KeyRange<'_>,
        running: &mut Running,
        scratch: &mut TileScratch,
    ) {
        let (shape, last) = (queries.shape, queries.position(queries.rows() - 1));
        self.begin_tiles(kernels, queries, running, scratch);
        for part in keys.tiles(shape, KEYS, last) {
            let place = part.place(shape, queries.kv_head);
            self.fold_tile(kernels, &queries, &[part], place, running, scratch);
        }
        (kernels.end)();
    }

    /// Makes room and rounds the queries; tiles can be folded in then, until the kernels' `end`.
    pub(super) fn begin_tiles(
        &self,
        kernels: &TileKernels,
        queries: Queries<'_>,
        running: &mut Running,
        scratch: &mut TileScratch,
    ) {
        let (rows, depth) = (queries.rows(), queries.shape.head_dim.div_ceil(STEP));
        let (blocks, width) = (rows.div_ceil(BLOCK), depth * BLOCK);
        running.reset(blocks * BLOCK, width);
        scratch.queries.at_least(2 * blocks * depth * TILE);
        scratch.keys.at_least(KEY_STEPS * depth * PANEL_STEP);
        scratch.values.at_least(KEY_STEPS * depth * PANEL_STEP);
        scratch.scores.at_least(BLOCK * KEYS);
        scratch.weights.at_least(2 * KEY_STEPS * TILE);
        self.round_queries(kernels, queries, scratch);
        (kernels.begin)();
    }

    /// Folds one tile of at most [`KEYS`] keys in: those of `pieces`, which lie at `place`, side by
    /// side. All but the last are whole steps of keys that every row sees, and hide none.
    pub(super) fn fold_tile(
        &self,
        kernels: &TileKernels,
        queries: &Queries<'_>,
        pieces: &[KvSegment<'_>],
        place: HeadPlace,
        running: &mut Running,
        scratch: &mut TileScratch,
    ) {
        let mut before = 0;
        for piece in pieces {
            self.pack_keys(kernels, *piece, queries.shape.head_dim, place, before / STEP, scratch);
            before += piece.tokens;
        }
        let Some(last) = pieces.last() else { return };
        let before = before - last.tokens;
        for block in 0..queries.rows().div_ceil(BLOCK) {
            self.fold_block(kernels, queries, (before, *last), block, running, scratch);
        }
    }

    /// Queries as strips, scaled.
    fn round_queries(
        &self,
        kernels: &TileKernels,
        queries: Queries<'_>,
        scratch: &mut TileScratch,
    ) {
        let depth = queries.shape.head_dim.div_ceil(STEP);
        for r in 0..queries.rows() {
            let row = scratch.row.at_least(queries.shape.head_dim);
            row.copy_from_slice(queries.row(r));
            (self.kernels.scale)(row, queries.scale());
            let at = r / STRIP * depth * TILE + r % STRIP * STEP;
            (kernels.narrow)(row, &mut scratch.queries[at..]);
        }
    }

    /// Folds one tile of keys, `before` and those of `part`, into 32 rows.
    fn fold_block(
        &self,
        kernels: &TileKernels,
        queries: &Queries<'_>,
        (before, part): (usize, KvSegment<'_>),
        block: usize,
        running: &mut Running,
        scratch: &mut TileScratch,
    ) {
        let depth = queries.shape.head_dim.div_ceil(STEP);
        let rows = block * BLOCK..(block + 1) * BLOCK;
        let visible = visible(queries, before, part, rows.start);
        let most = visible.into_iter().max().unwrap_or(0);
        if most == 0 {
            return;
        }
        let steps = most.div_ceil(STEP);
        let TileScratch { queries: q, keys, values, scores, weights, .. } = scratch;
        let q = Strips { data: &q[2 * block * depth * TILE..], stride: depth * TILE };
        let keys = Panels { data: keys, stride: depth * PANEL_STEP, count: steps };
        // SAFETY: scores has 32 rows of KEYS; `begin` was called.
        unsafe { (kernels.multiply)(q, keys, depth, scores.as_mut_ptr(), KEYS, false) };
        if part.hidden.is_some() {
            scores.chunks_mut(KEYS).for_each(|row| part.hide(&mut row[before..]));
        }
        let mut factors = [1.0; BLOCK];
        (kernels.softmax)(SoftmaxRows {
            scores,
            stride: KEYS,
            visible: &visible,
            depth: steps,
            max: &mut running.max[rows.clone()],
            sum: &mut running.sum[rows.clone()],
            factors: &mut factors,
            weights,
        });
        let width = running.width;
        let out = &mut running.out[rows.start * width..rows.end * width];
        for (row, factor) in out.chunks_exact_mut(width).zip(factors) {
            if factor != 1.0 {
                (self.kernels.scale)(row, factor);
            }
        }
        let weights = Strips { data: weights, stride: steps * TILE };
        let values = Panels { data: values, stride: KEY_STEPS * PANEL_STEP, count: depth };
        // SAFETY: out is these 32 rows; `begin` was called.
        unsafe { (kernels.multiply)(weights, values, steps, out.as_mut_ptr(), width, true) };
    }

    /// Keys of one KV head as panels from step `step` of a tile on: keys as columns, values as
    /// summed dimension.
    fn pack_keys(
        &self,
        kernels: &TileKernels,
        part: KvSegment<'_>,
        dim: usize,
        place: HeadPlace,
        step: usize,
        scratch: &mut TileScratch,
    ) {
        let TileScratch { keys, values, decoded, .. } = scratch;
        let panel = dim.div_ceil(STEP) * PANEL_STEP;
        for (step, from) in (step..).zip((0..part.tokens).step_by(STEP)) {
            let count = STEP.min(part.tokens - from);
            let head = (place.skip(from), count, dim);
            let (k, stride) = self.head_in_bf16(part.keys, head, decoded);
            (kernels.pack_keys)(k, stride, count, dim, &mut keys[step * panel..]);
            let (v, stride) = self.head_in_bf16(part.values, head, decoded);
            let out = &mut values[step * PANEL_STEP..];
            (kernels.pack_values)(v, stride, count, dim, out, KEY_STEPS * PANEL_STEP);
        }
    }
}

/// How many keys, `before` and those of `part`, each of 32 rows sees, from row `first` on; rows
/// past the last see none.
fn visible(
    queries: &Queries<'_>,
    before: usize,
    part: KvSegment<'_>,
    first: usize,
) -> [usize; BLOCK] {
    let whole = first + BLOCK <= queries.rows();
    if part.hidden.is_none() && whole && part.visible(queries.position(first)) == part.tokens {
        return [before + part.tokens; BLOCK];
    }
    std::array::from_fn(|i| match first + i {
        r if r < queries.rows() => before + part.visible(queries.position(r)),
        _ => 0,
    })
}
