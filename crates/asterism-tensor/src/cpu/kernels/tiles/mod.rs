//! Kernels over **tiles** of bf16, the shape that matrix units multiply.
//!
//! Two layouts, both of 1 KiB per tile:
//!
//! * rows of the left factor: **strips** of 16 rows, `[strips, depth, 16 rows, 32]`. `depth` counts
//!   steps of 32 along the summed dimension.
//! * columns of the right factor: **panels** of 32 columns, `[panels, depth, 2 halves, 16 pairs,
//!   16 columns, 2]`: two neighbours of the summed dimension lie together, as `tdpbf16ps` and
//!   `vdpbf16ps` want them (Intel SDM, volume 2).
//!
//! Linear layers and both products of attention are the same operation on these layouts:
//! [`TileKernels::multiply`]. Sums are f32. What does not fill a tile is zero.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) mod amx;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512bf16;
pub(super) mod portable;
#[cfg(test)]
mod tests;

use super::RowsTimesPanel;
use half::bf16;

/// Rows of a strip, and columns of half a panel.
pub(crate) const STRIP: usize = 16;

/// Elements of the summed dimension that one tile holds.
pub(crate) const STEP: usize = 32;

/// Elements of a tile.
pub(crate) const TILE: usize = STRIP * STEP;

/// Rows and columns of what [`TileKernels::multiply`] computes at a time: two strips by one panel.
pub(crate) const BLOCK: usize = 32;

/// Elements of one step of a panel: two tiles.
pub(crate) const PANEL_STEP: usize = 2 * TILE;

/// Left factor: two strips.
#[derive(Clone, Copy)]
pub(crate) struct Strips<'a> {
    /// Starts at the first tile of the first strip.
    pub(crate) data: &'a [bf16],
    /// Elements from one strip to the next.
    pub(crate) stride: usize,
}

/// Right factor: panels of 32 columns.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a> {
    /// Starts at the first step of the first panel.
    pub(crate) data: &'a [bf16],
    /// Elements from one panel to the next.
    pub(crate) stride: usize,
    /// Number of panels.
    pub(crate) count: usize,
}

/// `(a, b, depth, c, ldc, accumulate)`: see [`portable::multiply`].
///
/// # Safety
/// `c` points at 32 rows of `32 * b.count` floats, `ldc` apart, that nobody else uses meanwhile.
/// What lies between the rows is not touched: other threads may write other columns of the same
/// rows.
pub(crate) type MultiplyTiles = unsafe fn(Strips<'_>, Panels<'_>, usize, *mut f32, usize, bool);

/// Running softmax of 32 rows, in units of log2: see [`portable::softmax`].
pub(crate) struct SoftmaxRows<'a> {
    /// Scores times log2(e), `[32, stride]`.
    pub(crate) scores: &'a [f32],
    /// Elements from one row of scores to the next.
    pub(crate) stride: usize,
    /// How many scores of each row count; those behind may be anything.
    pub(crate) visible: &'a [usize; BLOCK],
    /// Steps of 32 scores to write, at least `visible / 32` rounded up.
    pub(crate) depth: usize,
    /// Largest score of each row so far; updated.
    pub(crate) max: &'a mut [f32],
    /// Sum of `2^(score - max)` of each row so far; updated.
    pub(crate) sum: &'a mut [f32],
    /// Receives what sums and outputs of each row so far must be multiplied by.
    pub(crate) factors: &'a mut [f32; BLOCK],
    /// Receives `2^(score - max)` as two strips, `[2, depth, 16, 32]`.
    pub(crate) weights: &'a mut [bf16],
}

/// The kernels of one instruction set.
#[derive(Clone, Copy)]
pub(crate) struct TileKernels {
    /// To be called on a thread before it multiplies.
    pub(crate) begin: fn(),
    /// To be called when it is done for a while.
    pub(crate) end: fn(),
    /// Multiplies and adds for so many rounds, in registers; returns the operations done.
    pub(crate) peak: fn(usize) -> u64,
    /// Two strips times panels.
    pub(crate) multiply: MultiplyTiles,
    /// A few rows of f32 times one panel.
    pub(crate) rows: RowsTimesPanel<bf16>,
    /// One row of f32 into a strip.
    pub(crate) narrow: fn(&[f32], &mut [bf16]),
    /// 32 keys into a panel.
    pub(crate) pack_keys: fn(&[bf16], usize, usize, usize, &mut [bf16]),
    /// 32 values into one step of all panels.
    pub(crate) pack_values: fn(&[bf16], usize, usize, usize, &mut [bf16], usize),
    /// One round of an online softmax.
    pub(crate) softmax: fn(SoftmaxRows<'_>),
}
