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
use std::ffi::{CStr, c_void};
use std::sync::Arc;

/// Up to so many rows of a prefill are multiplied by these kernels: those of a tensor core's
/// fragment, which cost little more than one.
pub(super) const MOST_ROWS: usize = 8;

/// Outputs of a tile, which one block of threads computes at a time; of a gated one, half as many.
const TILE: usize = 16;

/// How large a product is, and how far apart rows lie: `struct Sizes` of the kernels. `x` is
/// `[rows, inputs]`, `w` is `[outputs, inputs]`, `bias` is `[outputs]` and `y` is `[rows,
/// outputs]`, each all or a part of something larger.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Elements from a row of `x` to the next.
    pub(super) x_stride: usize,
    /// The same of `w`.
    pub(super) w_stride: usize,
    /// The same of `y`.
    pub(super) y_stride: usize,
    /// Of a pair, rows of `w` from an output of the gate to that of up.
    pub(super) up: usize,
}

impl From<(usize, usize, usize)> for Sizes {
    /// Those of whole matrices, of so many rows, inputs and outputs.
    fn from((rows, inputs, outputs): (usize, usize, usize)) -> Self {
        let (x_stride, w_stride, y_stride) = (inputs, inputs, outputs);
        Self { rows, inputs, outputs, x_stride, w_stride, y_stride, up: outputs }
    }
}

/// Sizes as the kernels take them.
#[repr(C)]
struct RawSizes([i32; 7]);

// SAFETY: laid out as the kernels declare it.
unsafe impl Argument for RawSizes {
    fn address(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

impl Sizes {
    fn raw(&self) -> Result<RawSizes, CudaError> {
        Ok(RawSizes([
            int("the number of rows", self.rows)?,
            int("the number of inputs", self.inputs)?,
            int("the number of outputs", self.outputs)?,
            int("the width of the rows", self.x_stride)?,
            int("the width of the weights", self.w_stride)?,
            int("the width of the products", self.y_stride)?,
            int("the rows between a pair", self.up)?,
        ]))
    }
}

/// Elements from the first of `rows` rows of `width` to the last of the last, `stride` apart.
fn extent(rows: usize, width: usize, stride: usize) -> usize {
    rows.checked_sub(1).map_or(0, |before| before * stride + width)
}

/// Products of few rows; many are multiplied 16 at a time. Any numbers of inputs and outputs will
/// do. Inputs and widths in multiples of 8 and views that start at multiples of 16 bytes are fast,
/// others many times slower. What comes out for a row does not depend, to the last bit, on the
/// others. Calls do not wait.
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
        sizes: impl Into<Sizes>,
        y: ViewMut<'_, bf16>,
    ) -> Result<(), CudaError> {
        let product = Product { x, w, bias, sizes: sizes.into(), is_pair: false };
        self.check(&product, y.view())?;
        self.launch(&product, y, |instance| &instance.bf16)
    }

    /// `y = x W^T + bias` in f32.
    ///
    /// # Errors
    /// As [`Self::bf16`].
    pub(super) fn f32(
        &self,
        x: View<'_, bf16>,
        w: View<'_, bf16>,
        bias: Option<View<'_, f32>>,
        sizes: impl Into<Sizes>,
        y: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let product = Product { x, w, bias, sizes: sizes.into(), is_pair: false };
        self.check(&product, y.view())?;
        self.launch(&product, y, |instance| &instance.f32)
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
        sizes: impl Into<Sizes>,
        y: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let product = Product { x, w, bias, sizes: sizes.into(), is_pair: false };
        self.check(&product, y.view())?;
        self.launch(&product, y, |instance| &instance.add)
    }

    /// `y = silu(gate) * up`, rounded to bf16; of `w` and `bias`, what the gate needs is above what
    /// up needs.
    ///
    /// # Errors
    /// As [`Self::bf16`].
    pub(super) fn gated(
        &self,
        x: View<'_, bf16>,
        w: View<'_, bf16>,
        bias: Option<View<'_, f32>>,
        sizes: impl Into<Sizes>,
        y: ViewMut<'_, bf16>,
    ) -> Result<(), CudaError> {
        let product = Product { x, w, bias, sizes: sizes.into(), is_pair: true };
        self.check(&product, y.view())?;
        self.launch(&product, y, |instance| &instance.gated)
    }

    fn check<T: Element>(&self, product: &Product<'_>, y: View<'_, T>) -> Result<(), CudaError> {
        let &Product { x, w, bias, sizes, is_pair } = product;
        let Sizes { rows, inputs, outputs, x_stride, w_stride, y_stride, up } = sizes;
        let last = outputs + if is_pair { up } else { 0 };
        same_length("x", extent(rows, inputs, x_stride), x.len())?;
        same_length("the weights", extent(last, inputs, w_stride), w.len())?;
        same_length("y", extent(rows, outputs, y_stride), y.len())?;
        same_device("x", &self.device, x.device())?;
        same_device("the weights", &self.device, w.device())?;
        same_device("y", &self.device, y.device())?;
        if let Some(bias) = bias {
            same_length("the bias", last, bias.len())?;
            same_device("the bias", &self.device, bias.device())?;
        }
        Ok(())
    }

    /// Launches the kernel that `choose` takes of an instance, for each run of rows.
    fn launch<T: Element>(
        &self,
        product: &Product<'_>,
        mut y: ViewMut<'_, T>,
        choose: fn(&Instance) -> &Function,
    ) -> Result<(), CudaError> {
        let &Product { x, w, bias, sizes, is_pair } = product;
        let Sizes { rows, inputs, outputs, x_stride, w_stride, y_stride, .. } = sizes;
        let [few, many] = &self.instances;
        // The instance for many rows takes whole runs of 16 bytes only.
        let aligned = (inputs | x_stride | w_stride).is_multiple_of(8)
            && (x.pointer | w.pointer).is_multiple_of(16);
        let most = if aligned { many.most } else { few.most };
        for first in (0..rows).step_by(most) {
            let count = most.min(rows - first);
            let part = |width: usize, stride: usize| {
                first * stride..first * stride + extent(count, width, stride)
            };
            let x = x.slice(part(inputs, x_stride))?;
            let y = y.reborrow().slice(part(outputs, y_stride))?;
            let instance = if count <= few.most { few } else { many };
            let kernel = choose(instance);
            let sizes = Sizes { rows: count, ..sizes }.raw()?;
            let arguments: [&dyn Argument; 5] = [&x, &w, or_null(&bias), &y, &sizes];
            let at_once = self.device.properties().multiprocessors * instance.resident;
            let tiles = outputs.div_ceil(if is_pair { TILE / 2 } else { TILE }) as u32;
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
    sizes: Sizes,
    /// Whether there is a gate and up.
    is_pair: bool,
}
