//! The queries of one task, and the running softmax over what they have seen.

use super::{KvSegment, RowPositions};
use crate::Aligned;
use crate::HeadShape;
use crate::cpu::Kernels;

/// One task's queries and where they stand: some tokens, and query heads that share a KV head, all
/// of them or some.
#[derive(Clone, Copy)]
pub(super) struct Queries<'a> {
    /// `[tokens, heads, head_dim]`, all tokens and heads.
    pub(super) q: &'a [f32],
    /// Where the tokens of `q` stand.
    pub(super) positions: RowPositions<'a>,
    pub(super) shape: HeadShape,
    pub(super) kv_head: usize,
    /// The first of its query heads, and how many there are.
    pub(super) heads: (usize, usize),
    /// First token of this task.
    pub(super) first: usize,
    /// Tokens of this task.
    pub(super) tokens: usize,
}

impl<'a> Queries<'a> {
    /// Those of `tokens` tokens, from `first` on, and of all query heads that share `kv_head`.
    pub(super) fn new(
        q: &'a [f32],
        positions: RowPositions<'a>,
        shape: HeadShape,
        kv_head: usize,
        (first, tokens): (usize, usize),
    ) -> Self {
        let heads = (kv_head * shape.group(), shape.group());
        Self { q, positions, shape, kv_head, heads, first, tokens }
    }

    /// The query vector of row `r` (token-major: token `r / heads`, head `r % heads`).
    pub(super) fn row(&self, r: usize) -> &[f32] {
        let at = self.index(r) * self.shape.head_dim;
        &self.q[at..][..self.shape.head_dim]
    }

    /// Which of all `[tokens, heads]` row `r` is.
    pub(super) fn index(&self, r: usize) -> usize {
        let (first, heads) = self.heads;
        (self.first + r / heads) * self.shape.heads + first + r % heads
    }

    /// Appends all rows, scaled, to `to`.
    pub(super) fn push_scaled(&self, to: &mut Vec<f32>) {
        for r in 0..self.rows() {
            to.extend(self.row(r).iter().map(|v| v * self.scale()));
        }
    }

    /// What queries are multiplied by, so that scores are logarithms to the base of 2.
    pub(super) fn scale(&self) -> f32 {
        self.shape.scale() * std::f32::consts::LOG2_E
    }

    pub(super) fn rows(&self) -> usize {
        self.tokens * self.heads.1
    }

    pub(super) fn position(&self, r: usize) -> usize {
        self.positions.of(self.first + r / self.heads.1)
    }
}

/// Where the elements of one KV head lie in keys, or values, of several tokens.
#[derive(Clone, Copy)]
pub(super) struct HeadPlace {
    /// Elements from one token to the next.
    pub(super) stride: usize,
    /// Elements before those of the first token.
    pub(super) offset: usize,
}

impl HeadPlace {
    /// In `[tokens, kv_heads, head_dim]`.
    pub(super) fn of(shape: HeadShape, kv_head: usize) -> Self {
        Self { stride: shape.kv_width(), offset: kv_head * shape.head_dim }
    }

    /// From the token `tokens` further on.
    pub(super) fn skip(self, tokens: usize) -> Self {
        Self { offset: self.offset + tokens * self.stride, ..self }
    }
}

/// Running softmax of rows of queries, in powers of two: unnormalised output, row maximum and row
/// sum.
#[derive(Default)]
pub(super) struct Running {
    /// `[rows, width]`, `width` at least `head_dim`
    pub(super) out: Aligned<f32>,
    pub(super) width: usize,
    pub(super) max: Vec<f32>,
    pub(super) sum: Vec<f32>,
}

impl Running {
    pub(super) fn reset(&mut self, rows: usize, width: usize) {
        self.width = width;
        self.out.at_least(rows * width).fill(0.0);
        self.max.clear();
        self.max.resize(rows, f32::NEG_INFINITY);
        self.sum.clear();
        self.sum.resize(rows, 0.0);
    }

    /// Folds the scores of row `r` with the first keys of `tile` in: turns them into weights
    /// relative to the new row maximum and rescales what was summed before. One of these keys at
    /// least must not be hidden.
    pub(super) fn fold(
        &mut self,
        kernels: &Kernels,
        r: usize,
        tile: KvSegment<'_>,
        scores: &mut [f32],
    ) {
        tile.hide(scores);
        let (max, sum) = (kernels.softmax_row)(scores, self.max[r]);
        if max > self.max[r] && self.sum[r] > 0.0 {
            let factor = (self.max[r] - max).exp2();
            self.sum[r] *= factor;
            (kernels.scale)(&mut self.out[r * self.width..][..self.width], factor);
        }
        tile.drop_hidden(scores);
        self.max[r] = max;
        self.sum[r] += sum;
    }

    /// Writes row `r` divided by its sum; returns its log-sum-exp (minus infinity if it saw no
    /// key).
    pub(super) fn finish(&self, r: usize, out: &mut [f32]) -> f32 {
        let sum = self.sum[r];
        if sum == 0.0 {
            out.fill(0.0);
            return f32::NEG_INFINITY;
        }
        let row = &self.out[r * self.width..][..out.len()];
        for (o, v) in out.iter_mut().zip(row) {
            *o = v / sum;
        }
        self.max[r] * std::f32::consts::LN_2 + sum.ln()
    }
}
