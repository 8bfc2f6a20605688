//! Estimates of the softmax weight of whole tiles, from a coarse grid of scores.

#![allow(unsafe_code)]

use crate::cpu::Cpu;
use crate::cpu::attention::cached::Decoded;
use crate::cpu::attention::queries::HeadPlace;
use crate::cpu::attention::{KvSegment, KvSequence};
use crate::cpu::kernels::tiles::{
    BLOCK, PANEL_STEP, Panels, STEP, STRIP, Strips, TILE, TileKernels,
};
use crate::cpu::shared::SharedMut;
use crate::cpu::{KvView, kv::int8_bytes};
use crate::{Aligned, Grain, HeadShape, MASK_TILE};
use half::bf16;

/// Coarse rows of one task: enough that packing keys is little of the work.
const ROWS: usize = 128;

/// Coarse keys that are scored at a time: those of one tile at most.
const KEYS: usize = MASK_TILE;

/// A thread's working memory.
#[derive(Default)]
pub(crate) struct CoarseScratch {
    /// `[stride, rows, head_dim]`: scaled, in f32
    rows: Aligned<f32>,
    /// `[stride, strips, depth, 16, 32]`
    strips: Aligned<bf16>,
    /// `[KEYS / panel, head_dim, panel]`
    panels: Aligned<f32>,
    /// `[KEYS / 32, depth, 2, 16, 16, 2]`
    packed: Aligned<bf16>,
    /// some keys, if they are in 8 bits
    decoded: Decoded,
    /// `[rows, KEYS]`
    scores: Aligned<f32>,
    /// `[rows, key tiles]`: the largest score of a row in a tile, and the sum relative to it
    found: Vec<(f32, f32)>,
}

/// A coarse grid: score `(i, j)` is the sum over `s < stride` of the product of query `i stride +
/// stride - 1 - s` and key `j stride + s`; what is beyond the last is zero.
struct Grid<'a> {
    /// `[tokens, heads, head_dim]`
    q: &'a [f32],
    shape: HeadShape,
    stride: usize,
    /// Coarse rows, and coarse keys, of a tile.
    per_tile: usize,
    /// Tokens, of the grid's own, in each of which a coarse key stands for `stride`.
    segments: Vec<KvSegment<'a>>,
    /// How far each coarse row sees: the position of its last token.
    last: &'a (dyn Fn(usize) -> usize + Sync),
    /// Tokens of the text in one token of the grid.
    pooled: usize,
}

impl Grid<'_> {
    fn tokens(&self) -> usize {
        self.q.len() / self.shape.q_width()
    }

    /// Coarse keys of `segment` that coarse row `row` sees.
    fn visible(&self, segment: &KvSegment<'_>, row: usize) -> usize {
        let step = self.stride * self.pooled;
        let seen = ((self.last)(row) + 1).saturating_sub(segment.start).div_ceil(step);
        seen.min(segment.tokens.div_ceil(self.stride))
    }
}

impl Cpu {
    /// Estimated softmax weight of every tile of keys for every tile of the rows of `sequence`, and
    /// each query head, summed over the rows of the grid: fills `sums [heads, query tiles, key
    /// tiles]`, with 0 where no row sees a key.
    ///
    /// # Panics
    /// If a stride does not divide a tile, or `sums` is too short.
    pub fn tile_mass(
        &self,
        q: &[f32],
        shape: HeadShape,
        sequence: &KvSequence<'_>,
        grain: Grain,
        sums: &mut [f32],
    ) {
        let KvSequence { rows, positions, segments } = sequence;
        let q = &q[rows.start * shape.q_width()..rows.end * shape.q_width()];
        let stride = grain.stride();
        assert!(MASK_TILE.is_multiple_of(stride), "a stride of {stride}");
        let end = rows.len() - 1;
        let last = move |row: usize| positions.of((row * stride + stride - 1).min(end));
        match grain {
            Grain::Antidiagonal { .. } => {
                let (segments, per_tile) = (segments.to_vec(), MASK_TILE / stride);
                let last = &last;
                let grid = Grid { q, shape, stride, per_tile, segments, last, pooled: 1 };
                self.weigh_grid(&grid, sums);
            }
            Grain::Mean => {
                let q = self.pool(KvView::F32(q), shape.q_width());
                let pooled: Vec<Vec<f32>> =
                    segments.iter().map(|s| self.pool(s.keys, shape.kv_width())).collect();
                let segments = pooled.iter().zip(*segments).map(|(keys, segment)| {
                    let keys = KvView::F32(keys);
                    let tokens = segment.tokens.div_ceil(MASK_TILE);
                    KvSegment {
                        keys,
                        values: keys,
                        tokens,
                        start: segment.start,
                        hidden: None,
                        head: None,
                    }
                });
                let (segments, last, pooled) = (segments.collect(), &last, MASK_TILE);
                let (q, stride, per_tile) = (&q[..], 1, 1);
                let grid = Grid { q, shape, stride, per_tile, segments, last, pooled };
                self.weigh_grid(&grid, sums);
            }
        }
    }

    /// The mean of every [`MASK_TILE`] rows of `rows [n, width]`, the last of what is left.
    fn pool(&self, rows: KvView<'_>, width: usize) -> Vec<f32> {
        let tiles = rows.len().div_ceil(width * MASK_TILE);
        let mut means = vec![0.0; tiles * width];
        let shared = SharedMut::new(&mut means);
        self.for_each_with(tiles, |scratch, tile| {
            let range = tile * MASK_TILE * width..((tile + 1) * MASK_TILE * width).min(rows.len());
            let factor = width as f32 / range.len() as f32;
            // SAFETY: this tile is this task's alone.
            let mean = unsafe { shared.slice(tile * width, width) };
            for from in range.step_by(width) {
                match rows.slice(from..from + width) {
                    KvView::F32(row) => (self.kernels.add_scaled)(mean, factor, row),
                    KvView::Bf16(row) => {
                        let wide = scratch.row.at_least(width);
                        (self.kernels.widen)(row, wide);
                        (self.kernels.add_scaled)(mean, factor, wide);
                    }
                    KvView::Int8(row) => {
                        let wide = scratch.row.at_least(width);
                        let (heads, dim) = (row.heads(), width / row.heads());
                        let bytes = int8_bytes(dim);
                        (self.kernels.decode_int8)(row.bytes(), bytes, heads, dim, wide);
                        (self.kernels.add_scaled)(mean, factor, wide);
                    }
                }
            }
        });
        means
    }

    fn weigh_grid(&self, grid: &Grid<'_>, sums: &mut [f32]) {
        let Grid { shape, stride, per_tile, .. } = *grid;
        let rows = grid.tokens().div_ceil(stride);
        let query_tiles = rows.div_ceil(per_tile);
        let key_tiles = grid.segments.iter().map(|s| s.tokens.div_ceil(stride * per_tile)).sum();
        assert_eq!(sums.len(), shape.heads * query_tiles * key_tiles, "sums of tiles");
        // Whole tiles of queries in a task, of all heads that share keys.
        let step = (ROWS / shape.group() / per_tile).max(1);
        let tasks = query_tiles.div_ceil(step);
        let sums = SharedMut::new(sums);
        self.for_each_with(tasks * shape.kv_heads, |scratch, task| {
            let (kv_head, part) = (task % shape.kv_heads, tasks - 1 - task / shape.kv_heads);
            let first = part * step * per_tile;
            let end = (first + step * per_tile).min(rows);
            let scratch = &mut scratch.attention.coarse;
            self.score_grid(grid, kv_head, first..end, key_tiles, scratch);
            for tile in 0..step.min(query_tiles - part * step) {
                for head in 0..shape.group() {
                    let place = (kv_head * shape.group() + head) * query_tiles + part * step + tile;
                    // SAFETY: (head, tile of queries) belongs to this task alone.
                    let sums = unsafe { sums.slice(place * key_tiles, key_tiles) };
                    sums.fill(0.0);
                    let own = tile * per_tile..((tile + 1) * per_tile).min(end - first);
                    for row in own.map(|row| row * shape.group() + head) {
                        add_weights(&scratch.found[row * key_tiles..][..key_tiles], sums);
                    }
                }
            }
        });
    }

    /// Leaves in `scratch.found` what the coarse rows `rows` find in every tile of keys: `(coarse
    /// row, head of the group)`.
    fn score_grid(
        &self,
        grid: &Grid<'_>,
        kv_head: usize,
        rows: std::ops::Range<usize>,
        key_tiles: usize,
        scratch: &mut CoarseScratch,
    ) {
        let Grid { shape, per_tile, stride, .. } = *grid;
        let (group, dim) = (shape.group(), shape.head_dim);
        let count = rows.len() * group;
        self.lay_out(grid, kv_head, rows.clone(), scratch);
        scratch.scores.at_least(count.next_multiple_of(BLOCK) * KEYS);
        scratch.found.clear();
        scratch.found.resize(count * key_tiles, (f32::NEG_INFINITY, 0.0));
        let kernels = self.tiles_for(&grid.segments);
        if let Some(kernels) = kernels {
            pack_rows(kernels, stride, count, dim, scratch);
            (kernels.begin)();
        }
        let step = KEYS / per_tile * per_tile;
        let mut first_tile = 0;
        for segment in &grid.segments {
            let most = grid.visible(segment, rows.end - 1);
            for from in (0..most).step_by(step) {
                let keys = step.min(most - from);
                let place = HeadPlace {
                    stride: shape.kv_width() * stride,
                    offset: kv_head * dim + from * stride * shape.kv_width(),
                };
                let left = segment.tokens - from * stride;
                match kernels {
                    Some(k) => {
                        self.score_tiles(k, grid, segment, place, (count, keys, left), scratch);
                    }
                    None => self.score_panels(grid, segment, place, (count, keys, left), scratch),
                }
                let CoarseScratch { scores, found, .. } = scratch;
                for row in 0..count {
                    let seen = grid.visible(segment, rows.start + row / group);
                    let seen = seen.saturating_sub(from).min(keys);
                    for (tile, at) in (0..seen).step_by(per_tile).enumerate() {
                        let own =
                            &mut scores[row * KEYS + at..row * KEYS + seen.min(at + per_tile)];
                        let tile = first_tile + from / per_tile + tile;
                        found[row * key_tiles + tile] = match own {
                            [score] => (*score, 1.0),
                            own => (self.kernels.softmax_row)(own, f32::NEG_INFINITY),
                        };
                    }
                }
            }
            first_tile += segment.tokens.div_ceil(stride * per_tile);
        }
        if let Some(kernels) = kernels {
            (kernels.end)();
        }
    }

    /// Queries in the order they are multiplied in, scaled so that scores are logarithms to the
    /// base of 2.
    fn lay_out(
        &self,
        grid: &Grid<'_>,
        kv_head: usize,
        rows: std::ops::Range<usize>,
        scratch: &mut CoarseScratch,
    ) {
        let Grid { q, shape, stride, .. } = *grid;
        let (group, dim, tokens) = (shape.group(), shape.head_dim, grid.tokens());
        let scale = shape.scale() * std::f32::consts::LOG2_E / stride as f32;
        let count = rows.len() * group;
        let laid = scratch.rows.at_least(stride * count * dim);
        for s in 0..stride {
            for (r, row) in rows.clone().enumerate() {
                let token = row * stride + stride - 1 - s;
                let to = &mut laid[(s * count + r * group) * dim..][..group * dim];
                if token >= tokens {
                    to.fill(0.0);
                    continue;
                }
                to.copy_from_slice(
                    &q[(token * shape.heads + kv_head * group) * dim..][..group * dim],
                );
                (self.kernels.scale)(to, scale);
            }
        }
    }

    /// Scores `[count, KEYS]` of `keys` coarse keys, of which `left` tokens are left, in f32.
    fn score_panels(
        &self,
        grid: &Grid<'_>,
        segment: &KvSegment<'_>,
        place: HeadPlace,
        (count, keys, left): (usize, usize, usize),
        scratch: &mut CoarseScratch,
    ) {
        let (dim, panel) = (grid.shape.head_dim, self.kernels.panel);
        let CoarseScratch { rows, panels, decoded, scores, .. } = scratch;
        panels.at_least(KEYS * dim);
        for s in 0..grid.stride {
            // Of the last coarse key some tokens may be missing.
            let there = left.saturating_sub(s).div_ceil(grid.stride).min(keys);
            if there == 0 {
                continue;
            }
            let offset = place.offset + s * grid.shape.kv_width();
            let head = (HeadPlace { offset, ..place }, there, dim);
            self.keys_as_panels(segment.keys, head, panels, decoded);
            let a = &rows[s * count * dim..][..count * dim];
            for p in 0..there.div_ceil(panel) {
                let b = &panels[p * dim * panel..][..dim * panel];
                let out = &mut scores[p * panel..];
                (self.kernels.multiply)(a, dim, count, dim, b, out, KEYS, s > 0);
            }
        }
    }

    /// As `score_panels`, in bf16.
    fn score_tiles(
        &self,
        kernels: &TileKernels,
        grid: &Grid<'_>,
        segment: &KvSegment<'_>,
        place: HeadPlace,
        (count, keys, left): (usize, usize, usize),
        scratch: &mut CoarseScratch,
    ) {
        let (dim, depth) = (grid.shape.head_dim, grid.shape.head_dim.div_ceil(STEP));
        let size = count.next_multiple_of(BLOCK) / STRIP * depth * TILE;
        let CoarseScratch { strips, packed, decoded, scores, .. } = scratch;
        packed.at_least(KEYS / STEP * depth * PANEL_STEP);
        for s in 0..grid.stride {
            let there = left.saturating_sub(s).div_ceil(grid.stride).min(keys);
            if there == 0 {
                continue;
            }
            for (step, from) in (0..there).step_by(STEP).enumerate() {
                let offset = place.offset + s * grid.shape.kv_width();
                let head = HeadPlace { offset, ..place }.skip(from);
                let count = STEP.min(there - from);
                let (k, stride) = self.head_in_bf16(segment.keys, (head, count, dim), decoded);
                let out = &mut packed[step * depth * PANEL_STEP..];
                (kernels.pack_keys)(k, stride, count, dim, out);
            }
            for block in 0..count.div_ceil(BLOCK) {
                let a = &strips[s * size + 2 * block * depth * TILE..];
                let a = Strips { data: a, stride: depth * TILE };
                let (stride, count) = (depth * PANEL_STEP, there.div_ceil(STEP));
                let b = Panels { data: packed, stride, count };
                let out = &mut scores[block * BLOCK * KEYS..(block + 1) * BLOCK * KEYS];
                // SAFETY: `out` is 32 rows of KEYS, at least 32 for each panel; `begin` was called.
                unsafe { (kernels.multiply)(a, b, depth, out.as_mut_ptr(), KEYS, s > 0) };
            }
        }
    }
}

/// Queries as strips.
fn pack_rows(
    kernels: &TileKernels,
    stride: usize,
    count: usize,
    dim: usize,
    scratch: &mut CoarseScratch,
) {
    let depth = dim.div_ceil(STEP);
    let size = count.next_multiple_of(BLOCK) / STRIP * depth * TILE;
    let CoarseScratch { rows, strips, .. } = scratch;
    let strips = strips.at_least(stride * size);
    for s in 0..stride {
        for r in 0..count {
            let at = s * size + r / STRIP * depth * TILE + r % STRIP * STEP;
            (kernels.narrow)(&rows[(s * count + r) * dim..][..dim], &mut strips[at..]);
        }
    }
}

/// Adds a row's softmax weights by tile, from what it found in each.
fn add_weights(found: &[(f32, f32)], sums: &mut [f32]) {
    let top = found.iter().fold(f32::NEG_INFINITY, |top, (max, _)| top.max(*max));
    let weight = |(max, sum): &(f32, f32)| {
        if *sum > 0.0 { (max - top).exp2() * sum } else { 0.0 }
    };
    let total: f32 = found.iter().map(weight).sum();
    if total > 0.0 {
        for (to, found) in sums.iter_mut().zip(found) {
            *to += weight(found) / total;
        }
    }
}
