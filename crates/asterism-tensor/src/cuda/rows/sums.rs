//! Rows that become one: partial attentions merged, and rows added up.

#![allow(unsafe_code)]

use super::{RowKernels, int};
use crate::cuda::kernels::MERGE_THREADS;
use crate::cuda::view::same_length;
use crate::cuda::{Argument, CudaError, View, ViewMut};
use half::bf16;

impl RowKernels {
    /// Merges the partial attention `(part, part_lse)` into `(out, lse)`.
    pub(in crate::cuda) fn merge(
        &self,
        out: ViewMut<'_, bf16>,
        lse: ViewMut<'_, f32>,
        part: View<'_, bf16>,
        part_lse: View<'_, f32>,
    ) -> Result<(), CudaError> {
        same_length("part", out.len(), part.len())?;
        same_length("its lse", lse.len(), part_lse.len())?;
        if lse.is_empty() {
            return Ok(());
        }
        let rows = int("the number of rows", lse.len())?;
        let dim = (out.len() / lse.len()) as i32;
        let arguments: [&dyn Argument; 6] = [&out, &lse, &part, &part_lse, &rows, &dim];
        let blocks = (rows as u32).div_ceil(MERGE_THREADS / 32);
        // SAFETY: the kernel's parameters, in its order; a warp per row, those beyond the last do
        // nothing.
        unsafe { self.merge.launch([blocks, 1, 1], [MERGE_THREADS, 1, 1], 0, &arguments) }
    }

    /// `out [rows, head_dim]` = the partial attentions `parts [count, rows, head_dim]`, whose
    /// log-sum-exps are `lse [count, rows]`, merged.
    pub(in crate::cuda) fn merge_all(
        &self,
        count: usize,
        parts: View<'_, bf16>,
        lse: View<'_, f32>,
        out: ViewMut<'_, bf16>,
    ) -> Result<(), CudaError> {
        same_length("the parts", count * out.len(), parts.len())?;
        let rows = lse.len() / count.max(1);
        same_length("their lse", count * rows, lse.len())?;
        if rows == 0 {
            return Ok(());
        }
        let dim = out.len() / rows;
        same_length("out", rows * dim, out.len())?;
        let counts =
            [int("the number of parts", count)?, int("the number of rows", rows)?, dim as i32];
        let arguments: [&dyn Argument; 6] =
            [&out, &parts, &lse, &counts[0], &counts[1], &counts[2]];
        let threads = (dim as u32).next_multiple_of(32).min(1024);
        // SAFETY: the kernel's parameters, in its order; a block per row.
        unsafe { self.merge_all.launch([counts[1] as u32, 1, 1], [threads, 1, 1], 0, &arguments) }
    }

    /// Adds the rows of `rows [n, width]` up into `sums [width]`, which begin at what they are, or
    /// at 0 if it is the `first` time.
    pub(in crate::cuda) fn add_rows(
        &self,
        rows: View<'_, f32>,
        sums: ViewMut<'_, f32>,
        first: bool,
    ) -> Result<(), CudaError> {
        let (width, count) = (sums.len(), rows.len() / sums.len().max(1));
        same_length("the rows to add up", count * width, rows.len())?;
        let (count, first) = (int("the number of rows", count)?, i32::from(first));
        let width = width as i64;
        let blocks = int("the number of blocks", sums.len().div_ceil(256))? as u32;
        let arguments: [&dyn Argument; 5] = [&rows, &sums, &count, &width, &first];
        // SAFETY: the kernel's parameters, in its order; a thread for each of `width` sums.
        unsafe { self.add_rows.launch([blocks, 1, 1], [256, 1, 1], 0, &arguments) }
    }
}
