//! Attention on the GPU: which keys count, and which kernel computes it.
//!
//! * Many queries that stand at the end of the keys they see, as in the chunks of a prefill whose
//!   length recurs: cuDNN, over keys copied into one run where they lie in several segments.
//! * Everything else (few queries, a text's last chunk, hosts' shares that end among the queries,
//!   no cuDNN): our own kernel, which takes any segments and splits long keys over the whole GPU.

use super::cudnn::Cudnn;
use super::kernels::FEW_ROWS;
use super::kv::{Kv, KvView};
use super::launch::Rows;
use super::queries::{Kept, Keys, Places, Queries};
use super::view::same_length;
use super::{Attention, Buffer, Cuda, CudaError, View, ViewMut};
use crate::{HeadShape, MassOver, Segment, Sequence};
use half::bf16;

/// cuDNN takes 50 ms to plan attention of a new pair of lengths. That pays where the lengths will
/// recur: queries in multiples of this many, as in all chunks but a text's last.
const WHOLE: usize = 4096;

/// It also pays where the tenth that our kernel is slower is longer than that: from this many
/// operations on, for a model of some thirty layers.
const WORTH_A_PLAN: usize = 10_000_000_000_000;

/// From this many keys per query on, those that all queries see are attended apart from those among
/// the queries: measured on one H200, that gained 1% of a dense prefill of 128K tokens, and fewer
/// keys lost as much.
const APART: usize = 5;

/// How queries see a run of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mask {
    /// All of them.
    None,
    /// The last query all, each one before it one fewer.
    Causal,
}

/// How many tokens of a segment some query sees.
fn seen(queries: &Queries<'_>, segment: &Segment<'_, Cuda>) -> usize {
    segment.tokens.min(queries.places.end.saturating_sub(segment.start))
}

/// How the queries see `keys` laid one after the other, if it is one of the ways that cuDNN knows.
fn mask<K>(queries: &Queries<'_>, keys: &[Keys<'_, K>]) -> Option<Mask> {
    if keys.iter().any(|keys| keys.hidden.is_some() || keys.kept.is_some()) {
        return None;
    }
    let seen_by_all = |k: &Keys<'_, K>| k.start + k.tokens <= queries.places.first + 1;
    let (last, rest) = keys.split_last()?;
    if !rest.iter().all(seen_by_all) {
        return None;
    }
    if seen_by_all(last) {
        return Some(Mask::None);
    }
    // The run of keys must reach from before the first query to the last one without a gap.
    let Places { first, end, listed } = queries.places;
    (listed.is_none() && last.start <= first && last.start + last.tokens == end)
        .then_some(Mask::Causal)
}

/// The keys that some query sees, those that end first first.
fn stored_keys<'a>(
    queries: &Queries<'_>,
    segments: &[Segment<'a, Cuda>],
) -> Result<Vec<Keys<'a, KvView<'a>>>, CudaError> {
    let width = queries.shape.kv_width();
    let mut stored = Vec::with_capacity(segments.len());
    for segment in segments {
        let kept = segment.kept.map(Kept::view);
        // What is kept lies head after head: no end of it is the same for all.
        let tokens = match kept {
            Some(_) if segment.start < queries.places.end => segment.tokens,
            Some(_) => 0,
            None => seen(queries, segment),
        };
        if tokens > 0 {
            let elements = if kept.is_some() { 0..segment.keys.len } else { 0..tokens * width };
            stored.push(Keys {
                keys: Kv::view(segment.keys.slice(elements.clone()))?,
                values: Kv::view(segment.values.slice(elements))?,
                tokens,
                start: segment.start,
                hidden: segment.hidden.map(|hidden| hidden.slice(0..tokens)).transpose()?,
                kept,
            });
        }
    }
    // Keys that end with the queries go last: the others are seen by all queries, or none fits.
    stored.sort_by_key(|keys| keys.start + keys.tokens);
    Ok(stored)
}

/// The shape of keys that lie head after head.
fn one_head(shape: HeadShape) -> HeadShape {
    HeadShape { heads: 1, kv_heads: 1, ..shape }
}

impl Cuda {
    /// See [`Attention::attend`](crate::Attention::attend).
    pub(super) fn attend_sequences(
        &self,
        q: View<'_, bf16>,
        shape: HeadShape,
        sequences: &[Sequence<'_, Self>],
        mut out: ViewMut<'_, bf16>,
        mut lse: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let mut end = 0;
        let mut queries = Vec::with_capacity(sequences.len());
        let mut stored = Vec::with_capacity(sequences.len());
        for Sequence { rows, positions, segments } in sequences {
            assert!(rows.start >= end && rows.end >= rows.start, "rows {rows:?} after row {end}");
            end = rows.end;
            let range = rows.start * shape.q_width()..rows.end * shape.q_width();
            let (tokens, places) = (rows.len(), Places::of(*positions, rows.len())?);
            let of = Queries { q: q.slice(range)?, tokens, places, shape };
            stored.push(stored_keys(&of, segments)?);
            queries.push(of);
        }
        // Keys of many queries that are cached in fp8 are unpacked here, and live until the end.
        let mut unpacked: Vec<Vec<[Option<Buffer<bf16>>; 2]>> = Vec::new();
        unpacked.resize_with(sequences.len(), Vec::new);
        // Of each sequence that our kernels attend; cuDNN attends the others here.
        let mut keys = Vec::with_capacity(sequences.len());
        for (i, unpacked) in unpacked.iter_mut().enumerate() {
            if queries[i].tokens * shape.group() <= FEW_ROWS {
                keys.push((i, stored[i].clone()));
                continue;
            }
            let wide = self.unpacked(shape, &stored[i], unpacked)?;
            if let Some((cudnn, mask)) = self.cudnn_for(&queries[i], &wide) {
                let Sequence { rows, .. } = &sequences[i];
                let range = |width: usize| rows.start * width..rows.end * width;
                let out = out.reborrow().slice(range(shape.q_width()))?;
                let lse = lse.reborrow().slice(range(shape.heads))?;
                self.attend_with(cudnn, queries[i], &wide, mask, out, lse)?;
            } else {
                keys.push((i, wide.iter().map(Keys::stored).collect()));
            }
        }
        let rows: Vec<Rows<'_>> = keys
            .iter()
            .map(|(i, keys)| {
                let Queries { tokens, places, .. } = queries[*i];
                Rows { first: sequences[*i].rows.start, tokens, places, keys }
            })
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        self.flash(shape.head_dim)?.attend_all(q, shape, &rows, out, lse)
    }

    /// See [`Attention::mass`](crate::Attention::mass).
    pub(super) fn mass_of(
        &self,
        queries: Queries<'_>,
        segments: &[Segment<'_, Self>],
        lse: View<'_, f32>,
        over: MassOver,
        mut sums: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let (shape, mut first) = (queries.shape, 0);
        if segments.iter().any(|segment| segment.kept.is_some()) {
            // Tokens whose keys a head does not have.
            sums.fill_bytes(0)?;
        }
        let mass = self.flash(shape.head_dim)?.mass()?;
        for segment in segments {
            if segment.tokens == 0 {
                continue;
            }
            let mut unpacked = None;
            let kept = segment.kept.map(Kept::view);
            let stored = if kept.is_some() { one_head(shape) } else { shape };
            let keys = Kv::view(segment.keys)?.bf16(&self.rows, stored, &mut unpacked)?;
            let Segment { tokens, start, .. } = *segment;
            let hidden = segment.hidden.map(|hidden| hidden.slice(0..tokens)).transpose()?;
            let keys = Keys { keys, values: keys, tokens, start, hidden, kept };
            mass.run(queries, lse, &keys, over, &mut sums, first)?;
            first += tokens;
        }
        same_length("sums", first * shape.kv_heads, sums.len())
    }

    /// Keys in bf16; `unpacked` holds what had to be made for that.
    fn unpacked<'a>(
        &self,
        shape: HeadShape,
        stored: &[Keys<'a, KvView<'a>>],
        unpacked: &'a mut Vec<[Option<Buffer<bf16>>; 2]>,
    ) -> Result<Vec<Keys<'a, View<'a, bf16>>>, CudaError> {
        unpacked.resize_with(stored.len(), Default::default);
        let mut keys = Vec::with_capacity(stored.len());
        for (stored, [of_keys, of_values]) in stored.iter().zip(unpacked) {
            let of = if stored.kept.is_some() { one_head(shape) } else { shape };
            keys.push(Keys {
                keys: stored.keys.bf16(&self.rows, of, of_keys)?,
                values: stored.values.bf16(&self.rows, of, of_values)?,
                tokens: stored.tokens,
                start: stored.start,
                hidden: stored.hidden,
                kept: stored.kept,
            });
        }
        Ok(keys)
    }

    /// cuDNN, if it attends `keys`, and its mask for them.
    fn cudnn_for(
        &self,
        queries: &Queries<'_>,
        keys: &[Keys<'_, View<'_, bf16>>],
    ) -> Option<(&Cudnn, Mask)> {
        let whole = queries.tokens.is_multiple_of(WHOLE);
        let count: usize = keys.iter().map(Keys::of_a_head).sum();
        let many = whole || 4 * queries.q.len() * count >= WORTH_A_PLAN;
        let cudnn = self.cudnn.as_ref().filter(|_| many && !self.device.is_recording())?;
        Some((cudnn, mask(queries, keys)?))
    }

    /// By cuDNN. Keys that all queries see and those among the queries are attended apart and
    /// merged where the former are many: without a mask cuDNN is faster than with one.
    fn attend_with(
        &self,
        cudnn: &Cudnn,
        queries: Queries<'_>,
        keys: &[Keys<'_, View<'_, bf16>>],
        mask: Mask,
        mut out: ViewMut<'_, bf16>,
        mut lse: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let Queries { tokens, shape, .. } = queries;
        let count: usize = keys.iter().map(|k| k.tokens).sum();
        let Some((last, rest)) = keys.split_last() else { return Ok(()) };
        if mask == Mask::None || count < APART * tokens {
            return self.attend_run(cudnn, queries, keys, mask, out, lse);
        }
        let before = last.tokens - tokens;
        let own = last.slice(before..last.tokens, shape)?;
        self.attend_run(cudnn, queries, &[own], mask, out.reborrow(), lse.reborrow())?;
        let mut seen = rest.to_vec();
        if before > 0 {
            seen.push(last.slice(0..before, shape)?);
        }
        let mut part = Buffer::uninit(&self.device, out.len())?;
        let mut part_lse = Buffer::uninit(&self.device, lse.len())?;
        let (to, to_lse) = (part.view_mut(), part_lse.view_mut());
        self.attend_run(cudnn, queries, &seen, Mask::None, to, to_lse)?;
        self.rows.merge(out, lse, part.view(), part_lse.view())
    }

    /// By cuDNN, over keys copied into one run.
    fn attend_run(
        &self,
        cudnn: &Cudnn,
        queries: Queries<'_>,
        keys: &[Keys<'_, View<'_, bf16>>],
        mask: Mask,
        out: ViewMut<'_, bf16>,
        lse: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let Queries { q, tokens, shape, .. } = queries;
        let count: usize = keys.iter().map(|k| k.tokens).sum();
        let attention = Attention {
            shape,
            tokens,
            keys: count,
            scale: shape.scale(),
            causal: mask == Mask::Causal,
        };
        if let [Keys { keys, values, .. }] = *keys {
            return cudnn.attend(&attention, q, keys, values, out, lse);
        }
        let width = shape.kv_width();
        let mut all = [
            Buffer::uninit(&self.device, count * width)?,
            Buffer::uninit(&self.device, count * width)?,
        ];
        let mut start = 0;
        for k in keys {
            let range = start * width..(start + k.tokens) * width;
            all[0].slice_mut(range.clone())?.copy_from(k.keys)?;
            all[1].slice_mut(range)?.copy_from(k.values)?;
            start += k.tokens;
        }
        let [keys, values] = &all;
        cudnn.attend(&attention, q, keys.view(), values.view(), out, lse)
    }
}
