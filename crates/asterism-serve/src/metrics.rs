//! Counters and times for Prometheus, under the names and with the bounds that dashboards for
//! other servers of language models know.

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Why an answer ended.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Finished {
    pub(crate) finished_reason: &'static str,
}

/// What went wrong.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Failed {
    pub(crate) code: &'static str,
}

/// What the server counts.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) finished: Family<Finished, Counter>,
    pub(crate) failed: Family<Failed, Counter>,
    pub(crate) prompt_tokens: Counter,
    pub(crate) generated_tokens: Counter,
    /// Tokens of contexts that were asked for, and those of them whose keys were there.
    pub(crate) cache_queries: Counter,
    pub(crate) cache_hits: Counter,
    pub(crate) running: Gauge,
    pub(crate) contexts: Gauge,
    pub(crate) kv_bytes: Gauge,
    pub(crate) first_token: Histogram,
    pub(crate) between_tokens: Histogram,
    pub(crate) whole: Histogram,
}

const FIRST_TOKEN: [f64; 20] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0,
];
const BETWEEN_TOKENS: [f64; 17] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
    5.0,
];
const WHOLE: [f64; 16] =
    [0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 600.0];

impl Metrics {
    pub(crate) fn new() -> Self {
        let metrics = Self {
            registry: Registry::default(),
            finished: Family::default(),
            failed: Family::default(),
            prompt_tokens: Counter::default(),
            generated_tokens: Counter::default(),
            cache_queries: Counter::default(),
            cache_hits: Counter::default(),
            running: Gauge::default(),
            contexts: Gauge::default(),
            kv_bytes: Gauge::default(),
            first_token: Histogram::new(FIRST_TOKEN),
            between_tokens: Histogram::new(BETWEEN_TOKENS),
            whole: Histogram::new(WHOLE),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let mut all = Registry::with_prefix("asterism");
        all.register("request_success", "Answers, by why they ended", self.finished.clone());
        all.register("request_failure", "Requests that failed, by code", self.failed.clone());
        all.register("prompt_tokens", "Tokens of prompts", self.prompt_tokens.clone());
        all.register("generation_tokens", "Tokens of answers", self.generated_tokens.clone());
        let (queries, hits) = (self.cache_queries.clone(), self.cache_hits.clone());
        all.register("prefix_cache_queries", "Tokens of contexts asked for", queries);
        all.register("prefix_cache_hits", "Those whose keys were there already", hits);
        let running = self.running.clone();
        all.register("num_requests_running", "Requests that are answered or wait", running);
        all.register("contexts", "Contexts with a name", self.contexts.clone());
        all.register("kv_cache_bytes", "Bytes of keys and values in use", self.kv_bytes.clone());
        let first = self.first_token.clone();
        all.register("time_to_first_token_seconds", "From request to first token", first);
        let between = self.between_tokens.clone();
        all.register("inter_token_latency_seconds", "Between tokens of an answer", between);
        let whole = self.whole.clone();
        all.register("e2e_request_latency_seconds", "From request to the answer's end", whole);
        self.registry = all;
        self
    }

    /// All of them in Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
