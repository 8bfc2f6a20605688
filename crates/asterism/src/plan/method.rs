//! How a context is to be encoded: the method with its settings, and the number of hosts.

use super::{AnchorPolicy, Press, Revisit, RevisitBy, Sparse};
use serde::{Deserialize, Serialize};

/// How a context is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Method {
    /// Star Attention (arXiv 2411.17116): independent blocks, each behind the anchor.
    Star(Star),
    /// Ring attention, contiguous shards: exact; what the paper compares with.
    Ring,
    /// Ring attention, zigzag shards (host h has chunks h and 2H-1-h): exact and balanced.
    Zigzag,
    /// Full attention on the query host; other hosts hold their share of the keys.
    Dense,
    /// Attention over some of the keys, chosen by a published pattern, on one host.
    Sparse(Sparse),
}

impl Method {
    /// Its name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Star(_) => "star",
            Self::Ring => "ring",
            Self::Zigzag => "zigzag",
            Self::Dense => "dense",
            Self::Sparse(sparse) => sparse.name(),
        }
    }

    /// The settings of star; `None` for the other methods.
    #[must_use]
    pub const fn as_star(self) -> Option<Star> {
        match self {
            Self::Star(star) => Some(star),
            Self::Ring | Self::Zigzag | Self::Dense | Self::Sparse(_) => None,
        }
    }

    /// The pattern by which keys are left out, of the whole context or within star's blocks.
    #[must_use]
    pub const fn sparse(self) -> Option<Sparse> {
        match self {
            Self::Sparse(sparse) => Some(sparse),
            Self::Star(star) => star.sparse,
            Self::Ring | Self::Zigzag | Self::Dense => None,
        }
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl From<Sparse> for Method {
    fn from(sparse: Sparse) -> Self {
        Self::Sparse(sparse)
    }
}

impl From<Star> for Method {
    fn from(star: Star) -> Self {
        Self::Star(star)
    }
}

/// Where a block's anchor keys come from. Both give the same result for the paper's anchor: under
/// causal attention its keys do not depend on what follows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AnchorKv {
    /// Computed once, by the host of the first block, and sent to the others.
    #[default]
    Shared,
    /// Computed again for every block, as the paper's reference does.
    Recompute,
    /// Whichever is predicted to be done first, by the measured rates of the links between
    /// processes and of the processor; shared on one machine. Planned as shared until then.
    Auto,
}

impl AnchorKv {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Shared, Self::Recompute, Self::Auto];

    /// Its name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Recompute => "recompute",
            Self::Auto => "auto",
        }
    }
}

/// The settings of Star Attention. [`Plan::new`](super::Plan::new) checks them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Star {
    /// Tokens of a block.
    pub block: usize,
    /// Tokens of the anchor, from 0 to `block`.
    pub anchor: usize,
    /// Where the anchor's keys come from.
    pub anchor_kv: AnchorKv,
    /// What the anchor is; only the default one can be shared.
    pub anchor_policy: AnchorPolicy,
    /// What questions have computed anew, unless they say otherwise. Blocks do not depend on it.
    pub revisit: Revisit,
    /// Which tokens these are.
    pub revisit_by: RevisitBy,
    /// The pattern by which queries of a block leave keys out, of the anchor and of the block.
    pub sparse: Option<Sparse>,
}

impl Star {
    /// Blocks of `block` tokens behind the paper's anchor: the whole first block, its keys shared.
    #[must_use]
    pub const fn new(block: usize) -> Self {
        let anchor_policy = AnchorPolicy::PAPER;
        let (revisit, revisit_by) = (Revisit::None, RevisitBy::Question);
        let anchor_kv = AnchorKv::Shared;
        Self { block, anchor: block, anchor_kv, anchor_policy, revisit, revisit_by, sparse: None }
    }

    /// Tokens from which on a document of several begins a block of its own: a quarter of the
    /// block. An edit of it then leaves the blocks of others.
    #[must_use]
    pub const fn own_block(self) -> usize {
        self.block / 4
    }

    /// With an anchor of `tokens` tokens.
    #[must_use]
    pub const fn anchor(self, tokens: usize) -> Self {
        Self { anchor: tokens, ..self }
    }

    /// With the anchor's keys from where `anchor_kv` says.
    #[must_use]
    pub const fn anchor_kv(self, anchor_kv: AnchorKv) -> Self {
        Self { anchor_kv, ..self }
    }

    /// With the anchor that `policy` describes. Any but the paper's needs
    /// [`AnchorKv::Recompute`].
    #[must_use]
    pub const fn anchor_policy(self, policy: AnchorPolicy) -> Self {
        Self { anchor_policy: policy, ..self }
    }

    /// With the tokens computed anew, for every question, that `revisit` says.
    #[must_use]
    pub const fn revisit(self, revisit: Revisit) -> Self {
        Self { revisit, ..self }
    }

    /// With the tokens that are computed anew chosen as `by` says.
    #[must_use]
    pub const fn revisit_by(self, by: RevisitBy) -> Self {
        Self { revisit_by: by, ..self }
    }

    /// With keys left out within blocks as `sparse` says.
    #[must_use]
    pub const fn sparse(self, sparse: Option<Sparse>) -> Self {
        Self { sparse, ..self }
    }

    /// On `hosts` hosts.
    #[must_use]
    pub const fn hosts(self, hosts: usize) -> PlanSpec {
        PlanSpec { method: Method::Star(self), hosts, press: None }
    }
}

/// What a [`Plan`](super::Plan) is made from, but for the length of the context.
///
/// ```
/// use asterism::plan::{Plan, PlanSpec};
///
/// let star = Plan::new(PlanSpec::star(4096).anchor(1024).hosts(4), 100_000)?;
/// let dense = Plan::new(PlanSpec::dense(), 100_000)?;
/// assert_eq!((star.blocks(), dense.blocks()), (25, 1));
/// # Ok::<(), asterism::plan::PlanError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PlanSpec {
    /// How the context is encoded.
    pub method: Method,
    /// Hosts that share the work.
    pub hosts: usize,
    /// What its keys are pressed to; all are kept if it is missing.
    pub press: Option<Press>,
}

impl PlanSpec {
    /// Star Attention with blocks of `block` tokens: settings that become a `PlanSpec` with
    /// [`Star::hosts`], or with `into` for one host.
    #[must_use]
    pub const fn star(block: usize) -> Star {
        Star::new(block)
    }

    /// Ring attention over contiguous shards, on one host until [`hosts`](Self::hosts) says more.
    #[must_use]
    pub const fn ring() -> Self {
        Self { method: Method::Ring, hosts: 1, press: None }
    }

    /// Ring attention over zigzag shards, on one host until [`hosts`](Self::hosts) says more.
    #[must_use]
    pub const fn zigzag() -> Self {
        Self { method: Method::Zigzag, hosts: 1, press: None }
    }

    /// Full attention, on one host until [`hosts`](Self::hosts) says more.
    #[must_use]
    pub const fn dense() -> Self {
        Self { method: Method::Dense, hosts: 1, press: None }
    }

    /// The same method on `hosts` hosts.
    #[must_use]
    pub const fn hosts(self, hosts: usize) -> Self {
        Self { hosts, ..self }
    }
}

impl From<Method> for PlanSpec {
    fn from(method: Method) -> Self {
        Self { method, hosts: 1, press: None }
    }
}

impl From<Star> for PlanSpec {
    fn from(star: Star) -> Self {
        star.hosts(1)
    }
}
