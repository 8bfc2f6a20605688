//! Scores that need no query.

use crate::plan::Span;

/// Minus the lengths of keys, `[kv_heads, tokens]`: short keys are looked at most (arXiv
/// 2406.11430).
#[must_use]
pub fn knorm(mut lengths: Vec<f32>) -> Vec<f32> {
    lengths.iter_mut().for_each(|length| *length = -*length);
    lengths
}

/// Later tokens are worth more, `[kv_heads, tokens]`: with the first tokens kept as well, what is
/// left of StreamingLLM (arXiv 2309.17453) when keys stay where they are.
#[must_use]
pub fn streaming(tokens: usize, kv_heads: usize) -> Vec<f32> {
    (0..kv_heads).flat_map(|_| (0..tokens).map(|token| token as f32)).collect()
}

/// Numbers from 0 to 1 that depend on layer, head and position alone, `[kv_heads, tokens]`.
#[must_use]
pub fn random(layer: usize, kv_heads: usize, span: Span) -> Vec<f32> {
    let of = |head: usize| {
        let seed = mixed(((layer as u64) << 32) | head as u64);
        span.range().map(move |position| {
            let mixed = mixed(seed ^ mixed(position as u64));
            (mixed >> 40) as f32 / (1u64 << 24) as f32
        })
    };
    (0..kv_heads).flat_map(of).collect()
}

/// The finalizer of splitmix64.
pub(super) const fn mixed(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_keys_and_late_tokens_score_high() {
        assert_eq!(knorm(vec![5.0, 0.0, 1.0]), [-5.0, 0.0, -1.0]);
        assert_eq!(streaming(3, 2), [0.0, 1.0, 2.0, 0.0, 1.0, 2.0]);
    }

    #[test]
    fn random_scores_belong_to_their_position() {
        let all = random(3, 2, Span::new(0..1000));
        let part = random(3, 2, Span::new(400..1000));
        assert_eq!(all[400..1000], part[..600]);
        assert_eq!(all[1400..], part[600..]);
        assert_ne!(all[..1000], all[1000..], "heads differ");
        assert_ne!(all, random(4, 2, Span::new(0..1000)), "layers differ");
        let mean = all.iter().sum::<f32>() / 2000.0;
        assert!((mean - 0.5).abs() < 0.03 && all.iter().all(|x| (0.0..1.0).contains(x)), "{mean}");
    }
}
