//! Blockwise attention with an online softmax (FlashAttention, arXiv 2205.14135) and the
//! log-sum-exp of every row, which is what lets parts over different keys be merged exactly.
//!
//! One rule decides what is visible: **a query sees a key whose position is not greater than its
//! own**. Causal blocks, a fully visible anchor, zigzag chunks and phase 2 all follow from it.
//!
//! A task takes one KV head and a tile of query tokens, with all query heads of that KV head's
//! group, so that each tile of keys is unpacked once for the whole group.

#![allow(unsafe_code)]

use super::shared::SharedMut;
use super::{Cpu, Kernels};
use crate::tensor::ElementsView;

/// Keys of one tile.
pub(super) const KEYS: usize = 64;

/// Query rows (tokens x heads of a group) of one tile: enough that unpacking keys is a few percent of
/// the work, few enough that scores, queries and outputs stay in the second-level cache.
const ROWS: usize = 384;

/// Below this many query rows a tile of keys is used too seldom to be worth unpacking.
const FEW_ROWS: usize = 16;

/// Keys that one split of a long key sequence has at least.
const SPLIT_KEYS: usize = 1024;

/// Heads of a model, or of one host's share of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadShape {
    /// Query heads.
    pub heads: usize,
    /// Key-value heads; `heads / kv_heads` query heads share one (grouped-query attention).
    pub kv_heads: usize,
    /// Elements of one head.
    pub head_dim: usize,
}

impl HeadShape {
    /// Query heads per KV head.
    #[must_use]
    pub fn group(self) -> usize {
        self.heads / self.kv_heads
    }

    /// Elements of the queries (or outputs) of one token.
    #[must_use]
    pub fn q_width(self) -> usize {
        self.heads * self.head_dim
    }

    /// Elements of the keys (or values) of one token.
    #[must_use]
    pub fn kv_width(self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// What scores are multiplied by.
    fn scale(self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }
}

/// Keys and values of tokens at consecutive positions.
#[derive(Debug, Clone, Copy)]
pub struct KvSegment<'a> {
    /// `[tokens, kv_heads, head_dim]`
    pub keys: ElementsView<'a>,
    /// `[tokens, kv_heads, head_dim]`
    pub values: ElementsView<'a>,
    /// Number of tokens.
    pub tokens: usize,
    /// Position of the first token.
    pub start: usize,
}

impl<'a> KvSegment<'a> {
    /// The tokens `from..to` of this segment.
    fn slice(self, shape: HeadShape, from: usize, to: usize) -> KvSegment<'a> {
        let width = shape.kv_width();
        KvSegment {
            keys: self.keys.slice(from * width..to * width),
            values: self.values.slice(from * width..to * width),
            tokens: to - from,
            start: self.start + from,
        }
    }

    /// How many keys a query at `position` sees.
    pub(super) fn visible(&self, position: usize) -> usize {
        (position + 1).saturating_sub(self.start).min(self.tokens)
    }
}

/// One task's queries and where they stand.
#[derive(Clone, Copy)]
pub(super) struct Queries<'a> {
    /// `[tokens, heads, head_dim]`, all heads.
    pub(super) q: &'a [f32],
    /// Position of the first token.
    pub(super) start: usize,
    pub(super) shape: HeadShape,
    pub(super) kv_head: usize,
    /// Tokens of this task.
    pub(super) first: usize,
    pub(super) tokens: usize,
}

impl Queries<'_> {
    /// The query vector of row `r` (token-major: token `r / group`, head `r % group` of the group).
    fn row(&self, r: usize) -> &[f32] {
        let group = self.shape.group();
        let token = self.first + r / group;
        let head = self.kv_head * group + r % group;
        &self.q[token * self.shape.q_width() + head * self.shape.head_dim..][..self.shape.head_dim]
    }

    /// Fills `q [rows, head_dim]` with all rows, scaled.
    pub(super) fn scaled(&self, q: &mut Vec<f32>) {
        q.clear();
        for r in 0..self.rows() {
            q.extend(self.row(r).iter().map(|v| v * self.shape.scale()));
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.tokens * self.shape.group()
    }

    pub(super) fn position(&self, r: usize) -> usize {
        self.start + self.first + r / self.shape.group()
    }
}

/// Running softmax of the rows of one task: unnormalised output, row maximum and row sum.
pub(super) struct Running {
    /// `[rows, width]`, `width` at least `head_dim`
    pub(super) out: Vec<f32>,
    pub(super) width: usize,
    pub(super) max: Vec<f32>,
    pub(super) sum: Vec<f32>,
}

impl Running {
    fn new() -> Self {
        Self { out: Vec::new(), width: 0, max: Vec::new(), sum: Vec::new() }
    }

    pub(super) fn reset(&mut self, rows: usize, width: usize) {
        self.width = width;
        self.out.clear();
        self.out.resize(rows * width, 0.0);
        self.max.clear();
        self.max.resize(rows, f32::NEG_INFINITY);
        self.sum.clear();
        self.sum.resize(rows, 0.0);
    }

    /// Folds the scores of row `r` in: turns them into weights relative to the new row maximum and
    /// rescales what was summed before. Scores must not be empty.
    pub(super) fn fold(&mut self, kernels: &Kernels, r: usize, scores: &mut [f32]) {
        let max = self.max[r].max((kernels.max)(scores));
        if max > self.max[r] && self.sum[r] > 0.0 {
            let factor = (self.max[r] - max).exp();
            self.sum[r] *= factor;
            (kernels.scale)(&mut self.out[r * self.width..][..self.width], factor);
        }
        self.max[r] = max;
        self.sum[r] += (kernels.exp_sum)(scores, max);
    }

    /// Writes row `r` divided by its sum; returns its log-sum-exp (minus infinity if it saw no key).
    fn finish(&self, r: usize, out: &mut [f32]) -> f32 {
        let sum = self.sum[r];
        if sum == 0.0 {
            out.fill(0.0);
            return f32::NEG_INFINITY;
        }
        let row = &self.out[r * self.width..][..out.len()];
        for (o, v) in out.iter_mut().zip(row) {
            *o = v / sum;
        }
        self.max[r] + sum.ln()
    }
}

/// A thread's working memory.
pub(super) struct Scratch {
    pub(super) running: Running,
    /// `[rows, head_dim]`: the tile's queries, scaled
    pub(super) q: Vec<f32>,
    /// `[rows, KEYS]`
    pub(super) scores: Vec<f32>,
    /// `[KEYS / panel, head_dim, panel]`
    pub(super) keys: Vec<f32>,
    /// `[head_dim / panel, KEYS, panel]`
    pub(super) values: Vec<f32>,
    /// `[head_dim]`: one key or value as f32
    pub(super) row: Vec<f32>,
}

impl Scratch {
    fn new() -> Self {
        Self {
            running: Running::new(),
            q: Vec::new(),
            scores: Vec::new(),
            keys: Vec::new(),
            values: Vec::new(),
            row: Vec::new(),
        }
    }
}

impl Cpu {
    /// Attention of `q [tokens, heads, head_dim]`, whose first token stands at position `start`,
    /// over the keys of all `segments`. Fills `out [tokens, heads, head_dim]` with the normalised
    /// output and `lse [tokens, heads]` with the log-sum-exp of the scaled scores; a row that sees
    /// no key gets zeros and minus infinity.
    pub fn attend(
        &self,
        q: &[f32],
        start: usize,
        shape: HeadShape,
        segments: &[KvSegment<'_>],
        out: &mut [f32],
        lse: &mut [f32],
    ) {
        let tokens = q.len() / shape.q_width();
        assert_eq!(out.len(), q.len(), "out must have the shape of q");
        assert_eq!(lse.len(), tokens * shape.heads, "lse must be [tokens, heads]");
        let tile = (ROWS / shape.group()).max(1).min(tokens.max(1));
        let tiles = tokens.div_ceil(tile);
        let tasks = shape.kv_heads * tiles;
        let keys: usize = segments.iter().map(|s| s.tokens).sum();
        // Few queries over many keys leave threads idle: split the keys and merge the parts.
        let splits = (2 * self.threads()).div_ceil(tasks.max(1)).min(keys / SPLIT_KEYS).max(1);
        if splits == 1 {
            self.attend_parts(q, start, shape, tile, &[segments.to_vec()], out, lse);
            return;
        }
        let parts = split_keys(shape, segments, keys, splits);
        let mut outs = vec![0.0; parts.len() * out.len()];
        let mut lses = vec![0.0; parts.len() * lse.len()];
        self.attend_parts(q, start, shape, tile, &parts, &mut outs, &mut lses);
        let mut outs = outs.chunks_exact(out.len());
        let mut lses = lses.chunks_exact(lse.len());
        if let (Some(first), Some(first_lse)) = (outs.next(), lses.next()) {
            out.copy_from_slice(first);
            lse.copy_from_slice(first_lse);
        }
        for (part, part_lse) in outs.zip(lses) {
            self.merge(out, lse, part, part_lse);
        }
    }

    /// Every (part, KV head, query tile) as one task. `outs` is `[parts, tokens, heads, head_dim]`.
    #[allow(clippy::too_many_arguments)]
    fn attend_parts(
        &self,
        q: &[f32],
        start: usize,
        shape: HeadShape,
        tile: usize,
        parts: &[Vec<KvSegment<'_>>],
        outs: &mut [f32],
        lses: &mut [f32],
    ) {
        let tokens = q.len() / shape.q_width();
        let tiles = tokens.div_ceil(tile);
        let per_part = shape.kv_heads * tiles;
        let (outs, lses) = (SharedMut::new(outs), SharedMut::new(lses));
        self.for_each_with(parts.len() * per_part, Scratch::new, |scratch, task| {
            let (part, task) = (task / per_part, task % per_part);
            // Late tiles see the most keys under a causal mask: they go first.
            let (kv_head, t) = (task % shape.kv_heads, tiles - 1 - task / shape.kv_heads);
            let first = t * tile;
            let queries =
                Queries { q, start, shape, kv_head, first, tokens: tile.min(tokens - first) };
            if queries.rows() < FEW_ROWS {
                self.attend_few(queries, &parts[part], scratch);
            } else {
                self.attend_tile(queries, &parts[part], scratch);
            }
            let group = shape.group();
            for r in 0..queries.rows() {
                let token = part * tokens + first + r / group;
                let row = token * shape.heads + kv_head * group + r % group;
                // SAFETY: (part, token, head) belongs to this task alone.
                let out = unsafe { outs.slice(row * shape.head_dim, shape.head_dim) };
                // SAFETY: as above.
                let lse = unsafe { lses.slice(row, 1) };
                lse[0] = scratch.running.finish(r, out);
            }
        });
    }

    /// Many query rows: two matrix products per tile of keys.
    fn attend_tile(&self, queries: Queries<'_>, segments: &[KvSegment<'_>], scratch: &mut Scratch) {
        let Queries { shape, kv_head, .. } = queries;
        let (rows, dim, panel) = (queries.rows(), shape.head_dim, self.kernels.panel);
        let dim_panels = dim.div_ceil(panel);
        let Scratch { running, q, scores, keys, values, row } = scratch;
        row.resize(dim, 0.0);
        running.reset(rows, dim_panels * panel);
        queries.scaled(q);
        scores.resize(rows * KEYS, 0.0);
        keys.resize(KEYS * dim, 0.0);
        values.resize(dim_panels * panel * KEYS, 0.0);
        let last = queries.position(rows - 1);
        for segment in segments {
            // Keys past the last query's position are seen by no row of this tile.
            for from in (0..segment.visible(last)).step_by(KEYS) {
                let to = (from + KEYS).min(segment.visible(last));
                let part = segment.slice(shape, from, to);
                self.unpack(part, shape, kv_head, row, keys, values);
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
                for p in 0..dim_panels {
                    let panel_values = &values[p * KEYS * panel..][..count * panel];
                    let out = &mut running.out[p * panel..];
                    let width = dim_panels * panel;
                    (self.kernels.multiply)(
                        scores,
                        KEYS,
                        rows,
                        count,
                        panel_values,
                        out,
                        width,
                        true,
                    );
                }
            }
        }
    }

    /// One KV head of a tile, as panels: keys transposed `[count / panel, head_dim, panel]`, values
    /// `[head_dim / panel, count, panel]`; what is missing of a panel is zero.
    fn unpack(
        &self,
        part: KvSegment<'_>,
        shape: HeadShape,
        kv_head: usize,
        row: &mut [f32],
        keys: &mut [f32],
        values: &mut [f32],
    ) {
        let (dim, panel) = (shape.head_dim, self.kernels.panel);
        let padded = part.tokens.div_ceil(panel) * panel;
        for t in 0..padded {
            let base = (t / panel) * dim * panel + t % panel;
            if t < part.tokens {
                self.widen_head(part.keys, shape, t, kv_head, row);
            } else {
                row.fill(0.0);
            }
            for (d, v) in row.iter().enumerate() {
                keys[base + d * panel] = *v;
            }
        }
        for t in 0..part.tokens {
            self.widen_head(part.values, shape, t, kv_head, row);
            for (p, piece) in row.chunks(panel).enumerate() {
                let out = &mut values[p * KEYS * panel + t * panel..][..panel];
                out[..piece.len()].copy_from_slice(piece);
                out[piece.len()..].fill(0.0);
            }
        }
    }

    /// Copies the vector of `(token, kv_head)` as f32.
    pub(super) fn widen_head(
        &self,
        source: ElementsView<'_>,
        shape: HeadShape,
        token: usize,
        kv_head: usize,
        out: &mut [f32],
    ) {
        let at = token * shape.kv_width() + kv_head * shape.head_dim;
        match source {
            ElementsView::F32(v) => out.copy_from_slice(&v[at..][..shape.head_dim]),
            ElementsView::Bf16(v) => (self.kernels.widen)(&v[at..][..shape.head_dim], out),
        }
    }
}

/// Cuts the keys of `segments` into `splits` parts of nearly equal size.
fn split_keys<'a>(
    shape: HeadShape,
    segments: &[KvSegment<'a>],
    keys: usize,
    splits: usize,
) -> Vec<Vec<KvSegment<'a>>> {
    (0..splits)
        .map(|i| {
            let (from, to) = (i * keys / splits, (i + 1) * keys / splits);
            let mut offset = 0;
            let mut part = Vec::new();
            for segment in segments {
                let low = from.clamp(offset, offset + segment.tokens) - offset;
                let high = to.clamp(offset, offset + segment.tokens) - offset;
                if low < high {
                    part.push(segment.slice(shape, low, high));
                }
                offset += segment.tokens;
            }
            part
        })
        .collect()
}

#[cfg(test)]
#[path = "attention_tests.rs"]
mod tests;
