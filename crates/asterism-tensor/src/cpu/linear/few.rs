//! A few rows, as in decoding: weights are read once for all of them, straight from their packed
//! order. The arithmetic is f32, and that of a row does not depend on the others.

#![allow(unsafe_code)]

use super::packed::Layout;
use super::{Output, PackedMatrix};
use crate::ElementsView;
use crate::cpu::Cpu;

/// Weights that a task reads at least: enough to be worth handing to another thread.
const TASK: usize = 8 * 1024;

impl Cpu {
    /// `x` is `[rows, inputs]`.
    pub(super) fn product_few(&self, x: &[f32], w: &PackedMatrix, output: &Output<'_>) {
        let rows = x.len() / w.inputs();
        let (per_unit, units) = (w.per_unit(), w.units());
        let (size, width) = (w.inputs() * w.panel * per_unit, per_unit * w.panel);
        let group = (TASK / size).max(1);
        self.for_each_with(units.div_ceil(group), |scratch, task| {
            // [rows, per_unit, panel]
            let sums = scratch.sums.at_least(rows * width);
            for unit in task * group..((task + 1) * group).min(units) {
                for i in 0..per_unit {
                    let sums = &mut sums[i * w.panel..];
                    self.rows_times_panel(x, w, unit * per_unit + i, sums, width);
                }
                for (row, sums) in sums.chunks_exact_mut(width).enumerate() {
                    // SAFETY: this task alone finishes the columns of its units.
                    unsafe { output.finish(w, row, unit * w.panel, sums) };
                }
            }
        });
    }

    fn rows_times_panel(
        &self,
        x: &[f32],
        w: &PackedMatrix,
        p: usize,
        sums: &mut [f32],
        stride: usize,
    ) {
        let inputs = w.inputs();
        match (&w.layout, w.panel_view(p)) {
            (Layout::Tiles(_), ElementsView::Bf16(b)) => {
                let rows = self.kernels.tiles.as_ref().map(|tiles| tiles.rows);
                let rows = rows.expect("weights packed for another instruction set");
                rows(x, inputs, b, sums, stride);
            }
            (_, ElementsView::F32(b)) => (self.kernels.rows_f32)(x, inputs, b, sums, stride),
            (_, ElementsView::Bf16(b)) => (self.kernels.rows_bf16)(x, inputs, b, sums, stride),
        }
    }
}
