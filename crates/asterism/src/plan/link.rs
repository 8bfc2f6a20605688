//! What a plan asks of the links between its hosts: bytes, and the seconds they take at least.

use super::{AnchorKv, Cost, HostCost, ModelSize, Plan, SlicedToken};

/// The link of each host to all others together. Both directions are used at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// Bits per second, each way.
    pub bits_per_second: f64,
    /// Seconds that a message is on its way, however short.
    pub latency: f64,
}

/// What the busiest link carries, and how long that takes where nothing else takes any time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkCost {
    /// Bytes of the busiest direction of the busiest link.
    pub bytes: u64,
    /// Seconds.
    pub seconds: f64,
}

impl Link {
    fn carries(self, bytes: u64, messages_in_turn: u64) -> LinkCost {
        let seconds =
            8.0 * bytes as f64 / self.bits_per_second + messages_in_turn as f64 * self.latency;
        LinkCost { bytes, seconds }
    }

    /// Phase 1 of a plan that costs `cost`. Transfers run beside the work of the layers, so the
    /// time counts only as far as it is longer than that.
    #[must_use]
    pub fn phase1(self, cost: &Cost) -> LinkCost {
        let busiest = cost.hosts.iter().map(|host| host.sent_bytes.max(host.received_bytes)).max();
        self.carries(busiest.unwrap_or(0), 0)
    }

    /// A token of an answer on `hosts` hosts, by any method: in each layer the query host sends the
    /// query to all others and waits for their outputs, so this time comes on top of the work.
    #[must_use]
    pub fn token(self, hosts: usize, size: &ModelSize) -> LinkCost {
        let (others, layers) = (hosts.saturating_sub(1) as u64, size.layers as u64);
        let (query, lse) = ((size.element_bytes * size.q_width) as u64, 4 * size.heads as u64);
        // The query host's link carries queries out and outputs with log-sum-exps in, one after the
        // other.
        let out = self.carries(layers * others * query, 0);
        let back = self.carries(layers * others * (query + lse), 0);
        let in_turn = if others > 0 { 2 * layers } else { 0 };
        LinkCost {
            bytes: back.bytes,
            seconds: out.seconds + back.seconds + in_turn as f64 * self.latency,
        }
    }

    /// The same where hosts divide the weights: each sends to all others, several times a layer.
    #[must_use]
    pub fn sliced_token(self, token: &SlicedToken) -> LinkCost {
        self.carries(token.busiest, token.exchanges)
    }

    /// How the hosts of star's `plan`, which compute `flops_per_second` each, have their anchor
    /// sooner. Shared, it comes layer by layer down a chain from the first host, and each works on
    /// a layer while the next is on its way; the slowest of these sets the pace. Recomputed,
    /// nothing is waited for.
    #[must_use]
    pub fn anchor_kv(self, plan: &Plan, size: &ModelSize, flops_per_second: f64) -> AnchorKv {
        let layers = size.context_layers as f64;
        let cost = |anchor_kv| Cost::of(&plan.clone().with_anchor_kv(anchor_kv), size).hosts;
        let layer = |host: &HostCost| host.flops() as f64 / flops_per_second / layers;
        let (shared, again) = (cost(AnchorKv::Shared), cost(AnchorKv::Recompute));
        let first = shared.first().map_or(0.0, layer);
        let others = shared.iter().skip(1).map(layer).fold(0.0, f64::max);
        let hops = shared.iter().filter(|host| host.sent_bytes > 0).count() as f64;
        let sent = shared.iter().map(|host| host.sent_bytes).max().unwrap_or(0) as f64;
        let message = 8.0 * sent / layers / self.bits_per_second + self.latency;
        let pace = first.max(others).max(if hops > 0.0 { message } else { 0.0 });
        let shared = first + hops * message + (layers - 1.0) * pace + others;
        let again = layers * again.iter().map(layer).fold(0.0, f64::max);
        if shared <= again { AnchorKv::Shared } else { AnchorKv::Recompute }
    }

    /// For comparison, prefill by sequence parallelism over heads (DeepSpeed-Ulysses, arXiv
    /// 2309.14509): in every layer each host sends all others their heads of its tokens' queries,
    /// keys and values, and gets back outputs.
    #[must_use]
    pub fn ulysses(self, plan: &Plan, size: &ModelSize) -> LinkCost {
        let hosts = plan.hosts.len() as u64;
        let tokens = plan.tokens.div_ceil(plan.hosts.len()) as u64;
        let elements = (2 * size.q_width + 2 * size.kv_width) as u64;
        let bytes = size.layers as u64 * tokens * elements * size.element_bytes as u64;
        self.carries(bytes * (hosts - 1) / hosts, 0)
    }

    /// For comparison, prefill by a pipeline of layers over chunks of the context: every host sends
    /// the next the residual stream of all tokens, rows of `hidden` elements.
    #[must_use]
    pub fn pipeline(self, plan: &Plan, size: &ModelSize, hidden: usize) -> LinkCost {
        let crosses = u64::from(plan.hosts.len() > 1);
        self.carries(crosses * (plan.tokens * hidden * size.element_bytes) as u64, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Method, PlanSpec, Star};
    use proptest::prelude::*;

    const SIZE: ModelSize = ModelSize::LLAMA_8B;

    fn cost(spec: PlanSpec, tokens: usize) -> Cost {
        Cost::of(&Plan::new(spec, tokens).unwrap(), &SIZE)
    }

    #[test]
    fn a_ring_carries_what_a_chain_does_not() {
        let link = Link { bits_per_second: 25e9, latency: 1e-5 };
        let (hosts, tokens, gib) = (8, 128 << 10, (1u64 << 30) as f64);
        let star = link.phase1(&cost(Star::new(16 << 10).hosts(hosts), tokens));
        // 16K tokens of 4 KiB in 31 layers.
        assert_eq!(star.bytes as f64 / gib, 1.9375);
        let zigzag = link.phase1(&cost(PlanSpec::zigzag().hosts(hosts), tokens));
        assert_eq!(zigzag.bytes, 7 * star.bytes);
        assert!((zigzag.seconds - 4.66).abs() < 0.01, "{}", zigzag.seconds);
        let dense = link.phase1(&cost(PlanSpec::dense().hosts(hosts), tokens));
        assert!(dense.bytes > 10 * zigzag.bytes);
    }

    #[test]
    fn an_anchor_is_shared_where_the_link_is_fast() {
        let plan = |hosts: usize| Plan::new(Star::new(16 << 10).hosts(hosts), 128 << 10).unwrap();
        let choose = |hosts: usize, gigabits: f64| {
            let link = Link { bits_per_second: 1e9 * gigabits, latency: 1e-5 };
            link.anchor_kv(&plan(hosts), &SIZE, 600e12)
        };
        assert_eq!(choose(8, 100.0), AnchorKv::Shared);
        assert_eq!(choose(8, 25.0), AnchorKv::Shared);
        assert_eq!(choose(8, 5.0), AnchorKv::Recompute);
        // Of more blocks on each host more anchors are saved.
        assert_eq!(choose(2, 5.0), AnchorKv::Shared);
        assert_eq!(choose(2, 0.5), AnchorKv::Recompute);
        assert_eq!(choose(1, 0.5), AnchorKv::Shared);
    }

    #[test]
    fn a_token_waits_twice_in_every_layer() {
        let link = Link { bits_per_second: 100e9, latency: 25e-6 };
        let token = link.token(8, &SIZE);
        assert_eq!(token.bytes, 32 * 7 * (8192 + 128));
        assert!((token.seconds - (64.0 * 25e-6 + 8.0 * 3_698_688.0 / 100e9)).abs() < 1e-6);
        assert_eq!(link.token(1, &SIZE), LinkCost { bytes: 0, seconds: 0.0 });
    }

    proptest! {
        #[test]
        fn all_that_is_sent_is_received(
            tokens in 16usize..200_000, hosts in 1usize..1024, method in 0usize..5
        ) {
            let star = Star::new(tokens.div_ceil(7).max(16)).anchor(16);
            let recompute = star.anchor_kv(AnchorKv::Recompute);
            let method = [
                Method::Star(star), Method::Star(recompute), Method::Ring, Method::Zigzag,
                Method::Dense,
            ][method];
            let cost = cost(PlanSpec::from(method).hosts(hosts), tokens);
            let sent: u64 = cost.hosts.iter().map(|host| host.sent_bytes).sum();
            let received: u64 = cost.hosts.iter().map(|host| host.received_bytes).sum();
            prop_assert_eq!(sent, received);
        }
    }
}
