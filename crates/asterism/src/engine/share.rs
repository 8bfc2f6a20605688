//! What a host keeps of a context: blocks (star), or one share (other methods).

use crate::cache::BlockKey;
use crate::plan::{Method, Plan, Span};
use crate::press::RepeatPrompt;

/// The pieces that host `rank` encodes and keeps, each as runs of positions: a block has one, the
/// share of another method one or two.
pub(super) fn blocks(plan: &Plan, rank: usize) -> Vec<Vec<Span>> {
    let spans = &plan.hosts[rank];
    match plan.spec.method {
        Method::Star(_) | Method::Sparse(_) => spans.iter().map(|span| vec![*span]).collect(),
        // A ring host without tokens passes on what others send.
        Method::Ring | Method::Zigzag => vec![spans.clone()],
        Method::Dense if spans.is_empty() => Vec::new(),
        Method::Dense => vec![spans.clone()],
    }
}

/// The key of each of [`blocks`] for a model with a vocabulary of `vocab` tokens, where `prompt`
/// asks for blocks to be repeated.
pub(super) fn keys(
    plan: &Plan,
    context: &[u32],
    vocab: usize,
    prompt: Option<&RepeatPrompt>,
    rank: usize,
) -> Vec<BlockKey> {
    // Keys depend on what was left out. `star` alone is the name of blocks that leave nothing out.
    let how = |name: &str| match plan.spec.method.sparse() {
        Some(sparse) => format!("{name} {sparse}"),
        None => name.to_owned(),
    };
    // What is kept of a block depends on how it is chosen.
    let pressed = |tokens: usize| match plan.spec.press.filter(|_| plan.kept(tokens).is_some()) {
        Some(press) if plan.repeats(tokens) => format!(" {press} {prompt:?}"),
        Some(press) => format!(" {press}"),
        None => String::new(),
    };
    let star = |span: &Span| {
        let pressed = pressed(span.len);
        if span.start == 0 || plan.anchor == 0 {
            let how = how("star") + &pressed;
            return BlockKey::of(&how, 0, &[], *span, plan.tokens_at(context, *span));
        }
        let (how, at, before) = if plan.shares_anchor() {
            // What the anchor's tokens leave out is chosen by all of the first block.
            let first = match plan.spec.method.sparse() {
                Some(_) => plan.first_block(),
                None => plan.anchor,
            };
            (how("star"), 0, context[..first].to_vec())
        } else {
            let before = plan.anchor_tokens(context, *span, vocab);
            (how("star recomputed"), plan.anchor_positions(*span).start, before)
        };
        let how = how + &pressed;
        BlockKey::of(&how, at, &before, *span, plan.tokens_at(context, *span))
    };
    match plan.spec.method {
        Method::Star(_) | Method::Sparse(_) => plan.hosts[rank].iter().map(star).collect(),
        method => blocks(plan, rank)
            .iter()
            .map(|spans| {
                // Exact keys depend on everything before them.
                let end = spans.last().map_or(0, |span| span.end());
                let pressed = pressed(spans.iter().map(|span| span.len).sum());
                let how = format!("{method} {spans:?}{pressed}");
                BlockKey::of(&how, 0, &[], Span::new(0..end), &context[..end])
            })
            .collect(),
    }
}

/// Tokens that pass through the model for one of [`blocks`], its recomputed anchor and the
/// repetition of its text included.
pub(super) fn work(plan: &Plan, block: &[Span]) -> usize {
    let own: usize = block.iter().map(|span| span.len).sum();
    let recomputes = plan.recomputes_anchor() && block.first().is_some_and(|span| span.start > 0);
    let repeated = if plan.repeats(own) { own } else { 0 };
    own + repeated + if recomputes { plan.anchor } else { 0 }
}
