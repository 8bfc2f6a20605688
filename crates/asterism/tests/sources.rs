//! Where an answer comes from: by the definition, on any number of hosts, and without any effect on
//! the answer.

#![allow(clippy::unwrap_used)]

mod common;

use asterism::cancel::Cancel;
use asterism::engine::{Ask, Context, Engine, Generated, Generation, Room, Source};
use asterism::model::ModelSource;
use asterism::plan::{Method, Plan, PlanSpec, Revisit, Star};
use asterism::tensor::Precision;
use common::naive::NaiveLlama;
use common::{HOSTS, devices, engine_on, golden_dir, methods, tiny, tokens};
use std::ops::ControlFlow;
use std::sync::Arc;

fn encode(engine: &Arc<Engine>, ids: &[u32], spec: impl Into<PlanSpec>) -> Context {
    let (engine, cancel) = (Arc::clone(engine), Cancel::new());
    Context::encode(engine, ids.to_vec(), spec, Room::default(), &|_| (), &cancel).unwrap()
}

/// An answer of 6 tokens with all logits of its first position.
fn ask(context: &Context, query: &[u32], sources: bool, revisit: Option<Revisit>) -> Generated {
    let settings = Generation {
        max_tokens: 6,
        ignore_eos: true,
        top_logits: usize::MAX,
        revisit,
        sources,
        ..Generation::default()
    };
    let mut go_on = |_| ControlFlow::Continue(());
    context.generate(query, &settings, &mut go_on, &Cancel::new()).unwrap()
}

/// Shares in the order of the blocks.
fn shares(sources: &[Source]) -> Vec<f32> {
    let mut sorted = sources.to_vec();
    sorted.sort_by_key(|source| source.span.start);
    sorted.iter().map(|source| source.share).collect()
}

fn differ(a: &[f32], b: &[f32]) -> f32 {
    common::max_difference(a, b)
}

#[test]
fn shares_are_those_of_the_definition_on_any_number_of_hosts() {
    let engine = tiny("llama2");
    let naive = NaiveLlama::open(&golden_dir("llama2"));
    let (n, block, anchor) = (230, 48, 20);
    let ids = tokens(n + 15, 3);
    let (context, query) = ids.split_at(n);
    let of_layers = naive.weights(&ids, n, block, anchor);
    let weight = |token: usize| of_layers.iter().skip(token).step_by(n).sum::<f32>();
    let weights: Vec<f32> = (0..n).map(weight).collect();
    let sum = |from: usize, to: usize| weights[from..to].iter().sum::<f32>();
    let of_block = |start: usize| {
        let (from, to) = (start.max(anchor), n.min(start + block));
        sum(from, to) / sum(anchor, n) - (to - from) as f32 / (n - anchor) as f32
    };
    let expected: Vec<f32> = (0..n).step_by(block).map(of_block).collect();
    for hosts in HOSTS {
        let context = encode(&engine, context, Star::new(block).anchor(anchor).hosts(hosts));
        let found = ask(&context, query, true, None).sources;
        let difference = differ(&shares(&found), &expected);
        assert!(difference < 1e-5, "{hosts} hosts: {difference}");
        assert!(shares(&found).iter().sum::<f32>().abs() < 1e-5);
        assert!(found.is_sorted_by(|a, b| a.best_share >= b.best_share));
    }
}

#[test]
fn a_blank_question_is_what_others_are_compared_with() {
    let engine = common::engine(&ModelSource::Nano, Precision::F32);
    let frame = engine.frame(None).unwrap();
    let blank = frame.blank_query_tokens(engine.tokenizer()).unwrap();
    for hosts in [1, 3] {
        let spec = PlanSpec::star(32).anchor(16).hosts(hosts);
        let context = encode(&engine, &tokens(150, 4), spec).within(frame.clone());
        let first = ask(&context, &tokens(9, 5), true, None).sources;
        // Kept, whoever asks: a clone, a second time, the blank question itself.
        assert!(ask(&context.clone(), &tokens(9, 5), true, None).sources == first);
        let none = ask(&context, &blank, true, None).sources;
        assert!(none.iter().all(|source| source.share == 0.0), "{none:?}");
        let without = encode(&engine, &tokens(150, 4), spec);
        let apart = ask(&without, &tokens(9, 5), true, None).sources;
        let of_blank = ask(&without, &blank, true, None).sources;
        let expected: Vec<f32> =
            shares(&apart).iter().zip(shares(&of_blank)).map(|(a, b)| a - b).collect();
        assert!(differ(&shares(&first), &expected) < 1e-5);
    }
}

#[test]
fn answers_are_the_same_to_the_last_bit_whether_or_not_sources_are_wanted() {
    let nano = common::engine(&ModelSource::Nano, Precision::Bf16);
    // A short question, and one that runs in several passes.
    let star = Star::new(128).anchor(16);
    same_answers(&tiny("qwen3"), &tokens(400, 7), &tokens(40, 8), &methods(star), &HOSTS);
    let methods = [Method::Star(star), Method::Zigzag];
    same_answers(&nano, &tokens(1300, 7), &tokens(600, 8), &methods, &[1, 3]);
}

/// Answers by each of `methods` on each number of `hosts`.
fn same_answers(
    engine: &Arc<Engine>,
    ids: &[u32],
    query: &[u32],
    methods: &[Method],
    hosts: &[usize],
) {
    for method in methods.iter().copied() {
        let mut of_one_host = None;
        for hosts in hosts.iter().copied() {
            let context = encode(engine, ids, PlanSpec::from(method).hosts(hosts));
            for revisit in [Revisit::None, Revisit::Tokens(50)] {
                let plain = ask(&context, query, false, Some(revisit));
                let sourced = ask(&context, query, true, Some(revisit));
                assert!(plain.tokens == sourced.tokens, "{method} x{hosts}");
                assert!(plain.top_logits == sourced.top_logits, "{method} x{hosts}");
                assert_eq!(plain.revisited.tokens, sourced.revisited.tokens);
                assert_eq!(plain.sources, []);
                let found = shares(&sourced.sources);
                let expected = of_one_host.get_or_insert_with(|| found.clone());
                assert!(differ(&found, expected) < 1e-4, "{method} x{hosts}");
            }
        }
    }
}

#[test]
fn questions_with_sources_are_answered_beside_others() {
    let engine = common::engine(&ModelSource::Nano, Precision::Bf16);
    let frame = engine.frame(None).unwrap();
    let encode = || {
        encode(&engine, &tokens(300, 9), PlanSpec::star(64).anchor(16).hosts(2))
            .within(frame.clone())
    };
    let one = |context: &Context, i: usize| {
        let revisit = [Revisit::None, Revisit::Tokens(40)][i / 2 % 2];
        let found = ask(context, &tokens(1 + 40 * i, i as u64), i.is_multiple_of(2), Some(revisit));
        (found.tokens, found.top_logits, found.sources)
    };
    let context = encode();
    let alone: Vec<_> = (0..8).map(|i| one(&context, i)).collect();
    // The first of a new context to look for a baseline is one of many, or given up.
    let context = encode();
    let together: Vec<_> = std::thread::scope(|scope| {
        let context = &context;
        let cancel = Cancel::new();
        let settings = Generation { sources: true, ..Generation::default() };
        let given_up =
            context.ask_tokens(&[1, 2, 3], &settings, &Default::default(), &cancel).unwrap();
        let threads: Vec<_> = (0..8).map(|i| scope.spawn(move || one(context, i))).collect();
        drop(given_up);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(together == alone);
}

#[test]
fn a_fact_hidden_in_one_of_eight_blocks_is_the_source() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/walden.txt");
    let book = std::fs::read_to_string(path).unwrap();
    let sentences: Vec<&str> = book[book.len() / 2..].split(". ").skip(1).take(80).collect();
    for device in devices("a_fact_hidden_in_one_of_eight_blocks_is_the_source") {
        let engine = engine_on(&ModelSource::Nano, device, Precision::Bf16);
        for (at, hosts, revisit) in [(20, 1, 0), (40, 3, 0), (55, 8, 200), (74, 1, 200)] {
            let mut text = sentences[..at].join(". ");
            text += ". The access code for the Oslo archive is 73190. ";
            text += &sentences[at..].join(". ");
            let before = engine.frame(None).unwrap();
            let before = before.context_tokens(engine.tokenizer(), &text).unwrap().len();
            let context = engine.context(&text).star(before.div_ceil(8)).hosts(hosts);
            let context = context.revisit(Revisit::Tokens(revisit)).encode().unwrap();
            assert_eq!(context.plan().blocks(), 8);
            let question = "What is the access code for the Oslo archive?";
            let mut answer = context.ask(Ask::new(question).max_tokens(16).sources()).unwrap();
            assert_eq!(answer.sources(), []);
            answer.next().unwrap().unwrap();
            let sources = answer.sources().to_vec();
            let answer = answer.finish().unwrap();
            assert!(answer.text.contains("73190"), "sentence {at}: {}", answer.text);
            assert_eq!(answer.sources(), sources);
            let passage = context.passage(sources[0].best).unwrap();
            assert!(passage.contains("73190"), "sentence {at}: {passage:?} of {sources:?}");
        }
    }
}

#[test]
fn edited_contexts_have_sources_where_their_tokens_stand() {
    let engine = tiny("llama3");
    let ids = tokens(300, 11);
    let plan = Plan::spaced(PlanSpec::star(64).anchor(20), 300, &[100], 8).unwrap();
    let (room, cancel) = (Room::default(), Cancel::new());
    let context = Context::encode_plan(engine, ids.clone(), plan, room, &|_| (), &cancel).unwrap();
    let found = ask(&context, &tokens(12, 12), true, None).sources;
    let mut spans: Vec<_> = found.iter().map(|source| source.span).collect();
    spans.sort_by_key(|span| span.start);
    assert_eq!(spans, context.plan().spans());
    assert!(found.iter().all(|source| context.plan().indices(source.best).end <= 300));
}
