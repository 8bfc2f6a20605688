//! Many queries in f32: two matrix products per tile of keys, which is unpacked once for all query
//! heads that share it.

use super::queries::{Queries, Running};
use super::{KeyRange, KvSegment};
use crate::tensor::cpu::Cpu;
use crate::tensor::{Aligned, ElementsView};

/// Keys of one tile.
const KEYS: usize = 64;

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
    /// `[head_dim]`: one key or value as f32
    row: Vec<f32>,
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
        scratch.row.resize(dim, 0.0);
        scratch.scores.at_least(rows * KEYS);
        scratch.keys.at_least(KEYS * dim);
        scratch.values.at_least(dim_panels * panel * KEYS);
        // Keys past the last query's position are seen by no row of this tile.
        for part in keys.tiles(shape, KEYS, queries.position(rows - 1)) {
            self.unpack(part, &queries, scratch);
            let PanelScratch { q, scores, keys, values, .. } = scratch;
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
                    running.fold(self.kernels, r, &mut row[..visible]);
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

    /// One KV head of a tile, as panels: keys transposed `[count / panel, head_dim, panel]`, values
    /// `[head_dim / panel, count, panel]`; what is missing of a panel is zero.
    fn unpack(&self, part: KvSegment<'_>, queries: &Queries<'_>, scratch: &mut PanelScratch) {
        let (dim, panel) = (queries.shape.head_dim, self.kernels.panel);
        let PanelScratch { keys, values, row, .. } = scratch;
        for t in 0..part.tokens.next_multiple_of(panel) {
            let base = (t / panel) * dim * panel + t % panel;
            if t < part.tokens {
                self.widen_head(part.keys, queries, t, row);
            } else {
                row.fill(0.0);
            }
            for (d, v) in row.iter().enumerate() {
                keys[base + d * panel] = *v;
            }
        }
        for t in 0..part.tokens {
            self.widen_head(part.values, queries, t, row);
            for (p, piece) in row.chunks(panel).enumerate() {
                let out = &mut values[p * KEYS * panel + t * panel..][..panel];
                out[..piece.len()].copy_from_slice(piece);
                out[piece.len()..].fill(0.0);
            }
        }
    }

    /// Copies the vector of one token and the queries' KV head as f32.
    fn widen_head(
        &self,
        source: ElementsView<'_>,
        queries: &Queries<'_>,
        token: usize,
        out: &mut [f32],
    ) {
        let shape = queries.shape;
        let at = token * shape.kv_width() + queries.kv_head * shape.head_dim;
        match source {
            ElementsView::F32(v) => out.copy_from_slice(&v[at..][..shape.head_dim]),
            ElementsView::Bf16(v) => (self.kernels.widen)(&v[at..][..shape.head_dim], out),
        }
    }
}
