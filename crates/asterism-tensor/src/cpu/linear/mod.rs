//! Linear layers: `y = x · Wᵀ`, over weights packed once at load into the order the kernels read.
//!
//! * [`packed`](PackedMatrix): the order of the weights
//! * `few`: the rows of a decoding step, or up to [`FEW_ROWS`] of a prefill: bound by reading the
//!   weights
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
use packed::Layout;

/// At most this many rows of a prefill are multiplied as those of a decoding step are, reading the
/// packed weights directly: below it a panel is used too seldom to be worth unpacking.
pub(super) const FEW_ROWS: usize = 3;

/// Where a product goes.
enum Output<'a> {
    /// `y = product + bias`
    Store { y: SharedMut<'a, f32>, bias: Option<&'a [f32]> },
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
            Self::Store { y, bias: None } => (y, false),
            Self::Add { y, bias: None } => (y, true),
            _ => return None,
        };
        let outputs = w.outputs();
        let whole = left >= BLOCK && outputs - column >= BLOCK;
        whole.then(|| (y.rows(row * outputs + column, BLOCK, BLOCK, outputs), add))
    }

    /// Takes the products of one row with one panel, or with the two panels of a pair: `sums`.
    /// `column` is the first output they belong to. The sums are used up.
    ///
    /// # Safety
    /// No other task finishes the same row and column at the same time.
    unsafe fn finish(&self, w: &PackedMatrix, row: usize, column: usize, sums: &mut [f32]) {
        let width = w.panel.min(w.outputs() - column);
        match self {
            Self::Store { y, bias } => {
                // SAFETY: disjoint by this function's contract.
                let y = unsafe { y.slice(row * w.outputs() + column, width) };
                add_bias(&mut sums[..width], *bias, column);
                y.copy_from_slice(&sums[..width]);
            }
            Self::Add { y, bias } => {
                // SAFETY: disjoint by this function's contract.
                let y = unsafe { y.slice(row * w.outputs() + column, width) };
                add_bias(&mut sums[..width], *bias, column);
                for (y, sum) in y.iter_mut().zip(&sums[..width]) {
                    *y += sum;
                }
            }
            Self::Gate { rows, bias, silu_mul } => {
                let (gate, up) = sums.split_at_mut(w.panel);
                let (gate, up) = (&mut gate[..width], &mut up[..width]);
                add_bias(gate, *bias, column);
                add_bias(up, *bias, w.outputs() + column);
                silu_mul(gate, up);
                // SAFETY: disjoint by this function's contract.
                unsafe { rows.write(row, column, gate) };
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
        self.product(x, w, &Output::Store { y: SharedMut::new(y), bias });
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

    fn product(&self, x: &Activations, w: &PackedMatrix, output: &Output<'_>) {
        assert_eq!(x.inputs(), w.inputs(), "x is not [rows, {}]", w.inputs());
        assert_eq!(w.paired, matches!(output, Output::Gate { .. }), "a pair is for gated layers");
        match (x.floats(), &w.layout, &self.kernels.tiles) {
            (None, Layout::Tiles(weights), Some(kernels)) => {
                self.product_tiles(kernels, x, w, weights, output);
            }
            (Some(rows), _, _) if x.is_few() => self.product_few(rows, w, output),
            (Some(x), Layout::F32(_) | Layout::Bf16(_), _) => self.product_panels(x, w, output),
            _ => panic!("weights packed for another instruction set"),
        }
    }
}

#[cfg(test)]
mod tests;
