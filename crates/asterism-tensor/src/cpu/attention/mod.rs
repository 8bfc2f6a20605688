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
mod sparse;
mod tiles;

use super::kernels::tiles::TileKernels;
use super::shared::SharedMut;
use super::{Cpu, KvView, Scratch};
use crate::{HeadShape, KeptKeys};
use jobs::{Job, Jobs};
use queries::{HeadPlace, Queries, Running};
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

/// Keys and values of tokens at consecutive positions, or of one head's choice among them.
#[derive(Debug, Clone, Copy)]
pub struct KvSegment<'a> {
    /// `[tokens, kv_heads, head_dim]`, or of one head `[tokens, head_dim]`
    pub keys: KvView<'a>,
    /// As `keys`.
    pub values: KvView<'a>,
    /// Number of keys.
    pub tokens: usize,
    /// Position of the first token, be its key there or not.
    pub start: usize,
    /// `[tokens]`, those whose keys are not there among them: which no query sees; none if it is
    /// missing.
    pub hidden: Option<&'a [bool]>,
    /// Whose keys these are, and of which tokens; of all if it is missing.
    pub head: Option<KeptHead<'a>>,
}

/// The tokens, of consecutive ones, whose keys one KV head has.
#[derive(Debug, Clone, Copy)]
pub struct KeptHead<'a> {
    /// The KV head.
    pub head: usize,
    /// `[tokens]`, ascending, counted from the first one's position.
    pub indices: &'a [u32],
    /// How many tokens the choice was among.
    pub among: usize,
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
    /// The segments of what is `kept` of the keys of a run of tokens from position `start` on, one
    /// for each KV head: `keys` and `values` are `[rows, head_dim]`, `hidden` is `[tokens]`.
    pub fn of_kept(
        kept: &'a KeptKeys,
        [keys, values]: [KvView<'a>; 2],
        start: usize,
        hidden: Option<&'a [bool]>,
    ) -> impl Iterator<Item = Self> {
        let dim = if kept.rows() == 0 { 0 } else { keys.len() / kept.rows() };
        (0..kept.kv_heads()).map(move |head| {
            let rows = kept.range(head);
            let elements = rows.start * dim..rows.end * dim;
            let (keys, values) = (keys.slice(elements.clone()), values.slice(elements));
            let of = KeptHead { head, indices: kept.head(head), among: kept.tokens() };
            Self { keys, values, tokens: rows.len(), start, hidden, head: Some(of) }
        })
    }

    /// The keys `from..to` of this segment.
    fn slice(self, shape: HeadShape, from: usize, to: usize) -> KvSegment<'a> {
        let width = self.stride(shape);
        let part = KvSegment {
            keys: self.keys.slice(from * width..to * width),
            values: self.values.slice(from * width..to * width),
            tokens: to - from,
            ..self
        };
        match self.head {
            Some(of) => {
                let head = Some(KeptHead { indices: &of.indices[from..to], ..of });
                KvSegment { head, ..part }
            }
            None => KvSegment {
                start: self.start + from,
                hidden: self.hidden.map(|hidden| &hidden[from..to]),
                ..part
            },
        }
    }

    /// Elements from one key to the next.
    fn stride(&self, shape: HeadShape) -> usize {
        if self.head.is_some() { shape.head_dim } else { shape.kv_width() }
    }

    /// Where the elements of KV head `head` begin.
    fn first_of(&self, shape: HeadShape, head: usize) -> usize {
        if self.head.is_some() { 0 } else { head * shape.head_dim }
    }

    /// Where the elements of KV head `head` lie.
    fn place(&self, shape: HeadShape, head: usize) -> HeadPlace {
        HeadPlace { stride: self.stride(shape), offset: self.first_of(shape, head) }
    }

    /// The KV heads whose keys these are.
    fn heads(&self, shape: HeadShape) -> Range<usize> {
        self.head.map_or(0..shape.kv_heads, |of| of.head..of.head + 1)
    }

    /// Whether it has keys of KV head `head`, or of any.
    fn is_of(&self, head: Option<usize>) -> bool {
        match (self.head, head) {
            (Some(of), Some(head)) => of.head == head,
            _ => true,
        }
    }

    /// How many keys a query at `position` sees, the hidden ones among them.
    fn up_to(&self, position: usize) -> usize {
        let tokens = (position + 1).saturating_sub(self.start);
        match self.head {
            Some(KeptHead { indices, .. }) => match indices.last() {
                Some(last) if *last as usize >= tokens => {
                    indices.partition_point(|index| (*index as usize) < tokens)
                }
                _ => indices.len(),
            },
            None => tokens.min(self.tokens),
        }
    }

    /// How many keys a query at `position` sees, the hidden ones among them; 0 if all are hidden.
    fn visible(&self, position: usize) -> usize {
        let visible = self.up_to(position);
        match self.hidden {
            Some(hidden) if (0..visible).all(|key| hidden[self.token(key)]) => 0,
            _ => visible,
        }
    }

    /// The token of key `key`, as flags are counted.
    fn token(&self, key: usize) -> usize {
        self.head.map_or(key, |of| of.indices[key] as usize)
    }

    /// Makes the scores of hidden keys, the first of which `scores` holds, minus infinity.
    fn hide(&self, scores: &mut [f32]) {
        self.overwrite_hidden(scores, f32::NEG_INFINITY);
    }

    /// Makes the weights of hidden keys 0: the f32 kernels give the least normal number for a score
    /// of minus infinity.
    fn drop_hidden(&self, weights: &mut [f32]) {
        self.overwrite_hidden(weights, 0.0);
    }

    fn overwrite_hidden(&self, numbers: &mut [f32], with: f32) {
        let Some(hidden) = self.hidden else { return };
        for (key, number) in numbers.iter_mut().enumerate().take(self.tokens) {
            if hidden[self.token(key)] {
                *number = with;
            }
        }
    }
}

/// How many keys a head sees of `segments`, on average: a segment of one head counts for that.
fn keys_of_a_head(segments: &[KvSegment<'_>], kv_heads: usize) -> usize {
    let (of_all, of_one) =
        segments.iter().fold((0, 0), |(of_all, of_one), segment| match segment.head {
            Some(_) => (of_all, of_one + segment.tokens),
            None => (of_all + segment.tokens, of_one),
        });
    of_all + of_one / kv_heads.max(1)
}

/// Some of the keys of several segments: those numbered `range`, counted through all of them that
/// are of a head.
#[derive(Clone)]
struct KeyRange<'a> {
    segments: &'a [KvSegment<'a>],
    /// The KV head whose keys are wanted; of any if it is missing.
    head: Option<usize>,
    range: Range<usize>,
}

impl<'a> KeyRange<'a> {
    /// The `part`-th of `parts` nearly equal parts of the keys of `head`, or of any.
    fn part(
        segments: &'a [KvSegment<'a>],
        head: Option<usize>,
        (part, parts): (usize, usize),
    ) -> Self {
        let keys: usize = segments.iter().filter(|s| s.is_of(head)).map(|s| s.tokens).sum();
        Self { segments, head, range: part * keys / parts..(part + 1) * keys / parts }
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
        let (mut offset, head) = (0, self.head);
        self.segments.iter().filter(move |segment| segment.is_of(head)).flat_map(move |segment| {
            let low = start.clamp(offset, offset + segment.tokens) - offset;
            let high = end.clamp(offset, offset + segment.tokens) - offset;
            offset += segment.tokens;
            let high = high.min(segment.up_to(last));
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
        let keys = keys_of_a_head(self.segments, self.shape.kv_heads);
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
            let keys = KeyRange::part(segments, None, (task, cut.parts));
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
        let keys = KeyRange::part(segments, Some(kv_head), (part, cut.parts));
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

    /// The kernels that multiply bf16, if this machine has them and these keys are not f32.
    fn tiles_for(&self, segments: &[KvSegment<'_>]) -> Option<&TileKernels> {
        self.kernels.tiles.as_ref().filter(|_| !segments.iter().any(|s| s.keys.is_f32()))
    }
}

#[cfg(test)]
mod tests;
