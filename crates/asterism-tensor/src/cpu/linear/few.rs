//! A few rows: the weights are read once per row, straight from their packed order.

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
        let per_unit = w.per_unit();
        let units = w.units();
        let group = (TASK / (w.inputs() * w.panel * per_unit)).max(1);
        self.for_each(units.div_ceil(group), |task| {
            let mut sums = [0.0f32; 64];
            let sums = &mut sums[..per_unit * w.panel];
            for unit in task * group..((task + 1) * group).min(units) {
                for (row, x) in x.chunks_exact(w.inputs()).enumerate() {
                    for (i, sums) in sums.chunks_exact_mut(w.panel).enumerate() {
                        self.row_times_panel(x, w, unit * per_unit + i, sums);
                    }
                    // SAFETY: this task alone finishes the columns of its units.
                    unsafe { output.finish(w, row, unit * w.panel, sums) };
                }
            }
        });
    }

    fn row_times_panel(&self, x: &[f32], w: &PackedMatrix, p: usize, sums: &mut [f32]) {
        match (&w.layout, w.panel_view(p)) {
            (Layout::Tiles(_), ElementsView::Bf16(b)) => {
                let row = self.kernels.tiles.as_ref().map(|tiles| tiles.row);
                row.expect("weights packed for another instruction set")(x, b, sums);
            }
            (_, ElementsView::F32(b)) => (self.kernels.row_f32)(x, b, sums),
            (_, ElementsView::Bf16(b)) => (self.kernels.row_bf16)(x, b, sums),
        }
    }
}
