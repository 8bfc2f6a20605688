//! Weights, packed once at load into the order in which the kernels read them.

#![allow(unsafe_code)]

use super::super::Cpu;
use super::super::kernels::tiles::{BLOCK, PANEL_STEP, STEP, STRIP, TILE};
use super::super::shared::SharedMut;
use crate::{Aligned, ElementsView};
use bytemuck::Pod;
use half::bf16;

/// One or several weight matrices `[outputs_i, inputs]`, cut into panels of adjacent outputs.
///
/// Stacked matrices follow one another. Paired matrices, of equal shape, alternate panel by panel:
/// the gate and the up projection of an MLP, whose outputs are needed together.
#[derive(Debug)]
pub struct PackedMatrix {
    outputs: usize,
    inputs: usize,
    /// Outputs of one panel.
    pub(super) panel: usize,
    /// Number of panels.
    pub(super) panels: usize,
    pub(super) paired: bool,
    pub(super) layout: Layout,
}

/// How the elements of a panel are ordered; what is missing of a panel is zero.
#[derive(Debug)]
pub(super) enum Layout {
    /// `[panels, inputs, panel]`
    F32(Aligned<f32>),
    /// `[panels, inputs, panel]`
    Bf16(Aligned<bf16>),
    /// `[panels, depth, 2, 16, 16, 2]`: see `kernels::tiles`
    Tiles(Aligned<bf16>),
}

impl PackedMatrix {
    /// Number of outputs: of all stacked matrices, or of one of a pair.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Number of inputs.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Bytes of the packed weights.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.layout {
            Layout::F32(data) => 4 * data.len(),
            Layout::Bf16(data) | Layout::Tiles(data) => 2 * data.len(),
        }
    }

    /// Panels that are finished together: one, or the two of a pair.
    pub(super) fn per_unit(&self) -> usize {
        if self.paired { 2 } else { 1 }
    }

    /// Number of panels, or of pairs of panels.
    pub(super) fn units(&self) -> usize {
        self.panels / self.per_unit()
    }

    /// Steps of 32 inputs (tiles).
    pub(super) fn depth(&self) -> usize {
        self.inputs.div_ceil(STEP)
    }

    /// Panel `p`, whatever its layout.
    pub(super) fn panel_view(&self, p: usize) -> ElementsView<'_> {
        match &self.layout {
            Layout::F32(data) => {
                let size = data.len() / self.panels;
                ElementsView::F32(&data[p * size..][..size])
            }
            Layout::Bf16(data) | Layout::Tiles(data) => {
                let size = data.len() / self.panels;
                ElementsView::Bf16(&data[p * size..][..size])
            }
        }
    }
}

/// The rows of a matrix, `[outputs, inputs]`, of several parts in the order of their panels.
struct Source<'a, T> {
    parts: Vec<&'a [T]>,
    inputs: usize,
    panel: usize,
    paired: bool,
}

impl<'a, T> Source<'a, T> {
    fn outputs(&self) -> usize {
        let outputs = |part: &&[T]| part.len() / self.inputs;
        match self.paired {
            true => self.parts.first().map_or(0, outputs),
            false => self.parts.iter().map(outputs).sum(),
        }
    }

    fn panels(&self) -> usize {
        self.outputs().div_ceil(self.panel) * if self.paired { self.parts.len() } else { 1 }
    }

    /// The row that column `column` of panel `p` holds, if there is one.
    fn row(&self, p: usize, column: usize) -> Option<&'a [T]> {
        let (mut part, mut row) = (0, p * self.panel + column);
        if self.paired {
            part = p % self.parts.len();
            row = p / self.parts.len() * self.panel + column;
        } else {
            while part < self.parts.len() && row >= self.parts[part].len() / self.inputs {
                row -= self.parts[part].len() / self.inputs;
                part += 1;
            }
        }
        self.parts.get(part)?.chunks_exact(self.inputs).nth(row)
    }
}

/// Writes panels `[panels, inputs, panel]`.
fn in_panels<T: Pod + Send + Sync>(cpu: &Cpu, source: &Source<'_, T>) -> Aligned<T> {
    let (inputs, panel) = (source.inputs, source.panel);
    let mut data = Aligned::zeros(source.panels() * inputs * panel);
    let shared = SharedMut::new(&mut data);
    cpu.for_each(source.panels(), |p| {
        // SAFETY: task p writes panel p only.
        let out = unsafe { shared.slice(p * inputs * panel, inputs * panel) };
        for column in 0..panel {
            for (i, value) in source.row(p, column).into_iter().flatten().enumerate() {
                out[i * panel + column] = *value;
            }
        }
    });
    data
}

/// Writes panels `[panels, depth, 2, 16, 16, 2]`.
fn in_tiles(cpu: &Cpu, source: &Source<'_, bf16>) -> Aligned<bf16> {
    let size = source.inputs.div_ceil(STEP) * PANEL_STEP;
    let mut data = Aligned::zeros(source.panels() * size);
    let shared = SharedMut::new(&mut data);
    cpu.for_each(source.panels(), |p| {
        // SAFETY: task p writes panel p only.
        let out = unsafe { shared.slice(p * size, size) };
        for column in 0..BLOCK {
            let Some(row) = source.row(p, column) else { break };
            let out = &mut out[column / STRIP * TILE + column % STRIP * 2..];
            for (pair, values) in row.chunks(2).enumerate() {
                let at = pair / STRIP * PANEL_STEP + pair % STRIP * STEP;
                out[at..][..values.len()].copy_from_slice(values);
            }
        }
    });
    data
}

impl Cpu {
    fn packed<T>(&self, source: &Source<'_, T>, layout: Layout) -> PackedMatrix {
        let (outputs, panels) = (source.outputs(), source.panels());
        let Source { inputs, panel, paired, .. } = *source;
        let alike = source.parts.iter().all(|part| part.len() == outputs * inputs);
        assert!(!paired || alike, "gate and up of different shapes");
        PackedMatrix { outputs, inputs, panel, panels, paired, layout }
    }

    pub(in crate::cpu) fn pack_bf16_parts(
        &self,
        parts: &[&[bf16]],
        inputs: usize,
        paired: bool,
    ) -> PackedMatrix {
        let tiled = self.kernels.tiles.is_some();
        let panel = if tiled { BLOCK } else { self.kernels.panel };
        let source = Source { parts: parts.to_vec(), inputs, panel, paired };
        let layout = match tiled {
            true => Layout::Tiles(in_tiles(self, &source)),
            false => Layout::Bf16(in_panels(self, &source)),
        };
        self.packed(&source, layout)
    }

    pub(in crate::cpu) fn pack_f32_parts(
        &self,
        parts: &[&[f32]],
        inputs: usize,
        paired: bool,
    ) -> PackedMatrix {
        let source = Source { parts: parts.to_vec(), inputs, panel: self.kernels.panel, paired };
        let layout = Layout::F32(in_panels(self, &source));
        self.packed(&source, layout)
    }

    /// Packs bf16 matrices `[outputs_i, inputs]`, stacked along the outputs.
    #[must_use]
    pub fn pack_bf16(&self, parts: &[&[bf16]], inputs: usize) -> PackedMatrix {
        self.pack_bf16_parts(parts, inputs, false)
    }

    /// Packs f32 matrices `[outputs_i, inputs]`, stacked along the outputs.
    #[must_use]
    pub fn pack_f32(&self, parts: &[&[f32]], inputs: usize) -> PackedMatrix {
        self.pack_f32_parts(parts, inputs, false)
    }
}
