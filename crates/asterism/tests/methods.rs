//! What must hold between the methods: star is what its mask says, exact methods agree, and nothing
//! depends on the number of hosts.

mod common;

use asterism::engine::{DeviceChoice, Engine, EngineOptions};
use asterism::model::{Shape, random_model};
use asterism::plan::{
    AnchorContent, AnchorKv, AnchorPlace, AnchorPolicy, Method, Plan, PlanSpec, Star,
};
use asterism::tensor::Precision;
use common::naive::NaiveLlama;
use common::{
    Golden, HOSTS, assert_as_planned, golden_dir, max_difference, methods, run, tiny, tokens,
};
use proptest::prelude::*;
use std::sync::Arc;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn star_is_attention_under_the_block_sparse_mask(
        n in 1usize..140, block in 16usize..60, anchor in 0usize..60, query in 1usize..20,
        hosts in 0usize..5, recompute in any::<bool>(), seed in any::<u64>(),
    ) {
        let anchor = anchor.min(block);
        let ids = tokens(n + query, seed);
        let anchor_kv = if recompute { AnchorKv::Recompute } else { AnchorKv::Shared };
        let spec = PlanSpec::star(block).anchor(anchor).anchor_kv(anchor_kv).hosts(HOSTS[hosts]);
        let (found, _) = run(&tiny("llama2"), &ids[..n], &ids[n..], spec, 1);
        let expected = NaiveLlama::open(&golden_dir("llama2")).star(&ids, n, block, anchor);
        let difference = max_difference(&found, &expected);
        prop_assert!(difference < 1e-3, "logits differ by {}", difference);
    }
}

/// Every content at every place; the first is the paper's.
fn policies(seed: u64) -> impl Iterator<Item = AnchorPolicy> {
    let at = move |content| AnchorPlace::ALL.map(|place| AnchorPolicy { content, place, seed });
    AnchorContent::ALL.into_iter().flat_map(at)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]
    #[test]
    fn every_anchor_is_encoded_as_its_policy_says(
        n in 1usize..100, block in 16usize..40, anchor in 0usize..40, seed in any::<u64>(),
    ) {
        let ids = tokens(n + 5, seed);
        let engine = tiny("llama2");
        let naive = NaiveLlama::open(&golden_dir("llama2"));
        for anchor_policy in policies(seed) {
            let star = Star::new(block)
                .anchor(anchor.min(block))
                .anchor_kv(AnchorKv::Recompute)
                .anchor_policy(anchor_policy);
            let plan = Plan::new(star, n).expect("plan");
            let later = plan.hosts.iter().flatten().filter(|block| block.start > 0);
            let anchors: Vec<(Vec<u32>, usize)> = later
                .map(|block| {
                    let tokens = plan.anchor_tokens(&ids[..n], *block, 128);
                    (tokens, plan.anchor_positions(*block).start)
                })
                .collect();
            let expected = naive.star_behind(&ids, n, block, &anchors);
            if anchor_policy.is_paper() {
                let paper = naive.star(&ids, n, block, plan.anchor);
                prop_assert!(max_difference(&paper, &expected) < 1e-6);
            }
            for hosts in [1, 3] {
                let (found, _) = run(&engine, &ids[..n], &ids[n..], star.hosts(hosts), 1);
                let difference = max_difference(&found, &expected);
                prop_assert!(difference < 1e-3, "{anchor_policy:?} x{hosts}: {difference}");
            }
        }
    }
}

#[test]
fn other_anchors_make_a_difference_and_the_default_is_the_papers() {
    let engine = tiny("llama3");
    let ids = Golden::open("llama3").ints("input_ids");
    let (context, query) = ids.split_at(90);
    let star = Star::new(16).anchor(8);
    assert!(AnchorPolicy::default() == AnchorPolicy::PAPER && star.anchor_policy.is_paper());
    let (shared, _) = run(&engine, context, query, star.hosts(2), 1);
    for anchor_policy in policies(0) {
        let star = star.anchor_kv(AnchorKv::Recompute).anchor_policy(anchor_policy);
        let (found, _) = run(&engine, context, query, star.hosts(2), 1);
        let difference = max_difference(&found, &shared);
        assert_eq!(difference < 1e-4, anchor_policy.is_paper(), "{anchor_policy:?}: {difference}");
    }
}

#[test]
fn exact_methods_agree_on_any_number_of_hosts() {
    for family in ["llama3", "qwen3"] {
        let engine = tiny(family);
        let ids = Golden::open(family).ints("input_ids");
        // 5 context tokens leave most of 8 hosts without any.
        for n in [5, 90] {
            let (context, query) = ids[..n + 6].split_at(n);
            let (expected, expected_tokens) = run(&engine, context, query, PlanSpec::dense(), 8);
            for method in [Method::Dense, Method::Ring, Method::Zigzag] {
                for hosts in HOSTS {
                    let (logits, tokens) =
                        run(&engine, context, query, PlanSpec::from(method).hosts(hosts), 8);
                    let difference = max_difference(&logits, &expected);
                    assert!(difference < 1e-4, "{family} {method} x{hosts}: {difference}");
                    assert_eq!(tokens, expected_tokens, "{family} {method} x{hosts}");
                }
            }
        }
    }
}

#[test]
fn star_does_not_depend_on_hosts_or_on_who_computes_the_anchor() {
    let engine = tiny("mistral");
    let ids = Golden::open("mistral").ints("input_ids");
    let (context, query) = ids.split_at(90);
    for anchor in [0, 1, 10, 16] {
        let star = Star::new(16).anchor(anchor);
        let (expected, expected_tokens) = run(&engine, context, query, star, 8);
        for hosts in HOSTS {
            for anchor_kv in [AnchorKv::Shared, AnchorKv::Recompute] {
                let spec = star.anchor_kv(anchor_kv).hosts(hosts);
                let (logits, tokens) = run(&engine, context, query, spec, 8);
                let difference = max_difference(&logits, &expected);
                assert!(difference < 1e-4, "anchor {anchor} x{hosts} {anchor_kv:?}: {difference}");
                assert_eq!(tokens, expected_tokens);
            }
        }
    }
}

#[test]
fn hosts_send_and_report_what_the_plan_says() {
    assert_as_planned(&tiny("llama3"), &tokens(90, 1));
}

#[test]
fn a_context_of_one_layer_is_its_keys_by_any_method() {
    let shape: Shape = "small".parse().expect("shape");
    let files = random_model(&shape.with_layers(1), 0).expect("model");
    let (device, precision) = (DeviceChoice::Cpu, Precision::F32);
    let options = EngineOptions { device, precision, ..EngineOptions::default() };
    let engine = Arc::new(Engine::load(files, &options).expect("model"));
    let ids = tokens(70, 3);
    let (context, query) = ids.split_at(60);
    let (expected, _) = run(&engine, context, query, PlanSpec::dense(), 1);
    // Keys of the first layer come from embeddings and positions alone: even star is exact.
    for method in methods(Star::new(16).anchor(8)) {
        for hosts in HOSTS {
            let (found, _) = run(&engine, context, query, PlanSpec::from(method).hosts(hosts), 1);
            let difference = max_difference(&found, &expected);
            assert!(difference < 1e-4, "{method} x{hosts}: {difference}");
        }
    }
}

#[test]
fn one_block_is_dense_and_more_blocks_are_not() {
    let engine = tiny("qwen2");
    let ids = Golden::open("qwen2").ints("input_ids");
    let (context, query) = ids.split_at(90);
    let (dense, _) = run(&engine, context, query, PlanSpec::dense(), 1);
    let (one, _) = run(&engine, context, query, PlanSpec::star(128).hosts(4), 1);
    assert!(max_difference(&one, &dense) < 1e-4);
    let (many, _) = run(&engine, context, query, PlanSpec::star(16).anchor(4).hosts(4), 1);
    assert!(max_difference(&many, &dense) > 1e-2, "blocks must make a difference");
}

#[test]
fn an_anchor_longer_than_a_pass_goes_to_others_layer_by_layer_and_changes_nothing() {
    // On one thread 512 tokens pass at once.
    let options =
        EngineOptions { threads: 1, precision: Precision::F32, ..EngineOptions::default() };
    let shape = "small".parse::<Shape>().unwrap().with_layers(2).with_positions(3_000);
    let engine = Arc::new(Engine::load(random_model(&shape, 3).unwrap(), &options).unwrap());
    let ids = tokens(2_905, 5);
    let (context, query) = ids.split_at(2_900);
    for (block, anchor) in [(1_300, 1_300), (1_300, 700), (800, 300)] {
        let star = Star::new(block).anchor(anchor);
        let (expected, said) = run(&engine, context, query, star.hosts(1), 3);
        for hosts in [2, 3] {
            let plan = Plan::new(star.hosts(hosts), context.len()).unwrap();
            assert_eq!(plan.first_pass(512), if anchor > 512 { anchor } else { 0 });
            let (found, tokens) = run(&engine, context, query, star.hosts(hosts), 3);
            let difference = max_difference(&found, &expected);
            assert!(difference < 1e-3, "{block}, {anchor}, {hosts} hosts: {difference}");
            assert_eq!(tokens, said, "{block}, {anchor}, {hosts} hosts");
        }
    }
}
