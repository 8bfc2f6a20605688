//! What the queries and keys of a text are like: what scores of keys are made of.

use super::Cpu;
use crate::HeadShape;

/// Tokens of one product of queries with each other.
const TOKENS: usize = 128;

/// Keys of one product with a covariance.
const KEYS: usize = 64;

/// `rows [count, width]` as panels of `panel` columns, `[width / panel, count, panel]`, with zeros
/// behind the last column.
fn panels(rows: &[f32], width: usize, panel: usize) -> Vec<f32> {
    let count = rows.len() / width.max(1);
    let mut panels = vec![0.0; width.div_ceil(panel) * count * panel];
    for (r, row) in rows.chunks_exact(width).enumerate() {
        for (p, part) in row.chunks(panel).enumerate() {
            panels[(p * count + r) * panel..][..part.len()].copy_from_slice(part);
        }
    }
    panels
}

/// `row [2 half]` of a token as it was before it was rotated by `angles [2 half]`, the cosines of
/// its pairs and then their sines: element `i` is paired with element `i + half`.
fn unrotate(row: &mut [f32], angles: &[f32]) {
    let half = row.len() / 2;
    let ((low, high), (cosines, sines)) = (row.split_at_mut(half), angles.split_at(half));
    for ((a, b), (cos, sin)) in low.iter_mut().zip(high).zip(cosines.iter().zip(sines)) {
        (*a, *b) = (cos * *a + sin * *b, cos * *b - sin * *a);
    }
}

impl Cpu {
    /// What `task` gives for each of `heads`, one after the other.
    fn of_heads(&self, heads: usize, task: impl Fn(usize) -> Vec<f32> + Sync) -> Vec<f32> {
        let mut all = vec![Vec::new(); heads];
        self.fill_each(&mut all, task);
        all.concat()
    }

    /// See [`moments`](crate::Statistics::moments), of `q [tokens, heads, head_dim]`.
    pub(super) fn moments_of(
        &self,
        q: &[f32],
        shape: HeadShape,
        start: usize,
        frequencies: &[f32],
    ) -> Vec<f32> {
        let (dim, width, panel) = (shape.head_dim, shape.q_width(), self.kernels.panel);
        let columns = dim.next_multiple_of(panel);
        let tokens = q.len() / width;
        let positions: Vec<u32> = (start..start + tokens).map(|at| at as u32).collect();
        let mut angles = vec![0.0; tokens * dim]; // of all heads alike
        self.fill_angles(frequencies, &positions, &mut angles);
        self.of_heads(shape.heads, |head| {
            let mut sums = vec![0.0; dim];
            let mut products = vec![0.0; dim * columns];
            for (some, angles) in q.chunks(TOKENS * width).zip(angles.chunks(TOKENS * dim)) {
                let count = some.len() / width;
                let mut rows = Vec::with_capacity(count * dim); // [count, dim]
                for (token, angles) in some.chunks_exact(width).zip(angles.chunks_exact(dim)) {
                    let at = rows.len();
                    rows.extend_from_slice(&token[head * dim..][..dim]);
                    unrotate(&mut rows[at..], angles);
                }
                let mut transposed = vec![0.0; dim * count]; // [dim, count]
                let mut sum = vec![0.0; dim];
                for (t, row) in rows.chunks_exact(dim).enumerate() {
                    for (d, x) in row.iter().enumerate() {
                        transposed[d * count + t] = *x;
                        sum[d] += x;
                    }
                }
                (self.kernels.add_scaled)(&mut sums, 1.0, &sum);
                for (p, b) in panels(&rows, dim, panel).chunks_exact(count * panel).enumerate() {
                    let to = &mut products[p * panel..];
                    (self.kernels.multiply)(&transposed, count, dim, count, b, to, columns, true);
                }
            }
            sums.extend(products.chunks_exact(columns).flat_map(|row| &row[..dim]));
            sums
        })
    }

    /// See [`expected_scores`](crate::Statistics::expected_scores), of `keys [tokens, kv_heads,
    /// head_dim]`.
    pub(super) fn expected_of(&self, keys: &[f32], shape: HeadShape, queries: &[f32]) -> Vec<f32> {
        let (dim, width, panel) = (shape.head_dim, shape.kv_width(), self.kernels.panel);
        let columns = dim.next_multiple_of(panel);
        self.of_heads(shape.heads, |head| {
            let (mean, covariance) =
                queries[head * (dim + 1) * dim..][..(dim + 1) * dim].split_at(dim);
            let covariance = panels(covariance, dim, panel); // it is symmetric
            let offset = head / shape.group() * dim;
            let mut products = vec![0.0; KEYS * columns];
            let mut logits = Vec::with_capacity(keys.len() / width.max(1));
            for some in keys.chunks(KEYS * width) {
                let count = some.len() / width;
                for (p, b) in covariance.chunks_exact(dim * panel).enumerate() {
                    let to = &mut products[p * panel..];
                    (self.kernels.multiply)(
                        &some[offset..],
                        width,
                        count,
                        dim,
                        b,
                        to,
                        columns,
                        false,
                    );
                }
                for (row, product) in some.chunks_exact(width).zip(products.chunks_exact(columns)) {
                    let key = &row[offset..][..dim];
                    let sum = |a: &[f32]| a.iter().zip(key).map(|(a, k)| a * k).sum::<f32>();
                    logits
                        .push(shape.scale() * sum(mean) + sum(&product[..dim]) / (2 * dim) as f32);
                }
            }
            logits
        })
    }

    /// See [`norms`](crate::Statistics::norms), of `vectors [tokens, kv_heads, head_dim]`.
    pub(super) fn norms_of(&self, vectors: &[f32], shape: HeadShape) -> Vec<f32> {
        let (dim, width) = (shape.head_dim, shape.kv_width());
        let norm = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
        self.of_heads(shape.kv_heads, |head| {
            vectors
                .chunks_exact(width)
                .map(|row| norm(&row[head * dim..][..dim]))
                .collect::<Vec<_>>()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::testing::relative_error;

    /// Numbers from -1 to 1.
    fn random(seed: &mut u64, len: usize) -> Vec<f32> {
        let mut next = || {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (*seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    fn check(what: &str, shape: HeadShape, found: &[f32], expected: &[f64]) {
        assert_eq!(found.len(), expected.len(), "{what}");
        let error = relative_error(found.iter().zip(expected).map(|(a, b)| (f64::from(*a), *b)));
        assert!(error < 1e-5, "{what}, {shape:?}: {error}");
    }

    /// The same by its definition, in f64.
    fn naive_moments(q: &[f32], shape: HeadShape, start: usize, frequencies: &[f32]) -> Vec<f64> {
        let (dim, half) = (shape.head_dim, frequencies.len());
        let mut all = vec![0.0; shape.heads * (dim + 1) * dim];
        for (row, rotated) in q.chunks(dim).enumerate() {
            let (token, head) = (row / shape.heads, row % shape.heads);
            let back = |i: usize| {
                let pair = i % half;
                let angle = f64::from((start + token) as f32 * frequencies[pair]);
                let (a, b) = (f64::from(rotated[pair]), f64::from(rotated[pair + half]));
                let (sin, cos) = angle.sin_cos();
                if i < half { cos * a + sin * b } else { cos * b - sin * a }
            };
            let x: Vec<f64> = (0..dim).map(back).collect();
            let to = &mut all[head * (dim + 1) * dim..][..(dim + 1) * dim];
            for j in 0..dim {
                to[j] += x[j];
                (0..dim).for_each(|i| to[(1 + i) * dim + j] += x[i] * x[j]);
            }
        }
        all
    }

    fn naive_logits(keys: &[f32], shape: HeadShape, queries: &[f32]) -> Vec<f64> {
        let dim = shape.head_dim;
        let logit = |head: usize, key: &[f32]| {
            let of = |row: usize, i: usize| f64::from(queries[(head * (dim + 1) + row) * dim + i]);
            let key = &key[head / shape.group() * dim..][..dim];
            let k: Vec<f64> = key.iter().map(|x| f64::from(*x)).collect();
            let linear: f64 = (0..dim).map(|i| of(0, i) * k[i]).sum();
            let row = |i: usize| (0..dim).map(|j| of(1 + i, j) * k[j]).sum::<f64>();
            let square: f64 = (0..dim).map(|i| k[i] * row(i)).sum();
            linear / (dim as f64).sqrt() + square / (2 * dim) as f64
        };
        let of_head = |head| keys.chunks(shape.kv_width()).map(move |key| logit(head, key));
        (0..shape.heads).flat_map(of_head).collect()
    }

    fn naive_norms(vectors: &[f32], shape: HeadShape) -> Vec<f64> {
        let (dim, tokens) = (shape.head_dim, vectors.len() / shape.kv_width());
        let vector = |head: usize, t: usize| &vectors[t * shape.kv_width() + head * dim..][..dim];
        let norm = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let of_head = |head| (0..tokens).map(move |t| norm(vector(head, t)));
        (0..shape.kv_heads).flat_map(of_head).collect()
    }

    #[test]
    fn statistics_are_those_of_the_definition_on_every_instruction_set() {
        let mut seed = 11;
        for cpu in Isa::ALL.into_iter().filter_map(|isa| Cpu::new(2, Some(isa)).ok()) {
            for (heads, kv_heads, dim, tokens) in [(4, 2, 64, 300), (3, 1, 10, 1), (2, 2, 128, 129)]
            {
                let shape = HeadShape { heads, kv_heads, head_dim: dim };
                let q = random(&mut seed, tokens * shape.q_width());
                let keys = random(&mut seed, tokens * shape.kv_width());
                let frequencies: Vec<f32> = (0..dim / 2).map(|i| 0.4f32.powi(i as i32)).collect();
                let moments = cpu.moments_of(&q, shape, 1000, &frequencies);
                check("moments", shape, &moments, &naive_moments(&q, shape, 1000, &frequencies));
                let queries: Vec<f32> = moments.iter().map(|x| x / tokens as f32).collect();
                let logits = cpu.expected_of(&keys, shape, &queries);
                check("logits", shape, &logits, &naive_logits(&keys, shape, &queries));
                check("norms", shape, &cpu.norms_of(&keys, shape), &naive_norms(&keys, shape));
            }
        }
    }
}
