//! The sequences of one call, each cut into tasks.
//!
//! How a sequence is cut depends on itself alone, so what its rows come to does, too, to the last
//! bit. Only what few rows do piece by piece of their keys is shared: a piece that several
//! sequences see, as questions about one context do, is one task for them, and read once.

use super::queries::Queries;
use super::segments::{KeyRange, KvSegment, KvSequence, RowPositions};
use super::{FEW_ROWS, LEAST_ROWS, MANY_KEYS, MOST_ROWS, SPLIT_KEYS};
use crate::HeadShape;
use std::collections::HashMap;

/// Sequences of few rows that share a task: with more, their scores would crowd the keys out of the
/// second-level cache.
const MOST_SEQUENCES: usize = 16;

/// What is asked for of one sequence.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    /// `[tokens, heads, head_dim]`, those of the sequence
    pub(super) q: &'a [f32],
    pub(super) positions: RowPositions<'a>,
    pub(super) shape: HeadShape,
    pub(super) segments: &'a [KvSegment<'a>],
}

/// A sequence and where it stands among the others.
pub(super) struct Job<'a> {
    pub(super) request: Request<'a>,
    /// Tokens of one task, if they are not few.
    pub(super) tile: usize,
    /// Parts that its keys are split into.
    pub(super) parts: usize,
    /// Its first row `(token, head)` in the outputs of the call.
    pub(super) first_row: usize,
    /// Its first row in the outputs of parts, if it is split.
    pub(super) first_part_row: usize,
    /// Its first task, if its rows are not few.
    first_task: usize,
}

/// Some of the keys of few rows, and whose: sequences by their number, with the part that these
/// keys are of theirs.
pub(super) struct Piece<'a> {
    pub(super) keys: KeyRange<'a>,
    pub(super) of: Vec<(usize, usize)>,
}

/// What a thread does at a time.
pub(super) enum Task<'s, 'a> {
    /// Some rows of a sequence: which of its tasks.
    Rows(&'s Job<'a>, usize),
    /// Few rows of some sequences.
    Few(&'s Piece<'a>),
}

impl<'a> Request<'a> {
    pub(super) fn tokens(&self) -> usize {
        self.q.len() / self.shape.q_width()
    }

    /// All queries of `kv_head`.
    pub(super) fn queries(&self, kv_head: usize) -> Queries<'a> {
        Queries::new(self.q, self.positions, self.shape, kv_head, (0, self.tokens()))
    }

    /// Whether queries are too few to be worth unpacking keys for.
    fn is_few(&self) -> bool {
        self.tokens() * self.shape.group() < FEW_ROWS
    }

    /// Tokens of a task of many rows, and parts of their keys.
    fn cut(&self, threads: usize) -> (usize, usize) {
        let (tokens, group) = (self.tokens(), self.shape.group());
        let keys = keys_of_a_head(self.segments, self.shape.kv_heads);
        let even = tokens * group * self.shape.kv_heads / (4 * threads);
        // Every task unpacks the keys it reads: where there are too few rows for all threads, tasks
        // share keys out rather than rows.
        let share_keys = even < LEAST_ROWS && keys >= MANY_KEYS;
        let most = if share_keys { MOST_ROWS } else { even.clamp(LEAST_ROWS, MOST_ROWS) };
        let tile = (most / group).clamp(1, tokens.max(1));
        let tasks = self.shape.kv_heads * tokens.div_ceil(tile);
        // Few queries over many keys leave threads idle: split the keys and merge the parts.
        (tile, (2 * threads).div_ceil(tasks.max(1)).min(keys / SPLIT_KEYS).max(1))
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

/// The keys of few rows in pieces: nearly equal ones of every long segment, which other sequences
/// may see, too, and short segments together. At least one.
fn pieces<'a>(segments: &'a [KvSegment<'a>], threads: usize) -> Vec<KeyRange<'a>> {
    let keys: usize = segments.iter().map(|segment| segment.tokens).sum();
    // Not by the exact number: sequences that differ by some tokens at their ends have the same.
    let most = (keys.next_power_of_two() / (8 * threads)).max(SPLIT_KEYS);
    let mut pieces = Vec::new();
    let piece = |segments, range| KeyRange { segments, head: None, range };
    // The short segments that are together so far, and their keys.
    let (mut first, mut together) = (0, 0);
    for (index, KvSegment { tokens, .. }) in segments.iter().enumerate() {
        let is_long = *tokens >= SPLIT_KEYS;
        if together > 0 && (is_long || together + tokens > most) {
            pieces.push(piece(&segments[first..index], 0..together));
            (first, together) = (index, 0);
        }
        if is_long {
            let count = tokens.div_ceil(most);
            let part = |i: usize| i * tokens / count;
            let own = &segments[index..=index];
            pieces.extend((0..count).map(|i| piece(own, part(i)..part(i + 1))));
            first = index + 1;
        } else {
            together += tokens;
        }
    }
    if together > 0 || pieces.is_empty() {
        pieces.push(piece(&segments[first..], 0..together));
    }
    pieces
}

/// All of them; those without rows are left out.
pub(super) struct Jobs<'a> {
    pub(super) shape: HeadShape,
    pub(super) all: Vec<Job<'a>>,
    /// Those of few rows.
    pieces: Vec<Piece<'a>>,
    /// How many tasks those of many rows are.
    row_tasks: usize,
    /// Rows in the outputs of parts, all sequences together.
    pub(super) part_rows: usize,
}

impl<'a> Jobs<'a> {
    /// # Panics
    /// If sequences share rows, are not in the order of their rows, or have rows outside `q`.
    pub(super) fn cut(
        q: &'a [f32],
        shape: HeadShape,
        sequences: &'a [KvSequence<'a>],
        threads: usize,
    ) -> Self {
        let width = shape.q_width();
        let mut jobs =
            Self { shape, all: Vec::new(), pieces: Vec::new(), row_tasks: 0, part_rows: 0 };
        let (mut end, mut few) = (0, Vec::new());
        for KvSequence { rows, positions, segments } in sequences {
            assert!(rows.start >= end && rows.end >= rows.start, "rows {rows:?} after row {end}");
            end = rows.end;
            if rows.is_empty() {
                continue;
            }
            let q = &q[rows.start * width..rows.end * width];
            let request = Request { q, positions: *positions, shape, segments };
            let (tile, parts) = if request.is_few() {
                let pieces = pieces(segments, threads);
                let parts = pieces.len();
                few.push((jobs.all.len(), pieces));
                (0, parts)
            } else {
                request.cut(threads)
            };
            let (first_task, first_part_row) = (jobs.row_tasks, jobs.part_rows);
            let first_row = rows.start * shape.heads;
            if tile > 0 {
                jobs.row_tasks += parts * shape.kv_heads * rows.len().div_ceil(tile);
            }
            if parts > 1 {
                jobs.part_rows += parts * rows.len() * shape.heads;
            }
            jobs.all.push(Job { request, tile, parts, first_row, first_part_row, first_task });
        }
        jobs.pieces = jobs.shared(few, threads);
        jobs
    }

    /// The pieces of sequences of few rows, those that several see put together.
    fn shared(&self, few: Vec<(usize, Vec<KeyRange<'a>>)>, threads: usize) -> Vec<Piece<'a>> {
        let all: usize = few.iter().map(|(_, pieces)| pieces.len()).sum();
        // As many as leave every thread some tasks, and its cache room for what they read.
        let most = (all / (4 * threads)).clamp(1, MOST_SEQUENCES.min(few.len().max(1)));
        let mut shared: Vec<Piece<'a>> = Vec::with_capacity(all);
        // By their first key: the last piece that begins there and has room.
        let (shape, mut open) = (self.shape, HashMap::new());
        for (job, pieces) in few {
            let first = self.all[job].request.positions.of(0);
            for (part, keys) in pieces.into_iter().enumerate() {
                let Some(from) =
                    keys.address(shape).filter(|_| most > 1 && keys.seen_from(shape, first))
                else {
                    shared.push(Piece { keys, of: vec![(job, part)] });
                    continue;
                };
                match open.get(&from).map(|at: &usize| &mut shared[*at]) {
                    Some(piece) if piece.of.len() < most && piece.keys.is(&keys, shape) => {
                        piece.of.push((job, part));
                    }
                    _ => {
                        open.insert(from, shared.len());
                        shared.push(Piece { keys, of: vec![(job, part)] });
                    }
                }
            }
        }
        shared
    }

    pub(super) fn tasks(&self) -> usize {
        self.row_tasks + self.pieces.len()
    }

    /// Task `task` of all.
    pub(super) fn task(&self, task: usize) -> Task<'_, 'a> {
        match task.checked_sub(self.row_tasks) {
            Some(piece) => Task::Few(&self.pieces[piece]),
            None => {
                // Those of few rows begin where the next one does.
                let job = &self.all[self.all.partition_point(|job| job.first_task <= task) - 1];
                Task::Rows(job, task - job.first_task)
            }
        }
    }
}

impl Job<'_> {
    /// Rows `(token, head)`.
    pub(super) fn rows(&self) -> usize {
        self.request.tokens() * self.request.shape.heads
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::KvView;

    const SHAPE: HeadShape = HeadShape { heads: 6, kv_heads: 2, head_dim: 4 };

    /// Keys `0..tokens` of `floats`, from position `start` on.
    fn segment(floats: &[f32], tokens: usize, start: usize) -> KvSegment<'_> {
        let keys = KvView::F32(&floats[..tokens * SHAPE.kv_width()]);
        KvSegment { keys, values: keys, tokens, start, hidden: None, head: None }
    }

    /// How often the keys of `context` tokens are read for so many questions about them.
    fn readings(context: usize, questions: usize, threads: usize) -> f64 {
        let book = vec![0.0; context * SHAPE.kv_width()];
        let tails = vec![vec![0.0; 9 * SHAPE.kv_width()]; questions];
        let of = |tail| vec![segment(&book, context, 0), segment(tail, 9, context)];
        let segments: Vec<_> = tails.iter().map(|tail| of(tail)).collect();
        let sequences: Vec<_> = segments
            .iter()
            .enumerate()
            .map(|(row, segments)| {
                let positions = RowPositions::From(context + 9);
                KvSequence { rows: row..row + 1, positions, segments }
            })
            .collect();
        let q = vec![0.0; questions * SHAPE.q_width()];
        let jobs = Jobs::cut(&q, SHAPE, &sequences, threads);
        let keys: usize = jobs.pieces.iter().map(|piece| piece.keys.range.len()).sum();
        // Every part of every question is in one of the pieces.
        let parts: usize = jobs.pieces.iter().map(|piece| piece.of.len()).sum();
        assert_eq!(parts, jobs.all.iter().map(|job| job.parts).sum());
        (keys - 9 * questions) as f64 / context as f64
    }

    #[test]
    fn a_context_is_read_once_for_all_questions_that_a_thread_can_take() {
        assert_eq!(readings(4096, 1, 2), 1.0);
        assert_eq!(readings(4096, 16, 2), 1.0);
        assert_eq!(readings(100_000, 16, 2), 1.0);
        assert_eq!(readings(4096, 40, 2), 3.0);
        // Rather often than by some threads alone.
        assert_eq!(readings(4096, 16, 16), 8.0);
    }

    #[test]
    fn pieces_are_all_keys_in_order() {
        let floats = vec![0.0; 70_000 * SHAPE.kv_width()];
        for lengths in
            [&[][..], &[0], &[1], &[511, 511, 511], &[512], &[70_000, 3], &[3, 600, 4, 5000, 1]]
        {
            let starts = lengths.iter().scan(0, |end, n| {
                *end += n;
                Some(*end - n)
            });
            let segments: Vec<_> =
                lengths.iter().zip(starts).map(|(n, start)| segment(&floats, *n, start)).collect();
            let all: Vec<_> =
                segments.iter().flat_map(|s| (0..s.tokens).map(|t| s.start + t)).collect();
            let pieces = pieces(&segments, 2);
            let tiles = pieces.iter().flat_map(|piece| piece.tiles(SHAPE, 1000, usize::MAX / 2));
            let found: Vec<_> =
                tiles.flat_map(|tile| tile.start..tile.start + tile.tokens).collect();
            assert!(found == all && !pieces.is_empty(), "{lengths:?}");
        }
    }
}
