//! Blockwise attention with an online softmax (FlashAttention, arXiv 2205.14135) and the
//! log-sum-exp of every row, which is what lets parts over different keys be merged exactly.
//!
//! One rule decides what is visible: **a query sees a key whose position is not greater than its
//! own**. Causal blocks, a fully visible anchor, zigzag chunks and phase 2 all follow from it. Keys
//! can be hidden from all queries beside that.
//!
//! Several sequences are attended in one loop of the team. What a row's result is depends on its
//! own sequence alone: how that is cut into tasks and parts, too.
//!
//! * [`jobs`]: the sequences of one call, cut into tasks
//! * [`tiles`]: many queries over bf16 keys, where the processor multiplies bf16
//! * [`panels`]: many queries in f32
//! * [`few`]: few queries, as in decoding: bound by reading the keys
//! * [`merge`]: two parts into one
//! * [`mass`]: softmax weight per key
//! * [`sparse`]: some tiles of keys only, and estimates of which count

#![allow(unsafe_code)]

mod few;
mod jobs;
mod mass;
mod merge;
mod panels;
mod queries;
mod sparse;
mod tiles;

use super::kernels::tiles::TileKernels;
use super::shared::SharedMut;
use super::{Cpu, Scratch};
use crate::{ElementsView, HeadShape};
use jobs::{Job, Jobs};
use queries::{Queries, Running};
use std::ops::Range;

/// Query rows (tokens x heads of a group) of one task at most: enough that unpacking keys is a few
/// percent of the work, few enough that queries and outputs stay in the second-level cache.
const MOST_ROWS: usize = 384;

/// Query rows of one task where smaller tasks keep more threads busy.
const LEAST_ROWS: usize = 128;

/// Below this many query rows per KV head a tile of keys is used too seldom to be worth packing.
const FEW_ROWS: usize = 16;

/// Keys of all segments from which few rows are not shared out, but their keys.
const MANY_KEYS: usize = 4096;

/// Keys that one split of a long key sequence has at least.
const SPLIT_KEYS: usize = 512;

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
    /// `[tokens]`: which keys no query sees; none if it is missing.
    pub hidden: Option<&'a [bool]>,
}

/// Where the rows of a sequence stand.
#[derive(Debug, Clone, Copy)]
pub enum RowPositions<'a> {
    /// At consecutive positions, from this one on.
    From(usize),
    /// At these, `[rows]`, which ascend.
    Listed(&'a [u32]),
}

impl RowPositions<'_> {
    /// Where row `row` stands.
    fn of(self, row: usize) -> usize {
        match self {
            Self::From(start) => start + row,
            Self::Listed(positions) => positions[row] as usize,
        }
    }
}

/// Some consecutive rows of queries with the keys they see.
#[derive(Debug, Clone)]
pub struct KvSequence<'a> {
    /// Which of all tokens of the queries.
    pub rows: Range<usize>,
    /// Where they stand.
    pub positions: RowPositions<'a>,
    /// Keys and values, in any number of segments.
    pub segments: &'a [KvSegment<'a>],
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
            hidden: self.hidden.map(|hidden| &hidden[from..to]),
        }
    }

    /// How many keys a query at `position` sees, the hidden ones among them; 0 if all are hidden.
    fn visible(&self, position: usize) -> usize {
        let visible = (position + 1).saturating_sub(self.start).min(self.tokens);
        match self.hidden {
            Some(hidden) if hidden[..visible].iter().all(|hidden| *hidden) => 0,
            _ => visible,
        }
    }

    /// Makes the scores of hidden keys, the first of which `scores` holds, minus infinity.
    fn hide(&self, scores: &mut [f32]) {
        for (score, hidden) in scores.iter_mut().zip(self.hidden.into_iter().flatten()) {
            if *hidden {
                *score = f32::NEG_INFINITY;
            }
        }
    }

    /// Makes the weights of hidden keys 0: the f32 kernels give the least normal number for a score
    /// of minus infinity.
    fn drop_hidden(&self, weights: &mut [f32]) {
        for (weight, hidden) in weights.iter_mut().zip(self.hidden.into_iter().flatten()) {
            if *hidden {
                *weight = 0.0;
            }
        }
    }
}

/// Some of the keys of several segments: those numbered `range`, counted through all of them.
#[derive(Clone)]
struct KeyRange<'a> {
    segments: &'a [KvSegment<'a>],
    range: Range<usize>,
}

impl<'a> KeyRange<'a> {
    /// The `part`-th of `parts` nearly equal parts.
    fn part(segments: &'a [KvSegment<'a>], part: usize, parts: usize) -> Self {
        let keys: usize = segments.iter().map(|s| s.tokens).sum();
        Self { segments, range: part * keys / parts..(part + 1) * keys / parts }
    }

    /// The segments, cut to the range; at most `tile` keys at a time, and only keys that a query at
    /// position `last` sees.
    fn tiles(
        &self,
        shape: HeadShape,
        tile: usize,
        last: usize,
    ) -> impl Iterator<Item = KvSegment<'a>> {
        let Range { start, end } = self.range;
        let mut offset = 0;
        self.segments.iter().flat_map(move |segment| {
            let low = start.clamp(offset, offset + segment.tokens) - offset;
            let high = end.clamp(offset, offset + segment.tokens) - offset;
            offset += segment.tokens;
            let high = high.min((last + 1).saturating_sub(segment.start));
            (low..high)
                .step_by(tile)
                .map(move |from| segment.slice(shape, from, (from + tile).min(high)))
        })
    }
}

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

/// What is asked for of one sequence.
#[derive(Clone, Copy)]
struct Request<'a> {
    /// `[tokens, heads, head_dim]`, those of the sequence
    q: &'a [f32],
    positions: RowPositions<'a>,
    shape: HeadShape,
    segments: &'a [KvSegment<'a>],
}

/// How a request is cut into tasks.
#[derive(Clone, Copy)]
struct Cut {
    /// Tokens of one task.
    tile: usize,
    /// Parts that the keys are split into.
    parts: usize,
}

impl Request<'_> {
    fn tokens(&self) -> usize {
        self.q.len() / self.shape.q_width()
    }

    /// Whether queries are too few to be worth unpacking keys for.
    fn is_few(&self) -> bool {
        self.tokens() * self.shape.group() < FEW_ROWS
    }

    fn cut(&self, threads: usize) -> Cut {
        let (tokens, group) = (self.tokens(), self.shape.group());
        let keys: usize = self.segments.iter().map(|s| s.tokens).sum();
        let rows = tokens * group;
        let (tile, tasks) = if self.is_few() {
            (tokens.max(1), 1)
        } else {
            let even = rows * self.shape.kv_heads / (4 * threads);
            // Every task unpacks the keys it reads: where there are too few rows for all threads,
            // tasks share keys out rather than rows.
            let share_keys = even < LEAST_ROWS && keys >= MANY_KEYS;
            let most = if share_keys { MOST_ROWS } else { even.clamp(LEAST_ROWS, MOST_ROWS) };
            let tile = (most / group).clamp(1, tokens.max(1));
            (tile, self.shape.kv_heads * tokens.div_ceil(tile))
        };
        // Few queries over many keys leave threads idle: split the keys and merge the parts.
        let parts = (2 * threads).div_ceil(tasks.max(1)).min(keys / SPLIT_KEYS).max(1);
        Cut { tile, parts }
    }
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
        let rows = jobs.part_rows();
        parts.out.resize(parts.out.len().max(rows * shape.head_dim), 0.0);
        parts.lse.resize(parts.lse.len().max(rows), 0.0);
        let whole = (SharedMut::new(out), SharedMut::new(lse));
        let partial = (SharedMut::new(&mut parts.out), SharedMut::new(&mut parts.lse));
        self.for_each_with(jobs.tasks(), |scratch, task| {
            let (job, task) = jobs.of_task(task);
            let (part, finish) = self.attend_task(&job.request, job.cut, task, scratch);
            let ((outs, lses), first) = match job.cut.parts {
                1 => (&whole, job.first_row),
                _ => (&partial, job.first_part_row + part * job.rows()),
            };
            for (r, row) in finish {
                let row = first + row;
                // SAFETY: the rows of sequences do not overlap (`Jobs::cut` saw that), and of one
                // sequence, (part, token, head) belongs to this task alone.
                let out = unsafe { outs.slice(row * shape.head_dim, shape.head_dim) };
                // SAFETY: as above.
                let lse = unsafe { lses.slice(row, 1) };
                lse[0] = scratch.attention.running.finish(r, out);
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
        let split: Vec<&Job<'_>> = jobs.all.iter().filter(|job| job.cut.parts > 1).collect();
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
                for part in 0..job.cut.parts {
                    let from = job.first_part_row + part * job.rows() + row;
                    let part = &parts.out[from * dim..][..dim];
                    self.merge_row(out, &mut lse[0], part, parts.lse[from]);
                }
            }
        });
    }

    /// One task of a sequence, left in the running softmax of `scratch`: which part of the keys it
    /// is, and its rows there with their place among all rows `[tokens, heads]` of the sequence.
    fn attend_task<'a>(
        &self,
        request: &Request<'a>,
        cut: Cut,
        task: usize,
        scratch: &mut Scratch,
    ) -> (usize, Box<dyn Iterator<Item = (usize, usize)> + 'a>) {
        let Request { q, positions, shape, segments } = *request;
        let tokens = request.tokens();
        if request.is_few() {
            let keys = KeyRange::part(segments, task, cut.parts);
            self.attend_few(request, &keys, &mut scratch.attention);
            let queries = move |kv_head| Queries::new(q, positions, shape, kv_head, (0, tokens));
            let rows = queries(0).rows();
            let places =
                (0..shape.kv_heads * rows).map(move |r| (r, queries(r / rows).index(r % rows)));
            return (task, Box::new(places));
        }
        let tiles = tokens.div_ceil(cut.tile);
        let per_part = shape.kv_heads * tiles;
        let (part, task) = (task / per_part, task % per_part);
        // Late tiles see the most keys under a causal mask: they go first.
        let (kv_head, t) = (task % shape.kv_heads, tiles - 1 - task / shape.kv_heads);
        let first = t * cut.tile;
        let count = cut.tile.min(tokens - first);
        let queries = Queries::new(q, positions, shape, kv_head, (first, count));
        let keys = KeyRange::part(segments, part, cut.parts);
        self.attend_tile(queries, &keys, &mut scratch.attention);
        (part, Box::new((0..queries.rows()).map(move |r| (r, queries.index(r)))))
    }

    /// Many queries over some of the keys, into the running softmax.
    fn attend_tile(&self, q: Queries<'_>, keys: &KeyRange<'_>, scratch: &mut AttentionScratch) {
        let AttentionScratch { running, panels, tiles, .. } = scratch;
        match self.tiles_for(keys.segments) {
            Some(kernels) => self.attend_in_tiles(kernels, q, keys, running, tiles),
            None => self.attend_in_panels(q, keys, running, panels),
        }
    }

    /// The kernels that multiply these keys as they are stored, if this machine has them.
    fn tiles_for(&self, segments: &[KvSegment<'_>]) -> Option<&TileKernels> {
        let is_bf16 = |s: &KvSegment<'_>| matches!(s.keys, ElementsView::Bf16(_));
        self.kernels.tiles.as_ref().filter(|_| segments.iter().all(is_bf16))
    }
}

#[cfg(test)]
mod tests;
