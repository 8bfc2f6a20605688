//! What a GPU holds: weights and activations in bf16, sums in f32.

use super::Result;
use crate::cuda::activations::Activations;
use crate::cuda::kv::Kv;
use crate::cuda::memory::{Grown, Ids, view, view_mut};
use crate::cuda::queries::{Kept, Listed};
use crate::cuda::weights::{Embedding, Matrix};
use crate::cuda::{Buffer, Cuda, Event, Recording};
use crate::{Buffers, ElementsView, Memory, Part, PartMut, Pass, Precision, RowReader};
use half::bf16;
use half::slice::HalfFloatSliceExt;

impl Memory for Buffer<f32> {
    fn len(&self) -> usize {
        self.len()
    }

    fn bytes(&self) -> usize {
        self.len() * size_of::<f32>()
    }
}

impl Buffers for Cuda {
    const ROWS: Precision = Precision::Bf16;

    type Rows = Grown<bf16>;
    type Sums = Grown<f32>;
    type Kv = Kv;
    type Activations = Activations;
    type Ids = Ids;
    type Flags = Buffer<u8>;
    type Kept = Kept;
    type Listed = Listed;
    type Recording = Recording;
    type Matrix = Matrix;
    type Mark = Event;
    type Vector = Buffer<f32>;
    type Embedding = Embedding;

    fn matrix(&self, parts: &[ElementsView<'_>], inputs: usize) -> Result<Matrix> {
        Ok(Matrix::stack(self, parts, inputs)?)
    }

    fn pair(&self, gate: ElementsView<'_>, up: ElementsView<'_>, inputs: usize) -> Result<Matrix> {
        Ok(Matrix::stack(self, &[gate, up], inputs)?)
    }

    fn vector(&self, values: &[f32]) -> Result<Buffer<f32>> {
        Ok(Buffer::from_slice(&self.device, values)?)
    }

    fn embedding(&self, rows: RowReader, vocab: usize, hidden: usize) -> Result<Embedding> {
        Ok(Embedding::upload(self, &rows, vocab, hidden)?)
    }

    fn activations(&self, _precision: Precision, pass: Pass) -> Activations {
        Activations::new(pass)
    }

    fn rows_at_least(&self, rows: &mut Grown<bf16>, len: usize) -> Result {
        Ok(rows.at_least(&self.device, len)?)
    }

    fn sums_at_least(&self, sums: &mut Grown<f32>, len: usize) -> Result {
        Ok(sums.at_least(&self.device, len)?)
    }

    fn copy_rows(&self, rows: Part<'_, Grown<bf16>>) -> Result<Grown<bf16>> {
        let mut copy = Grown::default();
        if rows.len > 0 {
            copy.first(&self.device, rows.len)?.copy_from(view(rows)?)?;
        }
        Ok(copy)
    }

    fn put_rows(&self, rows: Part<'_, Grown<bf16>>, to: PartMut<'_, Grown<bf16>>) -> Result {
        Ok(view_mut(to)?.copy_from(view(rows)?)?)
    }

    fn put_sums(&self, sums: Part<'_, Grown<f32>>, to: PartMut<'_, Grown<f32>>) -> Result {
        Ok(view_mut(to)?.copy_from(view(sums)?)?)
    }

    fn read_rows(&self, rows: Part<'_, Grown<bf16>>, to: &mut [f32]) -> Result {
        let read = view(rows)?.to_vec()?;
        read.convert_to_f32_slice(to);
        Ok(())
    }

    fn read(&self, sums: Part<'_, Grown<f32>>, to: &mut [f32]) -> Result {
        Ok(view(sums)?.read(to)?)
    }

    fn flags(&self, flags: &[bool]) -> Result<Buffer<u8>> {
        let flags: Vec<u8> = flags.iter().map(|&flag| u8::from(flag)).collect();
        Ok(Buffer::from_slice(&self.device, &flags)?)
    }

    fn listed(&self, positions: &[u32]) -> Result<Listed> {
        Ok(Listed::new(&self.device, positions)?)
    }
}
