//! Expected Attention (arXiv 2510.00636): what queries to come would look at, if they were like
//! those of the text and stood behind it.
//!
//! Of the text's queries before they are rotated: mean and covariance, for each query head. Both
//! are turned by the mean of the rotations at the next [`FUTURE`] positions. For a normal
//! distribution of that mean `m` and covariance `S`, the expectation of `exp(q·k / sqrt(d))` is
//! `exp(m·k / sqrt(d) + k·S k / 2d)`. A softmax of that exponent over the text's keys, averaged
//! over the query heads of a KV head, times the length of the value, is a key's score.

use super::each;
use super::rotation::MeanRotation;
use crate::plan::Span;
use crate::tensor::{Backend, HeadShape, Part, TensorError};

/// Positions behind the text that queries are expected at.
pub const FUTURE: usize = 512;

/// Added to the softmax where heads are compared with each other, so that long values count though
/// nothing looks at them: what kvpress uses with AdaKV.
pub const EPSILON: f32 = 0.01;

/// Sums over the queries of a text, for each query head.
#[derive(Debug, Clone)]
pub struct Moments {
    shape: HeadShape,
    count: usize,
    /// `[heads, head_dim + 1, head_dim]`: sums, then sums of products
    sums: Vec<f64>,
}

impl Moments {
    /// Of no queries yet.
    #[must_use]
    pub fn new(shape: HeadShape) -> Self {
        let HeadShape { heads, head_dim: dim, .. } = shape;
        Self { shape, count: 0, sums: vec![0.0; heads * (dim + 1) * dim] }
    }

    /// Adds the queries `q [tokens, heads, head_dim]` of the tokens at `span`, which are turned
    /// back by `frequencies [head_dim / 2]`, radians per position.
    ///
    /// # Errors
    /// If the backend failed since it was last waited for.
    pub fn add<B: Backend>(
        &mut self,
        backend: &B,
        q: Part<'_, B::Rows>,
        span: Span,
        frequencies: &[f32],
    ) -> Result<(), TensorError> {
        let added = backend.moments(q, self.shape, span.start, frequencies)?;
        self.sums.iter_mut().zip(added).for_each(|(sum, new)| *sum += f64::from(new));
        self.count += span.len;
        Ok(())
    }

    /// What queries at the positions `future` are expected to be: of each head their mean and then
    /// their covariance, `[heads, head_dim + 1, head_dim]`.
    #[must_use]
    pub fn expected(&self, future: Span, frequencies: &[f32]) -> Vec<f32> {
        let dim = self.shape.head_dim;
        let rotation = MeanRotation::over(future, frequencies);
        let count = self.count.max(1) as f64;
        let mut queries: Vec<f64> = self.sums.iter().map(|sum| sum / count).collect();
        for of_head in queries.chunks_exact_mut((dim + 1) * dim) {
            let (mean, covariance) = of_head.split_at_mut(dim);
            for (i, row) in covariance.chunks_exact_mut(dim).enumerate() {
                row.iter_mut().zip(&*mean).for_each(|(product, m)| *product -= mean[i] * m);
            }
            rotation.apply(mean, 0, 1);
            (0..dim).for_each(|row| rotation.apply(covariance, row * dim, 1));
            (0..dim).for_each(|column| rotation.apply(covariance, column, dim));
        }
        queries.into_iter().map(|x| x as f32).collect()
    }
}

/// Scores `[kv_heads, tokens]` of `keys` and `values [tokens, kv_heads, head_dim]` by `queries` to
/// come. The `first` tokens take no part: they get 0.
///
/// # Errors
/// If the backend failed since it was last waited for.
pub fn expected<B: Backend>(
    backend: &B,
    [keys, values]: [Part<'_, B::Kv>; 2],
    shape: HeadShape,
    queries: &[f32],
    first: usize,
    epsilon: f32,
) -> Result<Vec<f32>, TensorError> {
    let tokens = keys.len / shape.kv_width().max(1);
    let first = first.min(tokens);
    let logits = backend.expected_scores(keys, shape, queries)?;
    let weights = each(backend, shape.heads, |head| {
        let mut weights = logits[head * tokens + first..(head + 1) * tokens].to_vec();
        softmax(&mut weights);
        weights
    });
    let mut scores = backend.norms(values, shape)?;
    for (kv_head, scores) in scores.chunks_exact_mut(tokens.max(1)).enumerate() {
        let own = &weights[kv_head * shape.group()..][..shape.group()];
        scores[..first].fill(0.0);
        for (token, score) in scores[first..].iter_mut().enumerate() {
            let sum: f32 = own.iter().map(|weights| weights[token]).sum();
            *score *= sum / own.len() as f32 + epsilon;
        }
    }
    Ok(scores)
}

/// Turns logarithms into weights that add up to 1.
pub(super) fn softmax(logits: &mut [f32]) {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter_mut().for_each(|x| *x = (*x - most).exp());
    let sum: f32 = logits.iter().sum();
    logits.iter_mut().for_each(|x| *x /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::press::testing::{error, random};
    use crate::tensor::{Aligned, Caching, Cpu, KvPrecision};
    use proptest::prelude::*;

    fn aligned(numbers: &[f32]) -> Aligned<f32> {
        numbers.iter().copied().collect()
    }

    /// The rotation of pairs at `position` as a matrix, in f64.
    fn matrix(position: f64, frequencies: &[f32]) -> Vec<Vec<f64>> {
        let half = frequencies.len();
        let mut matrix = vec![vec![0.0; 2 * half]; 2 * half];
        for (i, frequency) in frequencies.iter().enumerate() {
            let at = f64::from(position as f32 * frequency);
            (matrix[i][i], matrix[i][i + half]) = (at.cos(), -at.sin());
            (matrix[i + half][i], matrix[i + half][i + half]) = (at.sin(), at.cos());
        }
        matrix
    }

    fn times(matrix: &[Vec<f64>], vector: &[f64]) -> Vec<f64> {
        matrix.iter().map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum()).collect()
    }

    /// The definition, in f64, from queries that were not rotated yet, `q [tokens, heads, dim]`.
    #[expect(clippy::too_many_arguments, reason = "all that a score depends on")]
    fn naive(
        q: &[f32],
        keys: &[f32],
        values: &[f32],
        shape: HeadShape,
        future: Span,
        frequencies: &[f32],
        first: usize,
        epsilon: f64,
    ) -> Vec<f64> {
        let (dim, width) = (shape.head_dim, shape.kv_width());
        let tokens = keys.len() / width;
        let mut turned = vec![vec![0.0; dim]; dim];
        for position in future.range() {
            for (sum, row) in turned.iter_mut().zip(matrix(position as f64, frequencies)) {
                sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x / future.len as f64);
            }
        }
        let mut scores = vec![0.0; shape.kv_heads * tokens];
        for head in 0..shape.heads {
            let all: Vec<Vec<f64>> = q
                .chunks(shape.q_width())
                .map(|token| token[head * dim..][..dim].iter().map(|x| f64::from(*x)).collect())
                .collect();
            let mean =
                |f: &dyn Fn(&Vec<f64>) -> f64| all.iter().map(f).sum::<f64>() / all.len() as f64;
            let centre: Vec<f64> = (0..dim).map(|i| mean(&|q| q[i])).collect();
            // Turned, a query less the centre has the turned covariance.
            let deviations: Vec<Vec<f64>> = all
                .iter()
                .map(|q| q.iter().zip(&centre).map(|(a, b)| a - b).collect::<Vec<_>>())
                .map(|q| times(&turned, &q))
                .collect();
            let centre = times(&turned, &centre);
            let key = |token: usize| {
                let at = token * width + head / shape.group() * dim;
                keys[at..][..dim].iter().map(|x| f64::from(*x)).collect::<Vec<f64>>()
            };
            let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let logit = |token: usize| {
                let k = key(token);
                let variance = deviations.iter().map(|q| product(q, &k).powi(2)).sum::<f64>()
                    / deviations.len() as f64;
                product(&centre, &k) / (dim as f64).sqrt() + variance / (2.0 * dim as f64)
            };
            let total: f64 = (first..tokens).map(|token| logit(token).exp()).sum();
            for token in first..tokens {
                scores[head / shape.group() * tokens + token] +=
                    logit(token).exp() / total / shape.group() as f64;
            }
        }
        for head in 0..shape.kv_heads {
            for token in first..tokens {
                let value = &values[token * width + head * dim..][..dim];
                let norm: f64 = value.iter().map(|x| f64::from(*x).powi(2)).sum();
                let score = &mut scores[head * tokens + token];
                *score = (*score + epsilon) * norm.sqrt();
            }
        }
        scores
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn scores_are_those_of_the_definition(
            kv_heads in 1usize..3, group in 1usize..4, half in 1usize..9,
            tokens in 6usize..50, start in 0usize..300, first in 0usize..5,
            cut in 1usize..6, epsilon in prop_oneof![Just(0.0f32), Just(EPSILON)],
            mut seed in any::<u64>(),
        ) {
            let cpu = Cpu::new(2, None).unwrap();
            let shape = HeadShape { heads: kv_heads * group, kv_heads, head_dim: 2 * half };
            let frequencies: Vec<f32> = (0..half).map(|i| 0.3f32.powi(i as i32)).collect();
            let span = Span { start, len: tokens };
            let q = random(&mut seed, tokens * shape.q_width());
            let keys = random(&mut seed, tokens * shape.kv_width());
            let values = random(&mut seed, tokens * shape.kv_width());
            let future = Span { start: span.end(), len: 40 };
            // As they come: rotated, and in two passes.
            let mut rotated = Vec::new();
            for (token, position) in q.chunks(shape.q_width()).zip(span.range()) {
                for head in token.chunks(2 * half) {
                    let head: Vec<f64> = head.iter().map(|x| f64::from(*x)).collect();
                    let turned = times(&matrix(position as f64, &frequencies), &head);
                    rotated.extend(turned.into_iter().map(|x| x as f32));
                }
            }
            let mut moments = Moments::new(shape);
            let rotated = aligned(&rotated);
            let cut_at = cut * shape.q_width();
            let (one, two) = (Part::new(&rotated, 0..cut_at), Part::new(&rotated, cut_at..q.len()));
            moments.add(&cpu, one, Span { start, len: cut }, &frequencies).unwrap();
            let rest = Span { start: start + cut, len: tokens - cut };
            moments.add(&cpu, two, rest, &frequencies).unwrap();
            let queries = moments.expected(future, &frequencies);
            let kept = [&keys, &values].map(|new| {
                let mut kept = cpu.kv(KvPrecision::F32, shape, new.len()).unwrap();
                let mut other = cpu.kv(KvPrecision::F32, shape, new.len()).unwrap();
                let new = aligned(new);
                let part = Part::new(&new, 0..keys.len());
                Caching::append(&cpu, [&mut kept, &mut other], [part, part]).unwrap();
                kept
            });
            let kept = kept.each_ref().map(|kept| Part::new(kept, 0..keys.len()));
            let found = expected(&cpu, kept, shape, &queries, first, epsilon).unwrap();
            let expected =
                naive(&q, &keys, &values, shape, future, &frequencies, first, epsilon.into());
            let error = error(&found, &expected);
            prop_assert!(error < 1e-4, "{error}");
        }
    }
}
