//! Contexts that many questions share: at once, cancelled half-way, found again.

#![allow(clippy::unwrap_used)]

mod common;

use asterism::cancel::Cancel;
use asterism::engine::{Change, Context, Engine, EngineError, Generation, Progress, Room};
use asterism::plan::{Plan, PlanSpec, Span, Star};
use asterism::tensor::Precision;
use common::{HOSTS, max_difference, run, tiny, tokens};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn encode(engine: &Arc<Engine>, ids: &[u32], spec: impl Into<PlanSpec>) -> Context {
    let (engine, cancel) = (Arc::clone(engine), Cancel::new());
    Context::encode(engine, ids.to_vec(), spec, Room::default(), &|_| (), &cancel).unwrap()
}

/// The greedy answer of `steps` tokens and all logits of its first position.
fn ask(context: &Context, query: &[u32], steps: usize) -> (Vec<u32>, Vec<(u32, f32)>) {
    let settings = Generation {
        max_tokens: steps,
        ignore_eos: true,
        top_logits: usize::MAX,
        ..Generation::default()
    };
    let mut go_on = |_| ControlFlow::Continue(());
    let answer = context.generate(query, &settings, &mut go_on, &Cancel::new()).unwrap();
    (answer.tokens, answer.top_logits)
}

#[test]
fn answers_do_not_depend_on_who_else_asks() {
    for (family, precision) in [("llama3", Precision::F32), ("qwen3", Precision::Bf16)] {
        let engine = common::tiny_on(family, asterism::engine::DeviceChoice::Cpu, precision);
        for hosts in [1, 3] {
            let contexts = [
                encode(&engine, &tokens(150, 1), PlanSpec::star(32).anchor(16).hosts(hosts)),
                encode(&engine, &tokens(90, 2), PlanSpec::dense().hosts(hosts)),
            ];
            let questions: Vec<_> = (0..17)
                .map(|i| (&contexts[i % 2], tokens(1 + 7 * (i % 5), 10 + i as u64), 5 + 3 * i))
                .collect();
            let alone: Vec<_> = questions
                .iter()
                .map(|(context, query, steps)| ask(context, query, *steps))
                .collect();
            for count in [2, 3, 5, 8, 17] {
                let together: Vec<_> = std::thread::scope(|scope| {
                    let threads: Vec<_> = questions[..count]
                        .iter()
                        .map(|(context, query, steps)| scope.spawn(|| ask(context, query, *steps)))
                        .collect();
                    // A context is encoded meanwhile, and another is given up.
                    let cancel = Cancel::new();
                    let stop = |_: Progress| cancel.raise();
                    let spec = PlanSpec::star(16).hosts(hosts);
                    let ids = tokens(450, count as u64);
                    let given_up = Context::encode(
                        Arc::clone(&engine),
                        ids,
                        spec,
                        Room::default(),
                        &stop,
                        &cancel,
                    );
                    // It may be there before the cancel is seen.
                    assert!(matches!(given_up.err(), None | Some(EngineError::Cancelled)));
                    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
                });
                // To the last bit, logits too.
                assert!(together == alone[..count], "{family}, {hosts} hosts, {count} at once");
            }
        }
    }
}

#[test]
fn what_is_cancelled_at_any_layer_leaves_hosts_that_answer_as_new_ones() {
    let ids = tokens(300, 3);
    let (context, query) = ids.split_at(280);
    let star = PlanSpec::star(32).anchor(16);
    for hosts in [1, 3, 8] {
        let engine = tiny("mistral");
        let specs: [PlanSpec; 4] = [
            star.hosts(hosts),
            PlanSpec::ring().hosts(hosts),
            PlanSpec::zigzag().hosts(hosts),
            PlanSpec::dense().hosts(hosts),
        ];
        let kept = encode(&engine, context, star.hosts(hosts));
        let expected = ask(&kept, query, 6);
        let mut cancelled = 0;
        for round in 0..50 {
            // Contexts are given up after so many reports of progress, answers after so many
            // tokens.
            let (cancel, reports) = (Cancel::new(), AtomicUsize::new(0));
            let stop = |_: Progress| {
                if reports.fetch_add(1, Ordering::Relaxed) == round % 13 {
                    cancel.raise();
                }
            };
            let spec = specs[round % specs.len()];
            let other = tokens(200 + round, round as u64);
            let result =
                Context::encode(Arc::clone(&engine), other, spec, Room::default(), &stop, &cancel);
            assert!(matches!(result.err(), None | Some(EngineError::Cancelled)));
            let (cancel, mut left) = (Cancel::new(), round % 5);
            let mut on_token = |_| {
                if left == 0 {
                    cancel.raise();
                }
                left = left.saturating_sub(1);
                ControlFlow::Continue(())
            };
            let settings =
                Generation { max_tokens: 200, ignore_eos: true, ..Generation::default() };
            let result = kept.generate(query, &settings, &mut on_token, &cancel);
            cancelled += usize::from(matches!(result.err(), Some(EngineError::Cancelled)));
        }
        // The last token may come before the cancel is seen.
        assert!(cancelled > 25, "{cancelled} of 50 answers were cancelled");
        assert!(ask(&kept, query, 6) == expected, "{hosts} hosts");
        for spec in specs {
            let fresh = run(&tiny("mistral"), context, query, spec, 6);
            let (logits, answer) = run(&engine, context, query, spec, 6);
            assert!(max_difference(&logits, &fresh.0) == 0.0 && answer == fresh.1, "{spec:?}");
        }
    }
}

#[test]
fn a_changed_block_is_encoded_alone() {
    let engine = tiny("llama3");
    let mut ids = tokens(300, 4);
    for hosts in HOSTS {
        let star: Star = PlanSpec::star(32).anchor(16);
        let spec = star.hosts(hosts);
        let first = encode(&engine, &ids, spec);
        // Behind the anchor, in the third block.
        ids[70] = (ids[70] + 1) % 100;
        let edited = encode(&engine, &ids, spec);
        let kept: Vec<usize> = edited.phase1().reused.iter().map(|span| span.start).collect();
        assert_eq!(kept, [0, 32, 96, 128, 160, 192, 224, 256, 288], "{hosts} hosts");
        let query = tokens(9, 5);
        let fresh = ask(&encode(&tiny("llama3"), &ids, spec), &query, 6);
        assert!(ask(&edited, &query, 6) == fresh, "{hosts} hosts");
        // Within the anchor: every block depends on it.
        let mut other = ids.clone();
        other[3] = (other[3] + 1) % 100;
        assert!(encode(&engine, &other, spec).phase1().reused.is_empty());
        // In the first block behind the anchor: only that block.
        other = ids.clone();
        other[20] = (other[20] + 1) % 100;
        assert_eq!(encode(&engine, &other, spec).phase1().reused.len(), 9);
        drop((first, edited));
    }
}

#[test]
fn the_same_context_is_encoded_once() {
    let engine = tiny("qwen2");
    let ids = tokens(400, 6);
    for spec in [PlanSpec::star(64).hosts(2), PlanSpec::dense(), PlanSpec::ring()] {
        let whole = [Span::new(0..400)];
        let first = encode(&engine, &ids, spec);
        assert!(first.phase1().reused.is_empty());
        let again = encode(&engine, &ids, spec);
        let reused: usize = again.phase1().reused.iter().map(|span| span.len).sum();
        assert_eq!(reused, whole[0].len, "{spec:?}");
        let query = tokens(5, 7);
        assert!(ask(&again, &query, 4) == ask(&first, &query, 4));
    }
}

#[test]
fn whoever_asks_for_a_context_that_is_being_encoded_waits_for_it() {
    let engine = tiny("qwen2");
    let (ids, spec) = (tokens(480, 8), PlanSpec::star(16).hosts(2));
    let encoded: Vec<Context> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| encode(&engine, &ids, spec))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let query = tokens(5, 9);
    let expected = ask(&encoded[0], &query, 4);
    for context in encoded {
        assert!(ask(&context, &query, 4) == expected);
    }
}

#[test]
fn an_interrupted_context_goes_on_where_it_was() {
    let engine = tiny("llama2");
    let (ids, spec) = (tokens(480, 10), PlanSpec::star(32));
    let (cancel, blocks) = (Cancel::new(), AtomicUsize::new(0));
    let stop = |step: Progress| {
        if step.finished_block.is_some() && blocks.fetch_add(1, Ordering::Relaxed) == 4 {
            cancel.raise();
        }
    };
    let result =
        Context::encode(Arc::clone(&engine), ids.clone(), spec, Room::default(), &stop, &cancel);
    // It may be there before the cancel is seen.
    assert!(matches!(result.err(), None | Some(EngineError::Cancelled)));
    let resumed = encode(&engine, &ids, spec);
    assert!(resumed.phase1().reused.len() >= 5, "{:?}", resumed.phase1().reused);
    let query = tokens(5, 11);
    assert!(ask(&resumed, &query, 4) == ask(&encode(&tiny("llama2"), &ids, spec), &query, 4));
}

#[test]
fn a_prompt_that_leaves_no_room_for_its_answer_is_refused_before_any_work() {
    let engine = tiny("llama3");
    let positions = engine.config().max_positions;
    let (cancel, ids) = (Cancel::new(), tokens(positions - 10, 12));
    let no_work = |_: Progress| panic!("nothing may be done");
    for answer in [10, usize::MAX] {
        let room = Room { question: 1, answer };
        let (engine, ids) = (Arc::clone(&engine), ids.clone());
        let refused = Context::encode(engine, ids, PlanSpec::dense(), room, &no_work, &cancel);
        assert!(matches!(refused.err(), Some(EngineError::TooLong { .. })), "{answer}");
    }
    assert!(
        Context::encode(
            engine,
            ids,
            PlanSpec::dense(),
            Room { question: 1, answer: 9 },
            &|_| (),
            &cancel
        )
        .is_ok()
    );
}

#[test]
fn a_reader_who_stops_reading_ends_the_answer() {
    let engine = tiny("llama3");
    let context = encode(&engine, &tokens(100, 13), PlanSpec::dense());
    let settings = Generation { max_tokens: 400, ignore_eos: true, ..Generation::default() };
    let mut left = 3;
    let mut on_token = |_| {
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let answer =
        context.generate(&tokens(4, 14), &settings, &mut on_token, &Cancel::new()).unwrap();
    assert_eq!((answer.tokens.len(), answer.finish.name()), (3, "stop"));
}

#[test]
fn an_edited_paragraph_of_a_book_encodes_one_block() {
    let walden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/walden.txt");
    let book = std::fs::read_to_string(walden).unwrap();
    let book: String = book.chars().take(455_000).collect();
    let engine = common::engine(&asterism::model::ModelSource::Nano, Precision::Bf16);
    let frame = engine.frame(None).unwrap();
    let tokens = |text: &str| frame.context_tokens(engine.tokenizer(), text).unwrap();
    let (cancel, before) = (Cancel::new(), tokens(&book));
    assert!(before.len() > 100_000);
    let spec = PlanSpec::star(2048).anchor(256).hosts(1);
    let plan = Plan::spaced(spec, before.len(), &[], 64).unwrap();
    let encode = |ids, plan| {
        Context::encode_plan(Arc::clone(&engine), ids, plan, Room::default(), &|_| (), &cancel)
            .unwrap()
    };
    let first = encode(before, plan);
    // A sentence in the middle of the book.
    let middle = book.len() / 2;
    let at = middle + book[middle..].find(". ").unwrap() + 2;
    let edited =
        format!("{}The access code for the Oslo archive is 73190. {}", &book[..at], &book[at..]);
    let second = first.edit_tokens(tokens(&edited), Room::default(), &|_| (), &cancel).unwrap();
    let changes = second.changes_from(&first);
    let encoded: Vec<_> = changes.iter().filter(|(_, change)| *change != Change::Reused).collect();
    assert_eq!(encoded.len(), 1, "{encoded:?}");
    assert_eq!(encoded[0].1, Change::Edited);
    let question = "What is the access code for the Oslo archive?";
    let query = frame.query_tokens(engine.tokenizer(), question).unwrap();
    let answer = ask(&second, &query, 16);
    let other = common::engine(&asterism::model::ModelSource::Nano, Precision::Bf16);
    let fresh = Context::encode_plan(
        other,
        second.tokens().to_vec(),
        second.plan().clone(),
        Room::default(),
        &|_| (),
        &cancel,
    )
    .unwrap();
    assert!(fresh.phase1().reused.is_empty());
    assert!(answer == ask(&fresh, &query, 16), "the same keys, the same answer");
    let text = engine.tokenizer().decode(&answer.0, true).unwrap();
    assert!(text.contains("73190"), "{text}");
}
