//! What a launch of attention is told of its sequences and their keys.

#![allow(unsafe_code)]

use super::kv::KvView;
use super::queries::{Keys, Places};
use super::rows::{Put, int};
use super::view::same_length;
use super::{Argument, Buffer, CudaError, Device};
use crate::HeadShape;
use std::ffi::c_void;
use std::sync::Arc;

/// Segments of keys that travel as an argument; more lie in device memory.
const FEW_SEGMENTS: usize = 8;

/// Some consecutive rows of queries and the keys that they see some of.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    /// The first of the tokens of the queries.
    pub(super) first: usize,
    pub(super) tokens: usize,
    pub(super) places: Places<'a>,
    pub(super) keys: &'a [Keys<'a, KvView<'a>>],
}

impl Rows<'_> {
    /// How many keys a head has, on average.
    pub(super) fn keys(&self) -> usize {
        self.keys.iter().map(Keys::of_a_head).sum()
    }
}

/// `struct Segment` of the kernels.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct RawSegment {
    /// Addresses.
    keys: u64,
    values: u64,
    /// Of their scales, or 0.
    key_scales: u64,
    value_scales: u64,
    /// Of a flag for each token, or 0.
    hidden: u64,
    /// Of where the rows of each head begin, or 0, and of which token each is.
    offsets: u64,
    indices: u64,
    tokens: i32,
    start: i32,
}

/// `struct Sequence` of the kernels.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct RawSequence {
    first_part_row: i64,
    /// Address of the positions of its tokens, or 0.
    positions: u64,
    first_token: i32,
    tokens: i32,
    start: i32,
    first_segment: i32,
    segments: i32,
    parts: i32,
    first_tile: i32,
    first_split_row: i32,
}

/// `struct Few` of the kernels.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Few {
    pub(super) sequence: RawSequence,
    segment: [RawSegment; FEW_SEGMENTS],
}

// SAFETY: plain numbers, the wide ones first and an even number of the others: no padding.
unsafe impl bytemuck::Zeroable for RawSegment {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for RawSegment {}
// SAFETY: as above.
unsafe impl bytemuck::Zeroable for RawSequence {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for RawSequence {}

// SAFETY: laid out as the kernels declare it.
unsafe impl Argument for RawSequence {
    fn address(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

// SAFETY: laid out as the kernels declare it.
unsafe impl Argument for Few {
    fn address(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

/// The sequences of one launch.
pub(super) struct Launch {
    pub(super) shape: HeadShape,
    pub(super) sequences: Vec<RawSequence>,
    segments: Vec<RawSegment>,
    /// What is told as an argument: all, if it is that little.
    pub(super) few: Few,
    /// Tiles of rows.
    pub(super) tiles: usize,
    /// The most parts that the keys of a sequence are split into.
    pub(super) most_parts: usize,
    /// Rows (token, head) of the sequences that are split.
    pub(super) split_rows: usize,
    /// The same in all their parts.
    pub(super) part_rows: usize,
}

/// The tables in device memory, if they are there.
pub(super) struct Tables {
    words: Option<Buffer<u32>>,
    /// Bytes of the sequences.
    sequences: usize,
}

impl Tables {
    /// Addresses of the sequences and of the segments, 0 if they travel as an argument.
    pub(super) fn pointers(&self) -> (u64, u64) {
        let start = self.words.as_ref().map(|words| words.view().pointer);
        start.map_or((0, 0), |start| (start, start + self.sequences as u64))
    }
}

impl Launch {
    pub(super) fn new(shape: HeadShape) -> Self {
        Self {
            shape,
            sequences: Vec::new(),
            segments: Vec::new(),
            few: Few::default(),
            tiles: 0,
            most_parts: 0,
            split_rows: 0,
            part_rows: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// Adds a sequence, whose rows make so many tiles and whose keys are split into so many parts.
    ///
    /// # Errors
    /// [`CudaError::Length`] for keys that are not as many as is said; [`CudaError::TooMany`].
    pub(super) fn add(
        &mut self,
        sequence: &Rows<'_>,
        tiles: usize,
        parts: usize,
    ) -> Result<(), CudaError> {
        let Rows { first, tokens, places, keys } = *sequence;
        int("the last position of a sequence", places.end)?;
        int("the number of keys of a sequence", sequence.keys())?;
        self.sequences.push(RawSequence {
            first_part_row: self.part_rows as i64,
            positions: places.listed.map_or(0, |listed| listed.pointer),
            first_token: int("a sequence's first row", first)?,
            tokens: int("the number of rows of a sequence", tokens)?,
            start: places.first as i32,
            first_segment: int("the number of segments", self.segments.len())?,
            segments: int("the number of segments", keys.len())?,
            parts: parts as i32,
            first_tile: int("the number of tiles of rows", self.tiles)?,
            first_split_row: int("the number of split rows", self.split_rows)?,
        });
        for keys in keys {
            self.segments.push(self.segment(keys)?);
        }
        self.tiles += tiles;
        self.most_parts = self.most_parts.max(parts);
        if parts > 1 {
            self.split_rows += tokens * self.shape.heads;
            self.part_rows += parts * tokens * self.shape.heads;
        }
        Ok(())
    }

    fn segment(&self, keys: &Keys<'_, KvView<'_>>) -> Result<RawSegment, CudaError> {
        let elements = match keys.kept {
            Some(kept) => kept.indices.len() * self.shape.head_dim,
            None => keys.tokens * self.shape.kv_width(),
        };
        same_length("keys", elements, keys.keys.len())?;
        same_length("values", elements, keys.values.len())?;
        if let Some(hidden) = keys.hidden {
            same_length("the flags of hidden keys", keys.tokens, hidden.len())?;
        }
        if let Some(kept) = keys.kept {
            same_length("the heads of kept keys", self.shape.kv_heads + 1, kept.offsets.len())?;
        }
        let (at_keys, key_scales) = keys.keys.pointers();
        let (at_values, value_scales) = keys.values.pointers();
        Ok(RawSegment {
            keys: at_keys,
            values: at_values,
            key_scales,
            value_scales,
            hidden: keys.hidden.map_or(0, |hidden| hidden.pointer),
            offsets: keys.kept.map_or(0, |kept| kept.offsets.pointer),
            indices: keys.kept.map_or(0, |kept| kept.indices.pointer),
            tokens: keys.tokens as i32,
            start: int("the position of a segment", keys.start)?,
        })
    }

    /// Puts the tables where the kernels find them.
    pub(super) fn tables(&mut self, device: &Arc<Device>, put: &Put) -> Result<Tables, CudaError> {
        let sequences = size_of_val(&self.sequences[..]);
        if let ([sequence], ..=FEW_SEGMENTS) = (&self.sequences[..], self.segments.len()) {
            self.few.sequence = *sequence;
            self.few.segment[..self.segments.len()].copy_from_slice(&self.segments);
            return Ok(Tables { words: None, sequences });
        }
        let words: Vec<u32> =
            [bytemuck::cast_slice::<_, u32>(&self.sequences), bytemuck::cast_slice(&self.segments)]
                .concat();
        let mut buffer = Buffer::uninit(device, words.len())?;
        put.put(buffer.view_mut(), &words)?;
        Ok(Tables { words: Some(buffer), sequences })
    }
}
