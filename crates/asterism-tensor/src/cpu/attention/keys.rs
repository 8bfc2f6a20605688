//! Keys and values as they lie in memory, and how they are cut.

use crate::{ElementsView, HeadShape};
use std::ops::Range;

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

impl<'a> KvSegment<'a> {
    /// The tokens `from..to` of this segment.
    pub(super) fn slice(self, shape: HeadShape, from: usize, to: usize) -> KvSegment<'a> {
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
    pub(super) fn visible(&self, position: usize) -> usize {
        let visible = (position + 1).saturating_sub(self.start).min(self.tokens);
        match self.hidden {
            Some(hidden) if hidden[..visible].iter().all(|hidden| *hidden) => 0,
            _ => visible,
        }
    }

    /// Where this lies in memory, and at which positions: equal for two only if their keys, values
    /// and flags are the same.
    pub(super) fn place(&self) -> [usize; 5] {
        let address = |view: ElementsView<'_>| match view {
            ElementsView::F32(view) => view.as_ptr().addr(),
            ElementsView::Bf16(view) => view.as_ptr().addr(),
        };
        let hidden = self.hidden.map_or(0, |hidden| hidden.as_ptr().addr());
        [address(self.keys), address(self.values), hidden, self.tokens, self.start]
    }

    /// Makes the scores of hidden keys, the first of which `scores` holds, minus infinity.
    pub(super) fn hide(&self, scores: &mut [f32]) {
        for (score, hidden) in scores.iter_mut().zip(self.hidden.into_iter().flatten()) {
            if *hidden {
                *score = f32::NEG_INFINITY;
            }
        }
    }

    /// Makes the weights of hidden keys 0: the f32 kernels give the least normal number for a score
    /// of minus infinity.
    pub(super) fn drop_hidden(&self, weights: &mut [f32]) {
        for (weight, hidden) in weights.iter_mut().zip(self.hidden.into_iter().flatten()) {
            if *hidden {
                *weight = 0.0;
            }
        }
    }
}

/// Some of the keys of several segments: those numbered `range`, counted through all of them.
#[derive(Clone)]
pub(super) struct KeyRange<'a> {
    pub(super) segments: &'a [KvSegment<'a>],
    pub(super) range: Range<usize>,
}

impl<'a> KeyRange<'a> {
    /// The `part`-th of `parts` nearly equal parts.
    pub(super) fn part(segments: &'a [KvSegment<'a>], part: usize, parts: usize) -> Self {
        Self::part_of_tiles(segments, part, parts, 1)
    }

    /// The same, cut at multiples of `tile` keys: sequences that share their first keys are cut
    /// alike, though a few more keys follow in some than in others.
    pub(super) fn part_of_tiles(
        segments: &'a [KvSegment<'a>],
        part: usize,
        parts: usize,
        tile: usize,
    ) -> Self {
        let keys: usize = segments.iter().map(|s| s.tokens).sum();
        let cut = |part: usize| match part == parts {
            true => keys,
            false => part * keys / parts / tile * tile,
        };
        Self { segments, range: cut(part)..cut(part + 1) }
    }

    /// The [place](KvSegment::place) of the first tile, if there is one.
    pub(super) fn first_place(&self, shape: HeadShape, tile: usize) -> Option<[usize; 5]> {
        self.tiles(shape, tile, usize::MAX - 1).next().map(|tile| tile.place())
    }

    /// The segments, cut to the range; at most `tile` keys at a time, and only keys that a query at
    /// position `last` sees.
    pub(super) fn tiles(
        &self,
        shape: HeadShape,
        tile: usize,
        last: usize,
    ) -> impl Iterator<Item = KvSegment<'a>> + use<'a> {
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
