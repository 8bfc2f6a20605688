//! What a program that embeds the engine sees of hosts that are processes. Each test starts this
//! program again under `mpirun` and is, there, what every rank does.

#![allow(clippy::unwrap_used)]

mod common;

use asterism::cancel::Cancel;
use asterism::engine::{Context, Engine, EngineError, EngineOptions, Generation, Room};
use asterism::model::{FetchOptions, ModelSource};
use asterism::plan::PlanSpec;
use asterism::tensor::{Precision, Sampling};
use asterism::world::{World, WorldError};
use common::{tiny_files, tokens};
use std::ops::ControlFlow;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Runs the test `name` as `ranks` processes, with `more` in their environment.
fn mpirun(name: &str, ranks: usize, more: &str) -> Output {
    Command::new("timeout")
        .args(["--signal=KILL", "120", "mpirun", "--oversubscribe", "--bind-to", "none", "-n"])
        .arg(ranks.to_string())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env("ASTERISM_TEST_END", more)
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .output()
        .expect("mpirun is installed")
}

/// The processes that this one was started with. Where it was started alone, starts `ranks` that
/// run the test `name`, which must succeed.
fn world(name: &str, ranks: usize) -> Option<Arc<World>> {
    let world = World::join().unwrap();
    if world.is_none() {
        let output = mpirun(name, ranks, "");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {text}", output.status);
    }
    world
}

fn engine(processes: Option<Arc<World>>) -> Result<Arc<Engine>, EngineError> {
    let options = EngineOptions {
        threads: 1,
        precision: Precision::F32,
        processes,
        ..EngineOptions::default()
    };
    Engine::load(tiny_files("llama3"), &options).map(Arc::new)
}

fn encode(
    engine: &Arc<Engine>,
    ids: &[u32],
    spec: PlanSpec,
    cancel: &Cancel,
) -> Result<Context, EngineError> {
    Context::encode(Arc::clone(engine), ids.to_vec(), spec, Room::default(), &|_| (), cancel)
}

/// Tokens drawn behind a context.
fn answer(context: &Context, seed: u64) -> Vec<u32> {
    let sampling = Sampling { temperature: 1.5, seed, ..Sampling::default() };
    let settings =
        Generation { max_tokens: 6, ignore_eos: true, sampling, ..Generation::default() };
    let mut go_on = |_| ControlFlow::Continue(());
    context.generate(&tokens(5, seed), &settings, &mut go_on, &Cancel::new()).unwrap().tokens
}

#[test]
#[ignore = "needs mpirun; .ci/run installs it and runs this"]
fn what_is_cancelled_leaves_nothing_behind_for_what_comes_next() {
    let name = "what_is_cancelled_leaves_nothing_behind_for_what_comes_next";
    let Some(world) = world(name, 3) else { return };
    let hosts = world.size();
    let together = engine(Some(Arc::clone(&world))).unwrap();
    if world.rank() > 0 {
        together.serve().unwrap();
        world.finish(0);
        return;
    }
    let threads = engine(None).unwrap();
    let specs = [
        PlanSpec::star(32).anchor(16).hosts(hosts),
        PlanSpec::ring().hosts(hosts),
        PlanSpec::zigzag().hosts(hosts),
        PlanSpec::dense().hosts(hosts),
    ];
    let mut cancelled = 0;
    for round in 0..200u64 {
        let spec = specs[round as usize % specs.len()];
        // In the middle of whatever is done then.
        let cancel = Cancel::new();
        let after = Duration::from_micros(300 * (round % 23));
        let raised = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(after);
                cancel.raise();
            });
            encode(&together, &tokens(400, 1000 + round), spec, &cancel)
        });
        match raised {
            Ok(_) => {}
            Err(EngineError::Cancelled) => cancelled += 1,
            Err(error) => panic!("round {round}: {error}"),
        }
        if round % 10 < 4 {
            let ids = tokens(90, round);
            let [ours, theirs] = [&together, &threads]
                .map(|engine| answer(&encode(engine, &ids, spec, &Cancel::new()).unwrap(), round));
            assert_eq!(ours, theirs, "round {round}, {}", spec.method);
        }
    }
    eprintln!("{cancelled} of 200 were cancelled half-way");
    assert!(cancelled > 50, "only {cancelled} were cancelled");
    drop(together);
    world.finish(0);
}

#[test]
#[ignore = "needs mpirun; .ci/run installs it and runs this"]
fn ranks_have_parts_and_cannot_take_others() {
    let Some(world) = world("ranks_have_parts_and_cannot_take_others", 2) else { return };
    let together = engine(Some(Arc::clone(&world))).unwrap();
    // One engine at a time.
    let taken = engine(Some(Arc::clone(&world))).err().unwrap();
    assert!(matches!(taken, EngineError::World(WorldError::Taken)), "{taken}");
    assert_eq!(world.neighbours(), 2);
    let ids = tokens(90, 1);
    if world.rank() > 0 {
        let asked = encode(&together, &ids, PlanSpec::dense().hosts(2), &Cancel::new());
        assert!(matches!(asked, Err(EngineError::NotLeading { rank: 1 })), "{:?}", asked.err());
        together.serve().unwrap();
    } else {
        let asked = encode(&together, &ids, PlanSpec::dense(), &Cancel::new());
        let refused = asked.err().unwrap();
        assert!(matches!(refused, EngineError::OtherHosts { hosts: 1, size: 2 }), "{refused}");
        let alone = engine(None).unwrap();
        let error = alone.serve().unwrap_err();
        assert!(matches!(error, EngineError::NotStartedTogether), "{error}");
        let context = encode(&together, &ids, PlanSpec::dense().hosts(2), &Cancel::new()).unwrap();
        assert_eq!(answer(&context, 3).len(), 6);
        drop((context, together));
    }
    world.finish(0);
}

#[test]
#[ignore = "needs mpirun; .ci/run installs it and runs this"]
fn a_rank_that_panics_or_exits_ends_all_of_them_and_is_named() {
    let name = "a_rank_that_panics_or_exits_ends_all_of_them_and_is_named";
    let Some(world) = World::join().unwrap() else {
        for (end, victim) in [("panic", 1), ("exit", 2), ("panic", 0), ("exit", 0)] {
            let start = Instant::now();
            let output = mpirun(name, 3, &format!("{end} {victim}"));
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success(), "{end} of rank {victim}");
            let expected = format!("rank {victim} was lost: its process ended");
            assert!(text.contains(&expected), "{end} of rank {victim}: {text}");
            // A second of it is work.
            assert!(start.elapsed() < Duration::from_secs(11), "{:?}", start.elapsed());
        }
        return;
    };
    let how = std::env::var("ASTERISM_TEST_END").unwrap();
    let (end, victim) = how.split_once(' ').unwrap();
    let is_victim = victim.parse() == Ok(world.rank());
    let together = engine(Some(Arc::clone(&world))).unwrap();
    let working = std::thread::spawn(move || {
        if world.rank() > 0 {
            return together.serve().unwrap();
        }
        // Phase 1, answers, phase 1...
        for seed in 0.. {
            let spec = PlanSpec::star(64).anchor(32).hosts(3);
            let context = encode(&together, &tokens(400, seed), spec, &Cancel::new()).unwrap();
            answer(&context, seed);
        }
    });
    if is_victim {
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(end, "exit", "this test's panic");
        std::process::exit(3);
    }
    working.join().unwrap();
}

#[test]
#[ignore = "needs mpirun; .ci/run installs it and runs this"]
fn each_process_saves_and_loads_the_keys_that_are_its_own() {
    let Some(world) = world("each_process_saves_and_loads_the_keys_that_are_its_own", 3) else {
        return;
    };
    let files = ModelSource::Nano.resolve(&FetchOptions::default()).unwrap();
    let processes = Some(Arc::clone(&world));
    let options = EngineOptions { threads: 1, cache_bytes: 0, processes, ..Default::default() };
    let engine = Arc::new(Engine::load(files, &options).unwrap());
    if world.rank() > 0 {
        engine.serve().unwrap();
        world.finish(0);
        return;
    }
    let text = "The access code for the Lisbon vault is 48213. ".repeat(40);
    let folder = tempfile::tempdir().unwrap();
    let context = engine.context(&text).star(64).hosts(3).encode().unwrap();
    let expected = answer(&context, 1);
    context.save(folder.path(), &Cancel::new()).unwrap();
    drop(context);
    let load = || {
        let saved = engine.saved(folder.path(), &Cancel::new()).unwrap();
        saved.encode(&|_| (), &Cancel::new())
    };
    let again = load().unwrap();
    assert!(again.phase1().is_loaded);
    assert_eq!(answer(&again, 1), expected);
    drop(again);
    // What is wrong on another rank is known here by its code.
    std::fs::remove_file(folder.path().join("host-2.safetensors")).unwrap();
    let error = load().map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "saved_io");
    assert!(error.to_string().starts_with("host 2: "), "{error}");
    drop(engine);
    world.finish(0);
}
