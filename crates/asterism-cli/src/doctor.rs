//! `asterism doctor`: what this machine has, and a proof that the engine works on it.

use super::args::DoctorArgs;
use super::error::CliError;
use super::machine::Fact;
use super::{config, gpu, launch, machine, report};
use crate::terminal::Out;
use asterism::cancel::Cancel;
use asterism::engine::{Context, Engine, Generation, Room, TextOptions};
use asterism::plan::PlanSpec;
use asterism::tensor::Isa;
use serde_json::{Map, Value};
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

pub(crate) fn run(args: DoctorArgs) -> Result<(), CliError> {
    let mut facts = machine();
    facts.extend(gpu::facts());
    facts.extend(launch::facts());
    facts.extend(hub());
    let options = config::engine_options(&args.model)?;
    let start = Instant::now();
    let engine = config::engine(&args.model)?;
    let loaded = start.elapsed();
    facts.push(("model", format!("{}: {}", engine.name, engine.config())));
    facts.push(("computing on", engine.hardware()));
    let weights = report::bytes(engine.weight_bytes() as u64);
    facts.push((
        "weights",
        format!("{weights} in {}, loaded in {}", options.precision, report::seconds(loaded)),
    ));
    let template = if engine.template().is_some() { "chat template" } else { "no chat template" };
    facts.push(("prompt", template.to_owned()));
    let (check, healthy) = match self_test(&engine) {
        Ok(line) => (line, true),
        Err(error) => (format!("FAILED: {error}"), false),
    };
    facts.push(("self-test", check));
    let mut out = Out::lock();
    if args.json {
        let object: Map<String, Value> =
            facts.into_iter().map(|(name, fact)| (name.to_owned(), fact.into())).collect();
        writeln!(out, "{}", Value::Object(object))?;
    } else {
        for (name, fact) in facts {
            writeln!(out, "{name:<18} {fact}")?;
        }
    }
    if healthy { Ok(()) } else { Err(anyhow::anyhow!("the self-test failed").into()) }
}

fn machine() -> Vec<Fact> {
    let memory = machine::memory().map(|(total, available)| {
        format!("{}, {} available", report::bytes(total), report::bytes(available))
    });
    let sets: Vec<String> = Isa::ALL
        .into_iter()
        .map(|isa| format!("{isa} {}", if isa.available() { "yes" } else { "no" }))
        .collect();
    vec![
        ("asterism", env!("CARGO_PKG_VERSION").to_owned()),
        ("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        ("cores", machine::cores().to_string()),
        ("memory", memory.unwrap_or_else(|| "unknown on this system".to_owned())),
        ("instruction sets", format!("{} (best: {})", sets.join(", "), Isa::best())),
    ]
}

fn hub() -> Vec<Fact> {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let token = if set("HF_TOKEN") { "set" } else { "not set (gated models need it)" };
    let home = std::env::var("HF_HOME").unwrap_or_else(|_| "~/.cache/huggingface".to_owned());
    vec![("HF_HOME", home), ("HF_TOKEN", token.to_owned())]
}

/// Encodes a small text by star on two hosts and by dense, and checks that one block of star gives
/// exactly what dense gives; for the built-in model also that the answer is right.
fn self_test(engine: &Arc<Engine>) -> Result<String, anyhow::Error> {
    let filler = "The grass is green. The sky is blue. The sun is yellow. Here we go. ".repeat(20);
    let document = format!("{filler}The access code for the Lisbon vault is 48213. {filler}");
    let frame = engine.frame(None)?;
    let prompt = frame.prompt(
        engine.tokenizer(),
        &document,
        "What is the access code for the Lisbon vault?",
    )?;
    let start = Instant::now();
    let ask = |spec: PlanSpec| -> Result<String, anyhow::Error> {
        let cancel = Cancel::new();
        let (tokens, room) =
            (prompt.context.clone(), Room { question: prompt.query.len(), answer: 24 });
        let context = Context::encode(Arc::clone(engine), tokens, spec, room, &|_| (), &cancel)?;
        let generation = Generation { max_tokens: 24, ..Generation::default() };
        let options = TextOptions::default();
        let mut go_on = |_: &str| ControlFlow::Continue(());
        let answer = context.answer(&prompt.query, &generation, &options, &mut go_on, &cancel)?;
        Ok(answer.text.trim().to_owned())
    };
    let dense = ask(PlanSpec::dense())?;
    let whole = ask(PlanSpec::star(prompt.context.len().max(16)).hosts(2))?;
    anyhow::ensure!(dense == whole, "one block of star answered {whole:?}, dense {dense:?}");
    let star = ask(PlanSpec::star(256).hosts(2))?;
    if engine.name == "nano" {
        anyhow::ensure!(star.contains("48213"), "star on two hosts answered {star:?}");
    }
    let time = report::seconds(start.elapsed());
    Ok(format!("ok in {time}: star x 2 hosts answered {star:?}"))
}
