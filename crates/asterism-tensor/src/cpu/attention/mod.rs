//! Blockwise attention with an online softmax (FlashAttention, arXiv 2205.14135) and the
//! log-sum-exp of every row, which is what lets parts over different keys be merged exactly.
//!
//! One rule decides what is visible: **a query sees a key whose position is not greater than its
//! own**. Causal blocks, a fully visible anchor, zigzag chunks and phase 2 all follow from it. Keys
//! can be hidden from all queries beside that.
//!
//! Several sequences are attended in one loop of the team. What a row's result is depends on its
//! own sequence alone: how that is cut into parts, too.
//!
//! * [`segments`]: the keys that sequences see
//! * [`jobs`]: the sequences of one call, cut into tasks
//! * [`tiles`]: many queries over bf16 keys, where the processor multiplies bf16
//! * [`panels`]: many queries in f32
//! * [`few`]: few queries, as in decoding: bound by reading the keys
//! * [`cached`]: keys of all precisions on their way to the kernels of these
//! * [`merge`]: two parts into one
//! * [`mass`]: softmax weight per key
//! * [`sparse`]: some tiles of keys only, and estimates of which count

#![allow(unsafe_code)]

mod cached;
mod few;
mod jobs;
mod mass;
mod merge;
mod panels;
mod queries;
mod segments;
mod sparse;
mod tiles;

pub use segments::{KeptHead, KvSegment, KvSequence, RowPositions};

use super::Cpu;
use super::kernels::tiles::TileKernels;
use super::shared::SharedMut;
use crate::HeadShape;
use jobs::{Job, Jobs, Piece, Request, Task};
use queries::{Queries, Running};
use segments::KeyRange;

/// Query rows (tokens x heads of a group) of one task at most: enough that unpacking keys is a few
/// percent of the work, few enough that queries and outputs stay in the second-level cache.
const MOST_ROWS: usize = 384;

/// Query rows of one task where smaller tasks keep more threads busy.
const LEAST_ROWS: usize = 128;

/// Below this many query rows per KV head a tile of keys is used too seldom to be worth packing.
const FEW_ROWS: usize = 16;

/// Keys of all segments from which few rows are not shared out, but their keys.
const MANY_KEYS: usize = 4096;

/// Keys that one part of a long key sequence has at least.
const SPLIT_KEYS: usize = 512;

/// A thread's working memory for attention; see its users for the shapes.
#[derive(Default)]
pub(super) struct AttentionScratch {
    running: Running,
    panels: panels::PanelScratch,
    tiles: tiles::TileScratch,
    few: few::FewScratch,
    coarse: sparse::CoarseScratch,
}

/// Outputs and log-sum-exps of several parts of the keys, before they are merged: those of one
/// split sequence after the other.
#[derive(Default)]
pub(super) struct Parts {
    /// per sequence `[parts, tokens, heads, head_dim]`
    out: Vec<f32>,
    /// per sequence `[parts, tokens, heads]`
    lse: Vec<f32>,
}

impl Cpu {
    /// Attention of the rows of `q [tokens, heads, head_dim]` that belong to `sequences`, each over
    /// its own keys. Fills their rows of `out [tokens, heads, head_dim]` with the normalised output
    /// and of `lse [tokens, heads]` with the log-sum-exp of the scaled scores; a row that sees no
    /// key gets zeros and minus infinity. Rows of no sequence stay as they are.
    ///
    /// # Panics
    /// If sequences share rows or are not in the order of their rows, or a buffer is too short.
    pub fn attend(
        &self,
        q: &[f32],
        shape: HeadShape,
        sequences: &[KvSequence<'_>],
        out: &mut [f32],
        lse: &mut [f32],
    ) {
        assert_eq!(out.len(), q.len(), "out must have the shape of q");
        assert_eq!(lse.len() * shape.head_dim, q.len(), "lse must be [tokens, heads]");
        let jobs = Jobs::cut(q, shape, sequences, self.threads());
        let mut parts = self.take_parts();
        parts.out.resize(parts.out.len().max(jobs.part_rows * shape.head_dim), 0.0);
        parts.lse.resize(parts.lse.len().max(jobs.part_rows), 0.0);
        let whole = (SharedMut::new(out), SharedMut::new(lse));
        let partial = (SharedMut::new(&mut parts.out), SharedMut::new(&mut parts.lse));
        // Row `r` of a task's running softmax is row `row` of `part` of a sequence.
        let finish = |running: &Running, r: usize, (job, part, row): (&Job<'_>, usize, usize)| {
            let ((outs, lses), row) = match job.parts {
                1 => (&whole, job.first_row + row),
                _ => (&partial, job.first_part_row + part * job.rows() + row),
            };
            // SAFETY: the rows of sequences do not overlap (`Jobs::cut` saw that), and of one
            // sequence, (part, token, head) belongs to one task alone.
            let out = unsafe { outs.slice(row * shape.head_dim, shape.head_dim) };
            // SAFETY: as above.
            let lse = unsafe { lses.slice(row, 1) };
            lse[0] = running.finish(r, out);
        };
        self.for_each_with(jobs.tasks(), |scratch, task| match jobs.task(task) {
            Task::Rows(job, task) => {
                let (part, queries) = self.attend_rows(job, task, &mut scratch.attention);
                for r in 0..queries.rows() {
                    finish(&scratch.attention.running, r, (job, part, queries.index(r)));
                }
            }
            Task::Few(Piece { keys, of }) => {
                let of = || of.iter().map(|(job, part)| (&jobs.all[*job], *part));
                let requests: Vec<_> = of().map(|(job, _)| job.request).collect();
                self.attend_few(&requests, keys, &mut scratch.attention);
                let heads = (0..shape.kv_heads).flat_map(|head| of().map(move |of| (head, of)));
                let rows = heads.flat_map(|(head, (job, part))| {
                    let queries = job.request.queries(head);
                    (0..queries.rows()).map(move |r| (job, part, queries.index(r)))
                });
                for (r, place) in rows.enumerate() {
                    finish(&scratch.attention.running, r, place);
                }
            }
        });
        self.merge_parts(&jobs, &parts, whole);
        self.give_back_parts(parts);
    }

    /// Merges what the parts of split sequences left behind.
    fn merge_parts(
        &self,
        jobs: &Jobs<'_>,
        parts: &Parts,
        (outs, lses): (SharedMut<'_, f32>, SharedMut<'_, f32>),
    ) {
        /// Rows of one task.
        const ROWS: usize = 16;
        let dim = jobs.shape.head_dim;
        let split: Vec<&Job<'_>> = jobs.all.iter().filter(|job| job.parts > 1).collect();
        let runs: Vec<(&Job<'_>, usize)> = split
            .into_iter()
            .flat_map(|job| (0..job.rows()).step_by(ROWS).map(move |from| (job, from)))
            .collect();
        self.for_each(runs.len(), |task| {
            let (job, from) = runs[task];
            for row in from..(from + ROWS).min(job.rows()) {
                let at = job.first_row + row;
                // SAFETY: this row is this task's alone.
                let (out, lse) = unsafe { (outs.slice(at * dim, dim), lses.slice(at, 1)) };
                out.fill(0.0);
                lse[0] = f32::NEG_INFINITY;
                for part in 0..job.parts {
                    let from = job.first_part_row + part * job.rows() + row;
                    let part = &parts.out[from * dim..][..dim];
                    self.merge_row(out, &mut lse[0], part, parts.lse[from]);
                }
            }
        });
    }

    /// One task of a sequence of many rows, left in the running softmax of `scratch`: which part of
    /// the keys it is, and which rows.
    fn attend_rows<'a>(
        &self,
        job: &Job<'a>,
        task: usize,
        scratch: &mut AttentionScratch,
    ) -> (usize, Queries<'a>) {
        let Request { q, positions, shape, segments } = job.request;
        let tokens = job.request.tokens();
        let tiles = tokens.div_ceil(job.tile);
        let per_part = shape.kv_heads * tiles;
        let (part, task) = (task / per_part, task % per_part);
        // Late tiles see the most keys under a causal mask: they go first.
        let (kv_head, t) = (task % shape.kv_heads, tiles - 1 - task / shape.kv_heads);
        let first = t * job.tile;
        let count = job.tile.min(tokens - first);
        let queries = Queries::new(q, positions, shape, kv_head, (first, count));
        let keys = KeyRange::part(segments, Some(kv_head), (part, job.parts));
        self.attend_tile(queries, &keys, scratch);
        (part, queries)
    }

    /// Many queries over some of the keys, into the running softmax.
    fn attend_tile(&self, q: Queries<'_>, keys: &KeyRange<'_>, scratch: &mut AttentionScratch) {
        let AttentionScratch { running, panels, tiles, .. } = scratch;
        match self.tiles_for(keys.segments) {
            Some(kernels) => self.attend_in_tiles(kernels, q, keys, running, tiles),
            None => self.attend_in_panels(q, keys, running, panels),
        }
    }

    /// The kernels that multiply bf16, if this machine has them and these keys are not f32.
    fn tiles_for(&self, segments: &[KvSegment<'_>]) -> Option<&TileKernels> {
        self.kernels.tiles.as_ref().filter(|_| !segments.iter().any(|s| s.keys.is_f32()))
    }
}

#[cfg(test)]
mod tests;
