//! What must hold on every device: the same test bodies run on the CPU and, where there is one, on
//! a GPU, both in bf16, against the CPU in f32.

mod common;

use asterism::cancel::Cancel;
use asterism::engine::{
    Context, DeviceChoice, Engine, EngineOptions, Generation, Room, TextOptions,
};
use asterism::model::{FetchOptions, ModelSource};
use asterism::plan::{AnchorContent, AnchorKv, AnchorPlace, AnchorPolicy, Method, PlanSpec, Star};
use asterism::tensor::{KvPrecision, Precision, Sampling};
use common::{
    FAMILIES, Golden, HOSTS, assert_as_planned, devices, engine_on, methods, relative_error, run,
    tiny, tiny_on,
};
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex};

/// Relative error of logits in bf16. These models are so small, and their weights so random, that
/// rounding shows: rounding the weights alone makes up to 1.4e-2, activations on a GPU 3.9e-2.
const TOLERANCE: f32 = 5e-2;

fn check(found: &[f32], expected: &[f32], what: &str) {
    let error = relative_error(found, expected);
    assert!(error < TOLERANCE, "{what}: relative error {error}");
}

#[test]
fn every_family_is_close_to_f32() {
    for device in devices("every_family_is_close_to_f32") {
        for family in FAMILIES {
            let (exact, engine) = (tiny(family), tiny_on(family, device, Precision::Bf16));
            let ids = Golden::open(family).ints("input_ids");
            let (context, query) = ids.split_at(ids.len() - 7);
            for plan in [PlanSpec::dense(), PlanSpec::star(32).anchor(16).hosts(1)] {
                let (found, _) = run(&engine, context, query, plan, 1);
                let (expected, _) = run(&exact, context, query, plan, 1);
                check(&found, &expected, &format!("{family}, {} on {device}", plan.method));
            }
        }
    }
}

#[test]
fn methods_agree_on_any_number_of_hosts() {
    for device in devices("methods_agree_on_any_number_of_hosts") {
        for family in ["llama3", "qwen2", "qwen3"] {
            let (exact, engine) = (tiny(family), tiny_on(family, device, Precision::Bf16));
            let ids = Golden::open(family).ints("input_ids");
            let (context, query) = ids.split_at(90);
            let star = Star::new(16).anchor(10);
            let recomputed = Method::Star(star.anchor_kv(AnchorKv::Recompute));
            for method in methods(star).into_iter().chain([recomputed]) {
                let (expected, _) = run(&exact, context, query, method, 1);
                for hosts in HOSTS {
                    let plan = PlanSpec::from(method).hosts(hosts);
                    let (found, tokens) = run(&engine, context, query, plan, 4);
                    assert_eq!(tokens.len(), 4);
                    check(&found, &expected, &format!("{family}, {plan:?} on {device}"));
                }
            }
        }
    }
}

/// Queries, outputs and keys are as wide as the device has them.
#[test]
fn hosts_send_what_the_plan_says() {
    for device in devices("hosts_send_what_the_plan_says") {
        let engine = tiny_on("llama3", device, Precision::Bf16);
        let context = Golden::open("llama3").ints("input_ids");
        assert_as_planned(&engine, &context[..90]);
    }
}

/// An anchor of other tokens, just before its block, at its usual place, or anywhere before.
#[test]
fn other_anchors_agree_on_any_number_of_hosts() {
    let ids = Golden::open("llama3").ints("input_ids");
    let (context, query) = ids.split_at(90);
    let exact = tiny("llama3");
    for device in devices("other_anchors_agree_on_any_number_of_hosts") {
        let engine = tiny_on("llama3", device, Precision::Bf16);
        for place in AnchorPlace::ALL {
            let content = AnchorContent::Random;
            let anchor_policy = AnchorPolicy { content, place, seed: 1 };
            let star = Star::new(16).anchor_kv(AnchorKv::Recompute).anchor_policy(anchor_policy);
            let (expected, _) = run(&exact, context, query, star, 1);
            for hosts in HOSTS {
                let (found, _) = run(&engine, context, query, star.hosts(hosts), 1);
                check(&found, &expected, &format!("{anchor_policy:?} x{hosts} on {device}"));
            }
        }
    }
}

#[test]
fn nano_is_close_to_f32_over_a_long_text() {
    let exact = engine_on(&ModelSource::Nano, DeviceChoice::Cpu, Precision::F32);
    let frame = exact.frame(None).expect("frame");
    let text = book(12_000);
    let context = frame.context_tokens(exact.tokenizer(), &text).expect("tokens");
    let query = frame.query_tokens(exact.tokenizer(), "Where did he live?").expect("tokens");
    for device in devices("nano_is_close_to_f32_over_a_long_text") {
        let engine = engine_on(&ModelSource::Nano, device, Precision::Bf16);
        for plan in [PlanSpec::dense(), PlanSpec::star(1024).anchor(256).hosts(2)] {
            let (found, _) = run(&engine, &context, &query, plan, 1);
            let (expected, _) = run(&exact, &context, &query, plan, 1);
            let error = relative_error(&found, &expected);
            assert!(error < 2e-2, "{} on {device}: relative error {error}", plan.method);
        }
    }
}

/// Runs only where there is a GPU: the CPU's answers are what `tests/needles.rs` checks.
#[test]
fn a_gpu_answers_as_the_cpu_does() {
    let others: Vec<DeviceChoice> = devices("a_gpu_answers_as_the_cpu_does")
        .into_iter()
        .filter(|device| *device != DeviceChoice::Cpu)
        .collect();
    if others.is_empty() {
        return;
    }
    let cpu = engine_on(&ModelSource::Nano, DeviceChoice::Cpu, Precision::Bf16);
    let half = book(40_000);
    let text = format!("{half} The access code for the Lisbon vault is 48213. {half}");
    for device in others {
        let gpu = engine_on(&ModelSource::Nano, device, Precision::Bf16);
        for plan in [PlanSpec::dense(), PlanSpec::star(4096).anchor(1024).hosts(3)] {
            let answers = [&cpu, &gpu].map(|engine| answer(engine, &text, plan));
            assert!(answers[0].0.contains("48213"), "{}", answers[0].0);
            assert_eq!(answers[1], answers[0], "{} on {device}", plan.method);
        }
    }
}

/// Keys in 8 bits: what they cost in accuracy, and that facts are still found. Runs only where
/// there is a GPU; a CPU refuses.
#[test]
fn fp8_keys_cost_little() {
    let half = book(30_000);
    let text = format!("{half} The access code for the Lisbon vault is 48213. {half}");
    for device in devices("fp8_keys_cost_little") {
        let fp8 = nano(device, KvPrecision::Fp8);
        let dense = PlanSpec::dense();
        if device == DeviceChoice::Cpu {
            let cancel = Cancel::new();
            let refused =
                Context::encode(fp8, vec![1; 20], dense, Room::default(), &|_| (), &cancel).err();
            let message = refused.expect("an error").to_string();
            assert!(message.contains("cache them in bf16"), "{message}");
            continue;
        }
        let bf16 = engine_on(&ModelSource::Nano, device, Precision::Bf16);
        let frame = bf16.frame(None).expect("frame");
        let context = frame.context_tokens(bf16.tokenizer(), &book(12_000)).expect("tokens");
        let query = frame.query_tokens(bf16.tokenizer(), "Where did he live?").expect("tokens");
        for plan in [dense, PlanSpec::star(4096).anchor(1024).hosts(1), PlanSpec::zigzag().hosts(3)]
        {
            let (found, _) = run(&fp8, &context, &query, plan, 40);
            let (expected, _) = run(&bf16, &context, &query, plan, 40);
            let error = relative_error(&found, &expected);
            println!("fp8 keys, {}: relative error of logits {error}", plan.method);
            assert!(error < 0.1, "{}: relative error {error}", plan.method);
            let (text, _) = answer(&fp8, &text, plan);
            assert!(text.contains("48213"), "{}: {text}", plan.method);
        }
    }
}

/// Steps on one host of a GPU are recorded and replayed, and recorded again when the cache has
/// grown; steps on two are not, even if the second holds nothing.
#[test]
fn replayed_steps_are_what_plain_steps_are() {
    let exact = engine_on(&ModelSource::Nano, DeviceChoice::Cpu, Precision::F32);
    for device in devices("replayed_steps_are_what_plain_steps_are") {
        let on_gpu = device != DeviceChoice::Cpu;
        let precisions = [KvPrecision::Bf16, KvPrecision::Fp8];
        for &precision in if on_gpu { &precisions[..] } else { &precisions[..1] } {
            let engine = nano(device, precision);
            let frame = engine.frame(None).expect("frame");
            let context = frame.context_tokens(engine.tokenizer(), &book(500)).expect("tokens");
            let query = frame.query_tokens(engine.tokenizer(), "What came next?").expect("tokens");
            let one_host = PlanSpec::star(4096).hosts(1);
            let (_, replayed) = run(&engine, &context, &query, one_host, 1300);
            let equal = ties_with_plain_steps(&engine, &exact, &context, &query, &replayed);
            println!("keys in {precision} on {device}: {equal} choices between equals");
        }
    }
}

/// Steps of several sequences on one host of a GPU are recorded and replayed, too: they come while
/// others answer, over one context or another, and end one by one. An engine that times its stages
/// never records. Tokens are drawn by chance, so that other logits would soon show.
#[test]
fn replayed_steps_of_several_are_what_plain_steps_are() {
    for device in devices("replayed_steps_of_several_are_what_plain_steps_are") {
        let on_gpu = device != DeviceChoice::Cpu;
        let precisions = [KvPrecision::Bf16, KvPrecision::Fp8];
        for &precision in if on_gpu { &precisions[..] } else { &precisions[..1] } {
            let engines = [false, true].map(|time_stages| {
                let files = ModelSource::Nano.resolve(&FetchOptions::default()).expect("files");
                let kv_precision = Some(precision);
                let options =
                    EngineOptions { kv_precision, device, time_stages, ..Default::default() };
                Arc::new(Engine::load(files, &options).expect("model"))
            });
            // Keys of the first are split over the GPU, and into more parts as they grow.
            let [replaying, plain] = engines.map(|engine| {
                [(20_000, PlanSpec::dense()), (900, PlanSpec::star(128).anchor(32).hosts(1))].map(
                    |(chars, plan)| {
                        let frame = engine.frame(None).expect("frame");
                        let tokens = frame.context_tokens(engine.tokenizer(), &book(chars));
                        let (engine, tokens) = (Arc::clone(&engine), tokens.expect("tokens"));
                        let cancel = Cancel::new();
                        Context::encode(engine, tokens, plan, Room::default(), &|_| (), &cancel)
                            .expect("phase 1")
                    },
                )
            });
            for count in [1, 2, 3, 5] {
                let (found, expected) = (drawn(&replaying, count), drawn(&plain, count));
                for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let who = format!("{precision} on {device}: answer {i} of {count}");
                    let same = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
                    assert!(found == expected, "{who} differs from token {same} on");
                }
            }
        }
    }
}

/// `count` answers at once, by turns over the two contexts. Each begins when the first has some
/// tokens more, and ends after as many as no other: most pages end meanwhile.
fn drawn(contexts: &[Context; 2], count: usize) -> Vec<Vec<u32>> {
    let (told, heard) = (Mutex::new(0), Condvar::new());
    let answer = &|i: usize| {
        let started = told.lock().expect("tokens of the first");
        drop(heard.wait_while(started, |tokens| *tokens < 25 * i).expect("tokens of the first"));
        let query: Vec<u32> =
            (0..1 + 60 * i as u32).map(|t| 40 + (7 * t + i as u32) % 900).collect();
        let sampling = Sampling { temperature: 1.5, seed: i as u64, ..Sampling::default() };
        let max_tokens = [420, 130, 300, 200, 60][i];
        let settings =
            Generation { max_tokens, sampling, ignore_eos: true, ..Generation::default() };
        let mut on_token = |_| {
            if i == 0 {
                *told.lock().expect("tokens of the first") += 1;
                heard.notify_all();
            }
            ControlFlow::Continue(())
        };
        let cancel = Cancel::new();
        let answer = contexts[i % 2].generate(&query, &settings, &mut on_token, &cancel);
        answer.expect("phase 2").tokens
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|i| scope.spawn(move || answer(i))).collect();
        threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
    })
}

/// Follows `tokens` with plain steps. They may choose otherwise only between two tokens that are as
/// good as equal, which happens when sums are added up in another order. Returns how often they
/// did.
fn ties_with_plain_steps(
    engine: &Arc<Engine>,
    exact: &Arc<Engine>,
    context: &[u32],
    query: &[u32],
    tokens: &[u32],
) -> usize {
    const EQUAL: f32 = 0.1; // logits; on a GPU, bf16 moves them by some 0.03
    let two_hosts = PlanSpec::star(4096).hosts(2);
    let mut asked = query.to_vec();
    let mut left = tokens;
    let mut ties = 0;
    while !left.is_empty() {
        let (_, plain) = run(engine, context, &asked, two_hosts, left.len());
        assert_eq!(plain.len(), left.len());
        let Some(at) = plain.iter().zip(left).position(|(plain, token)| plain != token) else {
            break;
        };
        asked.extend(&left[..at]);
        let (logits, _) = run(exact, context, &asked, two_hosts, 1);
        let lead = logits[left[at] as usize] - logits[plain[at] as usize];
        let step = tokens.len() - left.len() + at;
        assert!(lead.abs() < EQUAL, "step {step}: {} or {}, lead {lead}", left[at], plain[at]);
        ties += 1;
        assert!(ties <= 8, "they differ {ties} times in {step} steps");
        asked.push(left[at]);
        left = &left[at + 1..];
    }
    ties
}

/// nano in bf16, its keys cached in `precision`.
fn nano(device: DeviceChoice, precision: KvPrecision) -> Arc<Engine> {
    let files = ModelSource::Nano.resolve(&FetchOptions::default()).expect("model files");
    let kv_precision = Some(precision);
    let options = EngineOptions { kv_precision, device, ..EngineOptions::default() };
    Arc::new(Engine::load(files, &options).expect("model"))
}

/// The start of the example book.
fn book(chars: usize) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/walden.txt");
    std::fs::read_to_string(path).expect("the example book").chars().take(chars).collect()
}

fn answer(engine: &Arc<Engine>, text: &str, plan: PlanSpec) -> (String, Vec<u32>) {
    let frame = engine.frame(None).expect("frame");
    let prompt = frame
        .prompt(engine.tokenizer(), text, "What is the access code for the Lisbon vault?")
        .expect("prompt");
    let cancel = Cancel::new();
    let session = Context::encode(
        Arc::clone(engine),
        prompt.context,
        plan,
        Room::default(),
        &|_| (),
        &cancel,
    )
    .expect("phase 1");
    let settings = Generation { max_tokens: 24, ..Generation::default() };
    let mut go_on = |_: &str| ControlFlow::Continue(());
    let answer = session
        .answer(&prompt.query, &settings, &TextOptions::default(), &mut go_on, &cancel)
        .expect("answer");
    (answer.text, answer.generated.tokens)
}
