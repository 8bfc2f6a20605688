//! Where an answer comes from: the blocks of a context that its question looks at more than a
//! question does that asks nothing.

use crate::plan::{Plan, Span};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Tokens of [`Source::best`], in blocks that have as many.
const BEST: usize = 64;

/// Tokens in the middle of them, for which it is chosen: a question looks at the few words that it
/// has in common with the text, and its answer stands before or behind them.
const MIDDLE: usize = 16;

/// Tokens at the beginning of a context that no source counts, if its anchor is shorter: every
/// question gives the first few much of its weight, whatever they say.
const SINKS: usize = 16;

/// Tokens of the parts that stand for blocks in contexts without blocks.
const PART: usize = 1024;

/// A block of a context, and how much its question looked at it: softmax weight that the question's
/// tokens give to the block's, added up over heads and layers.
///
/// Tokens of the anchor, and the first 16 of any context, do not count: every question looks at
/// them, whatever they say. Where the anchor is the whole first block, so that nothing would be
/// left of it, only those 16 do not. Contexts that were not encoded by star have no blocks; parts
/// of 1,024 tokens stand for them.
///
/// A question that asks nothing is what surrounds one in the model's prompt, the context's
/// [frame](super::Context::frame). Without a frame it is taken to look at all tokens alike, which
/// none does: what stands near the end then counts for more than it should.
/// [`Context::within`](super::Context::within) gives a frame to contexts of tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Source {
    /// Positions of the block's tokens; [`Plan::indices`] are those of
    /// [`Context::tokens`](super::Context::tokens).
    pub span: Span,
    /// The block's share of the question's weight, from 0 to 1, less the share that it has of the
    /// weight of a question that asks nothing. Shares of all blocks add up to 0: a block with more
    /// than 0 is looked at because of what is asked.
    pub share: f32,
    /// 64 tokens of the block, around the 16 for which the same difference is largest; all that
    /// count of a shorter one.
    pub best: Span,
    /// The difference for those 16. Sources come in its order, largest first: a few words that a
    /// question looks for stand out more than their block does, whose other tokens get more or less
    /// than from a question that asks nothing because they are near the end, say.
    pub best_share: f32,
}

/// How much a question that asks nothing looks at each token of a context, `[plan.tokens]`, once
/// some question has wanted to know.
pub(super) type Baseline = Arc<OnceLock<Vec<f32>>>;

/// What a question needs that wants to know its sources.
pub(super) struct Sourcing {
    /// A question that asks nothing, to be run if `baseline` is not known yet; `None` where
    /// nothing surrounds a question, and the baseline gives every token the same.
    pub(super) blank: Option<Vec<u32>>,
    pub(super) baseline: Baseline,
}

impl Sourcing {
    /// The question that has to run before there is a baseline.
    pub(super) fn to_run(&self) -> Option<&[u32]> {
        self.blank.as_deref().filter(|_| self.baseline.get().is_none())
    }

    /// The sources of a question about a context of `plan` that looks at its tokens as `weights
    /// [plan.tokens]` say, in their order.
    pub(super) fn sources(&self, plan: &Plan, weights: &[f32]) -> Vec<Source> {
        match self.baseline.get() {
            Some(baseline) => sources(plan, weights, baseline),
            None => sources(plan, weights, &vec![1.0; plan.tokens]),
        }
    }
}

/// The sources of a question that looks at the tokens of a context as `weights [plan.tokens]` say,
/// where one that asks nothing looks as `baseline [plan.tokens]` says.
fn sources(plan: &Plan, weights: &[f32], baseline: &[f32]) -> Vec<Source> {
    let spans = spans(plan);
    let from = left_out(plan, &spans);
    let (of_question, of_blank) = (scale(&weights[from..]), scale(&baseline[from..]));
    // [tokens + 1]: what all tokens before have more of the question than of the baseline.
    let mut before = vec![0.0; plan.tokens + 1];
    for token in 0..plan.tokens {
        let more = f64::from(weights[token]) * of_question - f64::from(baseline[token]) * of_blank;
        before[token + 1] = before[token] + if token < from { 0.0 } else { more };
    }
    let share = |tokens: Range<usize>| before[tokens.end] - before[tokens.start];
    let (mut sources, mut first) = (Vec::with_capacity(spans.len()), 0);
    for span in spans {
        let (start, end) = (first.max(from), first + span.len);
        if start < end {
            let (len, middle) = (BEST.min(end - start), MIDDLE.min(end - start));
            let mut best = start;
            for other in start..=end - middle {
                if share(other..other + middle) > share(best..best + middle) {
                    best = other;
                }
            }
            let around = best.saturating_sub((len - middle) / 2).clamp(start, end - len);
            sources.push(Source {
                span,
                share: share(start..end) as f32,
                best: Span { start: span.start + around - first, len },
                best_share: share(best..best + middle) as f32,
            });
        }
        first = end;
    }
    let order = |a: &Source, b: &Source| b.best_share.total_cmp(&a.best_share);
    sources.sort_by(|a, b| order(a, b).then(a.span.start.cmp(&b.span.start)));
    sources
}

/// The blocks of a plan, or what stands for them, in order.
fn spans(plan: &Plan) -> Vec<Span> {
    match plan.spec.method.as_star() {
        Some(_) => plan.spans(),
        None => Span::new(0..plan.tokens).chunks(PART).collect(),
    }
}

/// How many tokens at the beginning of a context do not count.
fn left_out(plan: &Plan, spans: &[Span]) -> usize {
    let first = spans.first().map_or(0, |first| first.len);
    let anchor = if plan.anchor < first { plan.anchor } else { 0 };
    anchor.max(SINKS).min(plan.tokens)
}

/// What makes the sum of `weights` 1, unless it is 0.
fn scale(weights: &[f32]) -> f64 {
    let sum: f64 = weights.iter().copied().map(f64::from).sum();
    if sum > 0.0 { sum.recip() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PlanSpec;
    use proptest::prelude::*;

    #[test]
    fn what_a_blank_question_does_not_look_at_comes_first() {
        let plan = Plan::new(PlanSpec::star(200).anchor(50).hosts(2), 700).unwrap();
        let (mut weights, mut blank) = (vec![1.0; 700], vec![1.0; 700]);
        // The anchor draws everybody; so does a token of the second block.
        (weights[3], blank[3]) = (9000.0, 7000.0);
        (weights[250], blank[250]) = (700.0, 700.0);
        weights[450] = 100.0;
        let found = sources(&plan, &weights, &blank);
        assert_eq!(found[0].span, Span::new(400..600));
        let best = found[0].best;
        assert!(best.len == 64 && (best.start + 24..best.end() - 24).contains(&450), "{best:?}");
        let more = 299.0 / 1448.0 - 200.0 / 1349.0;
        assert!((f64::from(found[0].share) - more).abs() < 1e-6, "{found:?}");
        assert!(found[1..].iter().all(|source| source.share < 0.0));
    }

    #[test]
    fn blocks_with_room_between_them_keep_their_positions() {
        let plan = Plan::spaced(PlanSpec::star(100).anchor(20), 250, &[], 30).unwrap();
        let mut weights = vec![0.0; 250];
        weights[140..250].fill(1.0);
        weights[240] = 300.0;
        let found = sources(&plan, &weights, &[1.0; 250]);
        assert_eq!(found[0].span, Span::new(300..340), "{found:?}");
        assert_eq!(plan.indices(found[0].span), 210..250);
        assert_eq!(found[0].best, found[0].span);
    }

    #[test]
    fn an_anchor_of_a_whole_block_leaves_the_block() {
        for anchor in [0, 64] {
            let plan = Plan::new(PlanSpec::star(64).anchor(anchor), 128).unwrap();
            let mut weights = vec![1.0; 128];
            weights[30] = 50.0;
            let found = sources(&plan, &weights, &[1.0; 128]);
            assert_eq!(found[0].span, Span::new(0..64));
            assert_eq!(found[0].best, Span::new(16..64));
        }
    }

    #[test]
    fn nothing_comes_from_a_context_of_first_tokens() {
        let plan = Plan::new(PlanSpec::dense(), 9).unwrap();
        assert_eq!(sources(&plan, &[1.0; 9], &[1.0; 9]), []);
    }

    proptest! {
        #[test]
        fn shares_add_up_to_nothing_and_those_of_the_best_fall(
            tokens in 17usize..3000, block in 16usize..400, anchor in 0usize..400,
            dense in any::<bool>(), seed in any::<u32>(),
        ) {
            let star = PlanSpec::from(PlanSpec::star(block).anchor(anchor.min(block)));
            let spec = if dense { PlanSpec::dense() } else { star };
            let plan = Plan::new(spec, tokens).unwrap();
            let draw = |token: usize, salt: u32| {
                ((token as u32 ^ salt).wrapping_mul(seed | 1) >> 8) as f32
            };
            let weights: Vec<f32> = (0..tokens).map(|token| draw(token, 0)).collect();
            let blank: Vec<f32> = (0..tokens).map(|token| draw(token, 77)).collect();
            let found = sources(&plan, &weights, &blank);
            let sum: f32 = found.iter().map(|source| source.share).sum();
            prop_assert!(sum.abs() < 1e-4, "{}", sum);
            prop_assert!(found.is_sorted_by(|a, b| a.best_share >= b.best_share));
            for source in found {
                prop_assert!(source.span.start <= source.best.start);
                prop_assert!(source.best.end() <= source.span.end());
                prop_assert!(source.best.len == 64.min(source.best.len));
            }
        }
    }
}
