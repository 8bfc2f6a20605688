//! SnapKV (arXiv 2404.14469): the keys that a text's last tokens look at.

use crate::tensor::HeadShape;

/// The last tokens of a block, whose attention scores its other keys.
pub const WINDOW: usize = 64;

/// Scores are averaged over so many tokens.
const POOL: usize = 5;

/// Tokens of the window of a block of `tokens` tokens: at most half of them.
#[must_use]
pub fn window(tokens: usize) -> usize {
    WINDOW.min(tokens / 2).max(1)
}

/// Scores `[kv_heads, tokens]` from the softmax weight that each key gets of all rows of the
/// `window` last tokens and of all query heads of its KV head, `mass [kv_heads, tokens]`: its mean,
/// averaged over five tokens, where there is nothing beyond the text and the window. The window's
/// own keys score higher than all others.
///
/// As kvpress has it: the mean over rows and the pooling come before the mean over the group, which
/// is the same.
#[must_use]
pub fn snapkv(mass: &[f32], shape: HeadShape, window: usize) -> Vec<f32> {
    let tokens = mass.len() / shape.kv_heads.max(1);
    let before = tokens.saturating_sub(window);
    let share = 1.0 / (window * shape.group() * POOL) as f32;
    let mut scores = vec![0.0; mass.len()];
    let mut most = 0.0f32;
    for (mass, scores) in mass.chunks_exact(tokens).zip(scores.chunks_exact_mut(tokens)) {
        for (token, score) in scores[..before].iter_mut().enumerate() {
            let around = token.saturating_sub(POOL / 2)..(token + POOL / 2 + 1).min(before);
            *score = mass[around].iter().sum::<f32>() * share;
            most = most.max(*score);
        }
    }
    for scores in scores.chunks_exact_mut(tokens) {
        scores[before..].fill(most + 1.0);
    }
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_averaged_and_the_window_is_kept() {
        let shape = HeadShape { heads: 4, kv_heads: 2, head_dim: 1 };
        let mass = [4.0, 0.0, 0.0, 0.0, 0.0, 8.0, 9.0, 9.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 9.0, 9.0];
        let scores = snapkv(&mass, shape, 2);
        let by = 2.0 * 2.0 * 5.0;
        let expected: Vec<f32> =
            [4.0, 4.0, 4.0, 8.0, 8.0, 8.0].iter().map(|sum| sum / by).collect();
        assert_eq!(scores[..6], expected[..]);
        assert_eq!(scores[6..8], [1.0 + 8.0 / by; 2]);
        let expected: Vec<f32> =
            [0.0, 2.0, 2.0, 2.0, 2.0, 2.0].iter().map(|sum| sum / by).collect();
        assert_eq!(scores[8..14], expected[..]);
    }
}
