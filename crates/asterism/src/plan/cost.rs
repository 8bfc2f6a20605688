//! What a plan costs, counted from shapes: floating-point operations, keys and values in memory,
//! and bytes between hosts, for each host.

use super::model_size::REPEATED;
use super::pairs::{causal_pairs, sparse_pairs};
use super::{AnchorKv, Method, ModelSize, Plan, Span, Star};

/// What encoding the context costs one host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostCost {
    /// Tokens it runs through the model, recomputed anchors included.
    pub encoded: u64,
    /// Operations of the linear layers (2 per weight and token, without
    /// [`ModelSize::skipped_weights`]).
    pub linear_flops: u128,
    /// Operations of attention (2 for the score, 2 for the value, per query element and visible
    /// key), in [`ModelSize::context_layers`] layers.
    ///
    /// Where a pattern leaves keys out this is the most it can be: as many tiles as hold the weight
    /// that is to be kept, all of them if need be, and what choosing them takes.
    pub attention_flops: u128,
    /// The least that [`attention_flops`](Self::attention_flops) can be: the same but for patterns.
    pub least_attention_flops: u128,
    /// Bytes of the keys and values it keeps for phase 2.
    pub kv_bytes: u64,
    /// Bytes of anchor keys it holds only while encoding.
    pub anchor_bytes: u64,
    /// Bytes of keys that are held only until they are pressed: those of its largest block, and of
    /// the tokens that its text is repeated as.
    pub unpressed_bytes: u64,
    /// Bytes it sends to other hosts.
    pub sent_bytes: u64,
    /// Bytes it gets from them.
    pub received_bytes: u64,
}

impl HostCost {
    /// All operations.
    #[must_use]
    pub fn flops(&self) -> u128 {
        self.linear_flops + self.attention_flops
    }
}

/// What encoding the context costs every host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// One entry per host.
    pub hosts: Vec<HostCost>,
}

impl Cost {
    /// Counts `plan` for a model of `size`.
    #[must_use]
    pub fn of(plan: &Plan, size: &ModelSize) -> Self {
        let hosts = (0..plan.hosts.len()).map(|host| host_cost(plan, size, host)).collect();
        Self { hosts }
    }

    /// The most operations any host has: with one machine per host, what sets the time.
    #[must_use]
    pub fn critical_flops(&self) -> u128 {
        self.hosts.iter().map(HostCost::flops).max().unwrap_or(0)
    }

    /// The least of [`Self::total_flops`]: the same but for patterns that leave keys out.
    #[must_use]
    pub fn least_flops(&self) -> u128 {
        self.hosts.iter().map(|host| host.linear_flops + host.least_attention_flops).sum()
    }

    /// The operations of all hosts together: with one machine for all hosts, what sets the time.
    #[must_use]
    pub fn total_flops(&self) -> u128 {
        self.hosts.iter().map(HostCost::flops).sum()
    }

    /// [`Self::total_flops`] in thousands, for counters of work under way: what a machine can do in
    /// a lifetime fits.
    #[must_use]
    pub fn kiloflops(&self) -> u64 {
        (self.total_flops() / 1000) as u64
    }
}

fn host_cost(plan: &Plan, size: &ModelSize, host: usize) -> HostCost {
    let own = &plan.hosts[host];
    let tokens = plan.host_tokens(host) as u64;
    let kv_bytes = own.iter().map(|span| size.kept_bytes(plan, span.len)).sum();
    let unpressed_bytes = size.unpressed_bytes(plan, own);
    let hosts = plan.hosts.len();
    let mut cost = HostCost { encoded: tokens, kv_bytes, unpressed_bytes, ..HostCost::default() };
    let pairs = match plan.spec.method {
        Method::Star(star) => star_pairs(plan, star, size, host, &mut cost),
        Method::Ring | Method::Zigzag => {
            // Every host's keys travel once round the ring: each host passes on all but one share.
            if hosts > 1 {
                let next = (host + 1) % hosts;
                let passed_on = (plan.tokens - plan.host_tokens(next)) as u64;
                cost.sent_bytes = passed_on * size.kv_bytes(size.context_layers);
                cost.received_bytes =
                    (plan.tokens as u64 - tokens) * size.kv_bytes(size.context_layers);
            }
            own.iter().map(|span| causal_pairs(*span, span.start)).sum()
        }
        Method::Dense => dense_pairs(plan, size, host, &mut cost),
        Method::Sparse(_) => own.iter().map(|span| causal_pairs(*span, 0)).sum(),
    };
    let repeated = repeated_pairs(plan, own, &mut cost);
    let weights = size.linear_weights - size.skipped_weights;
    cost.linear_flops = 2 * u128::from(weights) * u128::from(cost.encoded);
    let per_pair = 4 * (size.q_width * size.context_layers) as u128;
    let (least, most) = match plan.spec.method.sparse() {
        Some(sparse) => sparse_pairs(plan, sparse, own, pairs),
        None => (pairs, pairs),
    };
    cost.attention_flops = per_pair * (most + repeated);
    cost.least_attention_flops = per_pair * (least + repeated);
    cost
}

/// Texts that are repeated to score their keys pass through the model once more, each token behind
/// all of its block.
fn repeated_pairs(plan: &Plan, own: &[Span], cost: &mut HostCost) -> u128 {
    let mut pairs = 0;
    for block in own.iter().filter(|block| plan.repeats(block.len)) {
        let anchor = if block.start == 0 { 0 } else { plan.anchor };
        cost.encoded += block.len as u64;
        let chunks = block.chunks(REPEATED);
        pairs += chunks.map(|chunk| causal_pairs(chunk, anchor + block.len)).sum::<u128>();
    }
    pairs
}

fn star_pairs(plan: &Plan, star: Star, size: &ModelSize, host: usize, cost: &mut HostCost) -> u128 {
    let anchor = plan.anchor;
    let recompute = star.anchor_kv == AnchorKv::Recompute;
    let own_blocks = &plan.hosts[host];
    let mut pairs = 0;
    let mut after_anchor = false;
    for block in own_blocks {
        if block.start == 0 {
            pairs += causal_pairs(*block, 0);
            continue;
        }
        after_anchor = true;
        pairs += causal_pairs(*block, anchor);
        if recompute {
            cost.encoded += anchor as u64;
            pairs += causal_pairs(Span { start: 0, len: anchor }, 0);
        }
    }
    // A recomputed anchor is a store like a block's, last layer included.
    let layers = if recompute { size.layers } else { size.context_layers };
    let anchor_bytes = anchor as u64 * size.kv_bytes(layers);
    // The first block's own keys are pressed before others are done with its anchor.
    let is_pressed = own_blocks.first().is_some_and(|first| plan.kept(first.len).is_some());
    if after_anchor && (recompute || host > 0 || is_pressed) {
        cost.anchor_bytes = anchor_bytes;
    }
    // From the first host down a chain of those with blocks behind the anchor.
    let has_next = plan.hosts.iter().skip(host + 1).any(|spans| !spans.is_empty());
    if !recompute && has_next && !own_blocks.is_empty() {
        cost.sent_bytes = anchor_bytes;
    }
    if !recompute && host > 0 && !own_blocks.is_empty() {
        cost.received_bytes = anchor_bytes;
    }
    pairs
}

/// The query host runs every token; each host attends over the keys it keeps. The query host sends
/// queries to the others and keys to their owner; they return outputs, whose elements are as wide
/// as those of queries, and log-sum-exps, which are f32.
fn dense_pairs(plan: &Plan, size: &ModelSize, host: usize, cost: &mut HostCost) -> u128 {
    let all = plan.tokens as u64;
    let layers = size.context_layers as u64;
    let q_bytes = all * layers * (size.element_bytes * size.q_width) as u64;
    let lse_bytes = all * layers * 4 * size.heads as u64;
    if host == 0 {
        cost.encoded = all;
        let others = plan.hosts.len() as u64 - 1;
        let kept_elsewhere = all - plan.host_tokens(0) as u64;
        cost.sent_bytes = others * q_bytes + kept_elsewhere * size.kv_bytes(size.layers);
        cost.received_bytes = others * (q_bytes + lse_bytes);
    } else {
        cost.encoded = 0;
        cost.sent_bytes = q_bytes + lse_bytes;
        cost.received_bytes = q_bytes + cost.kv_bytes;
    }
    // Queries at or after the host's keys see them: its own causally, later ones all of them.
    plan.hosts[host]
        .iter()
        .map(|span| causal_pairs(*span, 0) + (plan.tokens - span.end()) as u128 * span.len as u128)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{PlanSpec, Sparse};
    use proptest::prelude::*;

    const SIZE: ModelSize = ModelSize {
        layers: 3,
        context_layers: 2,
        linear_weights: 1000,
        skipped_weights: 400,
        q_width: 8,
        heads: 2,
        kv_width: 4,
        kv_heads: 2,
        kv_row_bytes: 8,
        element_bytes: 4,
    };

    fn cost(spec: impl Into<PlanSpec>, tokens: usize) -> Cost {
        Cost::of(&Plan::new(spec, tokens).unwrap(), &SIZE)
    }

    #[test]
    fn a_shared_anchor_saves_what_recomputing_adds() {
        let star = Star::new(256);
        let shared = cost(star.hosts(4), 1024);
        let again = cost(star.anchor_kv(AnchorKv::Recompute).hosts(4), 1024);
        assert_eq!(shared.hosts[1].encoded, 256);
        assert_eq!(again.hosts[1].encoded, 512);
        // Attention over [anchor | own]: own queries see 256 + (i + 1) keys.
        let pairs = 256 * 256 + 256 * 257 / 2;
        // Of the three layers, two attend.
        assert_eq!(shared.hosts[1].attention_flops, 4 * 8 * 2 * pairs);
        assert_eq!(again.hosts[1].attention_flops, 4 * 8 * 2 * (pairs + 256 * 257 / 2));
        assert_eq!(shared.hosts[1].linear_flops, 2 * 600 * 256);
        // Each passes it on to the next; the last has nobody to pass it on to.
        let sent = shared.hosts.iter().map(|host| host.sent_bytes);
        let anchor = 256 * (2 * 4 * 2 * 2);
        assert_eq!(sent.collect::<Vec<_>>(), [anchor, anchor, anchor, 0]);
        assert_eq!(shared.hosts[1].kv_bytes, 256 * (2 * 4 * 2 * 3));
        assert_eq!(again.hosts[0].sent_bytes, 0);
    }

    #[test]
    fn zigzag_is_balanced_where_the_plain_ring_is_not() {
        let ring = cost(PlanSpec::ring().hosts(4), 4096);
        let zigzag = cost(PlanSpec::zigzag().hosts(4), 4096);
        assert_eq!(ring.total_flops(), zigzag.total_flops());
        assert!(ring.critical_flops() > zigzag.critical_flops());
        let (a, b) = (zigzag.hosts[0].attention_flops, zigzag.hosts[3].attention_flops);
        assert_eq!(a, b);
    }

    #[test]
    fn dense_sends_rows_as_wide_as_the_device_has_them_and_log_sum_exps_in_f32() {
        let plan = Plan::new(PlanSpec::dense().hosts(2), 100).unwrap();
        for element_bytes in [2, 4] {
            let hosts = Cost::of(&plan, &ModelSize { element_bytes, ..SIZE }).hosts;
            // 100 tokens in the two layers that attend, 8 elements each.
            let rows = 100 * 2 * 8 * element_bytes as u64;
            // Of 50 tokens, keys and values of all three layers.
            assert_eq!(hosts[0].sent_bytes, rows + 50 * 3 * 2 * 8);
            // Two heads have a log-sum-exp each.
            assert_eq!(hosts[1].sent_bytes, rows + 100 * 2 * 2 * 4);
        }
    }

    #[test]
    fn operations_of_a_billion_tokens_are_counted() {
        let size = ModelSize { context_layers: 126, q_width: 16_384, ..SIZE };
        let tokens = 1 << 30;
        let plan = Plan::new(PlanSpec::dense(), tokens).unwrap();
        let pairs = (tokens as u128).pow(2) / 2;
        assert!(Cost::of(&plan, &size).total_flops() >= 4 * 16_384 * 126 * pairs);
    }

    proptest! {
        #[test]
        fn exact_methods_do_the_same_attention(tokens in 1usize..3000, hosts in 1usize..9) {
            let total = |method| -> u128 {
                let cost = cost(PlanSpec::from(method).hosts(hosts), tokens);
                cost.hosts.iter().map(|h| h.attention_flops).sum()
            };
            let pairs = (tokens * (tokens + 1) / 2) as u128;
            for method in [Method::Ring, Method::Zigzag, Method::Dense] {
                prop_assert_eq!(total(method), 4 * 8 * 2 * pairs);
            }
        }

        #[test]
        fn patterns_cost_between_their_bounds(tokens in 16usize..30_000, block in 500usize..3000) {
            let dense = cost(PlanSpec::dense(), tokens);
            let star = cost(Star::new(block).hosts(3), tokens);
            for sparse in Sparse::DEFAULTS {
                let whole = cost(Method::Sparse(sparse), tokens);
                let blocks = cost(Star::new(block).sparse(Some(sparse)).hosts(3), tokens);
                for (thin, plain) in [(&whole, &dense), (&blocks, &star)] {
                    prop_assert!(thin.least_flops() <= thin.total_flops());
                    let exact = matches!(sparse, Sparse::Streaming { .. } | Sparse::Blocks { .. });
                    prop_assert!(!exact || thin.least_flops() == thin.total_flops());
                    let most = thin.total_flops() as f64 / plain.total_flops() as f64;
                    prop_assert!(exact || most >= 1.0, "what it estimates comes on top: {most}");
                    prop_assert!(!exact || most <= 1.0);
                    let linear = |cost: &Cost| cost.hosts.iter().map(|h| h.linear_flops).sum::<u128>();
                    prop_assert_eq!(linear(thin), linear(plain));
                }
            }
            prop_assert_eq!(dense.least_flops(), dense.total_flops());
        }

        #[test]
        fn one_block_costs_what_dense_costs(tokens in 16usize..3000) {
            let star = cost(Star::new(tokens), tokens);
            let dense = cost(PlanSpec::dense(), tokens);
            prop_assert_eq!(star, dense);
        }
    }
}
