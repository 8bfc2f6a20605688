//! What goes into linear layers: rows of numbers in the form that the kernels multiply.

#![allow(unsafe_code)]

use super::kernels::tiles::{STEP, STRIP, Strips, TILE};
use super::shared::SharedMut;
use super::{Cpu, FEW_ROWS};
use crate::{Aligned, Pass, Precision};
use half::bf16;
use std::ops::Range;

/// Rows that enter a linear layer, `[rows, inputs]`. Where the processor multiplies bf16 and the
/// weights are bf16, many rows of a prefill are rounded to bf16 as they are written, in the order
/// of its tiles; otherwise they are f32. Kept and reused: no memory is allocated once it has grown.
#[derive(Debug)]
pub struct Activations {
    rows: usize,
    inputs: usize,
    precision: Precision,
    pass: Pass,
    tiled: bool,
    /// `[rows, inputs]`
    floats: Aligned<f32>,
    /// `[strips, depth, 16, 32]`, an even number of strips
    strips: Aligned<bf16>,
}

impl Activations {
    /// No rows yet; for layers with weights in `precision`, in passes of one kind.
    #[must_use]
    pub fn new(precision: Precision, pass: Pass) -> Self {
        let (floats, strips) = (Aligned::default(), Aligned::default());
        Self { rows: 0, inputs: 0, precision, pass, tiled: false, floats, strips }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements of a row.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Makes room for rows, in the form that `cpu` multiplies that many in.
    pub(super) fn reset(&mut self, cpu: &Cpu, rows: usize, inputs: usize) {
        self.rows = rows;
        self.inputs = inputs;
        let is_bf16 = self.precision == Precision::Bf16;
        self.tiled = is_bf16 && cpu.kernels.tiles.is_some() && !self.is_few();
        if self.tiled {
            let len = self.strip_count() * self.depth() * TILE;
            self.strips.at_least(len);
        } else {
            self.floats.at_least(rows * inputs);
        }
    }

    /// Makes room for rows that come of `x`, in a pass of the same kind.
    pub(super) fn reset_as(&mut self, cpu: &Cpu, x: &Self, inputs: usize) {
        self.pass = x.pass;
        self.reset(cpu, x.rows, inputs);
    }

    /// Whether they are multiplied in f32, each row by itself.
    pub(super) fn is_few(&self) -> bool {
        self.pass == Pass::Decode || self.rows <= FEW_ROWS
    }

    /// Steps of 32 elements in a row.
    pub(super) fn depth(&self) -> usize {
        self.inputs.div_ceil(STEP)
    }

    fn strip_count(&self) -> usize {
        self.rows.div_ceil(2 * STRIP) * 2
    }

    /// The rows as f32, if that is their form.
    pub(super) fn floats(&self) -> Option<&[f32]> {
        (!self.tiled).then(|| &self.floats[..self.rows * self.inputs])
    }

    /// Two strips, from row `row` (a multiple of 32) and step `step` on.
    pub(super) fn strips(&self, row: usize, step: usize) -> Strips<'_> {
        let stride = self.depth() * TILE;
        Strips { data: &self.strips[row / STRIP * stride + step * TILE..], stride }
    }

    /// For tasks that write disjoint rows or runs of rows at the same time.
    pub(super) fn writer<'a>(&'a mut self, cpu: &'a Cpu) -> RowWriter<'a> {
        let (inputs, depth) = (self.inputs, self.depth());
        let target = match cpu.kernels.tiles {
            Some(tiles) if self.tiled => {
                Target::Strips(SharedMut::new(&mut self.strips), tiles.narrow)
            }
            _ => Target::Floats(SharedMut::new(&mut self.floats)),
        };
        RowWriter { target, inputs, depth }
    }
}

/// Writes runs of rows in whatever form they have.
pub(super) struct RowWriter<'a> {
    target: Target<'a>,
    inputs: usize,
    depth: usize,
}

enum Target<'a> {
    Floats(SharedMut<'a, f32>),
    Strips(SharedMut<'a, bf16>, fn(&[f32], &mut [bf16])),
}

impl RowWriter<'_> {
    /// Writes `values` to the elements from `column` on of one row. A run that does not start the
    /// row starts at a multiple of 32; what is left of its last 32 elements is zero from then on.
    ///
    /// # Safety
    /// No other task writes the same elements of the same row at the same time.
    pub(super) unsafe fn write(&self, row: usize, column: usize, values: &[f32]) {
        debug_assert!(column.is_multiple_of(STEP) && column + values.len() <= self.inputs);
        match &self.target {
            Target::Floats(floats) => {
                // SAFETY: disjoint by this function's contract.
                let out = unsafe { floats.slice(row * self.inputs + column, values.len()) };
                out.copy_from_slice(values);
            }
            Target::Strips(strips, narrow) => {
                let first = row / STRIP * self.depth + column / STEP;
                let len = (values.len().div_ceil(STEP) - 1) * TILE + STEP;
                let start = first * TILE + row % STRIP * STEP;
                // SAFETY: of this range only the row's own 32 elements of each tile are touched.
                let out = unsafe { strips.slice(start, len) };
                narrow(values, out);
            }
        }
    }
}

impl Cpu {
    /// Takes `x [rows, inputs]` as it is.
    pub fn take_rows(&self, x: &[f32], inputs: usize, out: &mut Activations) {
        self.take_columns(x, inputs, 0..inputs, out);
    }

    /// Takes some `columns` of `x [rows, inputs]` as they are.
    pub(super) fn take_columns(
        &self,
        x: &[f32],
        inputs: usize,
        columns: Range<usize>,
        out: &mut Activations,
    ) {
        let rows = x.len() / inputs;
        assert_eq!(x.len(), rows * inputs, "x is not [rows, {inputs}]");
        out.reset(self, rows, columns.len());
        let writer = out.writer(self);
        self.each_row(rows, |_, r| {
            // SAFETY: row r is written by this call only.
            unsafe { writer.write(r, 0, &x[r * inputs..][columns.clone()]) };
        });
    }

    /// `out[r] = x[r] / rms(x[r]) * weight` for every row of `inputs = weight.len()`.
    pub fn rms_norm_rows(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut Activations) {
        let inputs = weight.len();
        let rows = x.len() / inputs;
        out.reset(self, rows, inputs);
        let writer = out.writer(self);
        self.each_row(rows, |scratch, r| {
            let row = scratch.row.at_least(inputs);
            (self.kernels.rms_norm)(&x[r * inputs..][..inputs], weight, eps, row);
            // SAFETY: row r is written by this call only.
            unsafe { writer.write(r, 0, row) };
        });
    }
}
