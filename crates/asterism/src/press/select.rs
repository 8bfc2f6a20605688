//! From scores to the tokens that each head keeps.

use crate::plan::HeadBudget;
use crate::tensor::KeptKeys;
use std::cmp::Reverse;

/// Of an even share of the keys, what every head keeps at least, where the best of all heads are
/// kept: one in so many (AdaKV's safeguard of 0.2).
const SAFE: usize = 5;

/// The tokens that each head keeps by its `scores [kv_heads, tokens]`: `kept` on average, the
/// `first` ones among them, the earlier of equals.
///
/// * [`HeadBudget::Even`]: the best `kept` of each head
/// * [`HeadBudget::Layer`]: the best fifth of `kept` of each head, and of the rest the best of all
///   heads, `kept` times as many as there are heads in all (arXiv 2407.11550, algorithm 1 as
///   kvpress has it)
///
/// # Panics
/// If there are fewer tokens than are to be kept, or scores are not of whole heads.
#[must_use]
pub fn select(
    scores: &[f32],
    kv_heads: usize,
    kept: usize,
    first: usize,
    heads: HeadBudget,
) -> KeptKeys {
    let tokens = scores.len() / kv_heads.max(1);
    assert_eq!(scores.len(), kv_heads * tokens, "scores of half a head");
    assert!(kept <= tokens, "{kept} keys kept of {tokens}");
    let first = first.min(kept);
    // [kv_heads, tokens]: what is kept whatever others score.
    let mut sure = vec![false; scores.len()];
    let certain = match heads {
        HeadBudget::Even => kept,
        HeadBudget::Layer => first.max(kept / SAFE),
    };
    for (head, sure) in sure.chunks_exact_mut(tokens.max(1)).enumerate() {
        sure[..first].fill(true);
        let own = &scores[head * tokens..][..tokens];
        for token in best(first..tokens, certain - first, |token| own[token]) {
            sure[token] = true;
        }
    }
    if heads == HeadBudget::Layer {
        let rest = (0..scores.len()).filter(|at| !sure[*at]);
        for at in best(rest, kv_heads * (kept - certain), |at| scores[at]) {
            sure[at] = true;
        }
    }
    let of = |sure: &[bool]| (0..tokens as u32).filter(|token| sure[*token as usize]).collect();
    let chosen: Vec<Vec<u32>> = sure.chunks_exact(tokens.max(1)).map(of).collect();
    #[expect(clippy::unwrap_used, reason = "tokens in their order, below their number")]
    KeptKeys::new(tokens, &chosen).unwrap()
}

/// Those `count` of `all` with the highest scores, the earlier of equals.
fn best(
    all: impl Iterator<Item = usize>,
    count: usize,
    score: impl Fn(usize) -> f32,
) -> Vec<usize> {
    let mut all: Vec<usize> = all.collect();
    let rank = |a: &usize, b: &usize| {
        (score(*b).total_cmp(&score(*a))).then(Reverse(*b).cmp(&Reverse(*a)))
    };
    if count < all.len() {
        all.select_nth_unstable_by(count, rank);
        all.truncate(count);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition: sort, take.
    fn naive(
        scores: &[f32],
        kv_heads: usize,
        kept: usize,
        first: usize,
        heads: HeadBudget,
    ) -> Vec<Vec<u32>> {
        let tokens = scores.len() / kv_heads;
        let mut raised = scores.to_vec();
        for head in 0..kv_heads {
            let own = &mut raised[head * tokens..][..tokens];
            own[..first.min(kept)].fill(f32::INFINITY);
            let mut order: Vec<usize> = (0..tokens).collect();
            order.sort_by(|a, b| own[*b].total_cmp(&own[*a]));
            let safe = match heads {
                HeadBudget::Even => kept,
                HeadBudget::Layer => (kept as f64 * 0.2).floor() as usize,
            };
            order[..safe].iter().for_each(|token| own[*token] = f32::INFINITY);
        }
        let mut order: Vec<usize> = (0..raised.len()).collect();
        order.sort_by(|a, b| raised[*b].total_cmp(&raised[*a]));
        let mut chosen = vec![Vec::new(); kv_heads];
        for at in &order[..kv_heads * kept] {
            chosen[at / tokens].push((at % tokens) as u32);
        }
        chosen.iter_mut().for_each(|head| head.sort_unstable());
        chosen
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_sorting_keeps(
            kv_heads in 1usize..5, tokens in 1usize..60, share in 0.0f64..1.0,
            first in 0usize..9, layer in any::<bool>(), seed in any::<u64>(),
        ) {
            let mut state = seed | 1;
            // Few different scores: many are equal.
            let scores: Vec<f32> = (0..kv_heads * tokens).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                ((state >> 40) % 17) as f32
            }).collect();
            let kept = ((tokens as f64 * share) as usize).max(1).min(tokens);
            let heads = if layer { HeadBudget::Layer } else { HeadBudget::Even };
            let found = select(&scores, kv_heads, kept, first, heads);
            let expected = naive(&scores, kv_heads, kept, first, heads);
            for (head, expected) in expected.iter().enumerate() {
                prop_assert_eq!(found.head(head), &expected[..], "head {}", head);
            }
            prop_assert_eq!(found.rows(), kv_heads * kept);
        }
    }

    #[test]
    fn a_head_with_low_scores_keeps_its_fifth() {
        let (low, high): (Vec<f32>, Vec<f32>) =
            ((0..20).map(|i| i as f32).collect(), (0..20).map(|i| 100.0 + i as f32).collect());
        let scores = [low, high].concat();
        let kept = select(&scores, 2, 10, 0, HeadBudget::Layer);
        assert_eq!(kept.head(0), [18, 19]);
        assert_eq!(kept.head(1).len(), 18);
        let even = select(&scores, 2, 10, 2, HeadBudget::Even);
        assert_eq!(even.head(0), [0, 1, 12, 13, 14, 15, 16, 17, 18, 19]);
    }
}
