//! A few rows, as in decoding: weights are read once for all of them, straight from their packed
//! order. The arithmetic is f32, and that of a row does not depend on the others.

#![allow(unsafe_code)]

use super::packed::Layout;
use super::{Output, PackedMatrix};
use crate::cpu::Cpu;
use crate::cpu::kernels::tiles::{PANEL_STEP, STEP};
use crate::{ElementsView, Slab};
use std::ops::Range;

/// Weights that a task reads at least: enough to be worth handing to another thread.
const TASK: usize = 8 * 1024;

impl Cpu {
    /// The product of `x [rows, inputs of w]`.
    pub(super) fn product_few(&self, x: &[f32], w: &Slab<'_, PackedMatrix>, output: &Output<'_>) {
        let Slab { of, outputs, inputs } = w;
        let rows = x.len() / inputs.len();
        let (per_unit, width) = (of.per_unit(), of.per_unit() * of.panel);
        // Those that have some of the outputs.
        let units = outputs.start / of.panel..outputs.end.div_ceil(of.panel);
        let group = (TASK / (inputs.len() * width)).max(1);
        self.for_each_with(units.len().div_ceil(group), |scratch, task| {
            // [rows, per_unit, panel]
            let sums = scratch.sums.at_least(rows * width);
            let first = units.start + task * group;
            for unit in first..(first + group).min(units.end) {
                for i in 0..per_unit {
                    let sums = &mut sums[i * of.panel..];
                    self.rows_times_panel(x, of, inputs, unit * per_unit + i, sums, width);
                }
                for (row, sums) in sums.chunks_exact_mut(width).enumerate() {
                    // SAFETY: this task alone finishes the columns of its units.
                    unsafe { output.finish(of, outputs, row, unit * of.panel, sums) };
                }
            }
        });
    }

    fn rows_times_panel(
        &self,
        x: &[f32],
        w: &PackedMatrix,
        of: &Range<usize>,
        p: usize,
        sums: &mut [f32],
        stride: usize,
    ) {
        let inputs = of.len();
        match (&w.layout, w.panel_view(p)) {
            (Layout::Tiles(_), ElementsView::Bf16(b)) => {
                let rows = self.kernels.tiles.as_ref().map(|tiles| tiles.rows);
                let rows = rows.expect("weights packed for another instruction set");
                let steps = of.start / STEP..of.end.div_ceil(STEP);
                let b = &b[steps.start * PANEL_STEP..steps.end * PANEL_STEP];
                rows(x, inputs, b, sums, stride);
            }
            (_, ElementsView::F32(b)) => {
                let b = &b[of.start * w.panel..of.end * w.panel];
                (self.kernels.rows_f32)(x, inputs, b, sums, stride);
            }
            (_, ElementsView::Bf16(b)) => {
                let b = &b[of.start * w.panel..of.end * w.panel];
                (self.kernels.rows_bf16)(x, inputs, b, sums, stride);
            }
        }
    }
}
