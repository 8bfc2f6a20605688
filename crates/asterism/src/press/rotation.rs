//! Rotary embedding undone, and averaged over positions to come.

use crate::plan::Span;

/// Turns the heads of a token at `position`, `[heads, head_dim]`, back to where they were before
/// they were rotated. `frequencies` is `[head_dim / 2]`, radians per position; element `i` of a
/// head is paired with element `i + head_dim / 2`.
pub(super) fn unrotate(heads: &mut [f32], position: usize, frequencies: &[f32]) {
    let half = frequencies.len();
    let turns: Vec<(f32, f32)> =
        frequencies.iter().map(|frequency| (position as f32 * frequency).sin_cos()).collect();
    for head in heads.chunks_exact_mut(2 * half) {
        let (low, high) = head.split_at_mut(half);
        for ((a, b), (sin, cos)) in low.iter_mut().zip(high).zip(&turns) {
            (*a, *b) = (cos * *a + sin * *b, cos * *b - sin * *a);
        }
    }
}

/// The mean of the rotations at the positions `span`: for each pair its cosine and its sine.
pub(super) struct MeanRotation(Vec<(f64, f64)>);

impl MeanRotation {
    pub(super) fn over(span: Span, frequencies: &[f32]) -> Self {
        let mean = |frequency: &f32| {
            let turns = span.range().map(|at| f64::from(at as f32 * frequency));
            let (cos, sin) = turns.fold((0.0, 0.0), |(c, s), at| (c + at.cos(), s + at.sin()));
            (cos / span.len as f64, sin / span.len as f64)
        };
        Self(frequencies.iter().map(mean).collect())
    }

    /// Applies it to a vector `[head_dim]` whose elements lie `stride` apart.
    pub(super) fn apply(&self, vector: &mut [f64], first: usize, stride: usize) {
        let half = self.0.len();
        for (i, (cos, sin)) in self.0.iter().enumerate() {
            let (low, high) = (first + i * stride, first + (i + half) * stride);
            let (a, b) = (vector[low], vector[high]);
            (vector[low], vector[high]) = (cos * a - sin * b, sin * a + cos * b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_turned_back_is_as_before() {
        let frequencies = [1.0f32, 0.01];
        let original = [1.0f64, 2.0, -3.0, 0.5];
        let mut turned = original;
        MeanRotation::over(Span::new(77..78), &frequencies).apply(&mut turned, 0, 1);
        let mut back: Vec<f32> = turned.iter().map(|x| *x as f32).collect();
        unrotate(&mut back, 77, &frequencies);
        for (x, y) in original.iter().zip(&back) {
            assert!((x - f64::from(*y)).abs() < 1e-5, "{x} {y}");
        }
    }
}
