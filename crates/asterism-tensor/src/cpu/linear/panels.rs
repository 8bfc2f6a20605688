//! Many rows in f32: a task unpacks each of its panels once and multiplies a block of rows by it.

#![allow(unsafe_code)]

use super::{Output, PackedMatrix};
use crate::ElementsView;
use crate::cpu::Cpu;

/// Rows of `x` that one task takes: they stay in the second-level cache while panels pass by.
const ROWS: usize = 96;

/// Depth of one pass: an unpacked panel of this depth stays in the first-level cache.
const DEPTH: usize = 256;

impl Cpu {
    /// `x` is `[rows, inputs]`.
    pub(super) fn product_panels(&self, x: &[f32], w: &PackedMatrix, output: &Output<'_>) {
        let (inputs, panel) = (w.inputs(), w.panel);
        let rows = x.len() / inputs;
        let per_unit = w.per_unit();
        let units = w.units();
        let row_blocks = rows.div_ceil(ROWS);
        // A few tasks per thread, so that all threads end together.
        let groups = (4 * self.threads()).div_ceil(row_blocks).clamp(1, units.max(1));
        self.for_each_with(row_blocks * groups, |scratch, task| {
            let (block, group) = (task / groups, task % groups);
            let first = block * ROWS;
            let count = ROWS.min(rows - first);
            // [DEPTH, panel]: part of a panel as f32; [ROWS, per_unit, panel]: products
            let unpacked = scratch.panel.at_least(DEPTH * panel);
            let sums = scratch.sums.at_least(ROWS * per_unit * panel);
            for unit in group * units / groups..(group + 1) * units / groups {
                for i in 0..per_unit {
                    let sums = &mut sums[i * panel..];
                    for depth in (0..inputs).step_by(DEPTH) {
                        let k = DEPTH.min(inputs - depth);
                        let whole = w.panel_view(unit * per_unit + i);
                        let b = match whole.slice(depth * panel..(depth + k) * panel) {
                            ElementsView::F32(b) => b,
                            ElementsView::Bf16(b) => {
                                (self.kernels.widen)(b, &mut unpacked[..k * panel]);
                                &unpacked[..k * panel]
                            }
                        };
                        let a = &x[first * inputs + depth..];
                        let stride = per_unit * panel;
                        (self.kernels.multiply)(a, inputs, count, k, b, sums, stride, depth > 0);
                    }
                }
                for (r, sums) in sums.chunks_exact_mut(per_unit * panel).take(count).enumerate() {
                    // SAFETY: this task alone finishes its rows and units.
                    unsafe { output.finish(w, &(0..w.outputs()), first + r, unit * panel, sums) };
                }
            }
        });
    }
}
