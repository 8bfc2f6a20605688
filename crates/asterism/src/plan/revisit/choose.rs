//! Which tokens of a context are computed anew, by a score of each.

use super::{Revisit, RevisitBy};
use crate::plan::{Plan, Span};
use std::cmp::Reverse;
use std::ops::Range;

/// Tokens of a neighbourhood: what stands beside a token that a question looks at comes along.
const AROUND: usize = 9;

impl Plan {
    /// How many tokens `revisit` has computed anew for a question about a context of this plan:
    /// those of the first block are exact already.
    #[must_use]
    pub fn revisited(&self, revisit: Revisit) -> usize {
        revisit.budget(self.tokens).min(self.tokens - self.exact_tokens())
    }

    /// How they are chosen.
    #[must_use]
    pub fn revisit_by(&self) -> RevisitBy {
        self.spec.method.as_star().map_or_else(RevisitBy::default, |star| star.revisit_by)
    }

    /// How many of `count` revisited tokens are chosen before any of them is computed anew: all,
    /// unless they are chosen in [rounds](RevisitBy::Rounds).
    #[must_use]
    pub fn first_round(&self, count: usize) -> usize {
        if self.revisit_by() == RevisitBy::Rounds { count.div_ceil(2) } else { count }
    }

    /// The `count` tokens that are computed anew, by their indices in the context, in rising order:
    /// those of an `earlier` round, and the ones with the largest of `scores [tokens]`, as the
    /// plan's method has them [chosen](RevisitBy), the first of equals.
    ///
    /// Chosen by the question, a token takes the largest score within nine tokens, averaged over as
    /// many, unless it is to stand for itself alone.
    #[must_use]
    pub fn choose_revisited(&self, count: usize, scores: &[f32], earlier: &[u32]) -> Vec<u32> {
        let exact = self.exact_tokens();
        let spread = match self.revisit_by() {
            RevisitBy::Question | RevisitBy::Late | RevisitBy::Largest | RevisitBy::Rounds => {
                averages(&maxima(scores))
            }
            RevisitBy::Tokens | RevisitBy::Values => scores.to_vec(),
            RevisitBy::Random => (0..scores.len() as u64).map(scattered).collect(),
            RevisitBy::First => self.spans().into_iter().flat_map(from_the_end).collect(),
        };
        let is_new = |token: &u32| earlier.binary_search(token).is_err();
        let mut tokens: Vec<u32> = (exact as u32..scores.len() as u32).filter(is_new).collect();
        let more = count.saturating_sub(earlier.len());
        let rank = |token: &u32| (Reverse(Ordered(spread[*token as usize])), *token);
        if more < tokens.len() {
            tokens.select_nth_unstable_by_key(more, rank);
            tokens.truncate(more);
        }
        tokens.extend(earlier);
        tokens.sort_unstable();
        tokens
    }

    /// Tokens at the beginning whose keys are those of full attention, and all there.
    pub(super) fn exact_tokens(&self) -> usize {
        match self.spec.method.as_star() {
            Some(star) if self.kept(star.block.min(self.tokens)).is_some() => 0,
            Some(_) => self.spans().first().map_or(0, |first| first.len),
            None => self.tokens,
        }
    }

    /// All spans of the plan, in the order of their positions.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = self.hosts.iter().flatten().copied().collect();
        spans.sort_by_key(|span| span.start);
        spans
    }

    /// The position of every token of the context, in order.
    pub fn positions(&self) -> impl Iterator<Item = usize> {
        self.spans().into_iter().flat_map(Span::range)
    }
}

/// Numbers in their order.
#[derive(PartialEq)]
struct Ordered(f32);

impl Eq for Ordered {}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// For each token of a block how many tokens are before it, negative.
fn from_the_end(block: Span) -> impl Iterator<Item = f32> {
    (0..block.len).map(|before| -(before as f32))
}

/// A number from 0 to 1 that looks like chance (SplitMix64).
fn scattered(index: u64) -> f32 {
    let mut bits = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (bits >> 40) as f32 / (1u64 << 24) as f32
}

/// What is around each of `count` tokens.
fn around(count: usize) -> impl Iterator<Item = Range<usize>> {
    let reach = AROUND / 2;
    (0..count).map(move |token| token.saturating_sub(reach)..(token + reach + 1).min(count))
}

/// The largest score around each token.
fn maxima(scores: &[f32]) -> Vec<f32> {
    let largest =
        |near: Range<usize>| scores[near].iter().copied().fold(f32::NEG_INFINITY, f32::max);
    around(scores.len()).map(largest).collect()
}

/// The mean score around each token.
fn averages(scores: &[f32]) -> Vec<f32> {
    let mean = |near: Range<usize>| {
        let count = near.len() as f32;
        scores[near].iter().sum::<f32>() / count
    };
    around(scores.len()).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{PlanSpec, Star};
    use proptest::prelude::*;

    #[test]
    fn neighbours_of_what_is_looked_at_come_along() {
        let plan = Plan::new(PlanSpec::star(32).anchor(8), 200).unwrap();
        let mut scores = vec![0.0; 200];
        (scores[100], scores[5]) = (1.0, 9.0);
        // The first block is exact, however much the question looks at it.
        let chosen = plan.choose_revisited(9, &scores, &[]);
        assert_eq!(chosen, (96..105).collect::<Vec<u32>>());
        let all = plan.choose_revisited(200, &scores, &[]);
        assert_eq!(all, (32..200).collect::<Vec<u32>>());
        assert_eq!(plan.choose_revisited(0, &scores, &[]), [0u32; 0]);
    }

    #[test]
    fn controls_choose_without_looking_at_the_question() {
        let by = |by| Plan::new(Star::new(32).revisit_by(by), 128).unwrap();
        let scores = vec![0.0; 128];
        let first = by(RevisitBy::First).choose_revisited(6, &scores, &[]);
        assert_eq!(first, [32, 33, 64, 65, 96, 97]);
        let random = |count| by(RevisitBy::Random).choose_revisited(count, &scores, &[]);
        assert_eq!(random(20), random(20));
        assert!(random(20).iter().any(|token| *token >= 96));
        assert!(random(20).iter().any(|token| *token < 64));
    }

    #[test]
    fn tokens_by_themselves_leave_their_neighbours() {
        let mut scores = vec![0.0; 128];
        (scores[100], scores[90]) = (2.0, 1.0);
        for by in [RevisitBy::Tokens, RevisitBy::Values] {
            let plan = Plan::new(Star::new(32).revisit_by(by), 128).unwrap();
            assert_eq!(plan.choose_revisited(3, &scores, &[]), [32, 90, 100]);
        }
    }

    #[test]
    fn a_second_round_adds_to_the_first() {
        let plan = Plan::new(Star::new(32).revisit_by(RevisitBy::Rounds), 128).unwrap();
        let mut scores = vec![0.0; 128];
        scores[100] = 1.0;
        let all = plan.choose_revisited(9, &scores, &[]);
        let first = plan.choose_revisited(plan.first_round(9), &scores, &[]);
        assert_eq!(first.len(), 5);
        // The question looks where it looked before: both rounds choose what one would have.
        assert_eq!(plan.choose_revisited(9, &scores, &first), all);
        // It looks elsewhere.
        (scores[100], scores[60]) = (0.0, 1.0);
        let both = plan.choose_revisited(9, &scores, &first);
        assert_eq!(both, [&[58, 59, 60, 61], &first[..]].concat());
    }

    #[test]
    fn nothing_of_an_exact_context_is_computed_anew() {
        let dense = Plan::new(PlanSpec::dense(), 200).unwrap();
        let one_block = Plan::new(PlanSpec::star(256), 200).unwrap();
        for plan in [dense, one_block] {
            assert_eq!(plan.revisited(Revisit::Tokens(100)), 0);
            assert_eq!(plan.choose_revisited(100, &[1.0; 200], &[]), [0u32; 0]);
        }
    }

    proptest! {
        #[test]
        fn as_many_are_chosen_as_there_are_or_were_asked_for(
            tokens in 1usize..400, block in 16usize..100, count in 0usize..500, hosts in 1usize..5,
            seed in any::<u32>(),
        ) {
            let plan = Plan::new(PlanSpec::star(block).hosts(hosts), tokens).unwrap();
            let scores: Vec<f32> = (0..tokens as u32)
                .map(|token| (token.wrapping_mul(seed) >> 8) as f32)
                .collect();
            let most = plan.revisited(Revisit::Tokens(count));
            let chosen = plan.choose_revisited(count, &scores, &[]);
            prop_assert_eq!(chosen.len(), most);
            prop_assert_eq!(chosen.len(), count.min(tokens - block.min(tokens)));
            prop_assert!(chosen.is_sorted_by(|a, b| a < b));
            prop_assert!(chosen.iter().all(|token| (block..tokens).contains(&(*token as usize))));
            let spread = averages(&maxima(&scores));
            let least = chosen.iter().map(|token| spread[*token as usize]).fold(f32::MAX, f32::min);
            let is_left = |token: &usize| !chosen.contains(&(*token as u32));
            let left = (block.min(tokens)..tokens).filter(is_left);
            prop_assert!(left.into_iter().all(|token| spread[token] <= least));
        }
    }
}
