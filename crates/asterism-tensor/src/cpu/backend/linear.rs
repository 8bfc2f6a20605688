//! Linear layers over packed weights.

use super::{Result, floats, floats_mut};
use crate::cpu::{Activations, Cpu, PackedMatrix};
use crate::{Aligned, Linear, Part, PartMut, Slab};

impl Linear for Cpu {
    fn rms_norm(
        &self,
        x: Part<'_, Aligned<f32>>,
        weight: &Vec<f32>,
        eps: f32,
        out: &mut Activations,
    ) -> Result {
        self.rms_norm_rows(floats(x), weight, eps, out);
        Ok(())
    }

    fn linear(
        &self,
        x: &Activations,
        w: &PackedMatrix,
        bias: Option<&Vec<f32>>,
        y: PartMut<'_, Aligned<f32>>,
    ) -> Result {
        self.linear(x, w, bias.map(Vec::as_slice), floats_mut(y));
        Ok(())
    }

    fn linear_sums(
        &self,
        x: &Activations,
        w: &PackedMatrix,
        y: PartMut<'_, Aligned<f32>>,
    ) -> Result {
        self.linear(x, w, None, floats_mut(y));
        Ok(())
    }

    fn linear_add(
        &self,
        x: &Activations,
        w: &PackedMatrix,
        bias: Option<&Vec<f32>>,
        y: PartMut<'_, Aligned<f32>>,
    ) -> Result {
        self.linear_add(x, w, bias.map(Vec::as_slice), floats_mut(y));
        Ok(())
    }

    fn linear_add_rows(
        &self,
        x: Part<'_, Aligned<f32>>,
        scratch: &mut Activations,
        w: &PackedMatrix,
        bias: Option<&Vec<f32>>,
        y: PartMut<'_, Aligned<f32>>,
    ) -> Result {
        self.take_rows(floats(x), w.inputs(), scratch);
        self.linear_add(scratch, w, bias.map(Vec::as_slice), floats_mut(y));
        Ok(())
    }

    fn linear_gated(
        &self,
        x: &Activations,
        w: &PackedMatrix,
        bias: Option<&Vec<f32>>,
        out: &mut Activations,
    ) -> Result {
        self.linear_gated(x, w, bias.map(Vec::as_slice), out);
        Ok(())
    }

    fn slab(
        &self,
        x: &Activations,
        w: Slab<'_, PackedMatrix>,
        bias: Option<&Vec<f32>>,
        y: PartMut<'_, Aligned<f32>>,
        stride: usize,
    ) -> Result {
        self.slab(x, &w, bias.map(Vec::as_slice), floats_mut(y), stride);
        Ok(())
    }

    fn slab_sums(
        &self,
        x: &Activations,
        w: Slab<'_, PackedMatrix>,
        bias: Option<&Vec<f32>>,
        y: PartMut<'_, Aligned<f32>>,
        stride: usize,
    ) -> Result {
        self.slab(x, &w, bias.map(Vec::as_slice), floats_mut(y), stride);
        Ok(())
    }

    fn slab_sums_rows(
        &self,
        x: Part<'_, Aligned<f32>>,
        scratch: &mut Activations,
        w: Slab<'_, PackedMatrix>,
        bias: Option<&Vec<f32>>,
        y: PartMut<'_, Aligned<f32>>,
    ) -> Result {
        self.take_columns(floats(x), w.of.inputs(), w.inputs.clone(), scratch);
        let outputs = w.outputs.len();
        self.slab(scratch, &w, bias.map(Vec::as_slice), floats_mut(y), outputs);
        Ok(())
    }

    fn slab_gated(
        &self,
        x: &Activations,
        w: Slab<'_, PackedMatrix>,
        bias: Option<&Vec<f32>>,
        out: &mut Activations,
    ) -> Result {
        self.slab_gated(x, &w, bias.map(Vec::as_slice), out);
        Ok(())
    }

    fn add_rows(
        &self,
        rows: Part<'_, Aligned<f32>>,
        sums: PartMut<'_, Aligned<f32>>,
        first: bool,
    ) -> Result {
        let sums = floats_mut(sums);
        if first {
            sums.fill(0.0);
        }
        for row in floats(rows).chunks_exact(sums.len().max(1)) {
            (self.kernels.add_scaled)(sums, 1.0, row);
        }
        Ok(())
    }
}
