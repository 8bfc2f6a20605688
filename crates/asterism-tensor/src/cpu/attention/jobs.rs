//! The sequences of one call, each cut into parts as if it were alone, and tasks made of them.

use super::few::{self, MOST_ROWS};
use super::{Cut, KeyRange, KvSequence, Queries, Request};
use crate::HeadShape;
use std::ops::Range;

/// A sequence and where it stands among the others.
pub(super) struct Job<'a> {
    pub(super) request: Request<'a>,
    pub(super) cut: Cut,
    /// Its first row `(token, head)` in the outputs of the call.
    pub(super) first_row: usize,
    /// Its first row in the outputs of parts, if it is split.
    pub(super) first_part_row: usize,
    /// Its first task among those of many rows.
    first_task: usize,
}

/// A part of the keys of a job with few rows.
pub(super) struct FewPart<'a> {
    pub(super) job: usize,
    pub(super) part: usize,
    pub(super) keys: KeyRange<'a>,
}

/// What a thread does before it asks for more.
pub(super) enum Task<'j, 'a> {
    /// Parts of jobs with few rows.
    Few(&'j [FewPart<'a>]),
    /// The task of this number of a job with many.
    Many(&'j Job<'a>, usize),
}

impl<'a> Job<'a> {
    /// Rows `(token, head)`.
    pub(super) fn rows(&self) -> usize {
        self.request.tokens() * self.request.shape.heads
    }

    /// Tasks, if its rows are many.
    fn tasks(&self) -> usize {
        let Cut { tile, parts } = self.cut;
        match self.request.is_few() {
            true => 0,
            false => parts * self.request.shape.kv_heads * self.request.tokens().div_ceil(tile),
        }
    }

    /// The queries of one KV head.
    pub(super) fn queries(&self, kv_head: usize) -> Queries<'a> {
        let Request { q, positions, shape, .. } = self.request;
        Queries { q, positions, shape, kv_head, first: 0, tokens: self.request.tokens() }
    }

    /// The parts of its keys, if its rows are few.
    fn few_parts(&self, job: usize) -> impl Iterator<Item = FewPart<'a>> + use<'a> {
        let Request { segments, .. } = self.request;
        let parts = self.cut.parts;
        let count = if self.request.is_few() { parts } else { 0 };
        (0..count).map(move |part| {
            let keys = KeyRange::part_of_tiles(segments, part, parts, few::KEYS);
            FewPart { job, part, keys }
        })
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
    /// Those with few rows; parts that begin with the same keys follow one another.
    few: Vec<FewPart<'a>>,
    /// Which of `few` are a task.
    groups: Vec<Range<usize>>,
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
        let all = Vec::with_capacity(sequences.len());
        let mut jobs = Self { shape, all, few: Vec::new(), groups: Vec::new() };
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
                first_task: jobs.many_tasks(),
            });
        }
        jobs.group(threads);
        jobs
    }

    /// Makes tasks of the parts of jobs with few rows: of those that begin with the same keys, as
    /// many together as leave two tasks for each thread. Who is together takes turns at the keys
    /// while they are in the cache; what comes of that does not depend on it.
    fn group(&mut self, threads: usize) {
        let parts = self.all.iter().enumerate().flat_map(|(job, of)| of.few_parts(job));
        let mut placed: Vec<_> =
            parts.map(|part| (part.keys.first_place(self.shape, few::KEYS), part)).collect();
        placed.sort_by_key(|(place, _)| *place);
        let most = placed.len().div_ceil(2 * threads);
        let mut first = 0;
        while first < placed.len() {
            let mut rows = 0;
            let count = placed[first..]
                .iter()
                .take(most)
                .take_while(|(place, part)| {
                    rows += self.all[part.job].rows();
                    *place == placed[first].0 && rows <= MOST_ROWS
                })
                .count()
                .max(1);
            self.groups.push(first..first + count);
            first += count;
        }
        self.few = placed.into_iter().map(|(_, part)| part).collect();
    }

    /// Tasks of jobs with many rows.
    fn many_tasks(&self) -> usize {
        self.all.last().map_or(0, |job| job.first_task + job.tasks())
    }

    pub(super) fn tasks(&self) -> usize {
        self.many_tasks() + self.groups.len()
    }

    /// Rows in the outputs of parts, all sequences together.
    pub(super) fn part_rows(&self) -> usize {
        self.all.last().map_or(0, |job| job.first_part_row + job.part_rows())
    }

    /// Task `task`: those of many rows, which take longest, go first.
    pub(super) fn task(&self, task: usize) -> Task<'_, 'a> {
        let many = self.many_tasks();
        if task >= many {
            return Task::Few(&self.few[self.groups[task - many].clone()]);
        }
        let job = &self.all[self.all.partition_point(|job| job.first_task <= task) - 1];
        Task::Many(job, task - job.first_task)
    }
}
