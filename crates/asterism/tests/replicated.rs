//! Decode steps that every host runs, with all weights or with a slice of them, against those that
//! one host leads.

#![allow(clippy::unwrap_used)]

mod common;

use asterism::cancel::Cancel;
use asterism::engine::{
    Context, DecodeWeights, Engine, EngineOptions, Generated, Generation, Room,
};
use asterism::plan::{PlanSpec, Revisit, Slices, Star};
use asterism::tensor::{Precision, Sampling};
use common::{FAMILIES, HOSTS, methods, tiny_files, tokens};
use std::ops::ControlFlow;
use std::sync::Arc;

const STEPS: usize = 9;

fn engine(decode_weights: DecodeWeights) -> Arc<Engine> {
    engine_of("llama3", Precision::F32, decode_weights)
}

fn engine_of(family: &str, precision: Precision, decode_weights: DecodeWeights) -> Arc<Engine> {
    let options =
        EngineOptions { threads: 1, precision, decode_weights, ..EngineOptions::default() };
    Arc::new(Engine::load(tiny_files(family), &options).unwrap())
}

/// Sampled tokens, and how likely each was.
fn answer(context: &Context, seed: u64) -> Generated {
    let settings = Generation {
        max_tokens: STEPS,
        ignore_eos: true,
        logprobs: Some(4),
        sampling: Sampling { temperature: 1.5, seed, ..Sampling::default() },
        ..Generation::default()
    };
    let mut go_on = |_| ControlFlow::Continue(());
    context.generate(&tokens(5, seed), &settings, &mut go_on, &Cancel::new()).unwrap()
}

fn encode(engine: &Arc<Engine>, ids: &[u32], spec: PlanSpec) -> Context {
    let (engine, cancel) = (Arc::clone(engine), Cancel::new());
    Context::encode(engine, ids.to_vec(), spec, Room::default(), &|_| (), &cancel).unwrap()
}

fn assert_alike(one: &Generated, all: &Generated, what: &str) {
    assert_eq!((one.tokens.len(), &one.tokens), (STEPS, &all.tokens), "{what}");
    for (at, (a, b)) in one.logprobs.iter().zip(&all.logprobs).enumerate() {
        assert!((a.chosen - b.chosen).abs() < 1e-5, "{what}, token {at}: {a:?} and {b:?}");
    }
}

#[test]
fn every_host_running_the_query_gives_what_one_leading_it_gives() {
    let [one, all] = [DecodeWeights::One, DecodeWeights::Replicated].map(engine);
    let ids = tokens(150, 3);
    let size = one.model_size();
    let star = Star::new(32).anchor(16);
    for method in methods(star).into_iter().chain([star.revisit(Revisit::Tokens(20)).into()]) {
        for hosts in HOSTS {
            let what = format!("{method} on {hosts} hosts");
            let contexts = [&one, &all]
                .map(|engine| encode(engine, &ids, PlanSpec::from(method).hosts(hosts)));
            // The second question finds what the first has left behind.
            for seed in [1, 2] {
                let [led, replicated] = [0, 1].map(|i| answer(&contexts[i], seed));
                assert_alike(&led, &replicated, &what);
                // Rows are f32 here. Led: queries out, outputs and log-sum-exps back.
                let (hosts, row) = (hosts as u64, 4 * size.q_width as u64);
                let part = row + 4 * size.heads as u64;
                let layers = (size.layers * (STEPS - 1)) as u64;
                let expected = led.bytes_sent - layers * (hosts - 1) * (row + part)
                    + layers * hosts * (hosts - 1) * part;
                assert_eq!(replicated.bytes_sent, expected, "{what}");
            }
        }
    }
}

#[test]
fn hosts_with_slices_of_the_weights_give_what_hosts_with_all_of_them_give() {
    for precision in [Precision::F32, Precision::Bf16] {
        for family in FAMILIES {
            let weights = [DecodeWeights::Replicated, DecodeWeights::Sliced];
            let [whole, sliced] = weights.map(|weights| engine_of(family, precision, weights));
            let (ids, config) = (tokens(150, 3), whole.config());
            let size = whole.model_size();
            for hosts in HOSTS {
                let what = format!("{family} in {precision} on {hosts} hosts");
                let spec = Star::new(32).anchor(16).hosts(hosts);
                let contexts = [&whole, &sliced].map(|engine| encode(engine, &ids, spec));
                let [all, slices] = [0, 1].map(|i| answer(&contexts[i], 1));
                assert_alike(&all, &slices, &what);
                // What is sent is what the plan says.
                let token = |slices: Slices| {
                    slices.token(config.widths(), config.layers, size.element_bytes, hosts).bytes
                };
                let divided = Slices::of(config.widths(), precision.bytes(), hosts, 0);
                assert_eq!(divided.mlp.is_some(), hosts > 1);
                let more = token(divided) - token(Slices::default());
                let steps = STEPS as u64 - 1;
                assert_eq!(slices.bytes_sent, all.bytes_sent + steps * more, "{what}");
            }
        }
    }
}

#[test]
fn questions_asked_at_once_run_on_every_host_together() {
    for weights in [DecodeWeights::Replicated, DecodeWeights::Sliced] {
        let all = engine(weights);
        let context = encode(&all, &tokens(150, 3), Star::new(32).anchor(16).hosts(3));
        let alone: Vec<Generated> = (0..4).map(|seed| answer(&context, seed)).collect();
        let together: Vec<Generated> = std::thread::scope(|scope| {
            let context = &context;
            let asked = (0..4).map(|seed| scope.spawn(move || answer(context, seed)));
            let asked: Vec<_> = asked.collect();
            asked.into_iter().map(|answer| answer.join().unwrap()).collect()
        });
        for (seed, (alone, together)) in alone.iter().zip(&together).enumerate() {
            // To the last bit: an answer does not depend on who else asks.
            let what = format!("question {seed}, {weights:?}");
            assert_eq!(alone.tokens, together.tokens, "{what}");
            for (a, b) in alone.logprobs.iter().zip(&together.logprobs) {
                assert_eq!(a.chosen.to_bits(), b.chosen.to_bits(), "{what}");
            }
        }
    }
}
