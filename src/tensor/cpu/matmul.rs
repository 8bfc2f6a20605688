//! Linear layers: `y = x · Wᵀ`, over weights packed once at load into the order the tiles read.

#![allow(unsafe_code)]

use super::Cpu;
use super::shared::SharedMut;
use crate::tensor::{Elements, ElementsView, Precision};
use half::bf16;

/// Rows of `x` that one task takes: they stay in the second-level cache while panels pass by.
const ROWS: usize = 96;

/// Depth of one pass: an unpacked panel of this depth stays in the first-level cache.
const DEPTH: usize = 256;

/// At most this many rows are multiplied one by one, reading the packed weights directly: below it
/// a panel is used too seldom to be worth unpacking.
const FEW_ROWS: usize = 3;

/// One or several weight matrices `[outputs, inputs]` stacked along the outputs, cut into panels of
/// adjacent outputs: `[panels, inputs, panel]`, the last panel filled up with zeros.
#[derive(Debug)]
pub struct PackedMatrix {
    outputs: usize,
    inputs: usize,
    panel: usize,
    data: Elements,
}

impl PackedMatrix {
    /// Number of outputs (columns of `y`).
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Number of inputs (columns of `x`).
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Bytes of the packed weights.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.data.bytes()
    }

    /// Elements of one panel.
    fn panel_view(&self, p: usize) -> ElementsView<'_> {
        let size = self.inputs * self.panel;
        self.data.view(p * size..(p + 1) * size)
    }

    fn panels(&self) -> usize {
        self.outputs.div_ceil(self.panel)
    }
}

/// Writes rows `[outputs, inputs]` as panels `[panels, inputs, panel]`.
fn pack_panels<T: Copy + Send + Sync>(
    cpu: &Cpu,
    parts: &[&[T]],
    inputs: usize,
    panel: usize,
    zero: T,
) -> Vec<T> {
    let rows: Vec<&[T]> = parts.iter().flat_map(|part| part.chunks_exact(inputs)).collect();
    let panels = rows.len().div_ceil(panel);
    let mut data = vec![zero; panels * inputs * panel];
    let shared = SharedMut::new(&mut data);
    cpu.for_each(panels, |p| {
        // SAFETY: task p writes panel p only.
        let out = unsafe { shared.slice(p * inputs * panel, inputs * panel) };
        for (j, row) in rows[p * panel..].iter().take(panel).enumerate() {
            for (i, value) in row.iter().enumerate() {
                out[i * panel + j] = *value;
            }
        }
    });
    data
}

/// What happens to `y` besides the product.
#[derive(Clone, Copy)]
enum Epilogue<'a> {
    Store(Option<&'a [f32]>),
    Add(Option<&'a [f32]>),
}

impl Cpu {
    /// Packs bf16 matrices `[outputs_i, inputs]`, stacked along the outputs.
    #[must_use]
    pub fn pack_bf16(&self, parts: &[&[bf16]], inputs: usize) -> PackedMatrix {
        let panel = self.kernels.panel;
        PackedMatrix {
            outputs: parts.iter().map(|p| p.len() / inputs).sum(),
            inputs,
            panel,
            data: Elements::Bf16(pack_panels(self, parts, inputs, panel, bf16::ZERO)),
        }
    }

    /// Packs f32 matrices `[outputs_i, inputs]`, stacked along the outputs.
    #[must_use]
    pub fn pack_f32(&self, parts: &[&[f32]], inputs: usize) -> PackedMatrix {
        let panel = self.kernels.panel;
        PackedMatrix {
            outputs: parts.iter().map(|p| p.len() / inputs).sum(),
            inputs,
            panel,
            data: Elements::F32(pack_panels(self, parts, inputs, panel, 0.0)),
        }
    }

    /// `y = x · Wᵀ (+ bias)`. `x` is `[rows, inputs]`, `y` is `[rows, outputs]`, bias `[outputs]`.
    pub fn linear(&self, x: &[f32], w: &PackedMatrix, bias: Option<&[f32]>, y: &mut [f32]) {
        self.product(x, w, Epilogue::Store(bias), y);
    }

    /// `y += x · Wᵀ (+ bias)`: a linear layer that ends in the residual stream.
    pub fn linear_add(&self, x: &[f32], w: &PackedMatrix, bias: Option<&[f32]>, y: &mut [f32]) {
        self.product(x, w, Epilogue::Add(bias), y);
    }

    fn product(&self, x: &[f32], w: &PackedMatrix, epilogue: Epilogue<'_>, y: &mut [f32]) {
        let rows = x.len() / w.inputs;
        assert_eq!(x.len(), rows * w.inputs, "x is not [rows, {}]", w.inputs);
        assert_eq!(y.len(), rows * w.outputs, "y is not [{rows}, {}]", w.outputs);
        assert_eq!(w.panel, self.kernels.panel, "weights packed for another instruction set");
        if rows <= FEW_ROWS {
            self.product_few(x, w, epilogue, y);
        } else {
            self.product_tiled(x, w, rows, epilogue, y);
        }
    }

    /// A few rows: the weights are streamed once per row.
    fn product_few(&self, x: &[f32], w: &PackedMatrix, epilogue: Epilogue<'_>, y: &mut [f32]) {
        // Enough panels per task that a task is worth handing to another thread.
        let group = (32 * 1024 / (w.inputs * w.panel)).max(1);
        let shared = SharedMut::new(y);
        self.for_each(w.panels().div_ceil(group), |task| {
            let mut sums = [0.0f32; 64];
            let sums = &mut sums[..w.panel];
            for p in task * group..((task + 1) * group).min(w.panels()) {
                let width = w.panel.min(w.outputs - p * w.panel);
                for (r, x_row) in x.chunks_exact(w.inputs).enumerate() {
                    match w.panel_view(p) {
                        ElementsView::F32(b) => (self.kernels.row_f32)(x_row, b, sums),
                        ElementsView::Bf16(b) => (self.kernels.row_bf16)(x_row, b, sums),
                    }
                    // SAFETY: task writes the columns of its own panels only.
                    let out = unsafe { shared.slice(r * w.outputs + p * w.panel, width) };
                    finish(out, &sums[..width], epilogue, p * w.panel);
                }
            }
        });
    }

    /// Many rows: a task unpacks each of its panels once and multiplies a block of rows by it.
    fn product_tiled(
        &self,
        x: &[f32],
        w: &PackedMatrix,
        rows: usize,
        epilogue: Epilogue<'_>,
        y: &mut [f32],
    ) {
        let panel = w.panel;
        let row_blocks = rows.div_ceil(ROWS);
        // A few tasks per thread, so that all threads end together.
        let groups = (4 * self.threads()).div_ceil(row_blocks).clamp(1, w.panels());
        let shared = SharedMut::new(y);
        let scratch = || (vec![0.0f32; DEPTH * panel], vec![0.0f32; ROWS * panel]);
        self.for_each_with(row_blocks * groups, scratch, |(unpacked, sums), task| {
            let (block, group) = (task / groups, task % groups);
            let first = block * ROWS;
            let count = ROWS.min(rows - first);
            let panels = group * w.panels() / groups..(group + 1) * w.panels() / groups;
            for p in panels {
                let width = panel.min(w.outputs - p * panel);
                for depth in (0..w.inputs).step_by(DEPTH) {
                    let k = DEPTH.min(w.inputs - depth);
                    let part = w.panel_view(p).slice(depth * panel..(depth + k) * panel);
                    let b = match part {
                        ElementsView::F32(b) => b,
                        ElementsView::Bf16(b) => {
                            (self.kernels.widen)(b, &mut unpacked[..k * panel]);
                            &unpacked[..k * panel]
                        }
                    };
                    let a = &x[first * w.inputs + depth..];
                    (self.kernels.multiply)(a, w.inputs, count, k, b, sums, panel, depth > 0);
                }
                for (r, sums) in sums.chunks_exact(panel).take(count).enumerate() {
                    let start = (first + r) * w.outputs + p * panel;
                    // SAFETY: task writes its own rows and panels only.
                    let out = unsafe { shared.slice(start, width) };
                    finish(out, &sums[..width], epilogue, p * panel);
                }
            }
        });
    }

    /// The precision-generic entry used at load: packs row-major f32 rows in `precision`.
    #[must_use]
    pub fn pack(&self, precision: Precision, rows: &[f32], inputs: usize) -> PackedMatrix {
        match Elements::from_f32(precision, rows) {
            Elements::F32(rows) => self.pack_f32(&[&rows], inputs),
            Elements::Bf16(rows) => self.pack_bf16(&[&rows], inputs),
        }
    }
}

/// Writes one row of one panel; `column` is its first output.
fn finish(out: &mut [f32], sums: &[f32], epilogue: Epilogue<'_>, column: usize) {
    match epilogue {
        Epilogue::Store(None) => out.copy_from_slice(sums),
        Epilogue::Store(Some(bias)) => {
            for ((o, s), b) in out.iter_mut().zip(sums).zip(&bias[column..]) {
                *o = s + b;
            }
        }
        Epilogue::Add(None) => {
            for (o, s) in out.iter_mut().zip(sums) {
                *o += s;
            }
        }
        Epilogue::Add(Some(bias)) => {
            for ((o, s), b) in out.iter_mut().zip(sums).zip(&bias[column..]) {
                *o += s + b;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Isa;
    use proptest::prelude::*;

    /// The definition, one output at a time.
    fn naive(x: &[f32], w: &[f32], inputs: usize) -> Vec<f32> {
        x.chunks(inputs)
            .flat_map(|x| {
                w.chunks(inputs).map(move |w| {
                    x.iter().zip(w).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
                })
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn linear_matches_the_definition(
            rows in prop_oneof![1usize..6, 90usize..200], inputs in 1usize..300,
            outputs in 1usize..70, seed in any::<u64>(), bf16 in any::<bool>()
        ) {
            let mut state = seed | 1;
            let mut next = || { state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0 };
            let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
            let x: Vec<f32> = (0..rows * inputs).map(|_| next()).collect();
            // Weights that bf16 represents exactly, so that both precisions give the same product.
            let w: Vec<f32> = (0..outputs * inputs)
                .map(|_| bf16::from_f32(next()).to_f32()).collect();
            let bias: Vec<f32> = (0..outputs).map(|_| next()).collect();
            let product = naive(&x, &w, inputs);
            let scale = product.iter().fold(1.0f32, |m, v| m.max(v.abs()));
            for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
                let cpu = Cpu::new(2, Some(isa)).unwrap();
                let packed = cpu.pack(precision, &w, inputs);
                let mut y = vec![f32::NAN; rows * outputs];
                cpu.linear(&x, &packed, Some(&bias), &mut y);
                for (i, (y, e)) in y.iter().zip(&product).enumerate() {
                    prop_assert!((y - e - bias[i % outputs]).abs() < 1e-5 * scale, "{isa} {i}");
                }
                let mut y = vec![1.0; rows * outputs];
                cpu.linear_add(&x, &packed, None, &mut y);
                cpu.linear_add(&x, &packed, Some(&bias), &mut y);
                for (i, (y, e)) in y.iter().zip(&product).enumerate() {
                    prop_assert!((y - 2.0 * e - bias[i % outputs] - 1.0).abs() < 1e-5 * scale, "{isa} add");
                }
            }
        }
    }
}
