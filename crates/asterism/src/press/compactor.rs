//! Compactor (arXiv 2507.08143): keys that no others stand for, and keys that are looked at.
//!
//! A key's *leverage* is how much it adds to the space that all keys of its head span:
//! `diag(X (XᵀX + λ)⁻¹ Xᵀ)` of the centred keys before they are rotated, in a Gaussian sketch of
//! [`SKETCH`] dimensions. To it comes what a key gets of attention without a causal mask within
//! [`CHUNK`] tokens, times the length of its value. Each is brought to mean 0 and deviation 1 over
//! all heads; leverage counts by the share of keys that is given up.
//!
//! As kvpress 0.5.4 has it, attention is not scaled by `1 / sqrt(head_dim)`. In a text's last
//! chunk, where kvpress counts what it is filled up with, only tokens of the text count here.

use super::each;
use super::expected::softmax;
use super::plain::mixed;
use crate::tensor::{Backend, HeadShape};

/// Tokens that look at each other.
pub const CHUNK: usize = 256;
/// Dimensions of the sketch.
pub const SKETCH: usize = 48;
/// First and last tokens of a text that take no part and are kept.
pub const ENDS: (usize, usize) = (8, 4);
/// λ.
const RIDGE: f64 = 0.01;

/// Attention within chunks of a text whose tokens come in any number of pieces.
#[derive(Debug, Clone)]
pub struct Columns {
    shape: HeadShape,
    /// `[tokens, heads, head_dim]`, those of the chunk that is not complete.
    q: Vec<f32>,
    /// `[tokens, kv_heads, head_dim]`; more than of `q` while only they have come.
    keys: Vec<f32>,
    /// For each complete chunk `[kv_heads, tokens]`.
    done: Vec<Vec<f32>>,
}

impl Columns {
    /// Of a text of which nothing has come.
    #[must_use]
    pub fn new(shape: HeadShape) -> Self {
        Self { shape, q: Vec::new(), keys: Vec::new(), done: Vec::new() }
    }

    /// The keys `[tokens, kv_heads, head_dim]` of the next tokens come.
    pub fn add_keys(&mut self, keys: &[f32]) {
        self.keys.extend_from_slice(keys);
    }

    /// The queries `[tokens, heads, head_dim]` of tokens come whose keys are there.
    pub fn add_queries<B: Backend>(&mut self, backend: &B, q: &[f32]) {
        self.q.extend_from_slice(q);
        let (of_q, of_keys) = (CHUNK * self.shape.q_width(), CHUNK * self.shape.kv_width());
        while self.q.len() >= of_q {
            self.done.push(columns(backend, &self.q[..of_q], &self.keys[..of_keys], self.shape));
            self.q.drain(..of_q);
            self.keys.drain(..of_keys);
        }
    }

    /// What each key gets, `[kv_heads, tokens]`, once all have come.
    pub fn finish<B: Backend>(mut self, backend: &B) -> Vec<f32> {
        if !self.q.is_empty() {
            self.done.push(columns(backend, &self.q, &self.keys, self.shape));
        }
        let kv_heads = self.shape.kv_heads;
        let of = |head: usize| {
            self.done.iter().flat_map(move |chunk| {
                let tokens = chunk.len() / kv_heads;
                chunk[head * tokens..][..tokens].iter().copied()
            })
        };
        (0..kv_heads).flat_map(of).collect()
    }
}

/// Softmax weight, without a mask and without a scale, of each of `keys [tokens, kv_heads,
/// head_dim]`, added up over the queries `q [tokens, heads, head_dim]` and averaged over the query
/// heads of a KV head: `[kv_heads, tokens]`.
#[must_use]
pub fn columns<B: Backend>(backend: &B, q: &[f32], keys: &[f32], shape: HeadShape) -> Vec<f32> {
    let HeadShape { heads, kv_heads, head_dim: dim } = shape;
    let tokens = keys.len() / shape.kv_width().max(1);
    let of_heads = each(backend, heads, |head| {
        // [head_dim, tokens]: scores of a query are sums of rows.
        let mut transposed = vec![0.0f32; dim * tokens];
        for (token, row) in keys.chunks_exact(shape.kv_width()).enumerate() {
            let key = &row[head / shape.group() * dim..][..dim];
            for (i, x) in key.iter().enumerate() {
                transposed[i * tokens + token] = *x;
            }
        }
        let (mut sums, mut scores) = (vec![0.0f32; tokens], vec![0.0f32; tokens]);
        for row in q.chunks_exact(shape.q_width()) {
            scores.fill(0.0);
            for (x, keys) in row[head * dim..][..dim].iter().zip(transposed.chunks_exact(tokens)) {
                scores.iter_mut().zip(keys).for_each(|(score, key)| *score += x * key);
            }
            softmax(&mut scores);
            sums.iter_mut().zip(&scores).for_each(|(sum, weight)| *sum += weight);
        }
        sums
    });
    let mut means = vec![0.0; kv_heads * tokens];
    for (head, sums) in of_heads.iter().enumerate() {
        let mean = &mut means[head / shape.group() * tokens..][..tokens];
        mean.iter_mut().zip(sums).for_each(|(mean, sum)| *mean += sum / shape.group() as f32);
    }
    means
}

/// A sketch `[kv_heads, head_dim, SKETCH]` of normal numbers of variance `1 / SKETCH`, the same for
/// a layer in every run.
#[must_use]
pub fn sketch(layer: usize, kv_heads: usize, head_dim: usize) -> Vec<f32> {
    let deviation = 1.0 / (SKETCH as f64).sqrt();
    let uniform = |at: u64| (mixed(at) >> 11) as f64 / (1u64 << 53) as f64;
    let seed = mixed(0x0c0a ^ ((layer as u64) << 32));
    (0..(kv_heads * head_dim * SKETCH) as u64)
        .map(|i| {
            // Box and Muller.
            let (a, b) = (1.0 - uniform(seed ^ (2 * i)), uniform(seed ^ (2 * i + 1)));
            let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
            (normal * deviation) as f32
        })
        .collect()
}

/// Leverage `[kv_heads, tokens]` of `keys [tokens, kv_heads, head_dim]`, which were not rotated or
/// are turned back, in the sketch `[kv_heads, head_dim, n]`.
#[must_use]
pub fn leverage<B: Backend>(
    backend: &B,
    keys: &[f32],
    shape: HeadShape,
    sketch: &[f32],
) -> Vec<f32> {
    let HeadShape { kv_heads, head_dim: dim, .. } = shape;
    let (width, n) = (shape.kv_width(), sketch.len() / shape.kv_width().max(1));
    let tokens = keys.len() / width.max(1);
    let of_heads = each(backend, kv_heads, |head| {
        let key = |token: usize| &keys[token * width + head * dim..][..dim];
        let mut mean = vec![0.0f64; dim];
        for token in 0..tokens {
            mean.iter_mut().zip(key(token)).for_each(|(mean, x)| *mean += f64::from(*x));
        }
        mean.iter_mut().for_each(|mean| *mean /= tokens.max(1) as f64);
        let sketch = &sketch[head * dim * n..][..dim * n];
        // [tokens, n]
        let mut x = vec![0.0f32; tokens * n];
        for (token, x) in x.chunks_exact_mut(n).enumerate() {
            for ((k, mean), row) in key(token).iter().zip(&mean).zip(sketch.chunks_exact(n)) {
                let centred = (f64::from(*k) - mean) as f32;
                x.iter_mut().zip(row).for_each(|(x, s)| *x += centred * s);
            }
        }
        // [n, n]
        let mut gram = vec![0.0f64; n * n];
        for x in x.chunks_exact(n) {
            for (row, a) in gram.chunks_exact_mut(n).zip(x) {
                row.iter_mut().zip(x).for_each(|(sum, b)| *sum += f64::from(*a) * f64::from(*b));
            }
        }
        (0..n).for_each(|i| gram[i * n + i] += RIDGE);
        let factor = cholesky(gram, n);
        // With G = L Lᵀ, x G⁻¹ x is the squared length of L⁻¹ x.
        let mut y = vec![0.0f64; n];
        let length = |x: &[f32]| {
            for i in 0..n {
                let row = &factor[i * n..][..i];
                let below: f64 = row.iter().zip(&y).map(|(l, y)| l * y).sum();
                y[i] = (f64::from(x[i]) - below) / factor[i * n + i];
            }
            y.iter().map(|y| y * y).sum::<f64>() as f32
        };
        x.chunks_exact(n).map(length).collect::<Vec<f32>>()
    });
    of_heads.concat()
}

/// The lower triangle `L [n, n]` of a positive definite matrix `L Lᵀ`.
fn cholesky(mut matrix: Vec<f64>, n: usize) -> Vec<f64> {
    for i in 0..n {
        for j in 0..=i {
            let below: f64 = (0..j).map(|k| matrix[i * n + k] * matrix[j * n + k]).sum();
            let rest = matrix[i * n + j] - below;
            // The ridge keeps it positive but for rounding.
            matrix[i * n + j] =
                if i == j { rest.max(1e-12).sqrt() } else { rest / matrix[j * n + j] };
        }
    }
    matrix
}

/// Scores `[kv_heads, tokens]` from what each key gets of attention, `columns`, the length of its
/// value and its `leverage`, all `[kv_heads, tokens]`; `ratio` of the keys are given up.
#[must_use]
pub fn compactor(
    columns: &[f32],
    value_norms: &[f32],
    leverage: &[f32],
    kv_heads: usize,
    ratio: f32,
) -> Vec<f32> {
    let tokens = columns.len() / kv_heads.max(1);
    let weighed: Vec<f32> = columns.iter().zip(value_norms).map(|(a, v)| a * v).collect();
    let mut scores = Vec::with_capacity(weighed.len());
    for own in weighed.chunks_exact(tokens.max(1)) {
        for token in 0..tokens {
            let around = token.saturating_sub(1)..(token + 2).min(tokens);
            scores.push(own[around].iter().sum::<f32>() / 3.0);
        }
    }
    normalise(&mut scores);
    let mut leverage = leverage.to_vec();
    normalise(&mut leverage);
    scores.iter_mut().zip(leverage).for_each(|(score, leverage)| *score += ratio * leverage);
    scores
}

/// Brings numbers to mean 0 and deviation 1, of a sample.
fn normalise(numbers: &mut [f32]) {
    let count = numbers.len() as f64;
    let mean = numbers.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let square: f64 = numbers.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum();
    let deviation = (square / (count - 1.0).max(1.0)).sqrt().max(1e-6);
    numbers.iter_mut().for_each(|x| *x = ((f64::from(*x) - mean) / deviation) as f32);
}

/// The scores of all tokens of a block, `[kv_heads, tokens]`, from those of all but its first and
/// last: these score like the best.
#[must_use]
pub fn with_ends(scores: &[f32], kv_heads: usize, (first, last): (usize, usize)) -> Vec<f32> {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let most = if scores.is_empty() { 0.0 } else { most };
    let tokens = scores.len() / kv_heads.max(1);
    let mut all = Vec::with_capacity(scores.len() + kv_heads * (first + last));
    for head in 0..kv_heads {
        all.extend(std::iter::repeat_n(most, first));
        all.extend(&scores[head * tokens..][..tokens]);
        all.extend(std::iter::repeat_n(most, last));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::press::testing::{error, random};
    use crate::tensor::Cpu;
    use proptest::prelude::*;

    fn naive_columns(q: &[f32], keys: &[f32], shape: HeadShape) -> Vec<f64> {
        let (dim, tokens) = (shape.head_dim, keys.len() / shape.kv_width());
        let mut sums = vec![0.0; shape.kv_heads * tokens];
        for (row, q) in q.chunks(dim).enumerate() {
            let (token, head) = (row / shape.heads, row % shape.heads / shape.group());
            let chunk = token / CHUNK * CHUNK..tokens.min((token / CHUNK + 1) * CHUNK);
            let score = |t: usize| {
                let k = &keys[t * shape.kv_width() + head * dim..][..dim];
                q.iter().zip(k).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
            };
            let total: f64 = chunk.clone().map(|t| score(t).exp()).sum();
            for t in chunk {
                sums[head * tokens + t] += score(t).exp() / total / shape.group() as f64;
            }
        }
        sums
    }

    /// `diag(X (XᵀX + λ)⁻¹ Xᵀ)` by elimination.
    fn naive_leverage(keys: &[f32], shape: HeadShape, sketch: &[f32]) -> Vec<f64> {
        let (dim, width) = (shape.head_dim, shape.kv_width());
        let (tokens, n) = (keys.len() / width, sketch.len() / width);
        let mut leverage = Vec::new();
        for head in 0..shape.kv_heads {
            let key = |t: usize, i: usize| f64::from(keys[t * width + head * dim + i]);
            let mean = |i: usize| (0..tokens).map(|t| key(t, i)).sum::<f64>() / tokens as f64;
            let means: Vec<f64> = (0..dim).map(mean).collect();
            let x = |t: usize, j: usize| {
                let of = |i: usize| f64::from(sketch[(head * dim + i) * n + j]);
                (0..dim).map(|i| (key(t, i) - means[i]) * of(i)).sum::<f64>()
            };
            let rows: Vec<Vec<f64>> =
                (0..tokens).map(|t| (0..n).map(|j| x(t, j)).collect()).collect();
            for row in &rows {
                // Solves (XᵀX + λ) z = row.
                let mut system: Vec<Vec<f64>> = (0..n)
                    .map(|i| {
                        let product = |j: usize| rows.iter().map(|r| r[i] * r[j]).sum::<f64>();
                        let ridge = |j: usize| if i == j { RIDGE } else { 0.0 };
                        (0..n).map(|j| product(j) + ridge(j)).chain([row[i]]).collect()
                    })
                    .collect();
                for i in 0..n {
                    let pivot = system[i].clone();
                    for (_, row) in system.iter_mut().enumerate().filter(|(j, _)| *j != i) {
                        let by = row[i] / pivot[i];
                        row.iter_mut().zip(&pivot).for_each(|(a, b)| *a -= by * b);
                    }
                }
                let z = (0..n).map(|i| system[i][n] / system[i][i]);
                leverage.push(row.iter().zip(z).map(|(a, b)| a * b).sum());
            }
        }
        leverage
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn attention_within_chunks_does_not_depend_on_how_tokens_come(
            kv_heads in 1usize..3, group in 1usize..3, dim in 1usize..20,
            tokens in 1usize..600, piece in 1usize..400, mut seed in any::<u64>(),
        ) {
            let cpu = Cpu::new(2, None).unwrap();
            let shape = HeadShape { heads: kv_heads * group, kv_heads, head_dim: dim };
            let q = random(&mut seed, tokens * shape.q_width());
            let keys = random(&mut seed, tokens * shape.kv_width());
            let mut columns = Columns::new(shape);
            for from in (0..tokens).step_by(piece) {
                let to = (from + piece).min(tokens);
                columns.add_keys(&keys[from * shape.kv_width()..to * shape.kv_width()]);
                columns.add_queries(&cpu, &q[from * shape.q_width()..to * shape.q_width()]);
            }
            let error = error(&columns.finish(&cpu), &naive_columns(&q, &keys, shape));
            prop_assert!(error < 1e-4, "{error}");
        }

        #[test]
        fn leverage_is_that_of_the_definition(
            kv_heads in 1usize..3, dim in 1usize..12, tokens in 2usize..30, n in 1usize..8,
            mut seed in any::<u64>(),
        ) {
            let cpu = Cpu::new(2, None).unwrap();
            let shape = HeadShape { heads: kv_heads, kv_heads, head_dim: dim };
            let keys = random(&mut seed, tokens * shape.kv_width());
            let sketch = random(&mut seed, shape.kv_width() * n);
            let found = leverage(&cpu, &keys, shape, &sketch);
            let error = error(&found, &naive_leverage(&keys, shape, &sketch));
            prop_assert!(error < 1e-3, "{error}");
        }
    }

    #[test]
    fn a_sketch_is_normal_and_the_same_again() {
        let all = sketch(2, 4, 64);
        assert_eq!(all, sketch(2, 4, 64));
        assert_ne!(all, sketch(3, 4, 64));
        let count = all.len() as f32;
        let square = all.iter().map(|x| x * x).sum::<f32>() / count;
        let mean = all.iter().sum::<f32>() / count;
        assert!(mean.abs() < 0.005, "{mean}");
        assert!((square * SKETCH as f32 - 1.0).abs() < 0.05, "{square}");
    }

    #[test]
    fn both_parts_are_normalised_and_the_ends_kept() {
        let scores = compactor(&[3.0, 0.0, 0.0, 6.0], &[1.0; 4], &[0.0, 0.0, 2.0, 2.0], 2, 0.5);
        // Means of three: 1, 1, 2, 2.
        let z = 0.75f32.sqrt();
        let expected = [-1.5 * z, -1.5 * z, 1.5 * z, 1.5 * z];
        for (found, expected) in scores.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{scores:?}");
        }
        assert_eq!(with_ends(&[1.0, 2.0, 4.0, 3.0], 2, (1, 0)), [4.0, 1.0, 2.0, 4.0, 4.0, 3.0]);
    }
}
