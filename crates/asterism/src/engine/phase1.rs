//! What phase 1 reports: progress while it runs, and what it took.

use crate::attention::Sparsity;
use crate::plan::{Plan, Span};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A step of phase 1 on one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The host that made it.
    pub host: usize,
    /// Work done since the host's last report, in tokens times layers; all reports of a run add up
    /// to [`Phase1::work`].
    pub work: u64,
    /// The block (star) or share of the text (other methods) that this step finished: its number
    /// among those of the host.
    pub finished_block: Option<usize>,
    /// Where that block, or the one that is being worked on, comes from.
    pub origin: Origin,
}

/// Where the keys of a block come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// They were computed.
    Encoded,
    /// They were there already, and nothing had to be done.
    Reused,
    /// They were read from disk.
    Loaded,
}

/// What phase 1 took.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase1 {
    /// Tokens of the context.
    pub tokens: usize,
    /// Time of the whole phase, waiting for its turn included.
    pub time: Duration,
    /// Bytes that the hosts sent each other.
    pub bytes_sent: u64,
    /// Bytes of the cached keys and values of all hosts.
    pub kv_bytes: u64,
    /// The blocks (star) or shares of hosts that were there already.
    pub reused: Vec<Span>,
    /// Whether the others were read from disk, and not encoded.
    pub is_loaded: bool,
    /// What was left out, by a method that leaves keys out: of blocks that were there already what
    /// they left out then; nothing is known of those read from disk.
    pub sparsity: Option<Sparsity>,
}

impl Phase1 {
    /// All the work of a plan for a model of `layers` layers, in the unit of [`Progress::work`].
    #[must_use]
    pub fn work(plan: &Plan, layers: usize) -> u64 {
        let recomputed =
            if plan.recomputes_anchor() { (plan.blocks() - 1) * plan.anchor } else { 0 };
        let repeated = |tokens: usize| if plan.repeats(tokens) { tokens } else { 0 };
        let repeated: usize = plan.spans().into_iter().map(|span| repeated(span.len)).sum();
        ((plan.tokens + recomputed + repeated) * layers) as u64
    }
}
