//! What it costs to compute tokens of a context anew.

use super::{Revisit, RevisitBy};
use crate::plan::{ModelSize, Plan};

/// What it costs to compute tokens of a context anew for one question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RevisitCost {
    /// Tokens computed anew.
    pub tokens: usize,
    /// Operations of all hosts: the tokens, as if they stood in the middle of what may be chosen,
    /// and what chooses them: the question's first run, which weighs the context, if it does.
    pub flops: u128,
    /// Bytes of the new keys and values, on the query host.
    pub kv_bytes: u64,
    /// Bytes that hosts send each other.
    pub sent_bytes: u64,
}

impl RevisitCost {
    /// Counts `revisit` for a question of `query` tokens about a context of `plan`.
    #[must_use]
    pub fn of(plan: &Plan, revisit: Revisit, size: &ModelSize, query: usize) -> Self {
        let tokens = plan.revisited(revisit);
        if tokens == 0 {
            return Self::default();
        }
        let by = plan.revisit_by();
        let context = plan.tokens as u64;
        let width = size.q_width as u64;
        // Of several rounds the first is computed anew by itself, and again with the others.
        let first = plan.first_round(tokens);
        let (runs, count) = match by {
            RevisitBy::Values => (0, tokens),
            _ if first < tokens => (2, first + tokens),
            _ => (1, tokens),
        };
        let (count, weighed) = (count as u64, runs * query as u64);
        let weights = u128::from(size.linear_weights - size.skipped_weights);
        let mut linear =
            u128::from(count) * weights + u128::from(weighed) * u128::from(size.linear_weights);
        let pairs = u128::from(count) * (plan.exact_tokens() as u128 + u128::from(context)) / 2;
        // The question's products with keys are made twice: to attend, and to weigh.
        let mut attention = 4 * (size.q_width * size.context_layers) as u128 * pairs
            + 6 * (size.q_width * size.layers) as u128 * u128::from(weighed) * u128::from(context);
        // Queries go to every other host, outputs and log-sum-exps come back; where the question
        // weighs, log-sum-exps go out as well.
        let others = plan.hosts.len() as u64 - 1;
        let row = 2 * width * size.element_bytes as u64;
        let sums = 4 * size.heads as u64;
        let mut sent = others
            * (size.context_layers as u64 * count * (row + sums)
                + size.layers as u64 * weighed * (row + 2 * sums));
        if by == RevisitBy::Values {
            // All tokens pass the first layer and the second one's projections, whose values go to
            // the hosts that have the old ones.
            let layer = size.linear_weights / size.layers as u64;
            linear += u128::from(context) * u128::from(2 * layer - size.skipped_weights);
            attention += 2 * u128::from(width) * u128::from(context) * u128::from(context);
            let elsewhere = plan.tokens - plan.host_tokens(0);
            sent += others * context * (row + sums) + (elsewhere * size.kv_row_bytes) as u64;
        }
        Self {
            tokens,
            flops: 2 * linear + attention,
            kv_bytes: tokens as u64 * size.kv_bytes(size.layers),
            sent_bytes: sent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Star;

    #[test]
    fn rounds_and_values_cost_what_they_do_beside_revisiting() {
        let size = ModelSize {
            layers: 4,
            context_layers: 3,
            linear_weights: 4000,
            skipped_weights: 600,
            q_width: 8,
            heads: 2,
            kv_width: 4,
            kv_heads: 1,
            kv_row_bytes: 16,
            element_bytes: 4,
        };
        let cost = |by| {
            let plan = Plan::new(Star::new(100).revisit_by(by).hosts(2), 400).unwrap();
            RevisitCost::of(&plan, Revisit::Tokens(50), &size, 10)
        };
        let [question, rounds, values] =
            [RevisitBy::Question, RevisitBy::Rounds, RevisitBy::Values].map(cost);
        assert_eq!(cost(RevisitBy::Late), question);
        let weigh: u128 = 2 * 10 * 4000 + 6 * 8 * 4 * 10 * 400;
        let anew = |count: u128| 2 * count * 3400 + 4 * 8 * 3 * count * 250;
        assert_eq!(question.flops, weigh + anew(50));
        assert_eq!(rounds.flops, 2 * weigh + anew(75));
        let layer: u128 = 2 * 400 * (1000 + 400) + 2 * 8 * 400 * 400;
        assert_eq!(values.flops, anew(50) + layer);
        assert_eq!((rounds.tokens, rounds.kv_bytes), (question.tokens, question.kv_bytes));
        let rows = |count: u64, sums: u64| count * (2 * 8 * 4 + sums * 2 * 4);
        assert_eq!(rounds.sent_bytes, rows(3 * 75, 1) + rows(4 * 20, 2));
        assert_eq!(values.sent_bytes, rows(3 * 50, 1) + rows(400, 1) + 200 * 16);
    }
}
