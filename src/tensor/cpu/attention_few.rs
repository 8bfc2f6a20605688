//! Attention of a few query rows, as in decoding: keys and values are read once and used directly;
//! and the merge of two partial results.

use super::Cpu;
use super::attention::{KEYS, KvSegment, Queries, Scratch};

impl Cpu {
    /// As `attend_tile`, for fewer rows than make unpacking a tile of keys worth while.
    pub(super) fn attend_few(
        &self,
        queries: Queries<'_>,
        segments: &[KvSegment<'_>],
        scratch: &mut Scratch,
    ) {
        let Queries { shape, kv_head, .. } = queries;
        let (rows, dim) = (queries.rows(), shape.head_dim);
        let Scratch { running, q, scores, row, .. } = scratch;
        running.reset(rows, dim);
        q.clear();
        for r in 0..rows {
            q.extend(queries.row(r).iter().map(|v| v * shape.scale()));
        }
        scores.resize(rows * KEYS, 0.0);
        row.resize(dim, 0.0);
        let last = queries.position(rows - 1);
        for segment in segments {
            let end = segment.visible(last);
            for from in (0..end).step_by(KEYS) {
                let count = KEYS.min(end - from);
                for t in 0..count {
                    self.widen_head(segment.keys, shape, from + t, kv_head, row);
                    for (r, q) in q.chunks_exact(dim).enumerate() {
                        scores[r * KEYS + t] = (self.kernels.dot)(q, row);
                    }
                }
                for r in 0..rows {
                    let visible = segment.visible(queries.position(r)).saturating_sub(from);
                    let row = &mut scores[r * KEYS..][..count];
                    let visible = visible.min(count);
                    row[visible..].fill(0.0);
                    if visible > 0 {
                        running.fold(self.kernels, r, &mut row[..visible]);
                    }
                }
                for t in 0..count {
                    self.widen_head(segment.values, shape, from + t, kv_head, row);
                    for r in 0..rows {
                        let out = &mut running.out[r * dim..][..dim];
                        (self.kernels.add_scaled)(out, scores[r * KEYS + t], row);
                    }
                }
            }
        }
    }

    /// Merges the partial attention `(b, b_lse)` into `(a, a_lse)`: the result is attention over
    /// the keys of both (Star Attention's equation for phase 2). `a` and `b` are
    /// `[rows, head_dim]`, normalised; the log-sum-exps are `[rows]`. Works with the difference to
    /// the larger of the two, so nothing overflows; a part that saw no key (minus infinity)
    /// changes nothing.
    pub fn merge(&self, a: &mut [f32], a_lse: &mut [f32], b: &[f32], b_lse: &[f32]) {
        assert_eq!(a.len(), b.len(), "partial outputs of different shapes");
        assert_eq!(a_lse.len(), b_lse.len(), "log-sum-exps of different shapes");
        if a_lse.is_empty() {
            return;
        }
        let dim = a.len() / a_lse.len();
        let rows = a.chunks_exact_mut(dim).zip(b.chunks_exact(dim));
        for ((a, b), (a_lse, b_lse)) in rows.zip(a_lse.iter_mut().zip(b_lse)) {
            if *b_lse == f32::NEG_INFINITY {
                continue;
            }
            let top = a_lse.max(*b_lse);
            let (wa, wb) = ((*a_lse - top).exp(), (b_lse - top).exp());
            (self.kernels.scale)(a, wa / (wa + wb));
            (self.kernels.add_scaled)(a, wb / (wa + wb), b);
            *a_lse = top + (wa + wb).ln();
        }
    }
}
