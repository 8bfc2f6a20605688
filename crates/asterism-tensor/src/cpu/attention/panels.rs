//! Many queries in f32: two matrix products per tile of keys, which is unpacked once for all query
//! heads that share it.

use super::cached::Decoded;
use super::queries::{HeadPlace, Queries, Running};
use super::{KeyRange, KvSegment};
use crate::Aligned;
use crate::cpu::Cpu;

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
    /// keys, then values, if they are in 8 bits
    decoded: Decoded,
}

impl Cpu {
    pub(super) fn attend_in_panels(
        &self,
        queries: Queries<'_>,
        keys: &KeyRange<'_>,
        running: &mut Running,
        scratch: &mut PanelScratch,
    ) {
        let (shape, last) = (queries.shape, queries.position(queries.rows() - 1));
        self.begin_panels(&queries, running, scratch);
        // Keys past the last query's position are seen by no row of this tile.
        for part in keys.tiles(shape, KEYS, last) {
            let place = part.place(shape, queries.kv_head);
            self.fold_panel(&queries, part, place, running, scratch);
        }
    }

    /// Makes room and scales the queries; tiles can be folded in then.
    pub(super) fn begin_panels(
        &self,
        queries: &Queries<'_>,
        running: &mut Running,
        scratch: &mut PanelScratch,
    ) {
        let (rows, dim, panel) = (queries.rows(), queries.shape.head_dim, self.kernels.panel);
        let dim_panels = dim.div_ceil(panel);
        running.reset(rows, dim_panels * panel);
        scratch.q.clear();
        queries.push_scaled(&mut scratch.q);
        scratch.scores.at_least(rows * KEYS);
        scratch.keys.at_least(KEYS * dim);
        scratch.values.at_least(dim_panels * panel * KEYS);
    }

    /// Folds one tile of at most [`KEYS`] keys in, which lie at `place`.
    pub(super) fn fold_panel(
        &self,
        queries: &Queries<'_>,
        part: KvSegment<'_>,
        place: HeadPlace,
        running: &mut Running,
        scratch: &mut PanelScratch,
    ) {
        let (rows, dim, panel) = (queries.rows(), queries.shape.head_dim, self.kernels.panel);
        self.unpack(part, dim, place, scratch);
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
                running.fold(self.kernels, r, part, &mut row[..visible]);
            }
        }
        let width = running.width;
        for p in 0..dim.div_ceil(panel) {
            let b = &values[p * KEYS * panel..][..count * panel];
            let out = &mut running.out[p * panel..];
            (self.kernels.multiply)(scores, KEYS, rows, count, b, out, width, true);
        }
    }

    /// One KV head of a tile, as panels: keys transposed `[count / panel, head_dim, panel]`, values
    /// `[head_dim / panel, KEYS, panel]`; what is missing of a panel is zero.
    fn unpack(
        &self,
        part: KvSegment<'_>,
        dim: usize,
        place: HeadPlace,
        scratch: &mut PanelScratch,
    ) {
        let PanelScratch { keys, values, decoded, .. } = scratch;
        let head = (place, part.tokens, dim);
        self.keys_as_panels(part.keys, head, keys, decoded);
        self.values_as_panels(part.values, head, (values, KEYS * self.kernels.panel), decoded);
    }
}
