//! Many rows in bf16 tiles: blocks of 32 rows by one panel (or a pair of panels).

#![allow(unsafe_code)]

use super::{Output, PackedMatrix};
use crate::Aligned;
use crate::cpu::kernels::fetch;
use crate::cpu::kernels::tiles::{BLOCK, PANEL_STEP, Panels, TileKernels};
use crate::cpu::{Activations, Cpu};
use half::bf16;
use std::ops::Range;

/// Rows that one task takes: what they need of one pass stays in the second-level cache while
/// panels pass by. Weights come from farther away, once per so many rows.
const ROWS: usize = 256;

/// Steps (of 32 inputs) of one pass: a panel of this depth stays in the first-level cache.
const DEPTH: usize = 16;

/// Panels of one pass at the most: bounds the products that wait for the next pass.
const PANELS: usize = 8;

/// Rows and outputs that one task computes.
struct Task<'a> {
    x: &'a Activations,
    w: &'a PackedMatrix,
    /// The data of `w`.
    weights: &'a [bf16],
    rows: Range<usize>,
    /// Panels, or pairs of panels.
    units: Range<usize>,
}

/// Some steps of one unit: what all rows of a task are multiplied by before the next part.
struct Part<'a> {
    pass: usize,
    unit: usize,
    steps: Range<usize>,
    panels: Panels<'a>,
}

impl<'a> Task<'a> {
    /// As few passes as possible, of equal depth.
    fn passes(&self) -> usize {
        self.w.depth().div_ceil(DEPTH)
    }

    /// Part `index`, in the order they are multiplied in: all units, then the next pass.
    fn part(&self, index: usize) -> Option<Part<'a>> {
        let (w, passes) = (self.w, self.passes());
        let pass = index.checked_div(self.units.len())?;
        let unit = self.units.start + index % self.units.len();
        let steps = pass * w.depth() / passes..(pass + 1) * w.depth() / passes;
        let stride = w.depth() * PANEL_STEP;
        let at = unit * w.per_unit() * stride + steps.start * PANEL_STEP;
        (pass < passes).then(|| Part {
            pass,
            unit,
            steps,
            panels: Panels { data: &self.weights[at..], stride, count: w.per_unit() },
        })
    }

    fn run(&self, kernels: &TileKernels, output: &Output<'_>, sums: &mut Aligned<f32>) {
        let Self { x, w, rows, units, .. } = self;
        let (blocks, passes) = (rows.len().div_ceil(BLOCK), self.passes());
        // [slots, 32, per_unit * 32]: all blocks wait for the next pass, if there is one
        let width = w.per_unit() * BLOCK;
        let size = BLOCK * width;
        let slots = if passes > 1 { units.len() * blocks } else { 1 };
        let waiting = sums.at_least(slots * size);
        (kernels.begin)();
        let mut index = 0;
        while let Some(Part { pass, unit, steps, panels }) = self.part(index) {
            index += 1;
            // Weights of a single pass are few and lie in the caches anyhow: asking costs 2%.
            let next = if passes > 1 { self.part(index) } else { None };
            for b in 0..blocks {
                if let Some(next) = &next {
                    next.fetch(b, blocks);
                }
                let (row, column) = (rows.start + b * BLOCK, unit * BLOCK);
                let left = rows.end - row;
                let strips = x.strips(row, steps.start);
                if let Some((y, add)) = output.in_place(w, left, row, column) {
                    let add = add || pass > 0;
                    // SAFETY: `in_place` saw that this block lies within y; this task alone
                    // computes it; `begin` was called.
                    unsafe {
                        (kernels.multiply)(strips, panels, steps.len(), y, w.outputs(), add);
                    }
                    continue;
                }
                let slot = if passes > 1 { (unit - units.start) * blocks + b } else { 0 };
                let sums = &mut waiting[slot * size..][..size];
                let c = sums.as_mut_ptr();
                // SAFETY: sums has 32 rows of that width; `begin` was called.
                unsafe { (kernels.multiply)(strips, panels, steps.len(), c, width, pass > 0) };
                if pass + 1 < passes {
                    continue;
                }
                for (r, sums) in sums.chunks_exact_mut(width).take(left).enumerate() {
                    // SAFETY: this task alone finishes its rows and units.
                    unsafe { output.finish(w, &(0..w.outputs()), row + r, column, sums) };
                }
            }
        }
        (kernels.end)();
    }
}

impl Part<'_> {
    /// Asks for one of `parts` equal parts of the weights.
    fn fetch(&self, part: usize, parts: usize) {
        let size = self.steps.len() * PANEL_STEP;
        for panel in 0..self.panels.count {
            let panel = &self.panels.data[panel * self.panels.stride..][..size];
            fetch(&panel[part * size / parts..(part + 1) * size / parts]);
        }
    }
}

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
        let units = w.units();
        let row_blocks = x.rows().div_ceil(ROWS);
        // A few tasks per thread, so that all threads end together.
        let groups = (4 * self.threads())
            .div_ceil(row_blocks)
            .clamp((units * w.per_unit()).div_ceil(PANELS), units.max(1));
        self.for_each_with(row_blocks * groups, |scratch, task| {
            let (block, group) = (task / groups, task % groups);
            let rows = block * ROWS..((block + 1) * ROWS).min(x.rows());
            let units = group * units / groups..(group + 1) * units / groups;
            Task { x, w, weights, rows, units }.run(kernels, output, &mut scratch.sums);
        });
    }
}
