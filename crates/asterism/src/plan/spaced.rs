//! Plans for contexts that will change: blocks that do not fill the positions up to their
//! successors, so that a block can grow or shrink where it is.
//!
//! The keys of a block depend on its tokens, on the anchor and on where it stands. An edit that
//! made one block longer would move, and so encode anew, all that follow. A block of a spaced plan
//! leaves some positions free behind it; an edited plan puts new tokens into the room between the
//! blocks that stay.

use super::blocks::{Place, even};
use super::{Method, Plan, PlanError, PlanSpec, Span, Star};
use std::ops::Range;

impl Plan {
    /// Divides `tokens` tokens into blocks of at most `block - slack` tokens, each of which could
    /// grow by `slack`. A new block begins at each of `borders`, indices of tokens in rising order:
    /// where documents begin, say. None begins within the anchor, which is a part of the first: a
    /// short document in front would leave all others a short anchor.
    ///
    /// # Errors
    /// See [`PlanError`]; [`PlanError::NotSpaced`] for another method than star or another anchor
    /// than the paper's.
    pub fn spaced(
        spec: impl Into<PlanSpec>,
        tokens: usize,
        borders: &[usize],
        slack: usize,
    ) -> Result<Self, PlanError> {
        let spec = spec.into();
        let star = spaced_star(spec)?;
        if slack >= star.block {
            return Err(PlanError::TooMuchSlack { slack, block: star.block });
        }
        let first = star.anchor.min(star.block - slack).max(1);
        let ends = borders.iter().copied().filter(|border| (first..tokens).contains(border));
        let (mut blocks, mut from, mut start) = (Vec::new(), 0, 0);
        for end in ends.chain([tokens]) {
            while from < end {
                let len = (star.block - slack).min(end - from);
                blocks.push(Span { start, len });
                start += len + slack;
                from += len;
            }
        }
        Self::of_blocks(spec, blocks)
    }

    /// The plan of `new`, which `old`, the context of this plan, was changed into: blocks whose
    /// tokens are still there stay where they are; what changed between two of them takes their
    /// place. Where it does not fit, the blocks behind it move. A new block begins at each of
    /// `borders` behind the anchor, indices of `new` in rising order.
    ///
    /// # Errors
    /// As [`Plan::spaced`].
    pub fn edited(&self, old: &[u32], new: &[u32], borders: &[usize]) -> Result<Self, PlanError> {
        let star = spaced_star(self.spec)?;
        let borders = &borders[borders.partition_point(|border| *border < self.anchor)..];
        let blocks = self.spans();
        let mut kept = kept(&blocks, |block| self.tokens_at(old, block), new);
        let holds_border = |kept: &Kept| {
            let next = borders.partition_point(|border| *border <= kept.at);
            borders.get(next).is_some_and(|border| *border < kept.at + kept.block.len)
        };
        kept.retain(|kept| !holds_border(kept));
        let mut spans: Vec<Span> = Vec::new();
        let mut from = 0; // the first token that has no place yet
        for Kept { block, at } in kept {
            let (floor, count) = (spans.last().map_or(0, |last| last.end()), at - from);
            // What changed begins where the old blocks there did, or, if it is too long for that,
            // in the room that the block before it leaves.
            let gap = blocks.iter().find(|old| (floor..block.start).contains(&old.start));
            let start = gap.map_or(floor, |old| old.start);
            let start = if count > block.start - start { floor } else { start };
            if count > block.start - start {
                continue; // the block moves, with what comes before it
            }
            spans.extend(filled(start, from..at, borders, star.block));
            spans.push(block);
            from = at + block.len;
        }
        let end = spans.last().map_or(0, |last| last.end());
        let gap = blocks.iter().find(|old| old.start >= end).map(|old| old.start);
        let next = spans.last().map_or(0, |last| last.start + star.block);
        let start = gap.unwrap_or(next);
        spans.extend(filled(start, from..new.len(), borders, star.block));
        Self::of_blocks(self.spec, spans)
    }

    /// The plan of this one's blocks, if these are in order and of the size that they may have.
    pub(super) fn remade(&self) -> Result<Self, PlanError> {
        let star = spaced_star(self.spec)?;
        let blocks: Vec<Span> = self.hosts.iter().flatten().copied().collect();
        let in_order = blocks.is_sorted_by(|one, next| one.end() <= next.start);
        if !in_order || blocks.iter().any(|block| block.len > star.block) {
            return Err(PlanError::Foreign);
        }
        Self::of_blocks(self.spec, blocks)
    }

    /// The plan whose blocks are `blocks`, in order.
    fn of_blocks(spec: PlanSpec, blocks: Vec<Span>) -> Result<Self, PlanError> {
        let star = spaced_star(spec)?;
        star.check()?;
        if spec.hosts == 0 {
            return Err(PlanError::NoHosts);
        }
        let Some(first) = blocks.first() else { return Err(PlanError::EmptyContext) };
        // The anchor is a part of the first block.
        let anchor = star.anchor.min(first.len);
        let mut token = 0;
        let places = blocks
            .iter()
            .map(|block| {
                let place = Place { start: block.start, token };
                token += block.len;
                place
            })
            .collect();
        let shares = even(blocks.len(), spec.hosts);
        let hosts = shares.map(|share| blocks[share.range()].to_vec()).collect();
        Ok(Self { spec, tokens: token, anchor, hosts, places })
    }
}

/// The settings of star, if its blocks can leave room between them.
fn spaced_star(spec: PlanSpec) -> Result<Star, PlanError> {
    if let Some(press) = spec.press {
        press.check(spec)?;
    }
    match spec.method {
        Method::Star(star) if star.anchor_policy.is_paper() => Ok(star),
        _ => Err(PlanError::NotSpaced),
    }
}

/// A block whose tokens are in the new context, too, from index `at`.
struct Kept {
    block: Span,
    at: usize,
}

/// The blocks that are found in `new` in their order: those before the first change, those behind
/// the last, and of the others each where it is next found.
fn kept<'a>(blocks: &[Span], tokens: impl Fn(Span) -> &'a [u32], new: &[u32]) -> Vec<Kept> {
    let (mut front, mut from) = (Vec::new(), 0);
    let mut left = blocks;
    while let [block, rest @ ..] = left
        && new[from..].starts_with(tokens(*block))
    {
        front.push(Kept { block: *block, at: from });
        from += block.len;
        left = rest;
    }
    let (mut back, mut to) = (Vec::new(), new.len());
    while let [rest @ .., block] = left
        && new[from..to].ends_with(tokens(*block))
    {
        to -= block.len;
        back.push(Kept { block: *block, at: to });
        left = rest;
    }
    for block in left {
        let found = new[from..to].windows(block.len).position(|part| part == tokens(*block));
        if let Some(offset) = found {
            front.push(Kept { block: *block, at: from + offset });
            from += offset + block.len;
        }
    }
    front.extend(back.into_iter().rev());
    front
}

/// The tokens of the indices `range` in blocks of at most `block` tokens from position `start`, cut
/// at `borders`.
fn filled(start: usize, range: Range<usize>, borders: &[usize], block: usize) -> Vec<Span> {
    let inside = borders.iter().copied().filter(|border| range.contains(border));
    let (mut spans, mut from) = (Vec::new(), range.start);
    for end in inside.chain([range.end]) {
        let part = Span { start: start + from - range.start, len: end - from };
        spans.extend(part.chunks(block));
        from = end;
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PlanSpec;
    use proptest::prelude::*;

    fn blocks(plan: &Plan) -> Vec<(usize, usize)> {
        plan.hosts.iter().flatten().map(|span| (span.start, span.len)).collect()
    }

    #[test]
    fn blocks_leave_room_and_begin_at_borders() {
        let plan = Plan::spaced(PlanSpec::star(16).anchor(4), 40, &[0, 20, 40], 2).unwrap();
        assert_eq!(blocks(&plan), [(0, 14), (16, 6), (24, 14), (40, 6)]);
        assert_eq!((plan.tokens, plan.end(), plan.anchor), (40, 46, 4));
        let context: Vec<u32> = (0..40).collect();
        assert_eq!(plan.tokens_at(&context, Span { start: 26, len: 3 }), [22, 23, 24]);
    }

    #[test]
    fn a_short_document_in_front_leaves_the_anchor_whole() {
        let old: Vec<u32> = (0..40).collect();
        let plan = Plan::spaced(PlanSpec::star(16).anchor(8), 40, &[5, 8, 30], 0).unwrap();
        assert_eq!((blocks(&plan), plan.anchor), (vec![(0, 8), (8, 16), (24, 6), (30, 10)], 8));
        assert_eq!(plan.edited(&old, &old, &[5, 8, 30]).unwrap(), plan);
        // An anchor of a whole block, with room behind it.
        let plan = Plan::spaced(PlanSpec::star(16).anchor(16), 40, &[5, 14], 2).unwrap();
        assert_eq!((blocks(&plan)[..2].to_vec(), plan.anchor), (vec![(0, 14), (16, 14)], 14));
    }

    #[test]
    fn what_leaves_no_block_is_refused() {
        let error =
            |spec: PlanSpec, slack| Plan::spaced(spec, 40, &[], slack).unwrap_err().to_string();
        assert!(error(PlanSpec::dense(), 0).contains("only star"));
        assert!(error(PlanSpec::star(16).into(), 16).contains("16 tokens of room"));
        assert!(error(PlanSpec::star(8).into(), 0).contains("too small"));
    }

    #[test]
    fn a_block_grows_into_its_room_and_its_successors_stay() {
        let old: Vec<u32> = (0..60).collect();
        let plan = Plan::spaced(PlanSpec::star(16).anchor(4), 60, &[], 2).unwrap();
        let mut new = old.clone();
        new.splice(20..21, [100, 101, 102]); // one token becomes three, in the second block
        let edited = plan.edited(&old, &new, &[]).unwrap();
        assert_eq!(blocks(&edited), [(0, 14), (16, 16), (32, 14), (48, 14), (64, 4)]);
        // Two more: they also take the room of the block before.
        new.splice(20..20, [103, 104]);
        let edited = plan.edited(&old, &new, &[]).unwrap();
        assert_eq!(blocks(&edited), [(0, 14), (14, 16), (30, 2), (32, 14), (48, 14), (64, 4)]);
        // One more: the block behind them moves, into its own room.
        new.splice(20..20, [105]);
        let edited = plan.edited(&old, &new, &[]).unwrap();
        assert_eq!(blocks(&edited), [(0, 14), (14, 16), (30, 16), (46, 1), (48, 14), (64, 4)]);
        // Taken out: a gap.
        let edited = plan.edited(&old, &old[..40], &[]).unwrap();
        assert_eq!(blocks(&edited), [(0, 14), (16, 14), (32, 12)]);
    }

    #[test]
    fn an_edited_plan_begins_blocks_at_its_borders() {
        let old: Vec<u32> = (0..60).collect();
        let plan = Plan::spaced(PlanSpec::star(16).anchor(4), 60, &[20, 30], 2).unwrap();
        assert_eq!(blocks(&plan), [(0, 14), (16, 6), (24, 10), (36, 14), (52, 14), (68, 2)]);
        // The second part is another, and the third begins with a token more.
        let mut new = old.clone();
        new.splice(20..30, 100..108);
        new.insert(28, 200);
        let edited = plan.edited(&old, &new, &[20, 28]).unwrap();
        assert_eq!(
            blocks(&edited),
            [(0, 14), (16, 6), (24, 8), (32, 1), (36, 14), (52, 14), (68, 2)]
        );
        // A border within what would have stayed.
        let edited = plan.edited(&old, &old, &[18, 30]).unwrap();
        assert_eq!(blocks(&edited)[..3], [(0, 14), (16, 4), (20, 2)]);
    }

    proptest! {
        #[test]
        fn edited_plans_cover_the_new_tokens_in_order_and_keep_what_they_can(
            old in prop::collection::vec(0u32..4, 1..300),
            edits in prop::collection::vec(
                (any::<prop::sample::Index>(), 0usize..30, prop::collection::vec(4u32..6, 0..30)),
                0..3,
            ),
            slack in 0usize..12,
        ) {
            let plan = Plan::spaced(PlanSpec::star(16).anchor(4), old.len(), &[], slack).unwrap();
            let mut new = old.clone();
            for (at, taken, given) in edits {
                let at = at.index(new.len() + 1);
                let end = (at + taken).min(new.len());
                new.splice(at..end, given);
            }
            prop_assume!(!new.is_empty());
            let edited = plan.edited(&old, &new, &[]).unwrap();
            prop_assert_eq!(edited.tokens, new.len());
            let (mut end, mut tokens) = (0, Vec::new());
            for span in edited.hosts.iter().flatten() {
                prop_assert!(span.start >= end && (1..=16).contains(&span.len));
                end = span.end();
                tokens.extend_from_slice(edited.tokens_at(&new, *span));
            }
            prop_assert_eq!(&tokens, &new);
            if new == old {
                prop_assert_eq!(edited, plan);
            }
        }
    }
}
