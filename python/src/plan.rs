//! What encoding a context takes, before any work.

use asterism::engine::{Engine, MemoryNeed};
use asterism::plan::{self, Cost};
use pyo3::prelude::*;

/// How a context is encoded, and what that takes: computed before any work.
#[pyclass(module = "asterism", frozen)]
pub(crate) struct Plan {
    plan: plan::Plan,
    cost: Cost,
    memory: Option<MemoryNeed>,
}

impl Plan {
    pub(crate) fn new(engine: &Engine, plan: plan::Plan, memory: Option<MemoryNeed>) -> Self {
        let cost = Cost::of(&plan, &engine.model_size());
        Self { plan, cost, memory }
    }
}

#[pymethods]
impl Plan {
    /// "star", "dense", "ring" or "zigzag".
    #[getter]
    fn method(&self) -> &'static str {
        self.plan.spec.method.name()
    }

    /// Tokens of the context, the model's prompt around it included.
    #[getter]
    fn tokens(&self) -> usize {
        self.plan.tokens
    }

    /// Tokens of the anchor; 0 for other methods than star.
    #[getter]
    fn anchor(&self) -> usize {
        self.plan.anchor
    }

    /// First position, and the one after the last, of each block (star) or share of a host, in
    /// their order.
    #[getter]
    fn blocks(&self) -> Vec<(usize, usize)> {
        self.plan.spans().iter().map(|span| (span.start, span.start + span.len)).collect()
    }

    /// Hosts.
    #[getter]
    fn hosts(&self) -> usize {
        self.plan.hosts.len()
    }

    /// Operations of all hosts.
    #[getter]
    fn flops(&self) -> u128 {
        self.cost.total_flops()
    }

    /// Bytes of cached keys and values, of all hosts.
    #[getter]
    fn kv_bytes(&self) -> u64 {
        self.cost.hosts.iter().map(|host| host.kv_bytes).sum()
    }

    /// Bytes of memory beside the weights, room for a question and its answer included; None if
    /// the context is there already.
    #[getter]
    fn memory_bytes(&self) -> Option<u64> {
        self.memory.map(|need| need.keys + need.activations)
    }

    fn __repr__(&self) -> String {
        format!(
            "Plan({} of {} tokens in {} blocks behind an anchor of {} on {} hosts: {:.3e} \
             operations, {:.1} MiB of keys)",
            self.method(),
            self.tokens(),
            self.plan.blocks(),
            self.anchor(),
            self.hosts(),
            self.flops() as f64,
            self.kv_bytes() as f64 / f64::from(1 << 20),
        )
    }
}
