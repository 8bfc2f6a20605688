//! Everything of a decoder layer that is neither a matrix product nor attention, row by row.

#![allow(unsafe_code)]

use super::Cpu;
use super::shared::SharedMut;

/// Rows per task: a few microseconds of work.
const ROWS: usize = 16;

impl Cpu {
    /// `out[r] = x[r] / rms(x[r]) * weight` for every row of `width = weight.len()`.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        let width = weight.len();
        let shared = SharedMut::new(&mut out[..x.len()]);
        self.rows(x.len() / width, |r| {
            // SAFETY: row r is written by this call only.
            let out = unsafe { shared.slice(r * width, width) };
            (self.kernels.rms_norm)(&x[r * width..][..width], weight, eps, out);
        });
    }

    /// Normalises every head of `width = weight.len()` in place (the q and k norms of Qwen3).
    pub fn rms_norm_in_place(&self, x: &mut [f32], weight: &[f32], eps: f32) {
        let width = weight.len();
        let rows = x.len() / width;
        let shared = SharedMut::new(x);
        self.rows(rows, |r| {
            // SAFETY: row r is touched by this call only.
            let row = unsafe { shared.slice(r * width, width) };
            let copy = row.to_vec();
            (self.kernels.rms_norm)(&copy, weight, eps, row);
        });
    }

    /// `out[r] = silu(gate) * up`, where row r of `x` is `[gate (width) | up (width)]`.
    pub fn swiglu(&self, x: &[f32], width: usize, out: &mut [f32]) {
        let rows = x.len() / (2 * width);
        let shared = SharedMut::new(&mut out[..rows * width]);
        self.rows(rows, |r| {
            // SAFETY: row r is written by this call only.
            let out = unsafe { shared.slice(r * width, width) };
            let (gate, up) = x[r * 2 * width..][..2 * width].split_at(width);
            out.copy_from_slice(gate);
            (self.kernels.silu_mul)(out, up);
        });
    }

    /// Rotates every head of `x [tokens, heads, head_dim]` by the angles of its token.
    /// `cos` and `sin` are `[tokens, head_dim / 2]`.
    pub fn rotate(&self, x: &mut [f32], heads: usize, head_dim: usize, cos: &[f32], sin: &[f32]) {
        let half = head_dim / 2;
        let tokens = x.len() / (heads * head_dim);
        let shared = SharedMut::new(x);
        self.rows(tokens, |t| {
            // SAFETY: the heads of token t are touched by this call only.
            let row = unsafe { shared.slice(t * heads * head_dim, heads * head_dim) };
            for head in row.chunks_exact_mut(head_dim) {
                (self.kernels.rotate)(head, &cos[t * half..][..half], &sin[t * half..][..half]);
            }
        });
    }

    fn rows(&self, rows: usize, f: impl Fn(usize) + Sync) {
        self.for_each(rows.div_ceil(ROWS), |task| {
            (task * ROWS..((task + 1) * ROWS).min(rows)).for_each(&f);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_independent_of_the_number_of_threads() {
        let x: Vec<f32> = (0..40 * 24).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        let weight: Vec<f32> = (0..24).map(|i| 1.0 + i as f32 / 24.0).collect();
        let run = |threads| {
            let cpu = Cpu::new(threads, None).unwrap();
            let mut norm = vec![f32::NAN; x.len()];
            cpu.rms_norm(&x, &weight, 1e-5, &mut norm);
            let mut in_place = x.clone();
            cpu.rms_norm_in_place(&mut in_place, &weight, 1e-5);
            assert_eq!(norm, in_place);
            let mut mlp = vec![f32::NAN; x.len() / 2];
            cpu.swiglu(&x, 12, &mut mlp);
            let angles: Vec<f32> = (0..40 * 4).map(|i| i as f32).collect();
            let (cos, sin): (Vec<f32>, Vec<f32>) =
                angles.iter().map(|a| (a.cos(), a.sin())).unzip();
            cpu.rotate(&mut norm, 3, 8, &cos, &sin);
            (norm, mlp)
        };
        let one = run(1);
        assert!(one.0.iter().chain(&one.1).all(|v| v.is_finite()));
        assert_eq!(one, run(3));
    }
}
