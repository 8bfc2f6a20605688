//! Keys and values in 8 bits on the CPU: close to exact ones, the same on any number of hosts, and
//! of half the memory, as the plan says.

#![allow(clippy::unwrap_used)]

mod common;

use asterism::cancel::Cancel;
use asterism::engine::{Context, Engine, EngineOptions, Generation, Room};
use asterism::model::{FetchOptions, ModelSource};
use asterism::plan::{Cost, PlanSpec, Press, PressBy, Revisit, Star};
use asterism::tensor::{Isa, KvPrecision, Precision};
use common::{HOSTS, assert_as_planned, methods, relative_error, run, tokens};
use std::ops::ControlFlow;
use std::sync::Arc;

/// nano with weights in f32, which keeps no block that no context holds.
fn nano(keys: KvPrecision, isa: Isa) -> Arc<Engine> {
    let files = ModelSource::Nano.resolve(&FetchOptions::default()).unwrap();
    let options = EngineOptions {
        precision: Precision::F32,
        kv_precision: Some(keys),
        isa: Some(isa),
        cache_bytes: 0,
        ..EngineOptions::default()
    };
    Arc::new(Engine::load(files, &options).unwrap())
}

/// Tokens of a book, as its context and a question.
fn book(engine: &Engine, context: usize, query: usize) -> (Vec<u32>, Vec<u32>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/walden.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let start = text.char_indices().nth(200_000).unwrap().0;
    let text: String = text[start..].chars().take(8 * (context + query)).collect();
    let special = asterism::text::Special::AsText;
    let mut ids = engine.tokenizer().encode(&text, special).unwrap();
    let query = ids.split_off(context)[..query].to_vec();
    (ids, query)
}

#[test]
fn logits_are_close_to_those_of_exact_keys_on_every_instruction_set() {
    let exact = nano(KvPrecision::F32, Isa::best());
    let (context, query) = book(&exact, 400, 20);
    let star = Star::new(128).anchor(32);
    let plans = [PlanSpec::dense(), star.hosts(2), star.revisit(Revisit::Tokens(100)).into()];
    for plan in plans {
        let (expected, _) = run(&exact, &context, &query, plan, 1);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            let int8 = nano(KvPrecision::Int8, isa);
            let (found, _) = run(&int8, &context, &query, plan, 1);
            let error = relative_error(&found, &expected);
            println!("{}, {isa}: relative error of logits {error}", plan.method);
            assert!(error < 0.05, "{}, {isa}: {error}", plan.method);
        }
    }
}

#[test]
fn hosts_answer_alike_and_send_and_keep_what_the_plan_says() {
    // Where many rows are not rounded to bf16, so that the order of sums makes little difference.
    let isa = [Isa::Avx512, Isa::Avx2, Isa::Portable].into_iter().find(|isa| isa.available());
    let int8 = nano(KvPrecision::Int8, isa.unwrap());
    assert_eq!(int8.kv_precision(), KvPrecision::Int8);
    // An answer that is sure.
    let note = "The access code for the Lisbon vault is 48213. The tide is full. ".repeat(15);
    let frame = int8.frame(None).unwrap();
    let context = frame.context_tokens(int8.tokenizer(), &note).unwrap();
    let question = "What is the access code for the Lisbon vault?";
    let query = frame.query_tokens(int8.tokenizer(), question).unwrap();
    let star = Star::new(64).anchor(20);
    let revisited = star.revisit(Revisit::Tokens(40));
    let press = Press::new(5000).by(PressBy::Kvzip);
    let pressed = PlanSpec::from(star).press(Some(press));
    let others = [PlanSpec::from(revisited), pressed];
    for spec in methods(star).into_iter().map(PlanSpec::from).chain(others) {
        let (expected, expected_tokens) = run(&int8, &context, &query, spec.hosts(1), 8);
        for hosts in HOSTS {
            let (found, tokens) = run(&int8, &context, &query, spec.hosts(hosts), 8);
            let error = relative_error(&found, &expected);
            println!("{}, {hosts} hosts: relative error of logits {error}", spec.method);
            // Another order of sums makes some codes one more or less, and these others.
            assert!(error < 0.02, "{spec:?}, {hosts} hosts: {error}");
            assert_eq!(tokens, expected_tokens, "{spec:?}, {hosts} hosts");
            let encoded = encode(&int8, &context, spec.hosts(hosts));
            let size = int8.model_size();
            let kept: u64 = Cost::of(encoded.plan(), &size).hosts.iter().map(|h| h.kv_bytes).sum();
            assert_eq!(encoded.phase1().kv_bytes, kept, "{spec:?}, {hosts} hosts");
        }
    }
    assert_as_planned(&int8, &tokens(90, 3));
}

#[test]
fn keys_take_half_of_bf16_and_a_scale_for_each_head() {
    let [int8, bf16] = [KvPrecision::Int8, KvPrecision::Bf16].map(|p| nano(p, Isa::best()));
    let [a, b] = [&int8, &bf16]
        .map(|engine| encode(engine, &tokens(100, 5), PlanSpec::dense()).phase1().kv_bytes);
    let scales = 100 * 2 * 4 * int8.config().kv_heads * int8.config().layers;
    assert_eq!(a, b / 2 + scales as u64);
}

#[test]
fn contexts_come_back_from_disk() {
    let int8 = nano(KvPrecision::Int8, Isa::best());
    let note = "The access code for the Lisbon vault is 48213. The tide is full. ".repeat(30);
    let documents = [("note", note.as_str())];
    for (keep, hosts) in [(Press::ALL, 1), (Press::ALL, 3), (5000, 2)] {
        let begun = int8.documents(&documents).star(128).hosts(hosts);
        let context = begun.press(Press::new(keep)).encode().unwrap();
        let folder = tempfile::tempdir().unwrap();
        context.save(folder.path(), &Cancel::new()).unwrap();
        let load = |keys| {
            let saved = nano(keys, Isa::best()).saved(folder.path(), &Cancel::new());
            saved.and_then(|saved| saved.encode(&|_| (), &Cancel::new()))
        };
        let again = load(KvPrecision::Int8).unwrap();
        assert!(again.phase1().is_loaded);
        assert_eq!(again.phase1().kv_bytes, context.phase1().kv_bytes);
        assert!(logits(&again) == logits(&context), "{hosts} hosts, {keep} kept");
        let error = load(KvPrecision::Bf16).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("keys in int8, and this is bf16"), "{error}");
    }
}

fn encode(engine: &Arc<Engine>, ids: &[u32], spec: PlanSpec) -> Context {
    let (engine, cancel) = (Arc::clone(engine), Cancel::new());
    Context::encode(engine, ids.to_vec(), spec, Room::default(), &|_| (), &cancel).unwrap()
}

/// All logits behind a question about the note.
fn logits(context: &Context) -> Vec<(u32, f32)> {
    let question = "What is the access code for the Lisbon vault?";
    let tokenizer = context.engine().tokenizer();
    let query = context.frame().unwrap().query_tokens(tokenizer, question).unwrap();
    let settings = Generation { max_tokens: 6, top_logits: usize::MAX, ..Generation::default() };
    let mut go_on = |_| ControlFlow::Continue(());
    context.generate(&query, &settings, &mut go_on, &Cancel::new()).unwrap().top_logits
}
