//! What of a decoder layer is neither a matrix product nor attention.

use super::RowKernels;
use crate::HeadShape;
use crate::cuda::view::{same_device, same_length};
use crate::cuda::{Argument, CudaError, View, ViewMut};
use half::bf16;

/// Norm weights of the heads of q and k, and their epsilon.
pub(in crate::cuda) type HeadNorms<'a> = (View<'a, f32>, View<'a, f32>, f32);

impl RowKernels {
    /// `x[t] = table[tokens[t]]`; of a token that is not below the table's height, the last row.
    pub(in crate::cuda) fn embed(
        &self,
        table: View<'_, bf16>,
        tokens: View<'_, u32>,
        hidden: usize,
        x: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        same_length("x", tokens.len() * hidden, x.len())?;
        same_device("x", &self.device, x.device())?;
        let (width, vocab) = (hidden as i32, (table.len() / hidden) as u32);
        if vocab == 0 {
            return Err(CudaError::Length { what: "the table", expected: hidden, found: 0 });
        }
        let arguments: [&dyn Argument; 5] = [&table, &tokens, &x, &width, &vocab];
        self.per_row(&self.embed, tokens.len(), hidden / 4, &arguments)
    }

    /// Cosines, then sines, of every position's angles.
    pub(in crate::cuda) fn angles(
        &self,
        frequencies: View<'_, f32>,
        positions: View<'_, u32>,
        out: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let dim = 2 * frequencies.len();
        same_length("angles", positions.len() * dim, out.len())?;
        let rows = positions.len();
        let arguments: [&dyn Argument; 4] = [&frequencies, &positions, &out, &(dim as i32)];
        self.per_row(&self.angles, rows, dim / 2, &arguments)
    }

    /// `out[r] = x[r] / rms(x[r]) * weight`.
    pub(in crate::cuda) fn rms_norm(
        &self,
        x: View<'_, f32>,
        weight: View<'_, f32>,
        eps: f32,
        out: ViewMut<'_, bf16>,
    ) -> Result<(), CudaError> {
        same_length("out", x.len(), out.len())?;
        let (width, rows) = (weight.len() as i32, x.len() / weight.len());
        let arguments: [&dyn Argument; 5] = [&x, &weight, &eps, &out, &width];
        self.per_row(&self.rms_norm, rows, weight.len() / 4, &arguments)
    }

    /// Takes rows of q, k and v apart, normalises heads if `norms` are given, and rotates.
    pub(in crate::cuda) fn split_rotate(
        &self,
        qkv: View<'_, bf16>,
        shape: HeadShape,
        norms: Option<HeadNorms<'_>>,
        angles: View<'_, f32>,
        [q, k, v]: [ViewMut<'_, bf16>; 3],
    ) -> Result<(), CudaError> {
        let tokens = qkv.len() / shape.qkv_width();
        same_length("q", tokens * shape.q_width(), q.len())?;
        same_length("k", tokens * shape.kv_width(), k.len())?;
        same_length("v", tokens * shape.kv_width(), v.len())?;
        same_length("angles", tokens * shape.head_dim, angles.len())?;
        let sizes = [shape.heads as i32, shape.kv_heads as i32, shape.head_dim as i32];
        let (none, eps) = (0u64, norms.map_or(0.0, |(_, _, eps)| eps));
        let (q_norm, k_norm): (&dyn Argument, &dyn Argument) = match &norms {
            Some((q, k, _)) => (q, k),
            None => (&none, &none),
        };
        let arguments: [&dyn Argument; 11] =
            [&qkv, &angles, q_norm, k_norm, &eps, &q, &k, &v, &sizes[0], &sizes[1], &sizes[2]];
        self.per_row(&self.split_rotate, tokens, 256, &arguments)
    }

    /// `out = silu(gate) * up` for rows of `[gate, up]`.
    pub(in crate::cuda) fn silu_mul(
        &self,
        gate_up: View<'_, bf16>,
        width: usize,
        out: ViewMut<'_, bf16>,
    ) -> Result<(), CudaError> {
        same_length("gate and up", 2 * out.len(), gate_up.len())?;
        let rows = out.len() / width;
        self.per_row(&self.silu_mul, rows, width / 8, &[&gate_up, &out, &(width as i32)])
    }

    /// `y[r] += bias`.
    pub(in crate::cuda) fn add_bias_bf16(
        &self,
        y: ViewMut<'_, bf16>,
        bias: View<'_, f32>,
    ) -> Result<(), CudaError> {
        let (width, rows) = (bias.len(), y.len() / bias.len());
        self.per_row(&self.add_bias_bf16, rows, width / 4, &[&y, &bias, &(width as i32)])
    }

    /// `y[r] += bias`.
    pub(in crate::cuda) fn add_bias_f32(
        &self,
        y: ViewMut<'_, f32>,
        bias: View<'_, f32>,
    ) -> Result<(), CudaError> {
        let (width, rows) = (bias.len(), y.len() / bias.len());
        self.per_row(&self.add_bias_f32, rows, width / 4, &[&y, &bias, &(width as i32)])
    }
}
