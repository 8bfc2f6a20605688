//! Few queries, as in decoding: keys and values are read once, in the order they lie in memory, and
//! used directly for all heads.

use super::queries::{Queries, Running};
use super::{AttentionScratch, KeyRange, KvSegment, Request};
use crate::HeadShape;
use crate::cpu::Cpu;
use crate::cpu::kernels::FewRows;

/// Keys of one tile: those of all heads stay in the second-level cache, and what is done once per
/// row and tile costs little.
const KEYS: usize = 256;

/// A thread's working memory.
#[derive(Default)]
pub(super) struct FewScratch {
    /// `[kv_heads, rows, head_dim]`: scaled
    pub(super) q: Vec<f32>,
    /// `[kv_heads, rows, KEYS]`
    pub(super) scores: Vec<f32>,
}

impl Cpu {
    /// All queries of a sequence over some of its keys: row `r` of KV head `h` is row
    /// `h * rows + r` of the running softmax.
    pub(super) fn attend_few(
        &self,
        request: &Request<'_>,
        keys: &KeyRange<'_>,
        scratch: &mut AttentionScratch,
    ) {
        let Request { q, positions, shape, .. } = *request;
        let tokens = request.tokens();
        let queries = |kv_head| Queries::new(q, positions, shape, kv_head, (0, tokens));
        let rows = queries(0).rows();
        let (running, few) = (&mut scratch.running, &mut scratch.few);
        running.reset(shape.kv_heads * rows, shape.head_dim);
        few.scores.resize(shape.kv_heads * rows * KEYS, 0.0);
        few.q.clear();
        for queries in (0..shape.kv_heads).map(queries) {
            for r in 0..queries.rows() {
                few.q.extend(queries.row(r).iter().map(|v| v * queries.scale()));
            }
        }
        for tile in keys.tiles(shape, KEYS, positions.of(tokens - 1)) {
            self.fold_few(&queries(0), tile, running, few);
        }
    }

    /// One tile of keys, all heads. `queries` are those of any KV head: positions are the same.
    fn fold_few(
        &self,
        queries: &Queries<'_>,
        tile: KvSegment<'_>,
        running: &mut Running,
        scratch: &mut FewScratch,
    ) {
        let (rows, count) = (queries.rows(), tile.tokens);
        let HeadShape { head_dim: dim, .. } = queries.shape;
        let heads = tile.heads(queries.shape);
        let shape = FewRows { kv_heads: heads.len(), rows, dim };
        let FewScratch { q, scores } = scratch;
        let own = heads.start * rows..heads.end * rows;
        let q = &q[own.start * dim..own.end * dim];
        let scores = &mut scores[..own.len() * count];
        self.score_few(shape, q, tile.keys, scores);
        for (row, scores) in own.clone().zip(scores.chunks_exact_mut(count)) {
            let visible = tile.visible(queries.position(row % rows));
            scores[visible..].fill(0.0);
            if visible > 0 {
                running.fold(self.kernels, row, tile, &mut scores[..visible]);
            }
        }
        let out = &mut running.out[own.start * dim..own.end * dim];
        self.weigh_few(shape, scores, tile.values, out);
    }
}
