//! The sequences of one call, each cut into tasks as if it were alone.

use super::{Cut, KvSequence, Request};
use crate::HeadShape;

/// A sequence and where it stands among the others.
pub(super) struct Job<'a> {
    pub(super) request: Request<'a>,
    pub(super) cut: Cut,
    /// Its first row `(token, head)` in the outputs of the call.
    pub(super) first_row: usize,
    /// Its first row in the outputs of parts, if it is split.
    pub(super) first_part_row: usize,
    /// Its first task.
    first_task: usize,
}

impl Job<'_> {
    /// Rows `(token, head)`.
    pub(super) fn rows(&self) -> usize {
        self.request.tokens() * self.request.shape.heads
    }

    fn tasks(&self) -> usize {
        let Cut { tile, parts } = self.cut;
        match self.request.is_few() {
            true => parts,
            false => parts * self.request.shape.kv_heads * self.request.tokens().div_ceil(tile),
        }
    }

    /// Rows in the outputs of parts.
    fn part_rows(&self) -> usize {
        if self.cut.parts > 1 { self.cut.parts * self.rows() } else { 0 }
    }
}

/// All of them; those without rows are left out.
pub(super) struct Jobs<'a> {
    pub(super) shape: HeadShape,
    pub(super) all: Vec<Job<'a>>,
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
        let mut jobs = Self { shape, all: Vec::with_capacity(sequences.len()) };
        let mut end = 0;
        for KvSequence { rows, positions, segments } in sequences {
            assert!(rows.start >= end && rows.end >= rows.start, "rows {rows:?} after row {end}");
            end = rows.end;
            if rows.is_empty() {
                continue;
            }
            let q = &q[rows.start * width..rows.end * width];
            let request = Request { q, positions: *positions, shape, segments };
            jobs.all.push(Job {
                request,
                cut: request.cut(threads),
                first_row: rows.start * shape.heads,
                first_part_row: jobs.part_rows(),
                first_task: jobs.tasks(),
            });
        }
        jobs
    }

    pub(super) fn tasks(&self) -> usize {
        self.all.last().map_or(0, |job| job.first_task + job.tasks())
    }

    /// Rows in the outputs of parts, all sequences together.
    pub(super) fn part_rows(&self) -> usize {
        self.all.last().map_or(0, |job| job.first_part_row + job.part_rows())
    }

    /// The sequence that task `task` belongs to, and which of its tasks it is.
    pub(super) fn of_task(&self, task: usize) -> (&Job<'a>, usize) {
        let job = &self.all[self.all.partition_point(|job| job.first_task <= task) - 1];
        (job, task - job.first_task)
    }
}
