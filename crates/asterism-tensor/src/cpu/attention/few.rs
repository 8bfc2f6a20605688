//! Few queries, as in decoding: a tile of keys is read once for the queries of all sequences that
//! share it.
//!
//! A score is one sum in the order of a head's elements, and a tile adds to an output one sum for
//! each [`STEP`] of its values: [`multiply_panels`](crate::cpu::Kernels::multiply_panels) computes
//! a row of either alike whatever the number of rows.

use super::jobs::{FewPart, Job, Jobs};
use super::panels::KEYS as STEP;
use super::queries::Running;
use super::{AttentionScratch, KvSegment};
use crate::cpu::Cpu;
use crate::cpu::kernels::fetch;
use crate::{Aligned, ElementsView, HeadShape};
use std::ops::Range;

/// Keys of one tile: those of all heads stay in the second-level cache, and what is done once per
/// row and tile costs little. They are unpacked [`STEP`] at a time, into the first-level cache.
pub(super) const KEYS: usize = 256;

/// Rows (token, head) of sequences that are attended together at most: their scores of a tile fill
/// an eighth of a second-level cache of 2 MiB.
pub(super) const MOST_ROWS: usize = 256;

/// A thread's working memory.
#[derive(Default)]
pub(super) struct FewScratch {
    /// `[kv_heads, rows, head_dim]`: scaled
    pub(super) q: Vec<f32>,
    /// `[rows, KEYS]`: those of one KV head
    pub(super) scores: Aligned<f32>,
    /// One KV head: keys `[STEP / panel, head_dim, panel]`, or values `[head_dim / panel, STEP,
    /// panel]`
    pub(super) panels: Aligned<f32>,
    /// `[rows]`: positions of the rows of any KV head
    positions: Vec<usize>,
}

impl Cpu {
    /// All queries of some sequences, each over one part of its keys. Of the rows of a KV head,
    /// those of a sequence follow those of the one before it. `finish` is called for every row with
    /// its job, its part, its place in the running softmax, and its place among the rows `[tokens,
    /// heads]` of the job.
    pub(super) fn attend_few(
        &self,
        jobs: &Jobs<'_>,
        parts: &[FewPart<'_>],
        scratch: &mut AttentionScratch,
        finish: impl Fn(&Running, &Job<'_>, usize, usize, usize),
    ) {
        let HeadShape { kv_heads, head_dim, .. } = jobs.shape;
        let jobs = || parts.iter().map(|part| &jobs.all[part.job]);
        let (running, few) = (&mut scratch.running, &mut scratch.few);
        few.positions.clear();
        for queries in jobs().map(|job| job.queries(0)) {
            few.positions.extend((0..queries.rows()).map(|r| queries.position(r)));
        }
        let rows = few.positions.len();
        running.reset(kv_heads * rows, head_dim.next_multiple_of(self.kernels.panel));
        few.q.clear();
        for kv_head in 0..kv_heads {
            for queries in jobs().map(|job| job.queries(kv_head)) {
                for r in 0..queries.rows() {
                    few.q.extend(queries.row(r).iter().map(|v| v * queries.scale()));
                }
            }
        }
        self.fold_parts(parts, jobs(), running, few);
        for kv_head in 0..kv_heads {
            let mut row = kv_head * rows;
            for (job, part) in jobs().zip(parts) {
                let queries = job.queries(kv_head);
                for r in 0..queries.rows() {
                    finish(running, job, part.part, row + r, queries.index(r));
                }
                row += queries.rows();
            }
        }
    }

    /// Tile after tile of each part: those that neighbours have in common, for all of them at once.
    fn fold_parts<'a>(
        &self,
        parts: &[FewPart<'_>],
        jobs: impl Iterator<Item = &'a Job<'a>>,
        running: &mut Running,
        scratch: &mut FewScratch,
    ) {
        let mut shape = None;
        let (mut tiles, mut rows, mut first) = (Vec::new(), Vec::new(), 0);
        for (job, part) in jobs.zip(parts) {
            let queries = job.queries(0);
            let last = queries.position(queries.rows() - 1);
            tiles.push(part.keys.tiles(queries.shape, KEYS, last).peekable());
            rows.push(first..first + queries.rows());
            first += queries.rows();
            shape = Some(queries.shape);
        }
        let Some(shape) = shape else { return };
        loop {
            let now: Vec<_> = tiles.iter_mut().map(Iterator::next).collect();
            if now.iter().all(Option::is_none) {
                return;
            }
            let mut first = 0;
            let place = |tile: &Option<KvSegment<'_>>| tile.as_ref().map(KvSegment::place);
            for alike in now.chunk_by(|a, b| place(a) == place(b)) {
                let members = first..first + alike.len();
                first = members.end;
                if let [Some(tile), ..] = alike {
                    let next = tiles[members.start].peek().copied();
                    let some = rows[members.start].start..rows[members.end - 1].end;
                    self.fold_few(shape, *tile, next, some, running, scratch);
                }
            }
        }
    }

    /// One tile of keys for `some` of the rows of each KV head. What is `next` is fetched
    /// meanwhile, in the order it lies in memory: this one is read with gaps, head by head.
    fn fold_few(
        &self,
        shape: HeadShape,
        tile: KvSegment<'_>,
        next: Option<KvSegment<'_>>,
        some: Range<usize>,
        running: &mut Running,
        scratch: &mut FewScratch,
    ) {
        let FewScratch { q, scores, panels, positions } = scratch;
        let HeadShape { kv_heads, head_dim: dim, .. } = shape;
        let (apart, rows, panel) = (positions.len(), some.len(), self.kernels.panel);
        let shares = kv_heads * tile.tokens.div_ceil(STEP);
        let mut share = 0;
        for kv_head in 0..kv_heads {
            let first = kv_head * apart + some.start;
            let q = &q[first * dim..][..rows * dim];
            self.score_few(shape, kv_head, q, tile, panels, scores);
            for (r, scores) in scores.chunks_exact_mut(KEYS).take(rows).enumerate() {
                let visible = tile.visible(positions[some.start + r]);
                scores[visible..tile.tokens].fill(0.0);
                if visible > 0 {
                    running.fold(self.kernels, first + r, tile, &mut scores[..visible]);
                }
            }
            let (width, between) = (running.width, STEP * panel);
            panels.at_least(width * STEP);
            for from in (0..tile.tokens).step_by(STEP) {
                if let Some(next) = &next {
                    fetch_share(next.keys, share, shares);
                    fetch_share(next.values, share, shares);
                }
                share += 1;
                let part = tile.slice(shape, from, tile.tokens.min(from + STEP));
                self.unpack_values(part, shape, kv_head, panels);
                let (weights, out) = (&scores[from..], &mut running.out[first * width..]);
                (self.kernels.multiply_panels)(
                    weights,
                    KEYS,
                    rows,
                    part.tokens,
                    panels,
                    between,
                    width / panel,
                    out,
                    width,
                    true,
                );
            }
        }
    }

    /// Scores of the rows `q [rows, head_dim]` of one KV head with the keys of `tile`: fills the
    /// first of each row of `scores [rows, KEYS]`. `panels` is working memory.
    pub(super) fn score_few(
        &self,
        shape: HeadShape,
        kv_head: usize,
        q: &[f32],
        tile: KvSegment<'_>,
        panels: &mut Aligned<f32>,
        scores: &mut Aligned<f32>,
    ) {
        let (dim, panel) = (shape.head_dim, self.kernels.panel);
        let rows = q.len() / dim;
        let (panels, scores) = (panels.at_least(STEP * dim), scores.at_least(rows * KEYS));
        for from in (0..tile.tokens).step_by(STEP) {
            let part = tile.slice(shape, from, tile.tokens.min(from + STEP));
            self.unpack_keys(part, shape, kv_head, panels);
            let (count, scores) = (part.tokens.div_ceil(panel), &mut scores[from..]);
            (self.kernels.multiply_panels)(
                q,
                dim,
                rows,
                dim,
                panels,
                dim * panel,
                count,
                scores,
                KEYS,
                false,
            );
        }
    }
}

/// Asks for one of `shares` parts of `all`.
fn fetch_share(all: ElementsView<'_>, share: usize, shares: usize) {
    match all {
        ElementsView::Bf16(all) => {
            fetch(&all[share * all.len() / shares..(share + 1) * all.len() / shares]);
        }
        ElementsView::F32(all) => {
            let part = &all[share * all.len() / shares..(share + 1) * all.len() / shares];
            fetch(bytemuck::cast_slice(part));
        }
    }
}
