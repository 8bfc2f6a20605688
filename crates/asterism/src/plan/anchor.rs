//! What stands in front of a block and at which positions: the paper's anchor, and those its anchor
//! study compares it with (arXiv 2411.17116, table 4).

use super::{Plan, Span, Star};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Which tokens an anchor of `anchor` tokens has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AnchorContent {
    /// The first ones of the context, as in the paper.
    #[default]
    First,
    /// One token repeated: the most frequent one of the context (in English text a space,
    /// ` the` or `.`, the paper's examples), the lowest of several.
    Constant,
    /// Any tokens of the vocabulary, drawn anew for every block.
    Random,
    /// The first ones of the context in random order, drawn anew for every block.
    Shuffled,
    /// The first ones of the block before.
    Previous,
}

impl AnchorContent {
    /// Every content.
    pub const ALL: [Self; 5] =
        [Self::First, Self::Constant, Self::Random, Self::Shuffled, Self::Previous];

    /// Its name in a method's settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Constant => "constant",
            Self::Random => "random",
            Self::Shuffled => "shuffled",
            Self::Previous => "previous",
        }
    }
}

/// At which positions an anchor stands: a run that ends at or before the block's start, so that the
/// whole block sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AnchorPlace {
    /// The first ones, as in the paper.
    #[default]
    First,
    /// The first ones of the block before.
    Previous,
    /// Anywhere before the block, drawn anew for every block.
    Random,
}

impl AnchorPlace {
    /// Every place.
    pub const ALL: [Self; 3] = [Self::First, Self::Previous, Self::Random];

    /// Its name in a method's settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Previous => "previous",
            Self::Random => "random",
        }
    }
}

/// What stands in front of every block but the first, and where. The default is the paper's anchor;
/// any other differs from the first block's own keys and is computed for every block
/// ([`AnchorKv::Recompute`](super::AnchorKv::Recompute)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AnchorPolicy {
    /// Its tokens.
    pub content: AnchorContent,
    /// Its positions.
    pub place: AnchorPlace,
    /// Decides what is drawn: the same seed draws the same for a block, whichever host encodes it.
    pub seed: u64,
}

impl AnchorPolicy {
    /// The paper's anchor: the beginning of the context, at its own positions.
    pub const PAPER: Self =
        Self { content: AnchorContent::First, place: AnchorPlace::First, seed: 0 };

    /// Whether the anchor is the beginning of the context at its own positions.
    #[must_use]
    pub fn is_paper(&self) -> bool {
        (self.content, self.place) == (AnchorContent::First, AnchorPlace::First)
    }
}

/// What a draw is for: what is drawn for one does not depend on the other.
#[derive(Clone, Copy)]
enum Purpose {
    Content,
    Place,
}

impl Plan {
    /// The tokens of the anchor in front of `block`, which is one of the plan's and not the first:
    /// `[anchor]` tokens of `context` or, if they are random, below `vocab`. Empty for methods
    /// without an anchor.
    #[must_use]
    pub fn anchor_tokens(&self, context: &[u32], block: Span, vocab: usize) -> Vec<u32> {
        let Some(star) = self.spec.method.as_star() else { return Vec::new() };
        let first = &context[..self.anchor];
        match star.anchor_policy.content {
            AnchorContent::First => first.to_vec(),
            AnchorContent::Constant => vec![most_common(context); self.anchor],
            AnchorContent::Random => {
                let mut draws = star.draws(block, Purpose::Content);
                (0..self.anchor).map(|_| below(&mut draws, vocab) as u32).collect()
            }
            AnchorContent::Shuffled => {
                let mut draws = star.draws(block, Purpose::Content);
                let mut tokens = first.to_vec();
                // Fisher and Yates.
                for end in (2..=tokens.len()).rev() {
                    tokens.swap(end - 1, below(&mut draws, end));
                }
                tokens
            }
            AnchorContent::Previous => context[star.previous(block, self.anchor).range()].to_vec(),
        }
    }

    /// The positions of the anchor in front of `block`, which is one of the plan's and not the
    /// first. Empty for methods without an anchor.
    #[must_use]
    pub fn anchor_positions(&self, block: Span) -> Span {
        let Some(star) = self.spec.method.as_star() else { return Span::new(0..0) };
        match star.anchor_policy.place {
            AnchorPlace::First => Span::new(0..self.anchor),
            AnchorPlace::Previous => star.previous(block, self.anchor),
            AnchorPlace::Random => {
                let places = block.start - self.anchor + 1;
                let start = below(&mut star.draws(block, Purpose::Place), places);
                Span { start, len: self.anchor }
            }
        }
    }
}

impl Star {
    /// The first `len` tokens, at most a block, of the block before `block`. All blocks but the
    /// last are whole.
    fn previous(self, block: Span, len: usize) -> Span {
        Span { start: block.start - self.block, len }
    }

    /// A stream of random numbers of its own for every block.
    fn draws(self, block: Span, purpose: Purpose) -> Xoshiro256PlusPlus {
        let stream = 2 * block.start as u64 + purpose as u64;
        Xoshiro256PlusPlus::seed_from_u64(self.anchor_policy.seed ^ stream.rotate_left(32))
    }
}

/// A number in `0..end`: the high half of a product. With 64 bits drawn, none of them is noticeably
/// likelier than another.
fn below(draws: &mut Xoshiro256PlusPlus, end: usize) -> usize {
    ((u128::from(draws.next_u64()) * end as u128) >> 64) as usize
}

/// The token that occurs most often, the lowest of several; 0 if there is none.
fn most_common(tokens: &[u32]) -> u32 {
    let mut counts = HashMap::new();
    for token in tokens {
        *counts.entry(*token).or_insert(0_usize) += 1;
    }
    let most = counts.into_iter().max_by_key(|(token, count)| (*count, std::cmp::Reverse(*token)));
    most.map_or(0, |(token, _)| token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{AnchorKv, PlanError};
    use proptest::prelude::*;

    const VOCAB: usize = 50;

    /// Blocks of `block` tokens behind recomputed anchors of `anchor` tokens.
    fn star(policy: AnchorPolicy, block: usize, anchor: usize) -> Star {
        Star::new(block).anchor(anchor).anchor_kv(AnchorKv::Recompute).anchor_policy(policy)
    }

    fn of(content: AnchorContent, place: AnchorPlace) -> AnchorPolicy {
        AnchorPolicy { content, place, seed: 7 }
    }

    /// Tokens of a context of 70, five of them 9.
    fn context() -> Vec<u32> {
        (0..70).map(|i| if i % 16 == 1 { 9 } else { 100 + i }).collect()
    }

    #[test]
    fn contents_are_what_their_names_say() {
        let block = Span::new(48..64);
        let tokens = |content| {
            let spec = star(of(content, AnchorPlace::First), 16, 4).hosts(2);
            Plan::new(spec, 70).unwrap().anchor_tokens(&context(), block, VOCAB)
        };
        assert_eq!(tokens(AnchorContent::First), [100, 9, 102, 103]);
        assert_eq!(tokens(AnchorContent::Constant), [9; 4]);
        assert_eq!(tokens(AnchorContent::Previous), [132, 9, 134, 135]);
        let mut shuffled = tokens(AnchorContent::Shuffled);
        shuffled.sort_unstable();
        assert_eq!(shuffled, [9, 100, 102, 103]);
    }

    #[test]
    fn places_are_what_their_names_say() {
        // The last block is shorter, the one before it is not.
        let block = Span::new(64..70);
        let place = |place| {
            let spec = star(of(AnchorContent::First, place), 16, 4).hosts(2);
            Plan::new(spec, 70).unwrap().anchor_positions(block)
        };
        assert_eq!(place(AnchorPlace::First), Span::new(0..4));
        assert_eq!(place(AnchorPlace::Previous), Span::new(48..52));
    }

    #[test]
    fn only_the_papers_anchor_can_be_shared() {
        let shared = |policy| star(policy, 16, 16).anchor_kv(AnchorKv::Shared);
        assert!(Plan::new(shared(AnchorPolicy { seed: 3, ..AnchorPolicy::default() }), 70).is_ok());
        for policy in [
            of(AnchorContent::Random, AnchorPlace::First),
            of(AnchorContent::First, AnchorPlace::Previous),
        ] {
            let error = Plan::new(shared(policy), 70).unwrap_err();
            assert_eq!(error, PlanError::SharedPolicy(policy));
            for word in [policy.content.name(), policy.place.name(), "recompute"] {
                assert!(error.to_string().contains(word), "{error}");
            }
        }
    }

    #[test]
    fn ties_go_to_the_lowest_token() {
        assert_eq!(most_common(&[5, 3, 5, 3, 8]), 3);
        assert_eq!(most_common(&[]), 0);
    }

    proptest! {
        #[test]
        fn an_anchor_stands_before_its_block_whoever_encodes_it(
            content in 0usize..5, place in 0usize..3, seed in any::<u64>(), tokens in 1usize..600,
            block in 16usize..90, anchor in 0usize..90, hosts in 2usize..9,
        ) {
            let (content, place) = (AnchorContent::ALL[content], AnchorPlace::ALL[place]);
            let policy = AnchorPolicy { content, place, seed };
            let star = star(policy, block, anchor.min(block));
            let many = Plan::new(star.hosts(hosts), tokens).unwrap();
            let one = Plan::new(star, tokens).unwrap();
            let context: Vec<u32> = (1000..1000 + tokens as u32).collect();
            for block in many.hosts.iter().flatten().filter(|block| block.start > 0) {
                let positions = many.anchor_positions(*block);
                prop_assert_eq!(positions.len, many.anchor);
                prop_assert!(positions.end() <= block.start);
                prop_assert_eq!(positions, one.anchor_positions(*block));
                let anchor = many.anchor_tokens(&context, *block, VOCAB);
                prop_assert_eq!(anchor.len(), many.anchor);
                prop_assert_eq!(&anchor, &one.anchor_tokens(&context, *block, VOCAB));
                if content == AnchorContent::Random {
                    prop_assert!(anchor.iter().all(|token| (*token as usize) < VOCAB));
                }
            }
        }

        #[test]
        fn random_draws_differ_between_seeds_blocks_and_purposes(seed in any::<u64>()) {
            let policy = AnchorPolicy { seed, ..of(AnchorContent::Random, AnchorPlace::Random) };
            let here = Plan::new(star(policy, 64, 64), 640).unwrap();
            let policy = AnchorPolicy { seed: seed ^ 1, ..policy };
            let there = Plan::new(star(policy, 64, 64), 640).unwrap();
            let tokens = |plan: &Plan, block: usize| {
                plan.anchor_tokens(&[0; 640], plan.hosts[0][block], 1000)
            };
            prop_assert_ne!(tokens(&here, 2), tokens(&here, 3));
            prop_assert_ne!(tokens(&here, 2), tokens(&there, 2));
        }
    }
}
