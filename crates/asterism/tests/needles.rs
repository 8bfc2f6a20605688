//! The needle grid: facts at every depth of a long text must be found by star and dense, on one
//! host and on four; on a GPU, in the same words as on the CPU.

mod common;

use asterism::cancel::Cancel;
use asterism::engine::{Context, Engine, Generation, Room, TextOptions};
use asterism::model::ModelSource;
use asterism::plan::{Method, PlanSpec, Star};
use asterism::tensor::Precision;
use common::{devices, engine_on};
use std::ops::ControlFlow;
use std::sync::Arc;

const KEYS: [&str; 5] =
    ["brave-otter", "quiet-lantern", "golden-maple", "rapid-harbor", "silent-comet"];

/// Prose of about `chars` characters with a number for each key hidden at 0, 25, 50, 75 and 100%.
fn haystack(chars: usize) -> (String, Vec<(String, String)>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/walden.txt");
    let book = std::fs::read_to_string(path).expect("the example book");
    // The tail half: its hidden facts are others than ours.
    let sentences: Vec<&str> = book[book.len() / 2..].split(". ").skip(1).collect();
    let mut text = String::new();
    let mut facts = Vec::new();
    let quarter = chars / 4;
    for (i, key) in KEYS.iter().enumerate() {
        let number = format!("{}", 4_096_137 + 791_953 * i);
        text.push_str(&format!("One of the special magic numbers for {key} is: {number}. "));
        let question =
            format!("What is the special magic number for {key} mentioned in the provided text?");
        facts.push((question, number));
        let end = (i + 1) * quarter;
        let mut rest = sentences[i * 230..].iter();
        while i < 4 && text.len() < end {
            text.push_str(rest.next().expect("enough prose"));
            text.push_str(". ");
        }
    }
    (text, facts)
}

#[test]
fn needles_are_found_at_every_depth_length_and_number_of_hosts() {
    let mut of_cpu = None;
    for device in devices("needles_are_found_at_every_depth_length_and_number_of_hosts") {
        let answers = grid(&engine_on(&ModelSource::Nano, device, Precision::Bf16));
        let expected = of_cpu.get_or_insert_with(|| answers.clone());
        for (found, expected) in answers.iter().zip(expected) {
            assert_eq!(found, expected, "on {device}");
        }
    }
}

/// The tokens of every answer, after a look at what they say.
fn grid(engine: &Arc<Engine>) -> Vec<Vec<u32>> {
    let mut answers = Vec::new();
    let frame = engine.frame(None).expect("frame");
    let cancel = Cancel::new();
    let settings = Generation { max_tokens: 32, ..Generation::default() };
    for (tokens, block) in [(4096, 1024), (16384, 4096)] {
        let (text, facts) = haystack(tokens * 33 / 10);
        let context = frame.context_tokens(engine.tokenizer(), &text).expect("tokens");
        assert!(context.len().abs_diff(tokens) < tokens / 10, "{} tokens", context.len());
        for method in [Star::new(block).into(), Method::Dense] {
            for hosts in [1, 4] {
                let spec = PlanSpec::from(method).hosts(hosts);
                let engine = Arc::clone(engine);
                let session = Context::encode(
                    engine,
                    context.clone(),
                    spec,
                    Room::default(),
                    &|_| (),
                    &cancel,
                )
                .expect("phase 1");
                for (depth, (question, number)) in facts.iter().enumerate() {
                    let tokenizer = session.engine().tokenizer();
                    let query = frame.query_tokens(tokenizer, question).expect("query");
                    let options = TextOptions::default();
                    let answer = session
                        .answer(
                            &query,
                            &settings,
                            &options,
                            &mut |_| ControlFlow::Continue(()),
                            &cancel,
                        )
                        .expect("answer");
                    let place =
                        format!("{tokens} tokens, {method} x{hosts}, depth {}%", 25 * depth);
                    assert!(answer.text.contains(number), "{place}: {:?}", answer.text);
                    answers.push(answer.generated.tokens);
                }
            }
        }
    }
    answers
}
