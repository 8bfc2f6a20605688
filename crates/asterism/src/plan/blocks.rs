//! Blocks, anchors and hosts.

use super::AnchorPolicy;
use std::ops::Range;

/// Blocks smaller than this are refused: the anchor could hold no sentence, and the overhead of a
/// block would exceed its work.
pub const MIN_BLOCK: usize = 16;

/// How a context is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Star Attention (arXiv 2411.17116): independent blocks, each behind the anchor.
    Star,
    /// Ring attention, contiguous shards: exact; what the paper compares with.
    Ring,
    /// Ring attention, zigzag shards (host h has chunks h and 2H-1-h): exact and balanced.
    Zigzag,
    /// Full attention on the query host; other hosts hold their share of the keys.
    Dense,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 4] = [Self::Star, Self::Ring, Self::Zigzag, Self::Dense];

    /// Its name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Star => "star",
            Self::Ring => "ring",
            Self::Zigzag => "zigzag",
            Self::Dense => "dense",
        }
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Where a block's anchor keys come from. Both give the same result for the paper's anchor: under
/// causal attention its keys do not depend on what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AnchorKv {
    /// Computed once, by the host of the first block, and sent to the others.
    Shared,
    /// Computed again for every block, as the paper's reference does.
    Recompute,
}

/// Tokens at consecutive positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

    /// The span cut into pieces of at most `size` tokens.
    pub fn chunks(self, size: usize) -> impl Iterator<Item = Span> {
        (self.start..self.end())
            .step_by(size.max(1))
            .map(move |start| Self::new(start..(start + size).min(self.end())))
    }
}

/// Why a plan cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// Somebody has to do the work.
    #[error("0 hosts: use at least one")]
    NoHosts,
    /// Nothing to encode.
    #[error("the context is empty")]
    EmptyContext,
}

/// What the user chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanSpec {
    /// How the context is encoded.
    pub method: Method,
    /// Tokens of a block (star).
    pub block: usize,
    /// Tokens of the anchor (star), from 0 to `block`.
    pub anchor: usize,
    /// Where the anchor's keys come from (star).
    pub anchor_kv: AnchorKv,
    /// What the anchor is (star); only the default one can be shared.
    pub anchor_policy: AnchorPolicy,
    /// Hosts that share the work.
    pub hosts: usize,
}

/// Which host encodes which positions of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What was asked for.
    pub spec: PlanSpec,
    /// Length of the context.
    pub tokens: usize,
    /// Tokens of the anchor: `spec.anchor`, or the whole context if that is shorter.
    pub anchor: usize,
    /// Per host, the spans it encodes and whose keys it keeps, in order. Star: its blocks.
    /// Together they cover `0..tokens` once.
    pub hosts: Vec<Vec<Span>>,
}

impl Plan {
    /// Divides `tokens` tokens as `spec` says.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn new(spec: PlanSpec, tokens: usize) -> Result<Self, PlanError> {
        if spec.hosts == 0 {
            return Err(PlanError::NoHosts);
        }
        if tokens == 0 {
            return Err(PlanError::EmptyContext);
        }
        if spec.method == Method::Star {
            if spec.block < MIN_BLOCK {
                return Err(PlanError::BlockTooSmall(spec.block));
            }
            if spec.anchor > spec.block {
                let (anchor, block) = (spec.anchor, spec.block);
                return Err(PlanError::AnchorAboveBlock { anchor, block });
            }
            if spec.anchor_kv == AnchorKv::Shared && !spec.anchor_policy.is_paper() {
                return Err(PlanError::SharedPolicy(spec.anchor_policy));
            }
        }
        let hosts = match spec.method {
            Method::Star => star(tokens, spec.block, spec.hosts),
            Method::Ring | Method::Dense => {
                even(tokens, spec.hosts).map(|span| non_empty(vec![span])).collect()
            }
            Method::Zigzag => zigzag(tokens, spec.hosts),
        };
        Ok(Self { spec, tokens, anchor: spec.anchor.min(tokens), hosts })
    }

    /// Number of blocks (star), or of shards with tokens in them.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.hosts.iter().map(Vec::len).sum()
    }

    /// Tokens whose keys `host` keeps.
    #[must_use]
    pub fn host_tokens(&self, host: usize) -> usize {
        self.hosts[host].iter().map(|span| span.len).sum()
    }
}

/// Blocks of `block` tokens, the last one shorter, dealt to the hosts in order: the first
/// `blocks % hosts` hosts get one more than the others.
fn star(tokens: usize, block: usize, hosts: usize) -> Vec<Vec<Span>> {
    let blocks: Vec<Span> = Span::new(0..tokens).chunks(block).collect();
    even(blocks.len(), hosts).map(|share| blocks[share.range()].to_vec()).collect()
}

/// Two chunks for each host, one from each end, so that all see the same number of keys.
fn zigzag(tokens: usize, hosts: usize) -> Vec<Vec<Span>> {
    let chunks: Vec<Span> = even(tokens, 2 * hosts).collect();
    (0..hosts).map(|h| non_empty(vec![chunks[h], chunks[2 * hosts - 1 - h]])).collect()
}

/// `0..total` in `parts` spans whose lengths differ by at most one, the longer ones first.
fn even(total: usize, parts: usize) -> impl Iterator<Item = Span> {
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

    fn spec(method: Method, block: usize, anchor: usize, hosts: usize) -> PlanSpec {
        let (anchor_kv, anchor_policy) = (AnchorKv::Shared, AnchorPolicy::default());
        PlanSpec { method, block, anchor, anchor_kv, anchor_policy, hosts }
    }

    #[test]
    fn refusals_name_the_numbers() {
        let error = |s, tokens| Plan::new(s, tokens).unwrap_err().to_string();
        assert!(error(spec(Method::Star, 15, 0, 1), 9).contains("15"));
        assert!(error(spec(Method::Star, 64, 65, 1), 9).contains("65"));
        assert!(error(spec(Method::Star, 64, 64, 0), 9).contains("0 hosts"));
        assert!(error(spec(Method::Dense, 0, 0, 1), 0).contains("empty"));
    }

    #[test]
    fn blocks_go_to_hosts_in_order() {
        let plan = Plan::new(spec(Method::Star, 16, 16, 3), 70).unwrap();
        let starts: Vec<Vec<usize>> =
            plan.hosts.iter().map(|h| h.iter().map(|s| s.start).collect()).collect();
        assert_eq!(starts, [vec![0, 16], vec![32, 48], vec![64]]);
        assert_eq!(plan.hosts[2][0].len, 6);
    }

    #[test]
    fn zigzag_pairs_the_ends() {
        let plan = Plan::new(spec(Method::Zigzag, 0, 0, 2), 8).unwrap();
        assert_eq!(plan.hosts[0], [Span::new(0..2), Span::new(6..8)]);
        assert_eq!(plan.hosts[1], [Span::new(2..4), Span::new(4..6)]);
    }

    proptest! {
        #[test]
        fn every_token_is_encoded_once(
            method in 0usize..4, tokens in 1usize..5000, block in 16usize..600,
            hosts in 1usize..20, anchor in 0usize..600,
        ) {
            let spec = spec(Method::ALL[method], block, anchor.min(block), hosts);
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
                if spec.method == Method::Star { spans.len() } else { plan.host_tokens(h) }
            }).collect();
            let (min, max) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            let slack = if spec.method == Method::Zigzag { 2 } else { 1 };
            prop_assert!(max - min <= slack);
            if spec.method == Method::Star {
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
