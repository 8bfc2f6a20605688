//! Many rows in bf16 tiles: blocks of 32 rows by one panel (or a pair of panels).

#![allow(unsafe_code)]

use super::{Output, PackedMatrix};
use crate::tensor::cpu::kernels::tiles::{BLOCK, PANEL_STEP, Panels, TileKernels};
use crate::tensor::cpu::{Activations, Cpu};
use half::bf16;

/// Rows that one task takes: they stay in the second-level cache while panels pass by.
const ROWS: usize = 128;

/// Steps (of 32 inputs) of one pass: strips and panel of this depth fit the first-level cache.
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
        let per_unit = if w.paired { 2 } else { 1 };
        let units = w.panels / per_unit;
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
            scratch.sums.resize(scratch.sums.len().max(slots * size), 0.0);
            (kernels.begin)();
            for pass in 0..passes {
                let steps = pass * w.depth() / passes..(pass + 1) * w.depth() / passes;
                for (u, unit) in units.clone().enumerate() {
                    let at = unit * per_unit * stride + steps.start * PANEL_STEP;
                    let panels = Panels { data: &weights[at..], stride, count: per_unit };
                    for b in 0..blocks {
                        let slot = if passes > 1 { u * blocks + b } else { 0 };
                        let sums = &mut scratch.sums[slot * size..][..size];
                        let strips = x.strips(first + b * BLOCK, steps.start);
                        (kernels.multiply)(strips, panels, steps.len(), sums, width, pass > 0);
                        if pass + 1 < passes {
                            continue;
                        }
                        let left = rows - b * BLOCK;
                        for (r, sums) in sums.chunks_exact_mut(width).take(left).enumerate() {
                            let row = first + b * BLOCK + r;
                            // SAFETY: this task alone finishes its rows and units.
                            unsafe { output.finish(w, row, unit * BLOCK, sums) };
                        }
                    }
                }
            }
            (kernels.end)();
        });
    }
}
