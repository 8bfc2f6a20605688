//! What the links between processes carry, measured when a request first depends on it: whether an
//! anchor is worth sending, and whether a method asks more than they give.

use super::command::Command;
use super::group::Group;
use super::host::Host;
use super::load::Engine;
use super::request::Request;
use super::{EngineError, step};
use crate::comm::Message;
use crate::plan::{AnchorKv, Cost, Link, Method, Plan, PlanSpec};
use crate::tensor::Backend;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Numbers in the first message that the rate is measured with; each next is as many times longer.
const FIRST: usize = 16 << 10;
const TIMES: usize = 8;
/// A message that takes so long says enough.
const ENOUGH: Duration = Duration::from_millis(100);
/// Numbers in the longest one: 32 MiB.
const LONGEST: usize = FIRST * TIMES * TIMES * TIMES;

/// Transfers that take so long are refused if zigzag's take a tenth of it at most.
const FLOODED: Duration = Duration::from_secs(60);
const TIMES_ZIGZAG: f64 = 10.0;

impl<B: Backend> Group<B> {
    /// The links between the hosts, measured once: from messages that go from each to the next.
    /// About a second at most, or what 64 KiB take. `None` where hosts are threads, which share
    /// memory.
    ///
    /// # Errors
    /// If a message does not arrive.
    pub(super) fn link(&mut self) -> Result<Option<Link>, EngineError> {
        if self.measured.is_none() && self.are_processes() && self.lead.comm.size() > 1 {
            // The first message may have to connect.
            self.pass_round(1)?;
            let latency = self.pass_round(1)?;
            let (mut len, mut time) = (FIRST, self.pass_round(FIRST)?);
            while time < ENOUGH && len < LONGEST {
                len *= TIMES;
                time = self.pass_round(len)?;
            }
            let hops = (self.lead.comm.size() - 1) as f64;
            let seconds = time.saturating_sub(latency).as_secs_f64().max(1e-9) / hops;
            let bits_per_second = (8 * size_of::<f32>() * len) as f64 / seconds;
            let latency = latency.as_secs_f64() / hops;
            self.measured = Some(Link { bits_per_second, latency });
        }
        Ok(self.measured)
    }

    /// How long a message of `len` numbers takes through all hosts.
    fn pass_round(&mut self, len: usize) -> Result<Duration, EngineError> {
        let start = Instant::now();
        step::run(self, &Command::Pass { len }, |lead| lead.pass_on(len))?;
        Ok(start.elapsed())
    }
}

impl<B: Backend> Host<B> {
    /// Takes a message of `len` numbers from the host before, and gives one to the next.
    pub(super) fn pass_on(&self, len: usize) -> Result<(), EngineError> {
        let (backend, comm) = (&self.loaded.backend, &*self.comm);
        let mut sums = B::Sums::default();
        backend.sums_at_least(&mut sums, len)?;
        if comm.rank() > 0 {
            comm.recv_sums(comm.rank() - 1, len)?;
            // What comes to a GPU is there only when it has waited for it.
            backend.synchronize()?;
        }
        if comm.rank() + 1 < comm.size() {
            comm.send(comm.rank() + 1, Message::Sums(Arc::new(sums)))?;
        }
        Ok(())
    }
}

impl Engine {
    /// `plan` with what it leaves open decided, as the hosts' measured rates say.
    ///
    /// # Errors
    /// [`EngineError::FloodsLink`] if it would; if the rates cannot be measured.
    pub(super) fn settled(&self, plan: Plan) -> Result<Plan, EngineError> {
        let method = plan.spec.method;
        let is_open = method.as_star().is_some_and(|star| star.anchor_kv == AnchorKv::Auto);
        if method != Method::Dense && !is_open {
            return Ok(plan);
        }
        let link = if plan.hosts.len() > 1 { self.link(plan.hosts.len())? } else { None };
        let Some(link) = link else {
            // One processor computes an anchor in less time once than for every block.
            return Ok(plan.with_anchor_kv(AnchorKv::Shared));
        };
        let size = self.model_size();
        if is_open {
            let anchor_kv = link.anchor_kv(&plan, &size, self.peak()?.flops_per_second);
            return Ok(plan.with_anchor_kv(anchor_kv));
        }
        check_flood(&plan, link, |plan| Cost::of(plan, &size))?;
        Ok(plan)
    }

    /// The links between `hosts` hosts; `None` where they are threads.
    fn link(&self, hosts: usize) -> Result<Option<Link>, EngineError> {
        let (answer, heard) = channel();
        let requests = self.compute.requests(hosts)?;
        requests.send(Request::Measure(answer)).map_err(|_| EngineError::Stopped)?;
        heard.recv().map_err(|_| EngineError::Stopped)?
    }
}

/// Refuses a `plan` whose transfers take very long over `link`, and very much longer than zigzag's.
fn check_flood(plan: &Plan, link: Link, cost: impl Fn(&Plan) -> Cost) -> Result<(), EngineError> {
    let own = link.phase1(&cost(plan));
    let spec = PlanSpec { method: Method::Zigzag, ..plan.spec };
    let zigzag = link.phase1(&cost(&Plan::new(spec, plan.tokens)?));
    if own.seconds <= FLOODED.as_secs_f64() || own.seconds <= TIMES_ZIGZAG * zigzag.seconds {
        return Ok(());
    }
    Err(EngineError::FloodsLink {
        method: plan.spec.method.name(),
        bytes: own.bytes,
        seconds: own.seconds,
        zigzag_seconds: zigzag.seconds,
        bits_per_second: link.bits_per_second,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ModelSize;

    const SIZE: ModelSize = ModelSize::LLAMA_8B;

    #[test]
    fn what_floods_the_link_is_refused_and_zigzag_is_named() {
        let check = |spec: PlanSpec, tokens: usize, gigabits: f64| {
            let link = Link { bits_per_second: 1e9 * gigabits, latency: 1e-5 };
            check_flood(&Plan::new(spec, tokens).unwrap(), link, |plan| Cost::of(plan, &SIZE))
        };
        let dense = || PlanSpec::dense().hosts(8);
        let error = check(dense(), 128 << 10, 25.0).unwrap_err();
        assert_eq!(error.code(), "bad_plan");
        let text = error.to_string();
        assert!(text.contains("dense") && text.contains("--method zigzag"), "{text}");
        assert!(text.contains("25.0 Gbit/s"), "{text}");
        // A fast link, a short text, a method that sends as little as zigzag.
        assert!(check(dense(), 128 << 10, 400.0).is_ok());
        assert!(check(dense(), 4 << 10, 25.0).is_ok());
        assert!(check(PlanSpec::ring().hosts(8), 128 << 10, 0.1).is_ok());
        assert!(check(PlanSpec::zigzag().hosts(8), 128 << 10, 0.1).is_ok());
    }
}
