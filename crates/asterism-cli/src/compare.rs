//! `asterism ask --compare`: one question by star, the patterns that leave keys out, ring and
//! dense.

use super::asking::Asking;
use super::error::CliError;
use super::report;
use crate::terminal::Out;
use asterism::engine::{AnswerText, Phase1};
use asterism::plan::{Method, Plan, PlanSpec, Press, Revisit, Sparse, Star};
use serde_json::json;
use std::io::Write;
use std::ops::ControlFlow;
use std::time::Duration;

/// One method's answer.
struct Outcome {
    plan: Plan,
    phase1: Phase1,
    answer: AnswerText,
}

impl Outcome {
    /// From the question's arrival to the first token of its answer.
    fn first_token(&self) -> Duration {
        self.phase1.time + self.answer.generated.query_time
    }
}

/// Encodes `documents` and answers `question` by every method, one after the other, and prints a
/// table. Speed-ups are of the time to the first token, over dense.
pub(crate) fn run(
    asking: &Asking,
    documents: &[(&str, &str)],
    question: &str,
    (star, press): (Star, Option<Press>),
    hosts: usize,
) -> Result<(), CliError> {
    let query = asking.frame.query_tokens(asking.engine.tokenizer(), question)?;
    let mut outcomes = Vec::new();
    let revisits = star.revisit != Revisit::None;
    let plain = Method::Star(star.revisit(Revisit::None));
    let star = revisits.then_some(Method::Star(star));
    // Patterns run on one host.
    let patterns = Sparse::DEFAULTS.map(Method::Sparse).into_iter().filter(|_| hosts == 1);
    let methods = [plain].into_iter().chain(star).chain(patterns);
    for method in methods.chain([Method::Ring, Method::Dense]) {
        let press = press.filter(|_| matches!(method, Method::Star(_)));
        let spec = PlanSpec::from(method).hosts(hosts).press(press);
        let encoded = asking.encode(asking.prepare(documents, spec, query.len(), 0)?)?;
        let cancel = asking.interrupt.cancel();
        let mut go_on = |_: &str| ControlFlow::Continue(());
        let answer =
            encoded.answer(&query, &asking.generation, &asking.text, &mut go_on, cancel)?;
        let (plan, phase1) = (encoded.plan().clone(), encoded.phase1().clone());
        outcomes.push(Outcome { plan, phase1, answer });
    }
    let dense = outcomes.last().map_or(0.0, |o| o.first_token().as_secs_f64());
    let speedup = |o: &Outcome| dense / o.first_token().as_secs_f64();
    let mut out = Out::lock();
    if asking.json {
        for outcome in &outcomes {
            let Outcome { plan, phase1, answer } = outcome;
            let value = json!({
                "question": question,
                "answer": answer.text,
                "plan": report::plan_json(plan),
                "timings": report::timings(phase1, answer),
                "first_token_s": outcome.first_token().as_secs_f64(),
                "speedup_over_dense": speedup(outcome),
            });
            writeln!(out, "{value}")?;
        }
        return Ok(());
    }
    let header = ["method", "first token", "tokens/s", "sent", "kept", "speed-up", "answer"];
    let rows: Vec<Vec<String>> = outcomes
        .iter()
        .map(|outcome| {
            let generated = &outcome.answer.generated;
            vec![
                report::plan(&outcome.plan),
                report::seconds(outcome.first_token()),
                format!("{:.0}", generated.tokens_per_second()),
                report::bytes(outcome.phase1.bytes_sent + generated.bytes_sent),
                outcome.phase1.sparsity.map_or_else(
                    || "all".to_owned(),
                    |sparsity| format!("{:.0}%", 100.0 * sparsity.density()),
                ),
                format!("{:.2}x", speedup(outcome)),
                out.shown(&outcome.answer.text.trim().replace('\n', " ")).into_owned(),
            ]
        })
        .collect();
    write!(out, "{}", report::table(&header, &rows))?;
    Ok(())
}
