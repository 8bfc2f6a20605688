//! Many rows in bf16 tiles: blocks of 32 rows by one panel (or a pair of panels).

#![allow(unsafe_code)]

use super::{Output, PackedMatrix};
use crate::tensor::cpu::kernels::tiles::{BLOCK, PANEL_STEP, Panels, TileKernels};
use crate::tensor::cpu::{Activations, Cpu};
use half::bf16;

/// Rows that one task takes: they stay in the second-level cache while panels pass by.
const ROWS: usize = 128;

/// Steps (of 32 inputs) of one pass: a panel of this depth stays in the first-level cache.
const DEPTH: usize = 16;

/// Panels of one pass at the most: bounds the products that wait for the next pass.
const PANELS: usize = 8;

impl Cpu {
    /// `weights` is the data of `w`.
    pub(super) fn product_tiles(
        &self,
        kernels: &TileKernels,
        x: &Activations,
        w: &PackedMatrix,
        weights: &[bf16],
        output: &Output<'_>,
    ) {
        let per_unit = w.per_unit();
        let units = w.units();
        let row_blocks = x.rows().div_ceil(ROWS);
        // A few tasks per thread, so that all threads end together.
        let groups = (4 * self.threads())
            .div_ceil(row_blocks)
            .clamp((units * per_unit).div_ceil(PANELS), units.max(1));
        let stride = w.depth() * PANEL_STEP;
        self.for_each_with(row_blocks * groups, |scratch, task| {
            let (block, group) = (task / groups, task % groups);
            let units = group * units / groups..(group + 1) * units / groups;
            let first = block * ROWS;
            let rows = ROWS.min(x.rows() - first);
            let blocks = rows.div_ceil(BLOCK);
            // As few passes as possible, of equal depth.
            let passes = w.depth().div_ceil(DEPTH);
            // [slots, 32, per_unit * 32]: all blocks wait for the next pass, if there is one
            let width = per_unit * BLOCK;
            let size = BLOCK * width;
            let slots = if passes > 1 { units.len() * blocks } else { 1 };
            let waiting = scratch.sums.at_least(slots * size);
            (kernels.begin)();
            for pass in 0..passes {
                let steps = pass * w.depth() / passes..(pass + 1) * w.depth() / passes;
                for (u, unit) in units.clone().enumerate() {
                    let at = unit * per_unit * stride + steps.start * PANEL_STEP;
                    let panels = Panels { data: &weights[at..], stride, count: per_unit };
                    for b in 0..blocks {
                        let (row, column) = (first + b * BLOCK, unit * BLOCK);
                        let left = rows - b * BLOCK;
                        let strips = x.strips(row, steps.start);
                        if let Some((y, add)) = output.in_place(w, left, row, column) {
                            // SAFETY: `in_place` saw that this block lies within y; this task alone
                            // computes it; `begin` was called.
                            unsafe {
                                let add = add || pass > 0;
                                (kernels.multiply)(
                                    strips,
                                    panels,
                                    steps.len(),
                                    y,
                                    w.outputs(),
                                    add,
                                );
                            }
                            continue;
                        }
                        let slot = if passes > 1 { u * blocks + b } else { 0 };
                        let sums = &mut waiting[slot * size..][..size];
                        // SAFETY: sums has 32 rows of that width; `begin` was called.
                        unsafe {
                            let (c, depth) = (sums.as_mut_ptr(), steps.len());
                            (kernels.multiply)(strips, panels, depth, c, width, pass > 0);
                        }
                        if pass + 1 < passes {
                            continue;
                        }
                        for (r, sums) in sums.chunks_exact_mut(width).take(left).enumerate() {
                            // SAFETY: this task alone finishes its rows and units.
                            unsafe { output.finish(w, row + r, column, sums) };
                        }
                    }
                }
            }
            (kernels.end)();
        });
    }
}
