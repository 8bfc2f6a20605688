//! Weights on the device.

use super::error::only_bf16;
use super::gemv::Sizes;
use super::{Buffer, Cuda, CudaError, View};
use crate::{ElementsView, Memory, RowReader, Slab};
use half::bf16;
use half::slice::HalfFloatSliceExt;

/// Rows of the embedding that are uploaded together.
const ROWS: usize = 4096;

/// The weights of a linear layer, `[outputs, inputs]`; of a pair, gate above up.
pub struct Matrix {
    pub(super) weights: Buffer<bf16>,
    pub(super) outputs: usize,
}

impl Memory for Matrix {
    fn len(&self) -> usize {
        self.weights.len()
    }

    fn bytes(&self) -> usize {
        self.weights.len() * size_of::<bf16>()
    }
}

impl Matrix {
    /// Stacks `parts`, each `[outputs_i, inputs]`.
    pub(super) fn stack(
        cuda: &Cuda,
        parts: &[ElementsView<'_>],
        inputs: usize,
    ) -> Result<Self, CudaError> {
        let len = parts.iter().map(|part| part.len()).sum();
        let mut weights = Buffer::uninit(cuda.device(), len)?;
        let mut start = 0;
        for part in parts {
            let Some(part) = part.bf16() else { return Err(only_bf16()) };
            cuda.upload(weights.slice_mut(start..start + part.len())?, part)?;
            start += part.len();
        }
        Ok(Self { weights, outputs: len / inputs })
    }

    pub(super) fn inputs(&self) -> usize {
        self.weights.len() / self.outputs
    }

    /// The weights of `slab` of this matrix, from its first to its last; a row of them begins
    /// [`Self::inputs`] elements behind the one before.
    pub(super) fn slab(&self, slab: &Slab<'_, Self>) -> Result<View<'_, bf16>, CudaError> {
        let Slab { outputs, inputs, .. } = slab;
        let stride = self.inputs();
        let end = outputs.end.saturating_sub(1) * stride + inputs.end;
        self.weights.slice(outputs.start * stride + inputs.start..end)
    }

    /// Of a product of `rows` rows with `slab` of this matrix, which lie without gaps, as does what
    /// comes out.
    pub(super) fn sizes(&self, rows: usize, slab: &Slab<'_, Self>) -> Sizes {
        let shape = (rows, slab.inputs.len(), slab.outputs.len());
        Sizes { w_stride: self.inputs(), ..shape.into() }
    }
}

/// The embedding, `[vocab, hidden]`.
pub struct Embedding {
    pub(super) table: Buffer<bf16>,
    pub(super) hidden: usize,
}

impl Embedding {
    pub(super) fn upload(
        cuda: &Cuda,
        read: &RowReader,
        vocab: usize,
        hidden: usize,
    ) -> Result<Self, CudaError> {
        let mut table = Buffer::uninit(cuda.device(), vocab * hidden)?;
        let mut floats = vec![0.0; hidden];
        let mut rows = vec![bf16::ZERO; ROWS * hidden];
        for start in (0..vocab).step_by(ROWS) {
            let count = ROWS.min(vocab - start);
            for (r, row) in rows.chunks_exact_mut(hidden).take(count).enumerate() {
                read(start + r, &mut floats);
                row.convert_from_f32_slice(&floats);
            }
            let range = start * hidden..(start + count) * hidden;
            cuda.upload(table.slice_mut(range)?, &rows[..count * hidden])?;
        }
        Ok(Self { table, hidden })
    }
}
