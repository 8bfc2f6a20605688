//! The tile kernels in plain Rust: what the others are compared with, and the reference that runs
//! everywhere (`--cpu tiles`).

#![allow(unsafe_code)]

use super::{BLOCK, PANEL_STEP, Panels, STEP, STRIP, SoftmaxRows, Strips, TILE, TileKernels};
use half::bf16;

pub(in super::super) const KERNELS: TileKernels = TileKernels {
    begin: || (),
    end: || (),
    peak: super::super::portable::peak,
    multiply,
    rows,
    narrow,
    pack_keys,
    pack_values,
    softmax,
};

/// `c[32, 32 * panels] = a · b`, added to `c` if `accumulate`. `depth` is the number of steps to
/// sum over; rows of `c` are `ldc` apart.
///
/// # Safety
/// See [`MultiplyTiles`](super::MultiplyTiles).
pub(super) unsafe fn multiply(
    a: Strips<'_>,
    b: Panels<'_>,
    depth: usize,
    c: *mut f32,
    ldc: usize,
    accumulate: bool,
) {
    for (row, column) in (0..BLOCK).flat_map(|r| (0..BLOCK * b.count).map(move |c| (r, c))) {
        let a_row = &a.data[(row / STRIP) * a.stride + (row % STRIP) * STEP..];
        let half = column % BLOCK / STRIP;
        let b_column = &b.data[(column / BLOCK) * b.stride + half * TILE + column % STRIP * 2..];
        let mut sum = 0.0f32;
        for step in 0..depth {
            for pair in 0..STEP / 2 {
                let a = &a_row[step * TILE + 2 * pair..][..2];
                let b = &b_column[step * PANEL_STEP + pair * STEP..][..2];
                sum += a[0].to_f32() * b[0].to_f32() + a[1].to_f32() * b[1].to_f32();
            }
        }
        // SAFETY: one of the elements that the contract promises.
        let c = unsafe { &mut *c.add(row * ldc + column) };
        *c = if accumulate { *c + sum } else { sum };
    }
}

/// `out[rows, 32] = x[rows, inputs] · panel`, one row after the other, for decoding. `x` is not
/// rounded; rows of `out` are `stride` apart.
pub(super) fn rows(x: &[f32], inputs: usize, panel: &[bf16], out: &mut [f32], stride: usize) {
    for (x, out) in x.chunks_exact(inputs).zip(out.chunks_mut(stride)) {
        out[..BLOCK].fill(0.0);
        for (i, x) in x.iter().enumerate() {
            let pair = &panel[i / STEP * PANEL_STEP + i % STEP / 2 * STEP..];
            for (column, out) in out[..BLOCK].iter_mut().enumerate() {
                *out += x * pair[column / STRIP * TILE + column % STRIP * 2 + i % 2].to_f32();
            }
        }
    }
}

/// Rounds `row` to bf16 and writes it as one row of a strip: 32 elements per tile. `out` starts at
/// the row's place in the strip's first tile; the last tile is filled up with zeros.
pub(super) fn narrow(row: &[f32], out: &mut [bf16]) {
    for (step, part) in row.chunks(STEP).enumerate() {
        let out = &mut out[step * TILE..][..STEP];
        out.fill(bf16::ZERO);
        for (o, v) in out.iter_mut().zip(part) {
            *o = bf16::from_f32(*v);
        }
    }
}

/// `count <= 32` keys of `dim` elements, `stride` apart, as the columns of one panel
/// `[dim / 32 rounded up, 2, 16, 16, 2]`.
pub(super) fn pack_keys(
    keys: &[bf16],
    stride: usize,
    count: usize,
    dim: usize,
    panel: &mut [bf16],
) {
    panel[..dim.div_ceil(STEP) * PANEL_STEP].fill(bf16::ZERO);
    for key in 0..count {
        let out = &mut panel[key / STRIP * TILE + key % STRIP * 2..];
        for (pair, values) in keys[key * stride..][..dim].chunks(2).enumerate() {
            let at = pair / (STEP / 2) * PANEL_STEP + pair % (STEP / 2) * STEP;
            out[at..][..values.len()].copy_from_slice(values);
        }
    }
}

/// `count <= 32` values of `dim` elements, `stride` apart, as one step of the panels of all
/// dimensions. `out` starts at that step of the first panel; panels are `panel_stride` apart.
pub(super) fn pack_values(
    values: &[bf16],
    stride: usize,
    count: usize,
    dim: usize,
    out: &mut [bf16],
    panel_stride: usize,
) {
    for panel in 0..dim.div_ceil(BLOCK) {
        out[panel * panel_stride..][..PANEL_STEP].fill(bf16::ZERO);
    }
    for key in 0..count {
        let value = &values[key * stride..][..dim];
        for (part, run) in value.chunks(STRIP).enumerate() {
            let tile = part / 2 * panel_stride + part % 2 * TILE;
            let out = &mut out[tile + key / 2 * STEP + key % 2..];
            for (column, v) in run.iter().enumerate() {
                out[2 * column] = *v;
            }
        }
    }
}

/// One round of an online softmax over 32 rows: folds the visible scores of each row in.
/// A row that sees nothing keeps its maximum and sum, and gets factor 1 and weights 0.
pub(super) fn softmax(rows: SoftmaxRows<'_>) {
    for r in 0..BLOCK {
        let visible = rows.visible[r];
        let scores = &rows.scores[r * rows.stride..][..visible];
        let max = scores.iter().fold(rows.max[r], |m, s| m.max(*s));
        // 2^(-inf) of a row that has seen nothing yet is 0, whatever its sum.
        let factor = if visible == 0 { 1.0 } else { (rows.max[r] - max).exp2() };
        let out = &mut rows.weights[r / STRIP * rows.depth * TILE + r % STRIP * STEP..];
        let mut sum = 0.0;
        for key in 0..rows.depth * STEP {
            let weight = if key < visible { (scores[key] - max).exp2() } else { 0.0 };
            sum += weight;
            out[key / STEP * TILE + key % STEP] = bf16::from_f32(weight);
        }
        rows.factors[r] = factor;
        rows.sum[r] = rows.sum[r] * factor + sum;
        rows.max[r] = max;
    }
}
