//! Tokens of a context computed anew for a question: all of them make star exact, none leave it as
//! it is, and those between are what the definition says, on any number of hosts.

#![allow(clippy::unwrap_used)]

mod common;

use asterism::cancel::Cancel;
use asterism::engine::{Context, DeviceChoice, Engine, Generation, Revisited, Room};
use asterism::model::ModelSource;
use asterism::plan::{AnchorKv, Plan, PlanSpec, Revisit, RevisitBy, Star};
use asterism::tensor::Precision;
use common::naive::NaiveLlama;
use common::{HOSTS, devices, golden_dir, max_difference, run, tiny, tiny_on, tokens};
use proptest::prelude::*;
use std::ops::ControlFlow;
use std::sync::Arc;

const ALL: Revisit = Revisit::Share(10_000);

fn encode(engine: &Arc<Engine>, ids: &[u32], spec: impl Into<PlanSpec>) -> Context {
    let (engine, cancel) = (Arc::clone(engine), Cancel::new());
    Context::encode(engine, ids.to_vec(), spec, Room::default(), &|_| (), &cancel).unwrap()
}

/// An answer of 6 tokens, the logits of its first position by token, and what was revisited.
fn ask(
    context: &Context,
    query: &[u32],
    revisit: Option<Revisit>,
) -> (Vec<u32>, Vec<f32>, Revisited) {
    let settings = Generation {
        max_tokens: 6,
        ignore_eos: true,
        revisit,
        top_logits: usize::MAX,
        ..Generation::default()
    };
    let mut go_on = |_| ControlFlow::Continue(());
    let answer = context.generate(query, &settings, &mut go_on, &Cancel::new()).unwrap();
    let mut logits = vec![f32::NAN; context.engine().config().vocab];
    answer.top_logits.iter().for_each(|(token, logit)| logits[*token as usize] = *logit);
    (answer.tokens, logits, answer.revisited)
}

/// The tokens that a question behind `n` tokens has computed anew, by the definition.
fn chosen(
    naive: &NaiveLlama,
    ids: &[u32],
    (n, block, anchor): (usize, usize, usize),
    plan: &Plan,
) -> Vec<u32> {
    let by = plan.revisit_by();
    let scores = |earlier: &[u32]| -> Vec<f32> {
        if by == RevisitBy::Values {
            return naive.changes(ids, n, block, anchor);
        }
        let weights = naive.weights_again(ids, n, block, anchor, earlier);
        let layers = weights.len() / n;
        let of = |token: usize| weights.iter().skip(token).step_by(n).copied();
        let score = |token: usize| match by {
            RevisitBy::Late => of(token).skip(layers / 2).sum(),
            RevisitBy::Largest => of(token).fold(0.0, f32::max),
            _ => of(token).sum(),
        };
        (0..n).map(score).collect()
    };
    let count = plan.revisited(plan.spec.method.as_star().unwrap().revisit);
    if by == RevisitBy::Rounds {
        let first = plan.choose_revisited(count.div_ceil(2), &scores(&[]), &[]);
        plan.choose_revisited(count, &scores(&first), &first)
    } else {
        plan.choose_revisited(count, &scores(&[]), &[])
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn revisited_tokens_are_what_the_definition_says(
        n in 1usize..140, block in 16usize..60, anchor in 0usize..60, query in 1usize..20,
        count in 0usize..140, by in 0usize..8, hosts in 0usize..5, recompute in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let anchor = anchor.min(block);
        let ids = tokens(n + query, seed);
        let anchor_kv = if recompute { AnchorKv::Recompute } else { AnchorKv::Shared };
        let revisit = Revisit::Tokens(count);
        let star = Star::new(block).anchor(anchor).anchor_kv(anchor_kv).revisit(revisit);
        let star = star.revisit_by(RevisitBy::ALL[by]);
        let (found, _) = run(&tiny("llama2"), &ids[..n], &ids[n..], star.hosts(HOSTS[hosts]), 1);
        let naive = NaiveLlama::open(&golden_dir("llama2"));
        let chosen = chosen(&naive, &ids, (n, block, anchor), &Plan::new(star, n).unwrap());
        let expected = naive.revisited(&ids, n, block, anchor, &chosen);
        let difference = max_difference(&found, &expected);
        prop_assert!(difference < 1e-3, "logits differ by {}", difference);
    }
}

#[test]
fn all_tokens_revisited_is_full_attention_and_none_is_star() {
    // However they are chosen.
    let mut choices = RevisitBy::ALL.into_iter().cycle();
    for device in devices("all_tokens_revisited_is_full_attention_and_none_is_star") {
        for family in ["llama3", "qwen3", "mistral"] {
            let is_cpu = device == DeviceChoice::Cpu;
            let precision = if is_cpu { Precision::F32 } else { Precision::Bf16 };
            let engine = tiny_on(family, device, precision);
            let (context, query) = (tokens(400, 3), tokens(21, 4));
            let (dense, dense_tokens) = run(&engine, &context, &query, PlanSpec::dense(), 6);
            let most = if is_cpu { 2e-3 } else { 0.1 };
            for (block, anchor, hosts) in [(16, 0, 1), (64, 16, 2), (100, 100, 3), (399, 40, 1)] {
                let by = choices.next().unwrap();
                let spec = PlanSpec::star(block).anchor(anchor).revisit_by(by).hosts(hosts);
                let context = encode(&engine, &context, spec);
                let (tokens, logits, revisited) = ask(&context, &query, Some(ALL));
                assert_eq!(revisited.tokens, 400 - block);
                let difference = max_difference(&logits, &dense);
                assert!(difference < most, "{family}, blocks of {block}, {by:?}: {difference}");
                if is_cpu {
                    assert_eq!(tokens, dense_tokens, "{family}, blocks of {block}");
                }
                let star = ask(&context, &query, None);
                let none = ask(&context, &query, Some(Revisit::None));
                assert!(star == none && none.2 == Revisited::default());
            }
        }
    }
}

#[test]
fn what_is_chosen_does_not_depend_on_hosts_and_passes() {
    let engine = tiny("llama3");
    let (ids, query) = (tokens(420, 5), tokens(40, 6));
    let all = [AnchorKv::Shared, AnchorKv::Recompute].into_iter().zip([RevisitBy::Question; 2]);
    let others = RevisitBy::ALL[1..].iter().map(|by| (AnchorKv::Shared, *by));
    for (anchor_kv, by) in all.chain(others) {
        let star = PlanSpec::star(32).anchor(16).anchor_kv(anchor_kv).revisit_by(by);
        let answers = HOSTS.map(|hosts| {
            let context = encode(&engine, &ids, star.hosts(hosts));
            ask(&context, &query, Some(Revisit::Tokens(200)))
        });
        for (hosts, (tokens, logits, revisited)) in HOSTS.iter().zip(&answers) {
            assert_eq!(revisited.tokens, 200);
            assert_eq!(*tokens, answers[0].0, "{by:?}, {hosts} hosts");
            let difference = max_difference(logits, &answers[0].1);
            assert!(difference < 1e-3, "{by:?}, {hosts} hosts: {difference}");
        }
    }
}

#[test]
fn more_tokens_than_pass_at_once_are_computed_anew_in_several_passes() {
    let engine = common::engine(&ModelSource::Nano, Precision::F32);
    let (ids, query) = (tokens(3000, 5), tokens(40, 6));
    let (dense, _) = run(&engine, &ids, &query, PlanSpec::dense(), 1);
    for hosts in [1, 3] {
        let star = PlanSpec::star(256).anchor(64).revisit(ALL);
        let (found, _) = run(&engine, &ids, &query, star.hosts(hosts), 1);
        let difference = max_difference(&found, &dense);
        assert!(difference < 0.02, "{hosts} hosts: {difference}");
    }
}

#[test]
fn questions_that_revisit_leave_the_context_to_others_as_it_was() {
    let engine = tiny("qwen3");
    for hosts in [1, 3] {
        let spec = PlanSpec::star(64).anchor(16).revisit(Revisit::Tokens(50)).hosts(hosts);
        let context = encode(&engine, &tokens(200, 7), spec);
        let asked: Vec<_> = (0..9)
            .map(|i| {
                let revisit = [None, Some(Revisit::None), Some(Revisit::Share(2000))][i % 3];
                (tokens(1 + 9 * (i % 4), i as u64), revisit)
            })
            .collect();
        let untimed = |(tokens, logits, revisited): (Vec<u32>, Vec<f32>, Revisited)| {
            (tokens, logits, revisited.tokens)
        };
        let one = |(query, revisit): &(Vec<u32>, Option<Revisit>)| {
            untimed(ask(&context, query, *revisit))
        };
        let alone: Vec<_> = asked.iter().map(one).collect();
        assert_eq!(alone.iter().map(|a| a.2).collect::<Vec<_>>()[..3], [50, 0, 40]);
        let together: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = asked.iter().map(|asked| scope.spawn(|| one(asked))).collect();
            // One is given up half-way.
            let cancel = Cancel::new();
            cancel.raise();
            let settings = Generation { revisit: Some(ALL), ..Generation::default() };
            let mut go_on = |_| ControlFlow::Continue(());
            assert!(context.generate(&[1, 2, 3], &settings, &mut go_on, &cancel).is_err());
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        // To the last bit.
        assert!(together == alone, "{hosts} hosts");
    }
}

#[test]
fn edited_contexts_are_revisited_where_their_tokens_stand() {
    let engine = tiny("llama3");
    let (ids, query) = (tokens(300, 9), tokens(12, 10));
    let star = PlanSpec::star(64).anchor(64);
    let plan = Plan::spaced(star.hosts(2), 300, &[100], 8).unwrap();
    let (engine_again, cancel) = (Arc::clone(&engine), Cancel::new());
    let room = Room::default();
    let spaced =
        Context::encode_plan(engine_again, ids.clone(), plan, room, &|_| (), &cancel).unwrap();
    // With everything computed anew, only positions are left to differ between these two plans:
    // they are the same up to the first gap.
    let (_, logits, revisited) = ask(&spaced, &query, Some(ALL));
    assert_eq!(revisited.tokens, 300 - 56);
    let other = Plan::spaced(star.hosts(1), 300, &[100], 8).unwrap();
    let other = Context::encode_plan(engine, ids, other, room, &|_| (), &cancel).unwrap();
    let (_, expected, _) = ask(&other, &query, Some(ALL));
    assert!(max_difference(&logits, &expected) < 1e-3);
    let (_, star, _) = ask(&other, &query, None);
    assert!(max_difference(&star, &expected) > 1e-3, "nothing was computed anew");
}
