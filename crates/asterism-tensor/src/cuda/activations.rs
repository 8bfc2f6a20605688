//! What goes into the linear layers of a GPU.

use super::memory::{Grown, view};
use super::weights::Matrix;
use super::{CudaError, Device, View, ViewMut};
use crate::{Part, Pass};
use half::bf16;
use std::sync::Arc;

/// What goes into a linear layer: `[rows, inputs]`.
pub struct Activations {
    values: Grown<bf16>,
    pub(super) rows: usize,
    inputs: usize,
    /// Of which kind the pass is that they are in.
    pub(super) pass: Pass,
}

impl Activations {
    /// None yet.
    pub(super) fn new(pass: Pass) -> Self {
        Self { values: Grown::default(), rows: 0, inputs: 0, pass }
    }

    /// Makes room for `rows` rows and gives them to be written.
    pub(super) fn reset(
        &mut self,
        device: &Arc<Device>,
        rows: usize,
        inputs: usize,
    ) -> std::result::Result<ViewMut<'_, bf16>, CudaError> {
        (self.rows, self.inputs) = (rows, inputs);
        self.values.first(device, rows * inputs)
    }

    pub(super) fn view(&self) -> std::result::Result<View<'_, bf16>, CudaError> {
        view(Part::new(&self.values, 0..self.rows * self.inputs))
    }

    /// Rows, inputs and outputs of a product with `w`.
    pub(super) fn shape(&self, w: &Matrix) -> (usize, usize, usize) {
        (self.rows, self.inputs, w.outputs)
    }
}
