//! Linear layers: `y = x · Wᵀ`, over weights packed once at load into the order the kernels read.
//!
//! * [`packed`](PackedMatrix): the order of the weights
//! * `few`: the rows of a decoding step, or up to [`FEW_ROWS`] of a prefill: bound by reading the
//!   weights, all or a [slab](Slab) of them
//! * `panels`: many rows in f32
//! * `tiles`: many rows in bf16, where the processor multiplies that

#![allow(unsafe_code)]

mod few;
mod packed;
mod panels;
mod tiles;

pub use packed::PackedMatrix;

use super::activations::RowWriter;
use super::kernels::tiles::BLOCK;
use super::shared::SharedMut;
use super::{Activations, Cpu};
use crate::Slab;
use packed::Layout;
use std::ops::Range;

/// At most this many rows of a prefill are multiplied as those of a decoding step are, reading the
/// packed weights directly: below it a panel is used too seldom to be worth unpacking.
pub(super) const FEW_ROWS: usize = 3;

/// Where a product goes.
enum Output<'a> {
    /// `y = product + bias`, a row of `y` beginning `stride` behind the one before.
    Store { y: SharedMut<'a, f32>, bias: Option<&'a [f32]>, stride: usize },
    /// `y += product + bias`
    Add { y: SharedMut<'a, f32>, bias: Option<&'a [f32]> },
    /// `rows = silu(gate + bias) * (up + bias)`, of paired matrices
    Gate { rows: RowWriter<'a>, bias: Option<&'a [f32]>, silu_mul: fn(&mut [f32], &[f32]) },
}

impl Output<'_> {
    /// Where the block of 32 x 32 products from `row` and `column` on may be computed in place, and
    /// whether it is added to what is there: where nothing but the product and `y` matters. `left`
    /// is how many rows there are from `row` on.
    fn in_place(
        &self,
        w: &PackedMatrix,
        left: usize,
        row: usize,
        column: usize,
    ) -> Option<(*mut f32, bool)> {
        let (y, add) = match self {
            Self::Store { y, bias: None, .. } => (y, false),
            Self::Add { y, bias: None } => (y, true),
            _ => return None,
        };
        let outputs = w.outputs();
        let whole = left >= BLOCK && outputs - column >= BLOCK;
        whole.then(|| (y.rows(row * outputs + column, BLOCK, BLOCK, outputs), add))
    }

    /// Takes the products of one row with one panel, or with the two panels of a pair: `sums`.
    /// `column` is the first output they belong to; `outputs` are those that are wanted, of which
    /// the first goes to the beginning of a row. The sums are used up.
    ///
    /// # Safety
    /// No other task finishes the same row and column at the same time.
    unsafe fn finish(
        &self,
        w: &PackedMatrix,
        outputs: &Range<usize>,
        row: usize,
        column: usize,
        sums: &mut [f32],
    ) {
        let wanted = outputs.start.max(column)..outputs.end.min(column + w.panel);
        let inside = wanted.start - column..wanted.end - column;
        let (first, width) = (wanted.start - outputs.start, wanted.len());
        match self {
            Self::Store { y, bias, stride } => {
                // SAFETY: disjoint by this function's contract.
                let y = unsafe { y.slice(row * stride + first, width) };
                let sums = &mut sums[inside];
                add_bias(sums, *bias, wanted.start);
                y.copy_from_slice(sums);
            }
            Self::Add { y, bias } => {
                // SAFETY: disjoint by this function's contract.
                let y = unsafe { y.slice(row * outputs.len() + first, width) };
                let sums = &mut sums[inside];
                add_bias(sums, *bias, wanted.start);
                for (y, sum) in y.iter_mut().zip(sums) {
                    *y += *sum;
                }
            }
            Self::Gate { rows, bias, silu_mul } => {
                let (gate, up) = sums.split_at_mut(w.panel);
                let (gate, up) = (&mut gate[inside.clone()], &mut up[inside]);
                add_bias(gate, *bias, wanted.start);
                add_bias(up, *bias, w.outputs() + wanted.start);
                silu_mul(gate, up);
                // SAFETY: disjoint by this function's contract.
                unsafe { rows.write(row, first, gate) };
            }
        }
    }
}

fn add_bias(sums: &mut [f32], bias: Option<&[f32]>, column: usize) {
    for (sum, bias) in sums.iter_mut().zip(bias.into_iter().flat_map(|bias| &bias[column..])) {
        *sum += bias;
    }
}

impl Cpu {
    /// `y = x · Wᵀ (+ bias)`. `y` is `[rows, outputs]`, bias `[outputs]`.
    pub fn linear(&self, x: &Activations, w: &PackedMatrix, bias: Option<&[f32]>, y: &mut [f32]) {
        assert_eq!(y.len(), x.rows() * w.outputs(), "y is not [{}, {}]", x.rows(), w.outputs());
        self.product(x, w, &Output::Store { y: SharedMut::new(y), bias, stride: w.outputs() });
    }

    /// `y += x · Wᵀ (+ bias)`: a linear layer that ends in the residual stream.
    pub fn linear_add(
        &self,
        x: &Activations,
        w: &PackedMatrix,
        bias: Option<&[f32]>,
        y: &mut [f32],
    ) {
        assert_eq!(y.len(), x.rows() * w.outputs(), "y is not [{}, {}]", x.rows(), w.outputs());
        self.product(x, w, &Output::Add { y: SharedMut::new(y), bias });
    }

    /// `out = silu(x · gateᵀ) * (x · upᵀ)` of a pair of matrices (SwiGLU, arXiv 2002.05202); bias
    /// is `[2, outputs]`.
    pub fn linear_gated(
        &self,
        x: &Activations,
        w: &PackedMatrix,
        bias: Option<&[f32]>,
        out: &mut Activations,
    ) {
        assert!(w.paired, "a gated layer needs a pair of matrices");
        out.reset_as(self, x, w.outputs());
        let rows = out.writer(self);
        self.product(x, w, &Output::Gate { rows, bias, silu_mul: self.kernels.silu_mul });
    }

    /// As [`Self::linear`], of the outputs and inputs of `w`, for rows that decode. A row of `y`
    /// begins `stride` behind the one before.
    pub(super) fn slab(
        &self,
        x: &Activations,
        w: &Slab<'_, PackedMatrix>,
        bias: Option<&[f32]>,
        y: &mut [f32],
        stride: usize,
    ) {
        let width = w.outputs.len();
        assert_eq!(y.len(), (x.rows() - 1) * stride + width, "y is not of rows of {width}");
        if w.inputs.is_empty() {
            for row in y.chunks_mut(stride) {
                let row = &mut row[..width];
                row.fill(0.0);
                add_bias(row, bias, w.outputs.start);
            }
            return;
        }
        self.product_few(of_slab(x, w), w, &Output::Store { y: SharedMut::new(y), bias, stride });
    }

    /// As [`Self::linear_gated`], of the outputs and inputs of `w`, for rows that decode.
    pub(super) fn slab_gated(
        &self,
        x: &Activations,
        w: &Slab<'_, PackedMatrix>,
        bias: Option<&[f32]>,
        out: &mut Activations,
    ) {
        assert!(w.of.paired, "a gated layer needs a pair of matrices");
        out.reset_as(self, x, w.outputs.len());
        let (rows, silu_mul) = (out.writer(self), self.kernels.silu_mul);
        self.product_few(of_slab(x, w), w, &Output::Gate { rows, bias, silu_mul });
    }

    fn product(&self, x: &Activations, w: &PackedMatrix, output: &Output<'_>) {
        assert_eq!(x.inputs(), w.inputs(), "x is not [rows, {}]", w.inputs());
        assert_eq!(w.paired, matches!(output, Output::Gate { .. }), "a pair is for gated layers");
        match (x.floats(), &w.layout, &self.kernels.tiles) {
            (None, Layout::Tiles(weights), Some(kernels)) => {
                self.product_tiles(kernels, x, w, weights, output);
            }
            (Some(rows), _, _) if x.is_few() => {
                let (outputs, inputs) = (0..w.outputs(), 0..w.inputs());
                self.product_few(rows, &Slab { of: w, outputs, inputs }, output);
            }
            (Some(x), Layout::F32(_) | Layout::Bf16(_), _) => self.product_panels(x, w, output),
            _ => panic!("weights packed for another instruction set"),
        }
    }
}

/// The rows of `x`, which has the inputs of `w`.
fn of_slab<'a>(x: &'a Activations, w: &Slab<'_, PackedMatrix>) -> &'a [f32] {
    assert_eq!(x.inputs(), w.inputs.len(), "x is not [rows, {}]", w.inputs.len());
    let floats = x.floats().filter(|_| x.is_few());
    floats.expect("parts of matrices are multiplied with rows that decode")
}

#[cfg(test)]
mod tests;
