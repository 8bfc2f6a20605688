//! How fast this server encodes: measured, so that plans can say how long it will take.

use asterism::plan::{Cost, ModelSize, Plan};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Operations per second of the contexts encoded so far.
#[derive(Debug, Default)]
pub(crate) struct Rate(Mutex<Option<f64>>);

/// Plans of fewer operations say little about the rate of others.
const LEAST_FLOPS: f64 = 1e9;

impl Rate {
    /// Notes that encoding `plan`, none of it reused, took `time`.
    pub(crate) fn note(&self, plan: &Plan, size: &ModelSize, time: Duration) {
        let flops = Cost::of(plan, size).total_flops() as f64;
        let seconds = time.as_secs_f64();
        if flops < LEAST_FLOPS || seconds <= 0.0 {
            return;
        }
        let mut rate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = flops / seconds;
        // The machine may be busier or quieter than before.
        *rate = Some(rate.map_or(now, |before| 0.5 * before + 0.5 * now));
    }

    /// How long encoding `plan` is likely to take; `None` before anything was measured.
    pub(crate) fn seconds(&self, plan: &Plan, size: &ModelSize) -> Option<f64> {
        let rate = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Cost::of(plan, size).total_flops() as f64 / rate?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use asterism::plan::PlanSpec;

    #[test]
    fn a_plan_of_twice_the_work_takes_twice_the_time() {
        let size = ModelSize {
            layers: 8,
            context_layers: 8,
            linear_weights: 1 << 24,
            skipped_weights: 0,
            q_width: 64,
            heads: 4,
            kv_width: 64,
            kv_heads: 4,
            kv_row_bytes: 256,
            element_bytes: 2,
        };
        let plan = |tokens| Plan::new(PlanSpec::star(1024).hosts(1), tokens).unwrap();
        let rate = Rate::default();
        assert_eq!(rate.seconds(&plan(4096), &size), None);
        rate.note(&plan(4096), &size, Duration::from_secs(2));
        assert_eq!(rate.seconds(&plan(4096), &size), Some(2.0));
        assert!(rate.seconds(&plan(8192), &size).unwrap() > 3.5);
    }
}
