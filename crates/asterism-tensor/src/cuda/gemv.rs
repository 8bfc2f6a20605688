//! Linear layers of few rows, by our own kernels: a token's products are bound by reading weights,
//! and what follows a product (a bias, the gate, the residual stream) is done at its end.
//!
//! On Hopper a product starts to read its weights while the kernel before still runs. So no kernel
//! may write them: they are uploaded.

#![allow(unsafe_code)]

use super::kernels::{GEMV, GEMV_OPTIONS, GEMV_RESIDENT, GEMV_THREADS};
use super::module::or_null;
use super::view::{same_device, same_length};
use super::{Argument, CudaError, Device, Function, Module, View, ViewMut};
use half::bf16;
use std::sync::Arc;

/// The most rows of one product: those of a tensor core's fragment. They cost little more than one.
pub(super) const MOST_ROWS: usize = 8;

/// Outputs of a tile, which one block of threads computes at a time; of a gated one, half as many.
const TILE: usize = 16;

/// Products of up to [`MOST_ROWS`] rows. Shapes are `(rows, inputs, outputs)`, of any numbers of
/// inputs and outputs: `x` is `[rows, inputs]`, `w` is `[outputs, inputs]`, `bias` is `[outputs]`
/// and `y` is `[rows, outputs]`. Inputs in multiples of 8 and views that start at multiples of 16
/// bytes are fast, others many times slower. Calls do not wait.
pub(super) struct Gemv {
    device: Arc<Device>,
    bf16: Function,
    f32: Function,
    add: Function,
    gated: Function,
}

impl Gemv {
    /// Compiles the kernels for `device`.
    ///
    /// # Errors
    /// As [`Module::compile`].
    pub(super) fn compile(device: &Arc<Device>) -> Result<Self, CudaError> {
        let module = Module::compile(device, GEMV.name, &GEMV.text(), &GEMV_OPTIONS)?;
        Ok(Self {
            device: Arc::clone(device),
            bf16: module.function(c"gemv_bf16")?,
            f32: module.function(c"gemv_f32")?,
            add: module.function(c"gemv_add")?,
            gated: module.function(c"gemv_gated")?,
        })
    }

    /// `y = x W^T + bias`, rounded to bf16.
    ///
    /// # Errors
    /// [`CudaError::Length`] and [`CudaError::OtherDevice`] for views that do not fit;
    /// [`CudaError::Unsupported`] for more than [`MOST_ROWS`] rows; a failed launch.
    pub(super) fn bf16(
        &self,
        x: View<'_, bf16>,
        w: View<'_, bf16>,
        bias: Option<View<'_, f32>>,
        (rows, inputs, outputs): (usize, usize, usize),
        y: ViewMut<'_, bf16>,
    ) -> Result<(), CudaError> {
        let product = Product { x, w, bias, rows, inputs, outputs, matrices: 1 };
        self.check(&product, y.view())?;
        self.launch(&self.bf16, &product, &[&x, &w, or_null(&bias), &y])
    }

    /// `y = x W^T` in f32.
    ///
    /// # Errors
    /// As [`Self::bf16`].
    pub(super) fn f32(
        &self,
        x: View<'_, bf16>,
        w: View<'_, bf16>,
        (rows, inputs, outputs): (usize, usize, usize),
        y: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let product = Product { x, w, bias: None, rows, inputs, outputs, matrices: 1 };
        self.check(&product, y.view())?;
        self.launch(&self.f32, &product, &[&x, &w, &y])
    }

    /// `y += x W^T + bias` in f32: a layer's output added to the residual stream.
    ///
    /// # Errors
    /// As [`Self::bf16`].
    pub(super) fn add(
        &self,
        x: View<'_, bf16>,
        w: View<'_, bf16>,
        bias: Option<View<'_, f32>>,
        (rows, inputs, outputs): (usize, usize, usize),
        y: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let product = Product { x, w, bias, rows, inputs, outputs, matrices: 1 };
        self.check(&product, y.view())?;
        self.launch(&self.add, &product, &[&x, &w, or_null(&bias), &y])
    }

    /// `y = silu(gate) * up`, rounded to bf16; `w` is `[2 * outputs, inputs]` and `bias`
    /// `[2 * outputs]`, those of the gate above those of up.
    ///
    /// # Errors
    /// As [`Self::bf16`].
    pub(super) fn gated(
        &self,
        x: View<'_, bf16>,
        w: View<'_, bf16>,
        bias: Option<View<'_, f32>>,
        (rows, inputs, outputs): (usize, usize, usize),
        y: ViewMut<'_, bf16>,
    ) -> Result<(), CudaError> {
        let product = Product { x, w, bias, rows, inputs, outputs, matrices: 2 };
        self.check(&product, y.view())?;
        self.launch(&self.gated, &product, &[&x, &w, or_null(&bias), &y])
    }

    fn check<T: super::Element>(
        &self,
        product: &Product<'_>,
        y: View<'_, T>,
    ) -> Result<(), CudaError> {
        let &Product { x, w, bias, rows, inputs, outputs, matrices } = product;
        if rows > MOST_ROWS {
            let what = format!("a product of {rows} rows by the kernels for up to {MOST_ROWS}");
            return Err(CudaError::Unsupported { what });
        }
        same_length("x", rows * inputs, x.len())?;
        same_length("the weights", matrices * outputs * inputs, w.len())?;
        same_length("y", rows * outputs, y.len())?;
        same_device("x", &self.device, x.device())?;
        same_device("the weights", &self.device, w.device())?;
        same_device("y", &self.device, y.device())?;
        if let Some(bias) = bias {
            same_length("the bias", matrices * outputs, bias.len())?;
            same_device("the bias", &self.device, bias.device())?;
        }
        Ok(())
    }

    fn launch(
        &self,
        kernel: &Function,
        product: &Product<'_>,
        views: &[&dyn Argument],
    ) -> Result<(), CudaError> {
        let &Product { rows, inputs, outputs, matrices, .. } = product;
        if rows == 0 {
            return Ok(());
        }
        let sizes = [rows, inputs, outputs].map(|n| n as i32);
        let sizes: [&dyn Argument; 3] = [&sizes[0], &sizes[1], &sizes[2]];
        let at_once = self.device.properties().multiprocessors * GEMV_RESIDENT;
        let tiles = outputs.div_ceil(TILE / matrices) as u32;
        // SAFETY: the kernel's parameters, in its order; each caller has checked the lengths. The
        // kernels wait before they use anything but weights, which no kernel writes.
        unsafe {
            let (grid, block) = ([tiles.min(at_once), 1, 1], [GEMV_THREADS, 1, 1]);
            kernel.launch_early(grid, block, 0, &[views, &sizes].concat())
        }
    }
}

/// What goes into a product.
struct Product<'a> {
    x: View<'a, bf16>,
    w: View<'a, bf16>,
    bias: Option<View<'a, f32>>,
    rows: usize,
    inputs: usize,
    outputs: usize,
    /// That lie in `w`, one behind the other.
    matrices: usize,
}
