//! Few queries, as in decoding: keys and values are read once, in the order they lie in memory, and
//! used directly for all heads, and for all sequences that see them.

use super::AttentionScratch;
use super::jobs::Request;
use super::queries::Running;
use super::segments::{KeyRange, KvSegment};
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
    /// `[rows]`
    positions: Vec<usize>,
}

impl Cpu {
    /// All queries of `requests` over keys that all of them see: of each KV head, row `r` of all
    /// their rows, one request's behind the other's, is row `head * rows + r` of the running
    /// softmax. None of them changes what another's are, to the last bit.
    pub(super) fn attend_few(
        &self,
        requests: &[Request<'_>],
        keys: &KeyRange<'_>,
        scratch: &mut AttentionScratch,
    ) {
        let Some(Request { shape, .. }) = requests.first() else { return };
        let (running, few) = (&mut scratch.running, &mut scratch.few);
        few.q.clear();
        few.positions.clear();
        for kv_head in 0..shape.kv_heads {
            for queries in requests.iter().map(|request| request.queries(kv_head)) {
                if kv_head == 0 {
                    few.positions.extend((0..queries.rows()).map(|r| queries.position(r)));
                }
                queries.push_scaled(&mut few.q);
            }
        }
        let rows = shape.kv_heads * few.positions.len();
        running.reset(rows, shape.head_dim);
        few.scores.resize(few.scores.len().max(rows * KEYS), 0.0);
        let last = few.positions.iter().copied().max().unwrap_or(0);
        for tile in keys.tiles(*shape, KEYS, last) {
            self.fold_few(*shape, tile, running, few);
        }
    }

    /// One tile of keys, all heads of `shape`.
    fn fold_few(
        &self,
        shape: HeadShape,
        tile: KvSegment<'_>,
        running: &mut Running,
        scratch: &mut FewScratch,
    ) {
        let FewScratch { q, scores, positions } = scratch;
        let (rows, count, dim) = (positions.len(), tile.tokens, shape.head_dim);
        let heads = tile.heads(shape);
        let few = FewRows { kv_heads: heads.len(), rows, dim };
        let own = heads.start * rows..heads.end * rows;
        let q = &q[own.start * dim..own.end * dim];
        let scores = &mut scores[..own.len() * count];
        self.score_few(few, q, tile.keys, scores);
        for (row, scores) in own.clone().zip(scores.chunks_exact_mut(count)) {
            let visible = tile.visible(positions[row % rows]);
            scores[visible..].fill(0.0);
            if visible > 0 {
                running.fold(self.kernels, row, tile, &mut scores[..visible]);
            }
        }
        let out = &mut running.out[own.start * dim..own.end * dim];
        self.weigh_few(few, scores, tile.values, out);
    }
}
