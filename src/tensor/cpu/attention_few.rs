//! Attention of a few query rows, as in decoding: keys and values are read once and used directly;
//! and the merge of two partial results.

use super::Cpu;
use super::attention::{KEYS, KvSegment, Queries, Scratch};
use super::kernels::FEW;
use crate::tensor::ElementsView;

impl Cpu {
    /// As `attend_tile`, for fewer rows than make unpacking a tile of keys worth while.
    pub(super) fn attend_few(
        &self,
        queries: Queries<'_>,
        segments: &[KvSegment<'_>],
        scratch: &mut Scratch,
    ) {
        let Queries { shape, kv_head, .. } = queries;
        let (rows, dim, width) = (queries.rows(), shape.head_dim, shape.kv_width());
        // Rows come in groups of FEW; those that fill up the last group are zero and cost little.
        let padded = rows.next_multiple_of(FEW);
        let Scratch { running, q, scores, .. } = scratch;
        running.reset(padded, dim);
        queries.scaled(q);
        q.resize(padded * dim, 0.0);
        scores.resize(scores.len().max(FEW * KEYS), 0.0);
        let last = queries.position(rows - 1);
        for segment in segments {
            let end = segment.visible(last);
            for from in (0..end).step_by(KEYS) {
                let count = KEYS.min(end - from);
                let at = from * width + kv_head * dim..;
                for (group, q) in q.chunks_exact(FEW * dim).enumerate() {
                    let scores = &mut scores[..FEW * count];
                    match segment.keys {
                        ElementsView::F32(k) => {
                            (self.kernels.score_f32)(q, &k[at.clone()], width, scores);
                        }
                        ElementsView::Bf16(k) => {
                            (self.kernels.score_bf16)(q, &k[at.clone()], width, scores);
                        }
                    }
                    for (i, row) in scores.chunks_exact_mut(count).enumerate() {
                        let r = group * FEW + i;
                        let position = queries.position(r.min(rows - 1));
                        let visible = segment.visible(position).saturating_sub(from).min(count);
                        row[visible..].fill(0.0);
                        if visible > 0 {
                            running.fold(self.kernels, r, &mut row[..visible]);
                        }
                    }
                    let out = &mut running.out[group * FEW * dim..][..FEW * dim];
                    match segment.values {
                        ElementsView::F32(v) => {
                            (self.kernels.weigh_f32)(scores, &v[at.clone()], width, out);
                        }
                        ElementsView::Bf16(v) => {
                            (self.kernels.weigh_bf16)(scores, &v[at.clone()], width, out);
                        }
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
