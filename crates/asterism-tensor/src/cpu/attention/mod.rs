//! Blockwise attention with an online softmax (FlashAttention, arXiv 2205.14135) and the
//! log-sum-exp of every row, which is what lets parts over different keys be merged exactly.
//!
//! One rule decides what is visible: **a query sees a key whose position is not greater than its
//! own**. Causal blocks, a fully visible anchor, zigzag chunks and phase 2 all follow from it.
//!
//! * [`tiles`]: many queries over bf16 keys, where the processor multiplies bf16
//! * [`panels`]: many queries in f32
//! * [`few`]: few queries, as in decoding: bound by reading the keys
//! * [`merge`]: two parts into one

#![allow(unsafe_code)]

mod few;
mod merge;
mod panels;
mod queries;
mod tiles;

use super::Cpu;
use super::kernels::tiles::TileKernels;
use super::shared::SharedMut;
use crate::{ElementsView, HeadShape};
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
    fn visible(&self, position: usize) -> usize {
        (position + 1).saturating_sub(self.start).min(self.tokens)
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
            let high = high.min(segment.visible(last));
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
}

/// Outputs and log-sum-exps of several parts of the keys, before they are merged.
#[derive(Default)]
pub(super) struct Parts {
    /// `[parts, tokens, heads, head_dim]`
    out: Vec<f32>,
    /// `[parts, tokens, heads]`
    lse: Vec<f32>,
}

/// What one call of [`Cpu::attend`] asks for.
#[derive(Clone, Copy)]
struct Request<'a> {
    /// `[tokens, heads, head_dim]`
    q: &'a [f32],
    /// Position of the first token.
    start: usize,
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
        let request = Request { q, start, shape, segments };
        assert_eq!(out.len(), q.len(), "out must have the shape of q");
        assert_eq!(lse.len(), request.tokens() * shape.heads, "lse must be [tokens, heads]");
        if q.is_empty() {
            return;
        }
        let cut = request.cut(self.threads());
        if cut.parts == 1 {
            return self.attend_parts(request, cut, out, lse);
        }
        let mut parts = self.parts();
        let Parts { out: outs, lse: lses } = &mut *parts;
        outs.resize(outs.len().max(cut.parts * out.len()), 0.0);
        lses.resize(lses.len().max(cut.parts * lse.len()), 0.0);
        let (outs, lses) = (&mut outs[..cut.parts * out.len()], &mut lses[..cut.parts * lse.len()]);
        self.attend_parts(request, cut, outs, lses);
        out.fill(0.0);
        lse.fill(f32::NEG_INFINITY);
        for (part, part_lse) in outs.chunks_exact(out.len()).zip(lses.chunks_exact(lse.len())) {
            self.merge(out, lse, part, part_lse);
        }
    }

    /// Every part of the keys. `outs` is `[parts, tokens, heads, head_dim]`.
    fn attend_parts(&self, request: Request<'_>, cut: Cut, outs: &mut [f32], lses: &mut [f32]) {
        let Request { q, start, shape, segments } = request;
        let tokens = request.tokens();
        if request.is_few() {
            return self.attend_few(request, cut.parts, outs, lses);
        }
        let tiles = tokens.div_ceil(cut.tile);
        let per_part = shape.kv_heads * tiles;
        let (outs, lses) = (SharedMut::new(outs), SharedMut::new(lses));
        self.for_each_with(cut.parts * per_part, |scratch, task| {
            let (part, task) = (task / per_part, task % per_part);
            // Late tiles see the most keys under a causal mask: they go first.
            let (kv_head, t) = (task % shape.kv_heads, tiles - 1 - task / shape.kv_heads);
            let first = t * cut.tile;
            let count = cut.tile.min(tokens - first);
            let queries = Queries { q, start, shape, kv_head, first, tokens: count };
            let keys = KeyRange::part(segments, part, cut.parts);
            self.attend_tile(queries, &keys, &mut scratch.attention);
            for r in 0..queries.rows() {
                let row = part * tokens * shape.heads + queries.index(r);
                // SAFETY: (part, token, head) belongs to this task alone.
                let out = unsafe { outs.slice(row * shape.head_dim, shape.head_dim) };
                // SAFETY: as above.
                let lse = unsafe { lses.slice(row, 1) };
                lse[0] = scratch.attention.running.finish(r, out);
            }
        });
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
