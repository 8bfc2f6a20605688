//! Linear layers of few rows, by our own kernels: a token's products are bound by reading weights,
//! and what follows a product (a bias, the gate, the residual stream) is done at its end.
//!
//! On Hopper a product starts to read its weights while the kernel before still runs. So no kernel
//! may write them: they are uploaded.

#![allow(unsafe_code)]

use super::kernels::{GEMV, GEMV_OPTIONS, GEMV_RESIDENT, GEMV_THREADS};
use super::module::or_null;
use super::rows::int;
use super::view::{same_device, same_length};
use super::{Argument, CudaError, Device, Element, Function, Module, View, ViewMut};
use half::bf16;
use std::ffi::CStr;
use std::sync::Arc;

/// Up to so many rows of a prefill are multiplied by these kernels: those of a tensor core's
/// fragment, which cost little more than one.
pub(super) const MOST_ROWS: usize = 8;

/// Outputs of a tile, which one block of threads computes at a time; of a gated one, half as many.
const TILE: usize = 16;

/// Products of few rows; many are multiplied 16 at a time. Shapes are `(rows, inputs, outputs)`, of
/// any numbers of inputs and outputs: `x` is `[rows, inputs]`, `w` is `[outputs, inputs]`, `bias`
/// is `[outputs]` and `y` is `[rows, outputs]`. Inputs in multiples of 8 and views that start at
/// multiples of 16 bytes are fast, others many times slower. What comes out for a row does not
/// depend, to the last bit, on the others. Calls do not wait.
pub(super) struct Gemv {
    device: Arc<Device>,
    /// For few rows, and for more.
    instances: [Instance; 2],
}

/// The kernels for up to `most` rows.
struct Instance {
    most: usize,
    /// Blocks of threads that a multiprocessor holds.
    resident: u32,
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
        let instance = |(most, resident, names): (usize, u32, [&CStr; 4])| {
            let [bf16, f32, add, gated] = names;
            Ok::<_, CudaError>(Instance {
                most,
                resident,
                bf16: module.function(bf16)?,
                f32: module.function(f32)?,
                add: module.function(add)?,
                gated: module.function(gated)?,
            })
        };
        let instances = [
            (8, GEMV_RESIDENT, [c"gemv_bf16_8", c"gemv_f32_8", c"gemv_add_8", c"gemv_gated_8"]),
            (16, 1, [c"gemv_bf16_16", c"gemv_f32_16", c"gemv_add_16", c"gemv_gated_16"]),
        ];
        let [few, many] = instances;
        Ok(Self { device: Arc::clone(device), instances: [instance(few)?, instance(many)?] })
    }

    /// `y = x W^T + bias`, rounded to bf16.
    ///
    /// # Errors
    /// [`CudaError::Length`] and [`CudaError::OtherDevice`] for views that do not fit; a failed
    /// launch.
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
        self.launch(&product, y, |instance| &instance.bf16, true)
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
        self.launch(&product, y, |instance| &instance.f32, false)
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
        self.launch(&product, y, |instance| &instance.add, true)
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
        self.launch(&product, y, |instance| &instance.gated, true)
    }

    fn check<T: Element>(&self, product: &Product<'_>, y: View<'_, T>) -> Result<(), CudaError> {
        let &Product { x, w, bias, rows, inputs, outputs, matrices } = product;
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

    /// Launches the kernel that `choose` takes of an instance, for each run of rows. It may take a
    /// bias.
    fn launch<T: Element>(
        &self,
        product: &Product<'_>,
        mut y: ViewMut<'_, T>,
        choose: fn(&Instance) -> &Function,
        takes_bias: bool,
    ) -> Result<(), CudaError> {
        let &Product { rows, inputs, outputs, matrices, .. } = product;
        let [few, many] = &self.instances;
        // The instance for many rows takes whole runs of 16 bytes only.
        let aligned =
            inputs.is_multiple_of(8) && (product.x.pointer | product.w.pointer).is_multiple_of(16);
        let most = if aligned { many.most } else { few.most };
        for first in (0..rows).step_by(most) {
            let count = most.min(rows - first);
            let x = product.x.slice(first * inputs..(first + count) * inputs)?;
            let y = y.reborrow().slice(first * outputs..(first + count) * outputs)?;
            let instance = if count <= few.most { few } else { many };
            let kernel = choose(instance);
            let sizes = [
                int("the number of rows", count)?,
                int("the number of inputs", inputs)?,
                int("the number of outputs", outputs)?,
            ];
            let mut arguments: Vec<&dyn Argument> = vec![&x, &product.w];
            arguments.extend(takes_bias.then(|| or_null(&product.bias)));
            arguments.extend([&y as &dyn Argument, &sizes[0], &sizes[1], &sizes[2]]);
            let at_once = self.device.properties().multiprocessors * instance.resident;
            let tiles = outputs.div_ceil(TILE / matrices) as u32;
            // SAFETY: the kernel's parameters, in its order; each caller has checked the lengths,
            // and these are some of the rows. The kernels wait before they use anything but
            // weights, which no kernel writes.
            unsafe {
                let (grid, block) = ([tiles.min(at_once), 1, 1], [GEMV_THREADS, 1, 1]);
                kernel.launch_early(grid, block, 0, &arguments)?;
            }
        }
        Ok(())
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
