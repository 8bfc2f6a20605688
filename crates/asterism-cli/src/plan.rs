//! `asterism plan`: what encoding a context costs, before it is spent.

use super::args::DocumentArgs;
use super::args::PlanArgs;
use super::args::common::MOST_PLANNED;
use super::documents::{Inputs, Reading};
use super::error::CliError;
use super::inputs::Limit;
use super::{asking, config, gpu, report};
use crate::terminal::Out;
use anyhow::Context;
use asterism::cancel::Cancel;
use asterism::engine::ModelText;
use asterism::plan::words::MethodName;
use asterism::plan::{
    Cost, HostCost, Link, LinkCost, Method, ModelSize, Plan, PlanSpec, RevisitCost, SlicedToken,
    Span, Sparse,
};
use asterism::text::Documents;
use asterism_documents::Document;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// Tokens of the question that costs are counted for.
const QUESTION: usize = 64;

pub(crate) fn run(args: PlanArgs) -> Result<(), CliError> {
    let spec = config::plan_spec(&args.method)?;
    let files = config::model_without_weights(&args.model)?;
    let text = ModelText::open(&files)?;
    let model = text.config();
    let given = match args.tokens {
        Some(tokens) => Given { tokens, documents: None },
        None => Given::read(&text, args.context, &args.documents)?,
    };
    let tokens = given.tokens;
    let size = args.model.size(model);
    let star = config::star(&args.method);
    // Patterns run on one host.
    let patterns = Sparse::DEFAULTS.map(MethodName::Sparse);
    let patterns = patterns.into_iter().filter(|_| spec.hosts == 1);
    let asked = Some(args.method.method).filter(|name| matches!(name, MethodName::Sparse(_)));
    let patterns = patterns.filter(|name| Some(name.name()) != asked.map(MethodName::name));
    let plans: Vec<(Plan, Cost)> = MethodName::PLAIN
        .into_iter()
        .chain(asked)
        .chain(patterns)
        .map(|name| {
            let method = name.with(star);
            // Of the others, those are shown pressed that can be.
            let can_be = matches!(method, Method::Star(_)) || method == spec.method;
            let press = spec.press.filter(|_| can_be);
            let spec = PlanSpec { method, press, ..spec };
            let plan = asking::plan(spec, tokens, given.documents.as_ref().map(|(_, read)| read))?;
            let cost = Cost::of(&plan, &size);
            Ok((plan, cost))
        })
        .collect::<Result<_, CliError>>()?;
    let sliced = args.model.sliced_token(model, spec.hosts);
    let latency = 1e-6 * args.latency_us;
    let link = args.link.map(|bits_per_second| Link { bits_per_second, latency });
    let mut out = Out::lock();
    if args.json {
        let (documents, skipped) = given.as_json();
        let value = json!({
            "model": files.name,
            "tokens": tokens,
            "documents": documents,
            "skipped": skipped,
            "max_positions": model.max_positions,
            "question_tokens": QUESTION,
            "sliced_token": sliced.map(|token| json!({
                "sent_bytes": token.bytes,
                "exchanges": token.exchanges,
                "weights_read": token.weights,
                "link_s": link.map(|link| link.sliced_token(&token).seconds),
            })),
            "methods": plans.iter().map(|(plan, cost)| {
                let mut value = as_json(plan, cost, &size);
                if let Some(link) = link {
                    value["phase1_link_s"] = link.phase1(cost).seconds.into();
                    value["token_link_s"] = link.token(plan.hosts.len(), &size).seconds.into();
                }
                gpu::add_memory(&mut value, model, &args.model, plan);
                value
            }).collect::<Vec<_>>(),
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&value).context("JSON")?)?;
        return Ok(());
    }
    if let Some((reading, read)) = &given.documents {
        writeln!(out, "{}", table(&out, &reading.documents, read))?;
    }
    writeln!(out, "{}: {model}", files.name)?;
    let hosts = if spec.hosts == 1 { "host" } else { "hosts" };
    writeln!(out, "{} tokens of context, {} {hosts}\n", report::count(tokens), spec.hosts)?;
    if tokens >= model.max_positions {
        let (tokens, max) = (report::count(tokens), report::count(model.max_positions));
        writeln!(out, "warning: the model has {max} positions; {tokens} tokens will be refused\n")?;
    }
    write!(out, "{}", comparison(&plans))?;
    if let Some(link) = link {
        write!(out, "\n{}", links(link, &plans, &size, model.hidden))?;
    }
    if let Some(token) = sliced {
        writeln!(out, "\n{}", slices(&token, link))?;
    }
    let chosen = plans.iter().find(|(plan, _)| plan.spec.method == spec.method);
    if let Some((plan, cost)) = chosen {
        write!(out, "\n{}:\n{}", report::plan(plan), by_host(plan, cost))?;
        if let Some(line) = revisit(plan, cost, &size) {
            writeln!(out, "\n{line}")?;
        }
        if let Some(press) = plan.spec.press {
            let (kept, all) = (report::count(plan.kept_tokens()), report::count(plan.tokens));
            let by = press.by.name();
            writeln!(out, "\nof {all} keys a head keeps {kept} on average, by {by}")?;
        }
        if let Some(line) = gpu::memory(model, &args.model, plan) {
            writeln!(out, "\n{line}")?;
        }
    }
    Ok(())
}

/// What is to be planned for.
struct Given {
    tokens: usize,
    /// What was read, and as which tokens; `None` if only a number is given.
    documents: Option<(Reading, Documents)>,
}

impl Given {
    fn read(text: &ModelText, paths: Vec<PathBuf>, args: &DocumentArgs) -> Result<Self, CliError> {
        let reading = Inputs::new(paths, args)?.read(Limit::of(text.tokenizer(), MOST_PLANNED))?;
        reading.tell();
        let (tokens, read) = text.frame(None)?.documents_until(
            text.tokenizer(),
            &reading.texts(),
            &Cancel::new(),
        )?;
        Ok(Self { tokens: tokens.len(), documents: Some((reading, read)) })
    }

    /// The documents, and what was skipped.
    fn as_json(&self) -> (Value, Value) {
        let Some((reading, read)) = &self.documents else { return (Value::Null, Value::Null) };
        let document = |(document, read): (&Document, &asterism::text::Document)| {
            json!({
                "name": document.name,
                "kind": document.kind.name(),
                "tokens": read.tokens().len(),
                "characters": document.text.chars().count(),
                "notes": document.notes,
            })
        };
        let skipped = reading.skipped.iter().map(|skipped| {
            json!({
                "name": skipped.name,
                "code": skipped.reason.code(),
                "reason": skipped.reason.to_string(),
            })
        });
        let documents = reading.documents.iter().zip(read.all()).map(document);
        (documents.collect(), skipped.collect())
    }
}

/// One row per document.
fn table(out: &Out, documents: &[Document], read: &Documents) -> String {
    let row = |(document, read): (&Document, &asterism::text::Document)| {
        vec![
            out.shown(&document.name).into_owned(),
            document.kind.name().to_owned(),
            report::count(read.tokens().len()),
        ]
    };
    let rows: Vec<Vec<String>> = documents.iter().zip(read.all()).map(row).collect();
    report::table(&["document", "kind", "tokens"], &rows)
}

/// What a question costs that has tokens computed anew, if any are.
fn revisit(plan: &Plan, cost: &Cost, size: &ModelSize) -> Option<String> {
    let star = plan.spec.method.as_star()?;
    let revisit = RevisitCost::of(plan, star.revisit, size, QUESTION);
    let share = 100.0 * revisit.flops as f64 / cost.total_flops() as f64;
    (revisit.tokens > 0).then(|| {
        format!(
            "each question of {QUESTION} tokens revisits {}: {} ({share:.1}% of encoding), {} of \
             keys, {} sent",
            report::count(revisit.tokens),
            report::flops(revisit.flops),
            report::bytes(revisit.kv_bytes),
            report::bytes(revisit.sent_bytes),
        )
    })
}

/// One row per method.
fn comparison(plans: &[(Plan, Cost)]) -> String {
    let dense = plans.iter().find(|(plan, _)| plan.spec.method == Method::Dense);
    let dense = dense.map_or(0, |(_, cost)| cost.total_flops()) as f64;
    let header = [
        "method",
        "blocks",
        "FLOP, all hosts",
        "vs dense",
        "FLOP, busiest host",
        "vs dense on 1 host",
        "KV per host",
        "sent",
    ];
    let less = |flops: u128| match dense / flops as f64 {
        ratio if (0.995..1.005).contains(&ratio) => "the same".to_owned(),
        ratio if ratio < 1.0 => format!("{:.2}x more", 1.0 / ratio),
        ratio => format!("{ratio:.2}x less"),
    };
    // How much a pattern keeps is not known before: the least, and the most it could be.
    let flops = |least: u128, most: u128| match least == most {
        true => report::flops(most),
        false => format!("{} to {}", report::flops(least), report::flops(most)),
    };
    let rows: Vec<Vec<String>> = plans
        .iter()
        .map(|(plan, cost)| {
            let kv = cost.hosts.iter().map(|h| h.kv_bytes + h.anchor_bytes).max().unwrap_or(0);
            vec![
                plan.spec.method.to_string(),
                report::count(plan.blocks()),
                flops(cost.least_flops(), cost.total_flops()),
                less(cost.total_flops()),
                report::flops(cost.critical_flops()),
                less(cost.critical_flops()),
                report::bytes(kv),
                report::bytes(cost.hosts.iter().map(|h| h.sent_bytes).sum()),
            ]
        })
        .collect();
    report::table(&header, &rows)
}

/// What the links between hosts carry, method by method, and what other ways to divide a prefill
/// would have them carry.
fn links(link: Link, plans: &[(Plan, Cost)], size: &ModelSize, hidden: usize) -> String {
    let cells = |name: &str, cost: LinkCost| {
        let seconds = report::seconds(Duration::from_secs_f64(cost.seconds));
        vec![name.to_owned(), report::bytes(cost.bytes), seconds]
    };
    let mut rows: Vec<Vec<String>> = plans
        .iter()
        .map(|(plan, cost)| cells(plan.spec.method.name(), link.phase1(cost)))
        .collect();
    let Some((plan, _)) = plans.first() else { return String::new() };
    rows.push(cells("(Ulysses)", link.ulysses(plan, size)));
    rows.push(cells("(pipeline of layers)", link.pipeline(plan, size, hidden)));
    let token = link.token(plan.hosts.len(), size);
    let rate = report::bit_rate(link.bits_per_second);
    format!(
        "on links of {rate}, {} \u{b5}s a message; phase 1, beside the work:\n{}\na token of an answer: {} \
         to the query host, {} on top of the work, by any method\n",
        1e6 * link.latency,
        report::table(&["method", "busiest link", "takes"], &rows),
        report::bytes(token.bytes),
        report::seconds(Duration::from_secs_f64(token.seconds)),
    )
}

/// What a token of an answer takes of hosts that divide the weights.
fn slices(token: &SlicedToken, link: Option<Link>) -> String {
    let seconds =
        link.map(|link| report::seconds(Duration::from_secs_f64(link.sliced_token(token).seconds)));
    let seconds = seconds.map_or_else(String::new, |seconds| format!(", {seconds} on these links"));
    format!(
        "a token of an answer with sliced weights: {} sent by all hosts in {} exchanges{seconds}; \
         a host reads {:.0}% of the weights",
        report::bytes(token.bytes),
        report::count(token.exchanges as usize),
        100.0 * token.share(),
    )
}

/// One row per host of the chosen method.
fn by_host(plan: &Plan, cost: &Cost) -> String {
    let header = ["host", "blocks", "positions", "linear", "attention", "KV", "anchor KV", "sent"];
    let rows: Vec<Vec<String>> = plan
        .hosts
        .iter()
        .zip(&cost.hosts)
        .enumerate()
        .map(|(host, (spans, cost))| {
            vec![
                host.to_string(),
                report::count(spans.len()),
                positions(spans),
                report::flops(cost.linear_flops),
                report::flops(cost.attention_flops),
                report::bytes(cost.kv_bytes),
                report::bytes(cost.anchor_bytes),
                report::bytes(cost.sent_bytes),
            ]
        })
        .collect();
    report::table(&header, &rows)
}

/// `0..8192`, runs of adjacent spans joined.
fn positions(spans: &[Span]) -> String {
    let mut runs: Vec<Span> = Vec::new();
    for span in spans {
        match runs.last_mut() {
            Some(last) if last.end() == span.start => last.len += span.len,
            _ => runs.push(*span),
        }
    }
    let text: Vec<String> =
        runs.iter().map(|run| format!("{}..{}", run.start, run.end())).collect();
    if text.is_empty() { "none".to_owned() } else { text.join(" ") }
}

fn as_json(plan: &Plan, cost: &Cost, size: &ModelSize) -> Value {
    let host = |(spans, cost): (&Vec<Span>, &HostCost)| {
        json!({
            "spans": spans.iter().map(|s| [s.start, s.end()]).collect::<Vec<_>>(),
            "encoded_tokens": cost.encoded,
            "linear_flop": report::flops_json(cost.linear_flops),
            "attention_flop": report::flops_json(cost.attention_flops),
            "least_attention_flop": report::flops_json(cost.least_attention_flops),
            "kv_bytes": cost.kv_bytes,
            "anchor_bytes": cost.anchor_bytes,
            "unpressed_bytes": cost.unpressed_bytes,
            "sent_bytes": cost.sent_bytes,
            "received_bytes": cost.received_bytes,
        })
    };
    let mut value = report::plan_json(plan);
    value["total_flop"] = report::flops_json(cost.total_flops());
    value["least_flop"] = report::flops_json(cost.least_flops());
    value["critical_flop"] = report::flops_json(cost.critical_flops());
    if let Some(star) = plan.spec.method.as_star() {
        let cost = RevisitCost::of(plan, star.revisit, size, QUESTION);
        value["revisit"] = json!({
            "tokens": cost.tokens,
            "flop": report::flops_json(cost.flops),
            "kv_bytes": cost.kv_bytes,
            "sent_bytes": cost.sent_bytes,
        });
    }
    value["per_host"] = plan.hosts.iter().zip(&cost.hosts).map(host).collect();
    value
}
