//! Everything of a decoder layer that is neither a matrix product nor attention, row by row.

#![allow(unsafe_code)]

use super::kv::int8_bytes;
use super::shared::SharedMut;
use super::{Cpu, Kv, Scratch};
use crate::{Elements, HeadShape};

/// Rows per task: a few microseconds of work, and one strip of [`Activations`](super::Activations).
const ROWS: usize = 16;

/// Queries, keys and values of some tokens, apart.
pub struct SplitQkv<'a> {
    /// `[tokens, heads, head_dim]`
    pub q: &'a mut [f32],
    /// `[tokens, kv_heads, head_dim]`
    pub k: &'a mut [f32],
    /// `[tokens, kv_heads, head_dim]`
    pub v: &'a mut [f32],
}

/// What happens to queries and keys between projection and attention.
#[derive(Clone, Copy)]
pub struct Rotation<'a> {
    /// Weights of the norms of each head of q and of k, `[head_dim]` (Qwen3), and their epsilon.
    pub norms: Option<(&'a [f32], &'a [f32], f32)>,
    /// `[tokens, head_dim]`: cosines of the angles of a token's pairs, then their sines
    pub angles: &'a [f32],
}

impl Cpu {
    /// Calls `fill(r, row)` for every row of `out [rows, width]`.
    pub fn fill_rows(
        &self,
        out: &mut [f32],
        width: usize,
        fill: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let rows = out.len() / width;
        let shared = SharedMut::new(out);
        self.each_row(rows, |_, r| {
            // SAFETY: row r is written by this call only.
            fill(r, unsafe { shared.slice(r * width, width) });
        });
    }

    /// `out[i] = value(i)`, a task each.
    pub(super) fn fill_each<T: Send>(&self, out: &mut [T], value: impl Fn(usize) -> T + Sync) {
        let len = out.len();
        let shared = SharedMut::new(out);
        self.for_each(len, |i| {
            // SAFETY: element i is written by this task only.
            unsafe { shared.slice(i, 1)[0] = value(i) };
        });
    }

    /// Fills `out [tokens, head_dim]` with the cosines, then the sines, of all pairs of each
    /// position. The angle is a product in f32, its sine that of the rounded product.
    pub fn fill_angles(&self, frequencies: &[f32], positions: &[u32], out: &mut [f32]) {
        let pairs = frequencies.len();
        self.fill_rows(out, 2 * pairs, |t, row| {
            let (cosines, sines) = row.split_at_mut(pairs);
            for ((cosine, sine), frequency) in cosines.iter_mut().zip(sines).zip(frequencies) {
                let (s, c) = f64::from(positions[t] as f32 * frequency).sin_cos();
                (*cosine, *sine) = (c as f32, s as f32);
            }
        });
    }

    /// Appends `source`, in 8 bits whole heads, rounded to the precision of `kv`.
    pub fn append(&self, kv: &mut Kv, source: &[f32]) {
        /// Elements per task.
        const PART: usize = 8 * 1024;
        match kv {
            Kv::Floats(Elements::F32(all)) => all.extend_from_slice(source),
            Kv::Floats(Elements::Bf16(all)) => {
                let start = all.len();
                all.resize(start + source.len());
                let out = SharedMut::new(&mut all[start..]);
                self.for_each(source.len().div_ceil(PART), |task| {
                    let part = source.chunks(PART).nth(task).unwrap_or_default();
                    // SAFETY: this task alone writes its part.
                    (self.kernels.narrow)(part, unsafe { out.slice(task * PART, part.len()) });
                });
            }
            Kv::Int8(all) => {
                let dim = all.head_dim();
                assert!(source.len().is_multiple_of(dim), "{} elements of heads", source.len());
                let heads = (PART / dim).max(1);
                let out = SharedMut::new(all.grow(source.len() / dim));
                self.for_each(source.len().div_ceil(heads * dim), |task| {
                    let part = source.chunks(heads * dim).nth(task).unwrap_or_default();
                    let (start, len) = (task * heads, part.len() / dim);
                    let bytes = int8_bytes(dim);
                    // SAFETY: this task alone writes its heads.
                    let out = unsafe { out.slice(start * bytes, len * bytes) };
                    (self.kernels.encode_int8)(part, dim, out);
                });
            }
        }
    }

    /// Takes the rows of `qkv [tokens, (heads + 2 kv_heads) * head_dim]` apart, normalises the
    /// heads of q and k if the model does, and rotates them by the angles of their token.
    pub fn split_and_rotate(
        &self,
        qkv: &[f32],
        shape: HeadShape,
        rotation: Rotation<'_>,
        out: SplitQkv<'_>,
    ) {
        let (q_width, kv_width) = (shape.q_width(), shape.kv_width());
        let (dim, half) = (shape.head_dim, shape.head_dim / 2);
        let tokens = qkv.len() / (q_width + 2 * kv_width);
        let Rotation { norms, angles } = rotation;
        let (q, k, v) = (SharedMut::new(out.q), SharedMut::new(out.k), SharedMut::new(out.v));
        self.each_row(tokens, |_, t| {
            let row = &qkv[t * (q_width + 2 * kv_width)..][..q_width + 2 * kv_width];
            let (cos, sin) = angles[t * dim..][..dim].split_at(half);
            let heads = |from: &[f32], to: &mut [f32], norm: Option<&[f32]>, eps: f32| {
                for (from, to) in from.chunks_exact(dim).zip(to.chunks_exact_mut(dim)) {
                    match norm {
                        Some(weight) => (self.kernels.rms_norm)(from, weight, eps, to),
                        None => to.copy_from_slice(from),
                    }
                    (self.kernels.rotate)(to, cos, sin);
                }
            };
            let eps = norms.map_or(0.0, |(_, _, eps)| eps);
            // SAFETY: the heads of token t are written by this call only.
            let q = unsafe { q.slice(t * q_width, q_width) };
            heads(&row[..q_width], q, norms.map(|(q, _, _)| q), eps);
            // SAFETY: as above.
            let k = unsafe { k.slice(t * kv_width, kv_width) };
            heads(&row[q_width..q_width + kv_width], k, norms.map(|(_, k, _)| k), eps);
            // SAFETY: as above.
            let v = unsafe { v.slice(t * kv_width, kv_width) };
            v.copy_from_slice(&row[q_width + kv_width..]);
        });
    }

    /// Calls `f` for every row, [`ROWS`] rows per task.
    pub(super) fn each_row(&self, rows: usize, f: impl Fn(&mut Scratch, usize) + Sync) {
        self.for_each_with(rows.div_ceil(ROWS), |scratch, task| {
            (task * ROWS..((task + 1) * ROWS).min(rows)).for_each(|r| f(scratch, r));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_independent_of_the_number_of_threads() {
        // 40 tokens with 2 query heads, one key head and one value head of 6 elements.
        let shape = HeadShape { heads: 2, kv_heads: 1, head_dim: 6 };
        let x: Vec<f32> = (0..40 * 24).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        let weight: Vec<f32> = (0..24).map(|i| 1.0 + i as f32 / 24.0).collect();
        let mut angles = vec![f32::NAN; 40 * 6];
        let mut run = |threads, norms| {
            let cpu = Cpu::new(threads, None).unwrap();
            cpu.fill_angles(&[0.0, 1.0, 2.0], &(0..40).collect::<Vec<_>>(), &mut angles);
            assert_eq!(
                angles[5 * 6..6 * 6],
                [1.0, 5f32.cos(), 10f32.cos(), 0.0, 5f32.sin(), 10f32.sin()]
            );
            let (mut q, mut k, mut v) =
                (vec![f32::NAN; 40 * 12], vec![f32::NAN; 40 * 6], vec![f32::NAN; 40 * 6]);
            let rotation = Rotation { norms, angles: &angles };
            let out = SplitQkv { q: &mut q, k: &mut k, v: &mut v };
            cpu.split_and_rotate(&x, shape, rotation, out);
            (q, k, v)
        };
        for norms in [None, Some((&weight[..6], &weight[6..12], 1e-6))] {
            let (q, k, v) = run(1, norms);
            assert!(q.iter().chain(&k).all(|x| x.is_finite()));
            assert_eq!((q.clone(), k.clone(), v.clone()), run(3, norms));
            for t in 0..40 {
                let row = &x[t * 24..][..24];
                assert_eq!(&v[t * 6..][..6], &row[18..]);
                // A rotation keeps the length of every pair; a norm makes it that of its weights.
                let length = |x: &[f32]| (x[0] * x[0] + x[3] * x[3]).sqrt();
                if norms.is_none() {
                    assert!((length(&q[t * 12 + 6..]) - length(&row[6..])).abs() < 1e-5);
                    assert!((length(&k[t * 6..]) - length(&row[12..])).abs() < 1e-5);
                }
            }
        }
    }
}
