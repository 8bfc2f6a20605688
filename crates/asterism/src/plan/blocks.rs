//! Which host encodes which tokens.

use super::{AnchorKv, AnchorPolicy, Method, PlanSpec, Press, RevisitBy, Sparse, Star};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Blocks smaller than this are refused: the anchor could hold no sentence, and the overhead of a
/// block would exceed its work.
pub const MIN_BLOCK: usize = 16;

/// Tokens at consecutive positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span {
    /// Position of the first token.
    pub start: usize,
    /// Number of tokens.
    pub len: usize,
}

impl Span {
    /// The tokens `start..end`.
    #[must_use]
    pub const fn new(range: Range<usize>) -> Self {
        Self { start: range.start, len: range.end - range.start }
    }

    /// Position after the last token.
    #[must_use]
    pub const fn end(self) -> usize {
        self.start + self.len
    }

    /// The positions as a range.
    #[must_use]
    pub const fn range(self) -> Range<usize> {
        self.start..self.end()
    }

    /// The positions, one by one.
    pub fn positions(self) -> impl Iterator<Item = u32> {
        self.range().map(|position| position as u32)
    }

    /// The span cut into pieces of at most `size` tokens.
    pub fn chunks(self, size: usize) -> impl Iterator<Item = Span> {
        (self.start..self.end())
            .step_by(size.max(1))
            .map(move |start| Self::new(start..(start + size).min(self.end())))
    }
}

/// Why a plan cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The block holds too few tokens.
    #[error("a block of {0} tokens is too small: use at least {MIN_BLOCK}")]
    BlockTooSmall(usize),
    /// The anchor is a part of the first block.
    #[error("an anchor of {anchor} tokens does not fit the block of {block}: use at most {block}")]
    AnchorAboveBlock {
        /// Tokens asked for.
        anchor: usize,
        /// Tokens of a block.
        block: usize,
    },
    /// The first host has no other anchor to share than its own first tokens.
    #[error(
        "an anchor of {} content at {} positions is not the first block's own: recompute it for \
         every block instead of sharing it",
        .0.content.name(), .0.place.name()
    )]
    SharedPolicy(AnchorPolicy),
    /// Blocks with gaps between them are a matter of star with the paper's anchor.
    #[error("only star with the anchor of the paper can leave room between blocks")]
    NotSpaced,
    /// There is more room than block.
    #[error("{slack} tokens of room leave nothing of a block of {block}: use less than the block")]
    TooMuchSlack {
        /// Tokens of room in every block.
        slack: usize,
        /// Tokens of a block.
        block: usize,
    },
    /// A pattern is chosen from all queries and keys of a context, on one host.
    #[error(
        "{} runs on one host, not on {hosts}: use 1, or star with the pattern within its blocks",
        .sparse.name()
    )]
    SparseHosts {
        /// The method.
        sparse: Sparse,
        /// Hosts asked for.
        hosts: usize,
    },
    /// A pattern that came from elsewhere.
    #[error("the settings {0} are none that can be given")]
    SparseSettings(Sparse),
    /// A plan needs at least one host.
    #[error("0 hosts: use at least one")]
    NoHosts,
    /// A share of keys that leaves none, or more than there are.
    #[error("{0} hundredths of a per cent of the keys cannot be kept: use 1 to 10000")]
    KeepsNothing(u32),
    /// Keys of blocks cannot be chosen by a question: none of them but the last ends with it.
    #[error("snapkv-seen is a reference for the whole text: it goes with dense, not with star")]
    QuestionOfBlocks,
    /// Keys that lie on several hosts, or travel between them, are not scored.
    #[error(
        "keys of {method} on {hosts} host(s) cannot be pressed: their scores need all keys of a \
         context in one place; use star, or dense on one host"
    )]
    NotPressed {
        /// The method.
        method: &'static str,
        /// Its hosts.
        hosts: usize,
    },
    /// Values that are gone cannot be compared.
    #[error(
        "tokens to revisit cannot be chosen by values of which only {} % are kept: keep all, or \
         choose them by the question",
        f64::from(.0.keep) / 100.0
    )]
    PressedValues(Press),
    /// Nothing to encode.
    #[error("the context is empty")]
    EmptyContext,
    /// A plan from elsewhere whose parts do not belong together.
    #[error("its plan is none that this version makes")]
    Foreign,
}

/// Which host encodes which positions of a context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The method and the number of hosts.
    pub spec: PlanSpec,
    /// Length of the context.
    pub tokens: usize,
    /// Tokens of the anchor: as many as star's settings say, or the whole context if that is
    /// shorter; 0 for other methods.
    pub anchor: usize,
    /// Per host, the spans it encodes and whose keys it keeps, in order. Star: its blocks.
    /// Together they cover `0..end()` once, but for the gaps of a [spaced](Self::spaced) plan.
    pub hosts: Vec<Vec<Span>>,
    /// Where positions and places in the context part, behind a gap: the position of a block's
    /// first token and that token's index. Empty if position `i` is that of token `i` throughout.
    pub(super) places: Vec<Place>,
}

/// Where a block of a [spaced](Plan::spaced) plan is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Position of its first token.
    pub(super) start: usize,
    /// Index of its first token in the context.
    pub(super) token: usize,
}

impl Plan {
    /// Divides `tokens` tokens as `spec` says.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn new(spec: impl Into<PlanSpec>, tokens: usize) -> Result<Self, PlanError> {
        let spec = spec.into();
        if spec.hosts == 0 {
            return Err(PlanError::NoHosts);
        }
        if tokens == 0 {
            return Err(PlanError::EmptyContext);
        }
        if let Some(press) = spec.press {
            press.check(spec)?;
        }
        let (hosts, anchor) = match spec.method {
            Method::Star(star) => {
                star.check()?;
                if let (RevisitBy::Values, Some(press)) = (star.revisit_by, spec.press) {
                    return Err(PlanError::PressedValues(press));
                }
                (blocks(tokens, star.block, spec.hosts), star.anchor.min(tokens))
            }
            Method::Ring | Method::Dense => {
                (even(tokens, spec.hosts).map(|span| non_empty(vec![span])).collect(), 0)
            }
            Method::Zigzag => (zigzag(tokens, spec.hosts), 0),
            Method::Sparse(sparse) if spec.hosts > 1 => {
                return Err(PlanError::SparseHosts { sparse, hosts: spec.hosts });
            }
            Method::Sparse(_) => (vec![vec![Span::new(0..tokens)]], 0),
        };
        if let Some(sparse) = spec.method.sparse().filter(|sparse| !sparse.is_possible()) {
            return Err(PlanError::SparseSettings(sparse));
        }
        Ok(Self { spec, tokens, anchor, hosts, places: Vec::new() })
    }

    /// The plan, if it is one that can be made: for plans from elsewhere. It takes as long as the
    /// plan has [tokens](Self::tokens), whatever its blocks are.
    ///
    /// # Errors
    /// [`PlanError::Foreign`], and what making it would give.
    pub fn checked(self) -> Result<Self, PlanError> {
        // Positions of a model are far below this; sums of these cannot overflow.
        let fits = |span: &Span| span.len > 0 && span.start.max(span.len) < 1 << 40;
        if self.hosts.len() != self.spec.hosts || !self.hosts.iter().flatten().all(fits) {
            return Err(PlanError::Foreign);
        }
        let made = if self.places.is_empty() {
            Self::new(self.spec, self.tokens)?
        } else {
            self.remade()?
        };
        if made == self { Ok(self) } else { Err(PlanError::Foreign) }
    }

    /// Position after the context: where a question begins.
    #[must_use]
    pub fn end(&self) -> usize {
        self.hosts.iter().flatten().map(|span| span.end()).max().unwrap_or(0)
    }

    /// The indices in the context of the tokens at the positions `span`, which lie within one
    /// block.
    #[must_use]
    pub fn indices(&self, span: Span) -> Range<usize> {
        let index = match self.places.iter().rev().find(|place| place.start <= span.start) {
            Some(place) => place.token + span.start - place.start,
            None => span.start,
        };
        index..index + span.len
    }

    /// The tokens of `context` that stand at the positions `span`, which lie within one block.
    #[must_use]
    pub fn tokens_at<'a>(&self, context: &'a [u32], span: Span) -> &'a [u32] {
        &context[self.indices(span)]
    }

    /// Number of blocks (star), or of shards with tokens in them.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.hosts.iter().map(Vec::len).sum()
    }

    /// The same, if it is star's, with the anchor's keys from where `anchor_kv` says.
    #[must_use]
    pub fn with_anchor_kv(mut self, anchor_kv: AnchorKv) -> Self {
        if let Method::Star(star) = &mut self.spec.method {
            star.anchor_kv = anchor_kv;
        }
        self
    }

    /// Whether every block but the first is encoded behind an anchor computed for it alone.
    #[must_use]
    pub fn recomputes_anchor(&self) -> bool {
        let star = self.spec.method.as_star();
        self.anchor > 0 && star.is_some_and(|star| star.anchor_kv == AnchorKv::Recompute)
    }

    /// Whether blocks are encoded behind the first block's own keys.
    #[must_use]
    pub fn shares_anchor(&self) -> bool {
        self.anchor > 0 && !self.recomputes_anchor()
    }

    /// Tokens of the first block that pass through the model at once where `chunk` do otherwise:
    /// the anchor, if other hosts wait for its keys and it is longer. Layer by layer they begin one
    /// layer behind the first host; chunk by chunk they would begin with its last chunk.
    #[must_use]
    pub fn first_pass(&self, chunk: usize) -> usize {
        if self.spec.method.sparse().is_some() {
            return 0; // blocks pass as a whole
        }
        let others_wait =
            self.shares_anchor() && self.hosts.iter().skip(1).any(|spans| !spans.is_empty());
        if others_wait && self.anchor > chunk { self.anchor } else { 0 }
    }

    /// Tokens of the first block or share.
    #[must_use]
    pub fn first_block(&self) -> usize {
        let first = self.hosts.iter().flatten().find(|span| span.start == 0);
        first.map_or(0, |span| span.len)
    }

    /// Tokens of the longest block or share of `host`.
    #[must_use]
    pub fn longest_block(&self, host: usize) -> usize {
        self.hosts[host].iter().map(|span| span.len).max().unwrap_or(0)
    }

    /// Tokens whose keys `host` keeps.
    #[must_use]
    pub fn host_tokens(&self, host: usize) -> usize {
        self.hosts[host].iter().map(|span| span.len).sum()
    }
}

impl Star {
    /// Refuses settings that no context can be encoded with.
    pub(super) fn check(self) -> Result<(), PlanError> {
        let Self { block, anchor, anchor_kv, anchor_policy, .. } = self;
        if block < MIN_BLOCK {
            return Err(PlanError::BlockTooSmall(block));
        }
        if anchor > block {
            return Err(PlanError::AnchorAboveBlock { anchor, block });
        }
        if anchor_kv != AnchorKv::Recompute && !anchor_policy.is_paper() {
            return Err(PlanError::SharedPolicy(anchor_policy));
        }
        Ok(())
    }
}

/// Blocks of `block` tokens, the last one shorter, dealt to the hosts in order: the first
/// `blocks % hosts` hosts get one more than the others.
fn blocks(tokens: usize, block: usize, hosts: usize) -> Vec<Vec<Span>> {
    let blocks: Vec<Span> = Span::new(0..tokens).chunks(block).collect();
    even(blocks.len(), hosts).map(|share| blocks[share.range()].to_vec()).collect()
}

/// Two chunks for each host, one from each end, so that all see the same number of keys.
fn zigzag(tokens: usize, hosts: usize) -> Vec<Vec<Span>> {
    let chunks: Vec<Span> = even(tokens, 2 * hosts).collect();
    (0..hosts).map(|h| non_empty(vec![chunks[h], chunks[2 * hosts - 1 - h]])).collect()
}

/// `0..total` in `parts` spans whose lengths differ by at most one, the longer ones first.
pub(super) fn even(total: usize, parts: usize) -> impl Iterator<Item = Span> {
    let (base, extra) = (total / parts, total % parts);
    let bound = move |i: usize| i * base + i.min(extra);
    (0..parts).map(move |i| Span::new(bound(i)..bound(i + 1)))
}

fn non_empty(spans: Vec<Span>) -> Vec<Span> {
    spans.into_iter().filter(|span| span.len > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refusals_name_the_numbers() {
        let error = |s: PlanSpec, tokens| Plan::new(s, tokens).unwrap_err().to_string();
        assert!(error(PlanSpec::star(15).into(), 9).contains("15"));
        assert!(error(PlanSpec::star(64).anchor(65).into(), 9).contains("65"));
        assert!(error(PlanSpec::star(64).hosts(0), 9).contains("0 hosts"));
        assert!(error(PlanSpec::dense(), 0).contains("empty"));
        let values = PlanSpec::star(64).revisit_by(RevisitBy::Values).hosts(1);
        assert!(error(values.press(Some(Press::new(2500))), 9).contains("only 25 %"));
    }

    #[test]
    fn blocks_go_to_hosts_in_order() {
        let plan = Plan::new(PlanSpec::star(16).hosts(3), 70).unwrap();
        let starts: Vec<Vec<usize>> =
            plan.hosts.iter().map(|h| h.iter().map(|s| s.start).collect()).collect();
        assert_eq!(starts, [vec![0, 16], vec![32, 48], vec![64]]);
        assert_eq!(plan.hosts[2][0].len, 6);
    }

    #[test]
    fn zigzag_pairs_the_ends() {
        let plan = Plan::new(PlanSpec::zigzag().hosts(2), 8).unwrap();
        assert_eq!(plan.hosts[0], [Span::new(0..2), Span::new(6..8)]);
        assert_eq!(plan.hosts[1], [Span::new(2..4), Span::new(4..6)]);
    }

    proptest! {
        #[test]
        fn a_plan_from_elsewhere_is_one_that_can_be_made(
            tokens in 1usize..500, hosts in 1usize..5, slack in 0usize..16,
            field in 0usize..6, by in 1usize..50, at in any::<prop::sample::Index>(),
        ) {
            let spec = PlanSpec::star(32).anchor(16).hosts(hosts);
            let plans = [
                Plan::new(spec, tokens).unwrap(),
                Plan::new(PlanSpec::zigzag().hosts(hosts), tokens).unwrap(),
                Plan::spaced(spec, tokens, &[tokens / 3, tokens / 2], slack).unwrap(),
            ];
            for plan in plans {
                prop_assert_eq!(plan.clone().checked(), Ok(plan.clone()));
                let mut other = plan.clone();
                let host = at.index(hosts);
                match field {
                    0 => other.tokens += by,
                    1 => other.anchor += by,
                    2 => other.spec.hosts += by,
                    3 => other.hosts[host].push(Span { start: by, len: by }),
                    4 => other.hosts[host].push(Span { start: usize::MAX, len: usize::MAX }),
                    _ => other.hosts.truncate(host),
                }
                prop_assert!(other.checked().is_err());
            }
        }

        #[test]
        fn every_token_is_encoded_once(
            method in 0usize..4, tokens in 1usize..5000, block in 16usize..600,
            hosts in 1usize..20, anchor in 0usize..600,
        ) {
            let star = Star::new(block).anchor(anchor.min(block));
            let method = [star.into(), Method::Ring, Method::Zigzag, Method::Dense][method];
            let spec = PlanSpec::from(method).hosts(hosts);
            let plan = Plan::new(spec, tokens).unwrap();
            prop_assert_eq!(plan.hosts.len(), hosts);
            let mut spans: Vec<Span> = plan.hosts.iter().flatten().copied().collect();
            prop_assert!(spans.iter().all(|s| s.len > 0));
            spans.sort_by_key(|s| s.start);
            let mut next = 0;
            for span in spans {
                prop_assert_eq!(span.start, next);
                next = span.end();
            }
            prop_assert_eq!(next, tokens);
            prop_assert!(plan.anchor <= tokens);
            // Shares are even: in tokens for the exact methods, in blocks for star.
            let shares: Vec<usize> = plan.hosts.iter().enumerate().map(|(h, spans)| {
                if method.as_star().is_some() { spans.len() } else { plan.host_tokens(h) }
            }).collect();
            let (min, max) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            let slack = if method == Method::Zigzag { 2 } else { 1 };
            prop_assert!(max - min <= slack);
            if method.as_star().is_some() {
                prop_assert!(plan.hosts.iter().flatten().all(|s| s.len == block || s.end() == tokens));
            }
        }

        #[test]
        fn chunks_cover_the_span(start in 0usize..100, len in 0usize..300, size in 1usize..80) {
            let span = Span { start, len };
            let mut next = start;
            for chunk in span.chunks(size) {
                prop_assert_eq!(chunk.start, next);
                prop_assert!(chunk.len > 0 && chunk.len <= size);
                next = chunk.end();
            }
            prop_assert_eq!(next, span.end());
        }
    }
}
