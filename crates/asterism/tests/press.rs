//! Contexts whose keys are pressed: what is kept is what the definition keeps, its memory is that
//! of what is kept, and neither depends on the number of hosts.

#![allow(clippy::unwrap_used)]

mod common;

use asterism::cancel::Cancel;
use asterism::engine::{
    Change, Context, DeviceChoice, Engine, EngineOptions, Generation, Phase1, Progress, Room,
};
use asterism::model::{FetchOptions, ModelSource};
use asterism::plan::{
    AnchorKv, Cost, HeadBudget, Plan, PlanSpec, Press, PressBy, Revisit, Span, Star,
};
use asterism::press::RepeatPrompt;
use asterism::tensor::Precision;
use common::naive::{NaiveLlama, Seen};
use common::{
    HOSTS, devices, engine_on, golden_dir, max_difference, relative_error, run, tiny, tokens,
};
use proptest::prelude::*;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// nano, which keeps no block that no context holds.
fn nano() -> Arc<Engine> {
    let files = ModelSource::Nano.resolve(&FetchOptions::default()).unwrap();
    let options = EngineOptions { cache_bytes: 0, precision: Precision::F32, ..Default::default() };
    Arc::new(Engine::load(files, &options).unwrap())
}

/// Where nano lies.
fn nano_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/nano")
}

fn encode(engine: &Arc<Engine>, ids: &[u32], spec: PlanSpec) -> Context {
    let size = engine.model_size();
    let work = AtomicU64::new(0);
    let progress = |step: Progress| {
        work.fetch_add(step.work, Ordering::Relaxed);
    };
    let cancel = Cancel::new();
    let context = Context::encode(
        Arc::clone(engine),
        ids.to_vec(),
        spec,
        Room::default(),
        &progress,
        &cancel,
    )
    .unwrap();
    let (plan, phase1) = (context.plan(), context.phase1());
    assert_eq!(work.into_inner(), Phase1::work(plan, size.layers), "{spec:?}");
    let cost = Cost::of(plan, &size);
    assert_eq!(phase1.bytes_sent, cost.hosts.iter().map(|host| host.sent_bytes).sum::<u64>());
    assert_eq!(phase1.kv_bytes, cost.hosts.iter().map(|host| host.kv_bytes).sum::<u64>());
    context
}

fn logits(context: &Context, query: &[u32]) -> Vec<f32> {
    let settings = Generation {
        max_tokens: 3,
        top_logits: usize::MAX,
        ignore_eos: true,
        ..Default::default()
    };
    let mut go_on = |_| ControlFlow::Continue(());
    let answer = context.generate(query, &settings, &mut go_on, &Cancel::new()).unwrap();
    let mut logits = vec![f32::NAN; context.engine().config().vocab];
    answer.top_logits.iter().for_each(|(token, logit)| logits[*token as usize] = *logit);
    logits
}

#[test]
fn all_kept_is_as_if_nothing_was_pressed() {
    let (engine, ids) = (tiny("llama3"), tokens(140, 3));
    for spec in [Star::new(32).anchor(16).hosts(2), PlanSpec::dense()] {
        let whole = run(&engine, &ids[..130], &ids[130..], spec, 5);
        for by in PressBy::ALL {
            let press = Press::new(Press::ALL).by(by);
            let kept = run(&engine, &ids[..130], &ids[130..], spec.press(Some(press)), 5);
            assert_eq!(kept, whole, "{press}");
        }
    }
}

#[test]
fn what_is_kept_does_not_depend_on_the_number_of_hosts() {
    let (engine, ids) = (nano(), tokens(330, 5));
    for heads in HeadBudget::ALL {
        for by in PressBy::ALL {
            let press = Press::new(4000).by(by).heads(heads);
            let logits_on = |hosts: usize, anchor_kv| {
                let star = Star::new(64).anchor(20).anchor_kv(anchor_kv);
                let spec = star.hosts(hosts).press(Some(press));
                let context = encode(&engine, &ids[..320], spec);
                logits(&context, &ids[320..])
            };
            let one = logits_on(1, AnchorKv::Shared);
            assert!(one.iter().all(|x| x.is_finite()));
            for hosts in HOSTS {
                let difference = max_difference(&logits_on(hosts, AnchorKv::Shared), &one);
                assert!(difference < 1e-4, "{press}, {hosts} hosts: {difference}");
            }
            let difference = max_difference(&logits_on(2, AnchorKv::Recompute), &one);
            assert!(difference < 1e-4, "{press}, anchor recomputed: {difference}");
        }
    }
}

#[test]
fn dense_contexts_are_pressed_on_one_host() {
    let (engine, ids) = (nano(), tokens(310, 7));
    let whole = run(&engine, &ids[..300], &ids[300..], PlanSpec::dense(), 1).0;
    for by in PressBy::ALL {
        let of = |keep| {
            let spec = PlanSpec::dense().press(Some(Press::new(keep).by(by)));
            max_difference(&logits(&encode(&engine, &ids[..300], spec), &ids[300..]), &whole)
        };
        let (little, most) = (of(1000), of(9900));
        assert!(little > most && most.is_finite(), "{}: {little}, {most}", by.name());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn the_last_tokens_of_blocks_are_what_the_definition_sees(
        n in 1usize..140, block in 16usize..60, anchor in 0usize..60, query in 1usize..20,
        keep in 500u32..9999, hosts in 0usize..5, seed in any::<u64>(),
    ) {
        let anchor = anchor.min(block);
        let ids = tokens(n + query, seed);
        let press = Press::new(keep).by(PressBy::Streaming);
        let spec = Star::new(block).anchor(anchor).hosts(HOSTS[hosts]).press(Some(press));
        let (found, _) = run(&tiny("llama2"), &ids[..n], &ids[n..], spec, 1);
        let plan = Plan::new(spec, n).unwrap();
        let is_kept = |j: usize| {
            let span = plan.spans()[j / block];
            let kept = plan.kept(span.len).unwrap_or(span.len);
            let sinks = if span.start == 0 && kept < span.len { 4 } else { 0 };
            j < sinks || j >= span.end() - (kept - sinks)
        };
        let sees = |i: usize, j: usize| {
            j <= i
                && if i < n { j / block == i / block || j < anchor } else { j >= n || is_kept(j) }
        };
        let positions: Vec<usize> = (0..ids.len()).collect();
        let naive = NaiveLlama::open(&golden_dir("llama2"));
        let expected: Vec<f32> = naive.logits(&ids, &positions, &sees, &mut |_| ());
        let difference = max_difference(&found, &expected);
        prop_assert!(difference < 2e-3, "{difference}");
    }
}

/// For each layer and KV head how much KVzip's repetitions look at each token of a context in
/// blocks, by the definition: `[layers, kv_heads, n]`.
fn looked_at(engine: &Engine, ids: &[u32], plan: &Plan) -> Vec<Vec<Vec<f64>>> {
    let naive = NaiveLlama::open(&nano_dir());
    let (size, n) = (engine.model_size(), ids.len());
    let group = size.heads / size.kv_heads;
    let prompt = RepeatPrompt::new(&engine.frame(None).unwrap(), engine.tokenizer()).unwrap();
    let block_of = |token: usize| plan.spans().iter().position(|span| token < span.end()).unwrap();
    // The context, and behind it the repetition of every block: whose each of its tokens is.
    let (mut all, mut positions, mut owners) = (ids.to_vec(), (0..n).collect::<Vec<_>>(), vec![]);
    for (block, span) in plan.spans().iter().enumerate() {
        for repetition in prompt.repetitions(&ids[span.range()], *span) {
            positions.extend(span.end()..span.end() + repetition.tokens.len());
            owners.extend(repetition.tokens.iter().map(|_| block));
            all.extend(repetition.tokens);
        }
    }
    let sees = |i: usize, j: usize| {
        let block = if i < n { block_of(i) } else { owners[i - n] };
        let other = if j < n { block_of(j) } else { owners[j - n] };
        j <= i && (block == other && (j < n || i >= n) || j < plan.anchor)
    };
    let mut most = vec![vec![vec![0.0f64; n]; size.kv_heads]; size.layers];
    let mut calls = 0;
    naive.logits(&all, &positions, &sees, &mut |seen| {
        let Seen::Weights { layer, token, weights } = seen else { return };
        // One head after the other.
        let head = calls % size.heads / group;
        calls += 1;
        if token < n {
            return;
        }
        let block = owners[token - n];
        let own = plan.spans()[block].range();
        let is_last = layer + 1 == size.layers;
        let sinks = if block == 0 || is_last { 0 } else { plan.anchor.min(Press::SINKS) };
        let compared = |j: usize| own.contains(&j) || j < sinks || j >= n;
        let total: f64 = (0..weights.len()).filter(|j| compared(*j)).map(|j| weights[j]).sum();
        for j in own {
            let most = &mut most[layer][head][j];
            *most = most.max(weights[j] / total);
        }
    });
    // The first tokens of all are kept in any case.
    for scores in most.iter_mut().flatten() {
        scores[..Press::SINKS].fill(f64::INFINITY);
    }
    most
}

#[test]
fn kvzip_keeps_what_the_definition_looks_at_most() {
    let engine = nano();
    let note =
        "The grass is green. The vault code is 48213. A heron fishes by the mill. ".repeat(4);
    let documents = [("note", note.as_str())];
    let begun = engine.documents(&documents).star(40).anchor(16);
    let context = begun.press(Press::new(4000).by(PressBy::Kvzip)).encode().unwrap();
    let (plan, folder) = (context.plan(), tempfile::tempdir().unwrap());
    assert!(plan.spans().len() > 2);
    let most = looked_at(&engine, context.tokens(), plan);
    context.save(folder.path(), &Cancel::new()).unwrap();
    let bytes = std::fs::read(folder.path().join("host-0.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (block, span) in plan.spans().iter().enumerate() {
        let keep = plan.kept(span.len).unwrap();
        assert!(keep > 0 && keep < span.len);
        for (layer, heads) in most.iter().enumerate() {
            let name = format!("block.{block}.layer.{layer}.kept_tokens");
            let numbers = file.tensor(&name).unwrap().data().as_chunks::<4>().0;
            let kept: Vec<usize> =
                numbers.iter().map(|bytes| u32::from_le_bytes(*bytes) as usize).collect();
            assert_eq!(kept.len(), heads.len() * keep);
            for (head, (kept, scores)) in kept.chunks(keep).zip(heads).enumerate() {
                let own = &scores[span.range()];
                let mut sorted = own.to_vec();
                sorted.sort_by(|a, b| b.total_cmp(a));
                // The engine computes in f32: what is as good as the worst may stand for it.
                let worst = sorted[keep - 1] * (1.0 - 1e-3);
                for token in kept {
                    assert!(own[*token] >= worst, "block {block}, layer {layer}, head {head}");
                }
            }
        }
    }
}

#[test]
fn all_tokens_computed_anew_are_dense_whatever_was_kept() {
    let (engine, ids) = (nano(), tokens(210, 11));
    let dense = run(&engine, &ids[..200], &ids[200..], PlanSpec::dense(), 1).0;
    for by in PressBy::ALL {
        for hosts in [1, 3] {
            let star = Star::new(40).anchor(16).revisit(Revisit::Share(10_000));
            let spec = star.hosts(hosts).press(Some(Press::new(2500).by(by)));
            let all = run(&engine, &ids[..200], &ids[200..], spec, 1).0;
            let difference = max_difference(&all, &dense);
            assert!(difference < 1e-3, "{}, {hosts} hosts: {difference}", by.name());
            let star = star.revisit(Revisit::Tokens(30));
            let some =
                run(&engine, &ids[..200], &ids[200..], PlanSpec { method: star.into(), ..spec }, 1)
                    .0;
            assert!(some.iter().all(|x| x.is_finite()));
        }
    }
}

#[test]
fn a_pressed_context_comes_back_from_disk() {
    let note = "The access code for the Lisbon vault is 48213. The tide is full. ".repeat(40);
    let question = "What is the access code for the Lisbon vault?";
    for heads in HeadBudget::ALL {
        for hosts in [1, 2] {
            let press = Press::new(5000).by(PressBy::Kvzip).heads(heads);
            let engine = nano();
            let documents = [("note", note.as_str())];
            let begun = engine.documents(&documents).star(128).hosts(hosts);
            let context = begun.press(press).encode().unwrap();
            let folder = tempfile::tempdir().unwrap();
            context.save(folder.path(), &Cancel::new()).unwrap();
            let query = |context: &Context| {
                let tokenizer = context.engine().tokenizer();
                context.frame().unwrap().query_tokens(tokenizer, question).unwrap()
            };
            let before = logits(&context, &query(&context));
            let cancel = Cancel::new();
            let again = nano().saved(folder.path(), &cancel).unwrap();
            let again = again.encode(&|_| (), &cancel).unwrap();
            assert!(again.phase1().is_loaded);
            assert_eq!(again.phase1().kv_bytes, context.phase1().kv_bytes);
            assert_eq!(logits(&again, &query(&again)), before);
        }
    }
}

#[test]
fn a_pressed_context_is_found_again_and_edited() {
    let engine = Engine::open("nano").unwrap();
    let text = "The grass is green. The sky is blue. The sun is yellow. ".repeat(20);
    let press = Press::new(5000).by(PressBy::Knorm);
    let encode = |text: &str, press: Option<Press>| {
        let begun = engine.context(text).star(64).slack(8);
        let begun = match press {
            Some(press) => begun.press(press),
            None => begun,
        };
        begun.encode().unwrap()
    };
    let before = encode(&text, Some(press));
    assert_eq!(encode(&text, Some(press)).phase1().reused.len(), before.plan().blocks());
    for other in [None, Some(press.by(PressBy::Random)), Some(Press { keep: 5001, ..press })] {
        assert_eq!(encode(&text, other).phase1().reused.len(), 0, "other keys are kept");
    }
    let after = before.edit(&(text + "The end.")).unwrap();
    // The last block is another, and the first is encoded again for its anchor.
    let anew = |(span, _): &(Span, Change)| !after.phase1().reused.contains(span);
    let anew: Vec<_> = after.changes_from(&before).into_iter().filter(anew).collect();
    assert_eq!(anew.len(), 2, "{anew:?}");
    let fresh = Engine::open("nano").unwrap();
    let plan = after.plan().clone();
    let anew = Context::encode_plan(
        fresh,
        after.tokens().to_vec(),
        plan,
        Room::default(),
        &|_| (),
        &Cancel::new(),
    )
    .unwrap();
    assert_eq!(logits(&after, &[5, 6, 7]), logits(&anew, &[5, 6, 7]));
}

#[test]
fn what_a_score_is_for_is_kept() {
    let engine = nano();
    let prose = "The grass is green. The sky is blue. The sun is yellow. Here we go. ".repeat(25);
    let text = format!("{prose}The access code for the Lisbon vault is 48213. {prose}");
    let answers = |spec: Option<u32>, press: Press| {
        let begun = match spec {
            Some(block) => engine.context(&text).star(block as usize).anchor(128),
            None => engine.context(&text).dense(),
        };
        let context = begun.press(press).encode().unwrap();
        let answer = context.ask("What is the access code for the Lisbon vault?").unwrap();
        answer.finish().unwrap().text.contains("48213")
    };
    for block in [None, Some(512)] {
        for heads in HeadBudget::ALL {
            for by in [PressBy::Kvzip, PressBy::Compactor] {
                let press = Press::new(5000).by(by).heads(heads);
                assert!(answers(block, press), "{block:?} {press}");
            }
        }
    }
    let last = Press::new(2500).by(PressBy::Streaming);
    assert!(!answers(None, last), "the code is not among the last tokens");
}

#[test]
fn pressed_contexts_answer_alike_on_a_gpu() {
    let ids = tokens(900, 13);
    let of = |device, spec: PlanSpec| {
        let engine = engine_on(&ModelSource::Nano, device, Precision::Bf16);
        logits(&encode(&engine, &ids[..890], spec), &ids[890..])
    };
    for device in devices("pressed contexts") {
        for spec in [Star::new(256).anchor(64).hosts(2), PlanSpec::dense()] {
            for heads in HeadBudget::ALL {
                for by in PressBy::ALL {
                    let press = Press::new(5000).by(by).heads(heads);
                    let found = of(device, spec.press(Some(press)));
                    assert!(found.iter().all(|x| x.is_finite()), "{press} on {device:?}");
                    // Where scores do not depend on rounding the same keys are kept.
                    if matches!(by, PressBy::Random | PressBy::Streaming) {
                        let expected = of(DeviceChoice::Cpu, spec.press(Some(press)));
                        let error = relative_error(&found, &expected);
                        assert!(error < 0.05, "{press} on {device:?}: {error}");
                    }
                }
            }
        }
    }
}
