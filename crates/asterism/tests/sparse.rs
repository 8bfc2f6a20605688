//! Methods that leave keys out while a context is encoded: what they must equal, that nothing
//! depends on the number of hosts, and what they report.

mod common;

use asterism::cancel::Cancel;
use asterism::engine::{Context, Engine, EngineError, EngineOptions, Phase1, Room, Sparsity};
use asterism::model::{Shape, random_model};
use asterism::plan::{AnchorKv, Method, Plan, PlanError, PlanSpec, Sparse, Star};
use asterism::tensor::Precision;
use common::{HOSTS, max_difference, run, tokens};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A small model of random weights, in f32.
fn engine() -> Arc<Engine> {
    let options =
        EngineOptions { threads: 2, precision: Precision::F32, ..EngineOptions::default() };
    let shape = "small".parse::<Shape>().expect("shape").with_layers(3).with_positions(3_000);
    let files = random_model(&shape, 3).expect("model");
    Arc::new(Engine::load(files, &options).expect("engine"))
}

fn sparse(word: &str) -> Sparse {
    Sparse::parse(word).expect(word)
}

/// Patterns that leave nothing out of a context of up to 4K tokens.
const WHOLE: [&str; 6] = [
    "streaming:sink=0:window=4k",
    "minference:vertical=4k:slash=1",
    "minference:vertical=1:slash=4k",
    "flexprefill:gamma=1",
    "xattention:tau=1",
    "blocks:block=128:anchor=0:previous=4k",
];

/// Patterns that leave out much of a few hundred tokens.
const THIN: [&str; 5] = [
    "streaming:sink=16:window=100",
    "minference:vertical=8:slash=8",
    "flexprefill:gamma=0.2:tau=0:min=1",
    "xattention:stride=8:tau=0.3",
    "blocks:block=256:anchor=128:previous=0",
];

fn encode(engine: &Arc<Engine>, ids: &[u32], spec: PlanSpec) -> Result<Context, EngineError> {
    let (engine, cancel) = (Arc::clone(engine), Cancel::new());
    Context::encode(engine, ids.to_vec(), spec, Room::default(), &|_| (), &cancel)
}

fn sparsity(phase1: &Phase1) -> Sparsity {
    phase1.sparsity.expect("what was left out")
}

#[test]
fn what_leaves_nothing_out_is_dense() {
    let engine = engine();
    let ids = tokens(1_005, 5);
    let (context, query) = ids.split_at(1_000);
    let (expected, said) = run(&engine, context, query, PlanSpec::dense(), 3);
    for word in WHOLE {
        let method = Method::Sparse(sparse(word));
        let (found, tokens) = run(&engine, context, query, method, 3);
        let difference = max_difference(&found, &expected);
        assert!(difference < 1e-3 && tokens == said, "{word}: {difference}");
    }
}

#[test]
fn blocks_that_leave_nothing_out_are_stars_on_any_number_of_hosts() {
    let engine = engine();
    let ids = tokens(1_405, 7);
    let (context, query) = ids.split_at(1_400);
    for (block, anchor) in [(600, 300), (300, 300), (500, 0)] {
        let star = Star::new(block).anchor(anchor);
        let (expected, _) = run(&engine, context, query, star, 1);
        let hosts = [(1, AnchorKv::Shared), (3, AnchorKv::Shared), (2, AnchorKv::Recompute)];
        for (word, (hosts, anchor_kv)) in WHOLE.iter().zip(hosts.into_iter().cycle()) {
            let spec = star.sparse(Some(sparse(word))).anchor_kv(anchor_kv).hosts(hosts);
            let (found, _) = run(&engine, context, query, spec, 1);
            let difference = max_difference(&found, &expected);
            assert!(difference < 1e-3, "{word}, {block}, {anchor}, x{hosts}: {difference}");
        }
    }
}

#[test]
fn star_with_no_other_block_in_sight_is_star_and_with_all_is_dense() {
    let engine = engine();
    let ids = tokens(1_405, 8);
    let (context, query) = ids.split_at(1_400);
    let (dense, _) = run(&engine, context, query, PlanSpec::dense(), 1);
    for (block, anchor) in [(128, 128), (512, 128), (256, 0), (384, 256)] {
        let by = |previous: usize| {
            let word = format!("blocks:block={block}:anchor={anchor}:previous={previous}");
            run(&engine, context, query, Method::Sparse(sparse(&word)), 1).0
        };
        let (star, _) = run(&engine, context, query, Star::new(block).anchor(anchor), 1);
        let none = max_difference(&by(0), &star);
        assert!(none < 1e-3, "{block}, {anchor}: {none} from star");
        let all = max_difference(&by(context.len().div_ceil(block)), &dense);
        assert!(all < 1e-3, "{block}, {anchor}: {all} from dense");
        assert!(max_difference(&by(1), &star) > 1e-4 && max_difference(&by(1), &dense) > 1e-4);
    }
}

#[test]
fn what_blocks_leave_out_does_not_depend_on_hosts() {
    let engine = engine();
    let ids = tokens(2_005, 9);
    let (context, query) = ids.split_at(2_000);
    let plain = Star::new(500).anchor(200);
    let (whole, _) = run(&engine, context, query, plain, 1);
    for word in THIN {
        let star = plain.sparse(Some(sparse(word)));
        let (expected, _) = run(&engine, context, query, star.hosts(1), 1);
        assert!(max_difference(&expected, &whole) > 1e-4, "{word} makes a difference");
        let kept = sparsity(encode(&engine, context, star.hosts(1)).unwrap().phase1());
        for hosts in HOSTS {
            let (found, _) = run(&engine, context, query, star.hosts(hosts), 1);
            let difference = max_difference(&found, &expected);
            assert!(difference < 1e-3, "{word} x{hosts}: {difference}");
            let context = encode(&engine, context, star.hosts(hosts)).unwrap();
            let found = sparsity(context.phase1());
            assert_eq!((found.computed, found.causal), (kept.computed, kept.causal), "{word}");
        }
    }
}

#[test]
fn a_pattern_alone_runs_on_one_host() {
    let engine = engine();
    let ids = tokens(300, 1);
    for word in THIN {
        let method = Method::Sparse(sparse(word));
        let refused = encode(&engine, &ids, PlanSpec::from(method).hosts(2));
        let Err(EngineError::Plan(error)) = refused.map(|_| ()) else { panic!("{word}") };
        assert!(matches!(error, PlanError::SparseHosts { hosts: 2, .. }), "{error}");
        assert!(error.to_string().contains("one host, not on 2"), "{error}");
    }
}

#[test]
fn density_and_kept_mass_are_reported_and_kept_with_the_blocks() {
    let engine = engine();
    let ids = tokens(2_000, 11);
    let star = Star::new(900).anchor(300);
    for word in THIN {
        let pattern = sparse(word);
        for method in [Method::Sparse(pattern), star.sparse(Some(pattern)).into()] {
            let spec = PlanSpec::from(method);
            let (size, work) = (engine.model_size(), AtomicU64::new(0));
            let progress = |step: asterism::engine::Progress| {
                work.fetch_add(step.work, Ordering::Relaxed);
            };
            let (own, cancel) = (Arc::clone(&engine), Cancel::new());
            let first =
                Context::encode(own, ids.clone(), spec, Room::default(), &progress, &cancel);
            let first = first.unwrap();
            assert_eq!(work.into_inner(), Phase1::work(first.plan(), size.layers), "{word}");
            assert!(first.phase1().reused.is_empty(), "{word}: other methods' blocks are others");
            let found = sparsity(first.phase1());
            assert!((0.01..0.95).contains(&found.density()), "{word}: {found:?}");
            assert!((0.01..1.0).contains(&found.kept_mass()), "{word}: {found:?}");
            let again = encode(&engine, &ids, spec).unwrap();
            assert_eq!(again.phase1().reused.iter().map(|span| span.len).sum::<usize>(), 2_000);
            assert_eq!(sparsity(again.phase1()), found);
        }
    }
    let dense = encode(&engine, &ids, PlanSpec::dense()).unwrap();
    assert_eq!(dense.phase1().sparsity, None);
}

#[test]
fn an_edit_of_the_first_block_encodes_all_whose_anchor_it_chose() {
    let engine = engine();
    let mut ids = tokens(1_200, 13);
    let star = Star::new(400).anchor(100).sparse(Some(sparse("xattention:tau=0.5")));
    let _before = encode(&engine, &ids, star.hosts(1)).unwrap();
    // Behind the anchor, but a query of the first block by which the anchor's pattern is chosen.
    ids[350] = (ids[350] + 1) % 128;
    let after = encode(&engine, &ids, star.hosts(1)).unwrap();
    assert!(after.phase1().reused.is_empty());
    let plan = Plan::new(star, 1_200).unwrap();
    assert_eq!((plan.first_block(), plan.longest_block(0)), (400, 400));
}
