//! Linear layers: cuBLASLt's products of many rows, our own of few.

use super::Result;
use crate::cuda::activations::Activations;
use crate::cuda::gemv::{MOST_ROWS, Sizes};
use crate::cuda::memory::{Grown, view, view_mut};
use crate::cuda::weights::Matrix;
use crate::cuda::{Buffer, Cuda, CudaError, View, ViewMut};
use crate::{Linear, Part, PartMut, Pass, Slab};
use half::bf16;

/// Whether rows are multiplied by the kernels that read weights once for each few of them: cuBLASLt
/// chooses another algorithm, and another order of sums, for other numbers of rows.
fn is_few(pass: Pass, rows: usize) -> bool {
    pass == Pass::Decode || rows <= MOST_ROWS
}

impl Cuda {
    /// `y += x · Wᵀ (+ bias)`.
    fn add_product(
        &self,
        x: View<'_, bf16>,
        w: &Matrix,
        bias: Option<&Buffer<f32>>,
        shape: (usize, usize, usize),
        pass: Pass,
        mut y: ViewMut<'_, f32>,
    ) -> std::result::Result<(), CudaError> {
        if is_few(pass, shape.0) {
            return self.gemv.add(x, w.weights.view(), bias.map(Buffer::view), shape, y);
        }
        self.gemm.accumulate(x, w.weights.view(), shape, y.reborrow())?;
        bias.map_or(Ok(()), |bias| self.rows.add_bias_f32(y, bias.view()))
    }

    /// What a product by no inputs gives.
    fn no_product(
        &self,
        bias: Option<View<'_, f32>>,
        mut y: ViewMut<'_, f32>,
    ) -> std::result::Result<(), CudaError> {
        y.fill_bytes(0)?;
        bias.map_or(Ok(()), |bias| self.rows.add_bias_f32(y, bias))
    }
}

impl Linear for Cuda {
    fn rms_norm(
        &self,
        x: Part<'_, Grown<f32>>,
        weight: &Buffer<f32>,
        eps: f32,
        out: &mut Activations,
    ) -> Result {
        let (width, x) = (weight.len(), view(x)?);
        let out = out.reset(&self.device, x.len() / width, width)?;
        Ok(self.rows.rms_norm(x, weight.view(), eps, out)?)
    }

    fn linear(
        &self,
        x: &Activations,
        w: &Matrix,
        bias: Option<&Buffer<f32>>,
        y: PartMut<'_, Grown<bf16>>,
    ) -> Result {
        let (shape, pass, x, mut y) = (x.shape(w), x.pass, x.view()?, view_mut(y)?);
        if is_few(pass, shape.0) {
            return Ok(self.gemv.bf16(x, w.weights.view(), bias.map(Buffer::view), shape, y)?);
        }
        self.gemm.bf16(x, w.weights.view(), shape, y.reborrow())?;
        if let Some(bias) = bias {
            self.rows.add_bias_bf16(y, bias.view())?;
        }
        Ok(())
    }

    fn linear_sums(&self, x: &Activations, w: &Matrix, y: PartMut<'_, Grown<f32>>) -> Result {
        let (shape, pass, x, y) = (x.shape(w), x.pass, x.view()?, view_mut(y)?);
        if is_few(pass, shape.0) {
            return Ok(self.gemv.f32(x, w.weights.view(), None, shape, y)?);
        }
        Ok(self.gemm.f32(x, w.weights.view(), shape, y)?)
    }

    fn linear_add(
        &self,
        x: &Activations,
        w: &Matrix,
        bias: Option<&Buffer<f32>>,
        y: PartMut<'_, Grown<f32>>,
    ) -> Result {
        Ok(self.add_product(x.view()?, w, bias, x.shape(w), x.pass, view_mut(y)?)?)
    }

    fn linear_add_rows(
        &self,
        x: Part<'_, Grown<bf16>>,
        scratch: &mut Activations,
        w: &Matrix,
        bias: Option<&Buffer<f32>>,
        y: PartMut<'_, Grown<f32>>,
    ) -> Result {
        let inputs = w.weights.len() / w.outputs;
        let shape = (x.len / inputs, inputs, w.outputs);
        Ok(self.add_product(view(x)?, w, bias, shape, scratch.pass, view_mut(y)?)?)
    }

    fn linear_gated(
        &self,
        x: &Activations,
        w: &Matrix,
        bias: Option<&Buffer<f32>>,
        out: &mut Activations,
    ) -> Result {
        let (rows, inputs, both) = x.shape(w);
        let (pass, x) = (x.pass, x.view()?);
        out.pass = pass;
        let out = out.reset(&self.device, rows, both / 2)?;
        if is_few(pass, rows) {
            let (bias, shape) = (bias.map(Buffer::view), (rows, inputs, both / 2));
            return Ok(self.gemv.gated(x, w.weights.view(), bias, shape, out)?);
        }
        // [rows, gate and up]
        let mut products = Buffer::uninit(&self.device, rows * both)?;
        let shape = (rows, inputs, both);
        self.gemm.bf16(x, w.weights.view(), shape, products.view_mut())?;
        if let Some(bias) = bias {
            self.rows.add_bias_bf16(products.view_mut(), bias.view())?;
        }
        Ok(self.rows.silu_mul(products.view(), both / 2, out)?)
    }

    fn slab(
        &self,
        x: &Activations,
        w: Slab<'_, Matrix>,
        bias: Option<&Buffer<f32>>,
        y: PartMut<'_, Grown<bf16>>,
        stride: usize,
    ) -> Result {
        if w.outputs.is_empty() {
            return Ok(());
        }
        let sizes = Sizes { y_stride: stride, ..w.of.sizes(x.rows, &w) };
        let bias = bias.map(|bias| bias.slice(w.outputs.clone())).transpose()?;
        Ok(self.gemv.bf16(x.view()?, w.of.slab(&w)?, bias, sizes, view_mut(y)?)?)
    }

    fn slab_sums(
        &self,
        x: &Activations,
        w: Slab<'_, Matrix>,
        bias: Option<&Buffer<f32>>,
        y: PartMut<'_, Grown<f32>>,
        stride: usize,
    ) -> Result {
        if w.outputs.is_empty() {
            return Ok(());
        }
        let bias = bias.map(|bias| bias.slice(w.outputs.clone())).transpose()?;
        if w.inputs.is_empty() {
            return Ok(self.no_product(bias, view_mut(y)?)?);
        }
        let sizes = Sizes { y_stride: stride, ..w.of.sizes(x.rows, &w) };
        Ok(self.gemv.f32(x.view()?, w.of.slab(&w)?, bias, sizes, view_mut(y)?)?)
    }

    fn slab_sums_rows(
        &self,
        x: Part<'_, Grown<bf16>>,
        _scratch: &mut Activations,
        w: Slab<'_, Matrix>,
        bias: Option<&Buffer<f32>>,
        y: PartMut<'_, Grown<f32>>,
    ) -> Result {
        let bias = bias.map(|bias| bias.slice(w.outputs.clone())).transpose()?;
        if w.inputs.is_empty() {
            return Ok(self.no_product(bias, view_mut(y)?)?);
        }
        let x_stride = w.of.inputs();
        let sizes = Sizes { x_stride, ..w.of.sizes(x.len / x_stride, &w) };
        // From the first row's first to the last one's last.
        let columns = w.inputs.start..x.len - (x_stride - w.inputs.end);
        let x = view(x)?.slice(columns)?;
        Ok(self.gemv.f32(x, w.of.slab(&w)?, bias, sizes, view_mut(y)?)?)
    }

    fn slab_gated(
        &self,
        x: &Activations,
        w: Slab<'_, Matrix>,
        bias: Option<&Buffer<f32>>,
        out: &mut Activations,
    ) -> Result {
        if w.outputs.is_empty() {
            return Ok(());
        }
        let up = w.of.outputs / 2;
        let sizes = Sizes { up, ..w.of.sizes(x.rows, &w) };
        // From the gate's first output to up's last.
        let outputs = w.outputs.start..up + w.outputs.end;
        let both = Slab { of: w.of, outputs, inputs: w.inputs.clone() };
        let bias = bias.map(|bias| bias.slice(both.outputs.clone())).transpose()?;
        out.pass = x.pass;
        let out = out.reset(&self.device, x.rows, w.outputs.len())?;
        Ok(self.gemv.gated(x.view()?, w.of.slab(&both)?, bias, sizes, out)?)
    }

    fn add_rows(
        &self,
        rows: Part<'_, Grown<f32>>,
        sums: PartMut<'_, Grown<f32>>,
        first: bool,
    ) -> Result {
        if sums.len == 0 {
            return Ok(());
        }
        Ok(self.rows.add_rows(view(rows)?, view_mut(sums)?, first)?)
    }
}
