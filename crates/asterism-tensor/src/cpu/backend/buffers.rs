//! What the CPU holds: vectors of the program's own memory.

use super::{Ids, Result, floats, floats_mut};
use crate::cpu::{Activations, Cpu, Kv, PackedMatrix};
use crate::{
    Aligned, Buffers, ElementsView, KeptKeys, Memory, Part, PartMut, Pass, Precision, RowReader,
};
use std::convert::Infallible;
use std::time::Instant;

impl Memory for Aligned<f32> {
    fn len(&self) -> usize {
        <[f32]>::len(self)
    }

    fn bytes(&self) -> usize {
        size_of_val::<[f32]>(self)
    }
}

impl Memory for Kv {
    fn len(&self) -> usize {
        self.len()
    }

    fn bytes(&self) -> usize {
        self.bytes()
    }
}

impl Memory for PackedMatrix {
    fn len(&self) -> usize {
        self.inputs() * self.outputs()
    }

    fn bytes(&self) -> usize {
        self.bytes()
    }
}

impl Cpu {
    fn pack(&self, parts: &[ElementsView<'_>], inputs: usize, paired: bool) -> PackedMatrix {
        if let Some(parts) = parts.iter().map(|part| part.bf16()).collect::<Option<Vec<_>>>() {
            self.pack_bf16_parts(&parts, inputs, paired)
        } else if let Some(parts) = parts.iter().map(|part| part.f32()).collect::<Option<Vec<_>>>()
        {
            self.pack_f32_parts(&parts, inputs, paired)
        } else {
            panic!("matrices of two precisions stacked")
        }
    }
}

impl Buffers for Cpu {
    const ROWS: Precision = Precision::F32;

    type Rows = Aligned<f32>;
    type Sums = Aligned<f32>;
    type Kv = Kv;
    type Activations = Activations;
    type Ids = Ids;
    type Flags = Vec<bool>;
    type Kept = KeptKeys;
    type Listed = Vec<u32>;
    type Recording = Infallible;
    type Matrix = PackedMatrix;
    type Mark = Instant;
    type Vector = Vec<f32>;
    type Embedding = RowReader;

    fn matrix(&self, parts: &[ElementsView<'_>], inputs: usize) -> Result<PackedMatrix> {
        Ok(self.pack(parts, inputs, false))
    }

    fn pair(
        &self,
        gate: ElementsView<'_>,
        up: ElementsView<'_>,
        inputs: usize,
    ) -> Result<PackedMatrix> {
        Ok(self.pack(&[gate, up], inputs, true))
    }

    fn vector(&self, values: &[f32]) -> Result<Vec<f32>> {
        Ok(values.to_vec())
    }

    fn embedding(&self, rows: RowReader, _vocab: usize, _hidden: usize) -> Result<RowReader> {
        Ok(rows)
    }

    fn activations(&self, precision: Precision, pass: Pass) -> Activations {
        Activations::new(precision, pass)
    }

    fn rows_at_least(&self, rows: &mut Aligned<f32>, len: usize) -> Result {
        rows.at_least(len);
        Ok(())
    }

    fn sums_at_least(&self, sums: &mut Aligned<f32>, len: usize) -> Result {
        sums.at_least(len);
        Ok(())
    }

    fn copy_rows(&self, rows: Part<'_, Aligned<f32>>) -> Result<Aligned<f32>> {
        let mut copy = Aligned::default();
        copy.at_least(rows.len).copy_from_slice(floats(rows));
        Ok(copy)
    }

    fn put_rows(&self, rows: Part<'_, Aligned<f32>>, to: PartMut<'_, Aligned<f32>>) -> Result {
        floats_mut(to).copy_from_slice(floats(rows));
        Ok(())
    }

    fn put_sums(&self, sums: Part<'_, Aligned<f32>>, to: PartMut<'_, Aligned<f32>>) -> Result {
        self.put_rows(sums, to)
    }

    fn read_rows(&self, rows: Part<'_, Aligned<f32>>, to: &mut [f32]) -> Result {
        to.copy_from_slice(floats(rows));
        Ok(())
    }

    fn read(&self, sums: Part<'_, Aligned<f32>>, to: &mut [f32]) -> Result {
        to.copy_from_slice(floats(sums));
        Ok(())
    }

    fn flags(&self, flags: &[bool]) -> Result<Vec<bool>> {
        Ok(flags.to_vec())
    }

    fn listed(&self, positions: &[u32]) -> Result<Vec<u32>> {
        Ok(positions.to_vec())
    }
}
