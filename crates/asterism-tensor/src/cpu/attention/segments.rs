//! The keys that sequences see: in segments, and parts of these.

use super::queries::HeadPlace;
use crate::cpu::KvView;
use crate::{HeadShape, KeptKeys};
use std::ops::Range;

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
    pub(super) fn of(self, row: usize) -> usize {
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
    pub(super) fn slice(self, shape: HeadShape, from: usize, to: usize) -> KvSegment<'a> {
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
    pub(super) fn stride(&self, shape: HeadShape) -> usize {
        if self.head.is_some() { shape.head_dim } else { shape.kv_width() }
    }

    /// Where the elements of KV head `head` begin.
    pub(super) fn first_of(&self, shape: HeadShape, head: usize) -> usize {
        if self.head.is_some() { 0 } else { head * shape.head_dim }
    }

    /// Where the elements of KV head `head` lie.
    pub(super) fn place(&self, shape: HeadShape, head: usize) -> HeadPlace {
        HeadPlace { stride: self.stride(shape), offset: self.first_of(shape, head) }
    }

    /// The KV heads whose keys these are.
    pub(super) fn heads(&self, shape: HeadShape) -> Range<usize> {
        self.head.map_or(0..shape.kv_heads, |of| of.head..of.head + 1)
    }

    /// Whether it has keys of KV head `head`, or of any.
    pub(super) fn is_of(&self, head: Option<usize>) -> bool {
        match (self.head, head) {
            (Some(of), Some(head)) => of.head == head,
            _ => true,
        }
    }

    /// Whether it is the same keys in memory, at the same positions, with the same ones hidden.
    fn is(&self, other: &Self) -> bool {
        let place = |keys: KvView<'_>| (keys.address(), keys.len());
        let hidden = |of: &Self| of.hidden.map(<[bool]>::as_ptr_range);
        let head = |of: &Self| of.head.map(|of| (of.head, of.indices.as_ptr_range()));
        place(self.keys) == place(other.keys)
            && place(self.values) == place(other.values)
            && (self.tokens, self.start) == (other.tokens, other.start)
            && hidden(self) == hidden(other)
            && head(self) == head(other)
    }

    /// How many keys a query at `position` sees, the hidden ones among them.
    pub(super) fn up_to(&self, position: usize) -> usize {
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
    pub(super) fn visible(&self, position: usize) -> usize {
        let visible = self.up_to(position);
        match self.hidden {
            Some(hidden) if (0..visible).all(|key| hidden[self.token(key)]) => 0,
            _ => visible,
        }
    }

    /// The token of key `key`, as flags are counted.
    pub(super) fn token(&self, key: usize) -> usize {
        self.head.map_or(key, |of| of.indices[key] as usize)
    }

    /// Makes the scores of hidden keys, the first of which `scores` holds, minus infinity.
    pub(super) fn hide(&self, scores: &mut [f32]) {
        self.overwrite_hidden(scores, f32::NEG_INFINITY);
    }

    /// Makes the weights of hidden keys 0: the f32 kernels give the least normal number for a score
    /// of minus infinity.
    pub(super) fn drop_hidden(&self, weights: &mut [f32]) {
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

/// Some of the keys of several segments: those numbered `range`, counted through all of them that
/// are of a head.
#[derive(Clone)]
pub(super) struct KeyRange<'a> {
    pub(super) segments: &'a [KvSegment<'a>],
    /// The KV head whose keys are wanted; of any if it is missing.
    pub(super) head: Option<usize>,
    pub(super) range: Range<usize>,
}

impl<'a> KeyRange<'a> {
    /// The `part`-th of `parts` nearly equal parts of the keys of `head`, or of any.
    pub(super) fn part(
        segments: &'a [KvSegment<'a>],
        head: Option<usize>,
        (part, parts): (usize, usize),
    ) -> Self {
        let keys: usize = segments.iter().filter(|s| s.is_of(head)).map(|s| s.tokens).sum();
        Self { segments, head, range: part * keys / parts..(part + 1) * keys / parts }
    }

    /// The segments, cut to the range; at most `tile` keys at a time, and only keys that a query at
    /// position `last` sees.
    pub(super) fn tiles(
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

    /// The segments, cut to the range.
    fn cut(&self, shape: HeadShape) -> impl Iterator<Item = KvSegment<'a>> {
        self.tiles(shape, usize::MAX / 2, usize::MAX / 2)
    }

    /// Where its first key lies in memory, if it has any.
    pub(super) fn address(&self, shape: HeadShape) -> Option<usize> {
        self.cut(shape).next().map(|first| first.keys.address())
    }

    /// Whether a query at `position`, and at any later one, sees all of it but what is hidden.
    pub(super) fn seen_from(&self, shape: HeadShape, position: usize) -> bool {
        self.cut(shape).all(|segment| segment.up_to(position) == segment.tokens)
    }

    /// Whether it is the same keys in memory, cut at the same places.
    pub(super) fn is(&self, other: &Self, shape: HeadShape) -> bool {
        let mut others = other.cut(shape);
        self.cut(shape).all(|own| others.next().is_some_and(|other| own.is(&other)))
            && others.next().is_none()
    }
}
