//! Which tokens of a context are computed anew for a question: those that the question looks at.
//!
//! A block of star never sees what came before it but the anchor, so facts of different blocks are
//! not read in the light of each other. The few tokens that the question gives most of its softmax
//! weight are computed once more, this time with all of the context before them in sight; the
//! question then runs over keys that are right where it looks.

mod choose;
mod cost;

pub use cost::RevisitCost;

use serde::{Deserialize, Serialize};

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

/// Which tokens of a context are computed anew. All but the default are there to see what a choice
/// is worth (docs/revisit.md).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RevisitBy {
    /// Those the question looks at, with their neighbourhoods: by its weight in all layers.
    #[default]
    Question,
    /// Any, the same in every run.
    Random,
    /// The first of every block, as EPIC (arXiv 2410.15332) has them for chunks that are reused.
    First,
    /// As [`Self::Question`], by the last half of the layers only.
    Late,
    /// As [`Self::Question`], by the layer that gives a token most.
    Largest,
    /// As [`Self::Question`], each token by its own weight alone.
    Tokens,
    /// Half of them as [`Self::Question`] has them. When these are computed anew the question
    /// weighs again, over their new keys, and the other half is chosen; then all are computed anew
    /// together, so that each sees the new keys of all before it.
    Rounds,
    /// Without the question: those whose values change most in the second layer once the first one
    /// attends to all that is before them, as CacheBlend (arXiv 2405.16444) has them for chunks
    /// that are reused.
    Values,
}

impl RevisitBy {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Question,
        Self::Random,
        Self::First,
        Self::Late,
        Self::Largest,
        Self::Tokens,
        Self::Rounds,
        Self::Values,
    ];

    /// Its name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Question => "question",
            Self::Random => "random",
            Self::First => "first",
            Self::Late => "late",
            Self::Largest => "largest",
            Self::Tokens => "tokens",
            Self::Rounds => "rounds",
            Self::Values => "values",
        }
    }

    /// Whether a question's weights are needed of every layer by itself; their sum will do
    /// otherwise.
    #[must_use]
    pub const fn is_by_layer(self) -> bool {
        matches!(self, Self::Late | Self::Largest)
    }

    /// A score for each of `tokens` tokens from what the question gives them, `weights [layers,
    /// tokens]`, or `[1, tokens]` where the sum over layers will do.
    #[must_use]
    pub fn scores(self, weights: &[f32], tokens: usize) -> Vec<f32> {
        let layers = weights.len() / tokens.max(1);
        let counted = if self == Self::Late { layers / 2 } else { 0 };
        let mut scores = vec![0.0; tokens];
        for layer in weights.chunks_exact(tokens.max(1)).skip(counted) {
            for (score, weight) in scores.iter_mut().zip(layer) {
                *score = if self == Self::Largest { weight.max(*score) } else { *score + weight };
            }
        }
        scores
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn scores_are_sums_or_the_largest_of_layers() {
        // [4 layers, 2 tokens]
        let weights = [1.0, 4.0, 2.0, 3.0, 3.0, 2.0, 4.0, 1.5];
        assert_eq!(RevisitBy::Question.scores(&weights, 2), [10.0, 10.5]);
        assert_eq!(RevisitBy::Late.scores(&weights, 2), [7.0, 3.5]);
        assert_eq!(RevisitBy::Largest.scores(&weights, 2), [4.0, 4.0]);
        // Of an odd number of layers the later half is the larger.
        assert_eq!(RevisitBy::Late.scores(&weights[..6], 2), [5.0, 5.0]);
        assert_eq!(RevisitBy::Rounds.scores(&weights[..2], 2), [1.0, 4.0]);
    }
}
