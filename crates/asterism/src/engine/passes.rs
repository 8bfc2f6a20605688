//! The passes that a host runs over a context: forward passes, as the plan's method has them, or
//! one for each block that was saved.

use super::share;
use crate::plan::{Method, Plan, Span};
use crate::press::Repetition;
use std::collections::VecDeque;

/// One pass: something for each layer.
#[derive(Debug, Clone)]
pub(super) enum Pass {
    /// A chunk of the recomputed anchor in front of own block `block`.
    Anchor { block: usize, chunk: Span, ends: bool },
    /// A chunk of own block `block`.
    Block { block: usize, chunk: Span, ends: bool },
    /// The whole shard, in step with the other hosts (ring).
    Shard,
    /// Some tokens, `rows` of all of them, of repetition `number` of own block `block`; so many of
    /// them are of its `text`.
    Repeat { block: usize, number: usize, rows: Span, text: usize },
    /// The keys of own block `block` are pressed.
    Press { block: usize },
    /// A chunk that the query host runs over the keys of all hosts, kept by `owner` (dense).
    Dense { owner: usize, chunk: Span, ends: bool },
    /// Own block `block`, read from where it was saved.
    Saved { block: usize },
}

impl Pass {
    /// Tokens that pass on this host and are reported by it, and the own block that ends with them.
    pub(super) fn reported(&self, rank: usize, plan: &Plan) -> (usize, Option<usize>) {
        match self {
            Self::Anchor { chunk, .. } => (chunk.len, None),
            Self::Block { block, chunk, ends } => (chunk.len, ends.then_some(*block)),
            Self::Repeat { text, .. } => (*text, None),
            Self::Press { block } => (0, Some(*block)),
            Self::Shard => (plan.host_tokens(rank), Some(0)),
            Self::Dense { owner, chunk, ends } if *owner == rank => (chunk.len, ends.then_some(0)),
            Self::Dense { .. } => (0, None),
            Self::Saved { block } => {
                (share::work(plan, &share::blocks(plan, rank)[*block]), Some(*block))
            }
        }
    }
}

/// The passes of host `rank` over those of its blocks that are `missing`, each of which is repeated
/// as `repetitions` says.
pub(super) fn passes(
    plan: &Plan,
    rank: usize,
    chunk: usize,
    missing: Vec<usize>,
    repetitions: &dyn Fn(usize) -> Vec<Repetition>,
) -> VecDeque<Pass> {
    let own = share::blocks(plan, rank);
    let is_pressed = |span: Span| plan.kept(span.len).is_some();
    // A block that is pressed ends with that.
    let ends = |span: Span, chunk: Span| span.end() == chunk.end() && !is_pressed(span);
    let pressed = |block: usize, span: Span| {
        let mut passes = Vec::new();
        if plan.repeats(span.len) {
            for (number, repetition) in repetitions(block).into_iter().enumerate() {
                let asking = repetition.asking();
                let rows = Span::new(0..repetition.tokens.len()).chunks(chunk);
                passes.extend(rows.map(|rows| {
                    let text = rows.end().saturating_sub(asking.max(rows.start));
                    Pass::Repeat { block, number, rows, text }
                }));
            }
        }
        passes.extend(is_pressed(span).then_some(Pass::Press { block }));
        passes
    };
    match plan.spec.method {
        Method::Star(_) | Method::Sparse(_) => {
            // A pattern is chosen from all of a block.
            let chunk = if plan.spec.method.sparse().is_some() { plan.end() } else { chunk };
            let mut passes = VecDeque::new();
            for block in missing {
                let span = own[block][0];
                if plan.recomputes_anchor() && span.start > 0 {
                    let anchor = plan.anchor_positions(span);
                    let ends = |chunk: Span| chunk.end() == anchor.end();
                    let pass = |chunk| Pass::Anchor { block, chunk, ends: ends(chunk) };
                    passes.extend(anchor.chunks(chunk).map(pass));
                }
                let pass = |chunk| Pass::Block { block, chunk, ends: ends(span, chunk) };
                let first = if span.start == 0 { plan.first_pass(chunk) } else { 0 };
                let first = Span { start: span.start, len: first.min(span.len) };
                let rest = Span { start: first.end(), len: span.len - first.len };
                passes.extend((first.len > 0).then(|| pass(first)));
                passes.extend(rest.chunks(chunk).map(pass));
                passes.extend(pressed(block, span));
            }
            passes
        }
        Method::Ring | Method::Zigzag => missing.into_iter().map(|_| Pass::Shard).collect(),
        // A host without a share takes part all the same.
        Method::Dense if missing.is_empty() && !own.is_empty() => VecDeque::new(),
        Method::Dense => {
            let mut passes = VecDeque::new();
            for (owner, spans) in plan.hosts.iter().enumerate() {
                for span in spans {
                    let pass = |chunk| Pass::Dense { owner, chunk, ends: ends(*span, chunk) };
                    passes.extend(span.chunks(chunk).map(pass));
                    // Then the only host's only share.
                    passes.extend(pressed(0, *span));
                }
            }
            passes
        }
    }
}
