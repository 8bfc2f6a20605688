//! Linear layers, whole and in parts, and the norms before them.

use super::Buffers;
use crate::{Part, PartMut, Slab, TensorError};

/// Linear layers, and what makes their inputs. Hosts that divide a matrix among them multiply by
/// [slabs](Slab) of it.
pub trait Linear: Buffers {
    /// `out[r] = x[r] / rms(x[r]) * weight` for every row of `x [rows, width of weight]`.
    ///
    /// # Errors
    /// If the processor fails.
    fn rms_norm(
        &self,
        x: Part<'_, Self::Sums>,
        weight: &Self::Vector,
        eps: f32,
        out: &mut Self::Activations,
    ) -> Result<(), TensorError>;

    /// `y = x · Wᵀ (+ bias)`. `y` is `[rows, outputs]`, bias `[outputs]`.
    ///
    /// # Errors
    /// If the processor fails.
    fn linear(
        &self,
        x: &Self::Activations,
        w: &Self::Matrix,
        bias: Option<&Self::Vector>,
        y: PartMut<'_, Self::Rows>,
    ) -> Result<(), TensorError>;

    /// `y = x · Wᵀ` in f32: the logits.
    ///
    /// # Errors
    /// If the processor fails.
    fn linear_sums(
        &self,
        x: &Self::Activations,
        w: &Self::Matrix,
        y: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// `y += x · Wᵀ (+ bias)`: a linear layer that ends in the residual stream.
    ///
    /// # Errors
    /// If the processor fails.
    fn linear_add(
        &self,
        x: &Self::Activations,
        w: &Self::Matrix,
        bias: Option<&Self::Vector>,
        y: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// [`Self::linear_add`] of the output of attention, `x [rows, inputs]`. `scratch` is what it
    /// may be copied to.
    ///
    /// # Errors
    /// If the processor fails.
    fn linear_add_rows(
        &self,
        x: Part<'_, Self::Rows>,
        scratch: &mut Self::Activations,
        w: &Self::Matrix,
        bias: Option<&Self::Vector>,
        y: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// `out = silu(x · gateᵀ) * (x · upᵀ)` of a [`Buffers::pair`] (SwiGLU, arXiv 2002.05202); bias
    /// is `[2, outputs]`.
    ///
    /// # Errors
    /// If the processor fails.
    fn linear_gated(
        &self,
        x: &Self::Activations,
        w: &Self::Matrix,
        bias: Option<&Self::Vector>,
        out: &mut Self::Activations,
    ) -> Result<(), TensorError>;

    /// As [`Self::linear`], of the outputs of `w`, by all of its inputs: for rows that decode. A
    /// row of `y` begins `stride` elements behind the one before. `bias` is that of the whole.
    ///
    /// # Errors
    /// If the processor fails.
    fn slab(
        &self,
        x: &Self::Activations,
        w: Slab<'_, Self::Matrix>,
        bias: Option<&Self::Vector>,
        y: PartMut<'_, Self::Rows>,
        stride: usize,
    ) -> Result<(), TensorError>;

    /// As [`Self::linear_sums`], of the outputs of `w` by its inputs, for rows that decode: `x`
    /// is `[rows, inputs of w]`. A row of `y` begins `stride` elements behind the one before.
    /// `bias` is that of the whole; of no inputs it is all there is.
    ///
    /// # Errors
    /// If the processor fails.
    fn slab_sums(
        &self,
        x: &Self::Activations,
        w: Slab<'_, Self::Matrix>,
        bias: Option<&Self::Vector>,
        y: PartMut<'_, Self::Sums>,
        stride: usize,
    ) -> Result<(), TensorError>;

    /// [`Self::slab_sums`] of columns of the output of attention: those of its rows `x [rows,
    /// all inputs]` that are inputs of `w`. `scratch` is what they may be copied to. `y` is `[rows,
    /// outputs of w]`.
    ///
    /// # Errors
    /// If the processor fails.
    fn slab_sums_rows(
        &self,
        x: Part<'_, Self::Rows>,
        scratch: &mut Self::Activations,
        w: Slab<'_, Self::Matrix>,
        bias: Option<&Self::Vector>,
        y: PartMut<'_, Self::Sums>,
    ) -> Result<(), TensorError>;

    /// As [`Self::linear_gated`], of the outputs of `w`, by all of its inputs: for rows that
    /// decode. `out` is `[rows, outputs of w]`; `bias` is that of the whole.
    ///
    /// # Errors
    /// If the processor fails.
    fn slab_gated(
        &self,
        x: &Self::Activations,
        w: Slab<'_, Self::Matrix>,
        bias: Option<&Self::Vector>,
        out: &mut Self::Activations,
    ) -> Result<(), TensorError>;

    /// Adds the rows of `rows [n, width]` up into `sums [width]`, in their order: to what is there,
    /// or to 0 if it is the `first` time.
    ///
    /// # Errors
    /// If the processor fails.
    fn add_rows(
        &self,
        rows: Part<'_, Self::Sums>,
        sums: PartMut<'_, Self::Sums>,
        first: bool,
    ) -> Result<(), TensorError>;
}
