//! Which tokens of a context are computed anew for a question: those that the question looks at.
//!
//! A block of star never sees what came before it but the anchor, so facts of different blocks are
//! not read in the light of each other. The few tokens that the question gives most of its softmax
//! weight are computed once more, this time with all of the context before them in sight; the
//! question then runs over keys that are right where it looks.

use super::{ModelSize, Plan, Span};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::ops::Range;

/// How many tokens of a context are computed anew for each question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Revisit {
    /// None: star as the paper has it.
    #[default]
    None,
    /// As many as measurements say are enough: a fifth of the context, and at most
    /// [`Revisit::ENOUGH`].
    Auto,
    /// So many.
    Tokens(usize),
    /// So many hundredths of a per cent of the context.
    Share(u32),
}

impl Revisit {
    /// Tokens beyond which more changed no result measured (docs/revisit.md).
    pub const ENOUGH: usize = 2048;

    /// How many tokens of a context of `tokens` tokens are computed anew, if so many can be.
    #[must_use]
    pub fn budget(self, tokens: usize) -> usize {
        let share = |part: usize, whole: usize| {
            let product = (tokens as u128).saturating_mul(part as u128);
            usize::try_from(product.div_ceil(whole as u128)).unwrap_or(usize::MAX)
        };
        match self {
            Self::None => 0,
            Self::Auto => share(1, 5).min(Self::ENOUGH),
            Self::Tokens(count) => count.min(tokens),
            Self::Share(hundredths) => share(hundredths as usize, 10_000).min(tokens),
        }
    }
}

/// Which tokens of a context are computed anew. All but the default are controls, to see what the
/// choice is worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RevisitBy {
    /// Those the question looks at, with their neighbourhoods.
    #[default]
    Question,
    /// Any, the same in every run.
    Random,
    /// The first of every block, as EPIC (arXiv 2410.15332) has them for chunks that are reused.
    First,
}

impl RevisitBy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Question, Self::Random, Self::First];

    /// Its name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Question => "question",
            Self::Random => "random",
            Self::First => "first",
        }
    }
}

/// Tokens of a neighbourhood: what stands beside a token that a question looks at comes along.
const AROUND: usize = 9;

impl Plan {
    /// How many tokens `revisit` has computed anew for a question about a context of this plan:
    /// those of the first block are exact already.
    #[must_use]
    pub fn revisited(&self, revisit: Revisit) -> usize {
        revisit.budget(self.tokens).min(self.tokens - self.exact_tokens())
    }

    /// The [revisited](Self::revisited) tokens, by their indices in the context, in rising order:
    /// those whose neighbourhoods have the largest `scores [tokens]`, the first of equals, unless
    /// the plan's method has them [chosen](RevisitBy) otherwise.
    ///
    /// A token takes the largest score within nine tokens, averaged over as many.
    #[must_use]
    pub fn choose_revisited(&self, revisit: Revisit, scores: &[f32]) -> Vec<u32> {
        let (count, exact) = (self.revisited(revisit), self.exact_tokens());
        let by = self.spec.method.as_star().map_or_else(RevisitBy::default, |star| star.revisit_by);
        let spread = match by {
            RevisitBy::Question => averages(&maxima(scores)),
            RevisitBy::Random => (0..scores.len() as u64).map(scattered).collect(),
            RevisitBy::First => self.spans().into_iter().flat_map(from_the_end).collect(),
        };
        let mut tokens: Vec<u32> = (exact as u32..scores.len() as u32).collect();
        let rank = |token: &u32| (Reverse(Ordered(spread[*token as usize])), *token);
        if count < tokens.len() {
            tokens.select_nth_unstable_by_key(count, rank);
            tokens.truncate(count);
        }
        tokens.sort_unstable();
        tokens
    }

    /// Tokens at the beginning whose keys are those of full attention, and all there.
    fn exact_tokens(&self) -> usize {
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

/// What it costs to compute tokens of a context anew for one question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RevisitCost {
    /// Tokens computed anew.
    pub tokens: usize,
    /// Operations of all hosts: the tokens, as if they stood in the middle of what may be chosen,
    /// and the question's first run, which weighs the context.
    pub flops: u128,
    /// Bytes of the new keys and values, on the query host.
    pub kv_bytes: u64,
    /// Bytes that hosts send each other.
    pub sent_bytes: u64,
}

impl RevisitCost {
    /// Counts `revisit` for a question of `query` tokens about a context of `plan`.
    #[must_use]
    pub fn of(plan: &Plan, revisit: Revisit, size: &ModelSize, query: usize) -> Self {
        let tokens = plan.revisited(revisit);
        if tokens == 0 {
            return Self::default();
        }
        let (count, query, context) = (tokens as u64, query as u64, plan.tokens as u64);
        let width = size.q_width as u64;
        let weights = u128::from(size.linear_weights - size.skipped_weights);
        let linear =
            u128::from(count) * weights + u128::from(query) * u128::from(size.linear_weights);
        let pairs = u128::from(count) * (plan.exact_tokens() as u128 + u128::from(context)) / 2;
        // The question's products with keys are made twice: to attend, and to weigh.
        let attention = 4 * (size.q_width * size.context_layers) as u128 * pairs
            + 6 * (size.q_width * size.layers) as u128 * u128::from(query) * u128::from(context);
        // Queries go to every other host, outputs and log-sum-exps come back; of the question's
        // first run, log-sum-exps go out as well.
        let others = plan.hosts.len() as u64 - 1;
        let row = 2 * width * size.element_bytes as u64;
        let sums = 4 * size.heads as u64;
        let sent = size.context_layers as u64 * count * (row + sums)
            + size.layers as u64 * query * (row + 2 * sums);
        Self {
            tokens,
            flops: 2 * linear + attention,
            kv_bytes: count * size.kv_bytes(size.layers),
            sent_bytes: others * sent,
        }
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
    fn a_budget_is_a_number_a_share_or_what_is_enough() {
        for (revisit, tokens, expected) in [
            (Revisit::None, 9000, 0),
            (Revisit::Auto, 4001, 801),
            (Revisit::Auto, 1 << 20, 2048),
            (Revisit::Tokens(500), 400, 400),
            (Revisit::Share(500), 1000, 50),
            (Revisit::Share(20_000), 1000, 1000),
            (Revisit::Tokens(usize::MAX), usize::MAX, usize::MAX),
            (Revisit::Share(10_000), usize::MAX, usize::MAX),
        ] {
            assert_eq!(revisit.budget(tokens), expected, "{revisit:?} of {tokens}");
        }
    }

    #[test]
    fn neighbours_of_what_is_looked_at_come_along() {
        let plan = Plan::new(PlanSpec::star(32).anchor(8), 200).unwrap();
        let mut scores = vec![0.0; 200];
        (scores[100], scores[5]) = (1.0, 9.0);
        // The first block is exact, however much the question looks at it.
        let chosen = plan.choose_revisited(Revisit::Tokens(9), &scores);
        assert_eq!(chosen, (96..105).collect::<Vec<u32>>());
        let all = plan.choose_revisited(Revisit::Share(10_000), &scores);
        assert_eq!(all, (32..200).collect::<Vec<u32>>());
        assert_eq!(plan.choose_revisited(Revisit::None, &scores), [0u32; 0]);
    }

    #[test]
    fn controls_choose_without_looking_at_the_question() {
        let by = |by| Plan::new(Star::new(32).revisit_by(by), 128).unwrap();
        let scores = vec![0.0; 128];
        let first = by(RevisitBy::First).choose_revisited(Revisit::Tokens(6), &scores);
        assert_eq!(first, [32, 33, 64, 65, 96, 97]);
        let random =
            |count| by(RevisitBy::Random).choose_revisited(Revisit::Tokens(count), &scores);
        assert_eq!(random(20), random(20));
        assert!(random(20).iter().any(|token| *token >= 96));
        assert!(random(20).iter().any(|token| *token < 64));
    }

    #[test]
    fn nothing_of_an_exact_context_is_computed_anew() {
        let dense = Plan::new(PlanSpec::dense(), 200).unwrap();
        let one_block = Plan::new(PlanSpec::star(256), 200).unwrap();
        for plan in [dense, one_block] {
            assert_eq!(plan.revisited(Revisit::Tokens(100)), 0);
            assert_eq!(plan.choose_revisited(Revisit::Tokens(100), &[1.0; 200]), [0u32; 0]);
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
            let chosen = plan.choose_revisited(Revisit::Tokens(count), &scores);
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
