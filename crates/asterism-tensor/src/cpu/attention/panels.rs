//! Many queries in f32: two matrix products per tile of keys, which is unpacked once for all query
//! heads that share it.

use super::queries::{Queries, Running};
use super::{KeyRange, KvSegment};
use crate::cpu::Cpu;
use crate::{Aligned, ElementsView, HeadShape};

/// Keys of one tile.
pub(super) const KEYS: usize = 64;

/// A thread's working memory.
#[derive(Default)]
pub(super) struct PanelScratch {
    /// `[rows, head_dim]`: the tile's queries, scaled
    q: Vec<f32>,
    /// `[rows, KEYS]`
    scores: Aligned<f32>,
    /// `[KEYS / panel, head_dim, panel]`
    keys: Aligned<f32>,
    /// `[head_dim / panel, KEYS, panel]`
    values: Aligned<f32>,
}

impl Cpu {
    pub(super) fn attend_in_panels(
        &self,
        queries: Queries<'_>,
        keys: &KeyRange<'_>,
        running: &mut Running,
        scratch: &mut PanelScratch,
    ) {
        let Queries { shape, .. } = queries;
        let (rows, dim, panel) = (queries.rows(), shape.head_dim, self.kernels.panel);
        let dim_panels = dim.div_ceil(panel);
        running.reset(rows, dim_panels * panel);
        scratch.q.clear();
        for r in 0..rows {
            scratch.q.extend(queries.row(r).iter().map(|v| v * queries.scale()));
        }
        scratch.scores.at_least(rows * KEYS);
        scratch.keys.at_least(KEYS * dim);
        scratch.values.at_least(dim_panels * panel * KEYS);
        // Keys past the last query's position are seen by no row of this tile.
        for part in keys.tiles(shape, KEYS, queries.position(rows - 1)) {
            let PanelScratch { q, scores, keys, values, .. } = scratch;
            self.unpack_keys(part, shape, queries.kv_head, keys);
            self.unpack_values(part, shape, queries.kv_head, values);
            let count = part.tokens;
            for p in 0..count.div_ceil(panel) {
                let panel_keys = &keys[p * dim * panel..][..dim * panel];
                let out = &mut scores[p * panel..];
                (self.kernels.multiply)(q, dim, rows, dim, panel_keys, out, KEYS, false);
            }
            for r in 0..rows {
                let visible = part.visible(queries.position(r));
                let row = &mut scores[r * KEYS..][..count];
                row[visible..].fill(0.0);
                if visible > 0 {
                    running.fold(self.kernels, r, part, &mut row[..visible]);
                }
            }
            let width = running.width;
            for p in 0..dim_panels {
                let b = &values[p * KEYS * panel..][..count * panel];
                let out = &mut running.out[p * panel..];
                (self.kernels.multiply)(scores, KEYS, rows, count, b, out, width, true);
            }
        }
    }

    /// Keys of one KV head as panels, transposed: `[tokens / panel, head_dim, panel]`; what is
    /// missing of a panel is zero.
    pub(super) fn unpack_keys(
        &self,
        part: KvSegment<'_>,
        shape: HeadShape,
        kv_head: usize,
        out: &mut [f32],
    ) {
        let (dim, stride, count) = (shape.head_dim, shape.kv_width(), part.tokens);
        let head = kv_head * dim..;
        match part.keys {
            ElementsView::Bf16(keys) => {
                (self.kernels.unpack_keys)(&keys[head], stride, count, dim, out);
            }
            ElementsView::F32(keys) => {
                (self.kernels.copy_keys)(&keys[head], stride, count, dim, out);
            }
        }
    }

    /// Values of one KV head as panels: `[head_dim / panel, KEYS, panel]`; what is missing of a
    /// panel is zero.
    pub(super) fn unpack_values(
        &self,
        part: KvSegment<'_>,
        shape: HeadShape,
        kv_head: usize,
        out: &mut [f32],
    ) {
        let (dim, stride, count) = (shape.head_dim, shape.kv_width(), part.tokens);
        let (head, between) = (kv_head * dim.., KEYS * self.kernels.panel);
        match part.values {
            ElementsView::Bf16(values) => {
                (self.kernels.unpack_values)(&values[head], stride, count, dim, out, between);
            }
            ElementsView::F32(values) => {
                (self.kernels.copy_values)(&values[head], stride, count, dim, out, between);
            }
        }
    }
}
