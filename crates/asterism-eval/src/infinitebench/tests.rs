//! Generated samples, and the data set's files.

use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{ChatFrame, CountTokens, Sample};

struct Words;

impl CountTokens for Words {
    fn count(&self, text: &str) -> Result<usize, EvalError> {
        Ok(text.split_whitespace().count())
    }
}

fn made(task: &str, length: usize, samples: usize) -> Vec<Sample> {
    let frame = ChatFrame::llama3();
    let set = generate(task, length, samples, 42, &frame, &Words).unwrap();
    assert_eq!(set.task.name, task);
    for sample in &set.samples {
        let tokens =
            Words.count(&format!("{}{}", sample.input_context, sample.input_query)).unwrap();
        assert_eq!(sample.length, tokens + set.task.tokens_to_generate);
        assert!(sample.length <= length, "{task}: {}", sample.length);
        let said = format!(" {}", sample.outputs[0]);
        assert_eq!(set.task.metric.score(&said, sample), 1.0, "{task}");
        assert_eq!(set.task.metric.score("nothing 123456", sample), 0.0, "{task}");
    }
    assert_eq!(set.samples, generate(task, length, samples, 42, &frame, &Words).unwrap().samples);
    set.samples
}

#[test]
fn keys_stand_once_at_even_depths() {
    for (task, digits) in [("passkey", 5), ("number_string", 10)] {
        let samples = made(task, 5000, 118);
        let depths: Vec<f64> =
            samples.iter().map(|sample| sample.extra["depths"][0].as_f64().unwrap()).collect();
        assert!(depths.is_sorted() && depths[0] == 0.0 && depths[117] == 1.0, "{depths:?}");
        for sample in &samples {
            let key = &sample.outputs[0];
            assert_eq!(
                (key.len(), sample.input_context.matches(key.as_str()).count()),
                (digits, 2)
            );
            assert!(!sample.input_query.contains(key.as_str()));
            assert!(sample.length > 4950);
        }
        let keys: HashSet<&String> = samples.iter().map(|sample| &sample.outputs[0]).collect();
        assert!(keys.len() > 110);
    }
    // A published length: the published number of lines, as far as the counter lets it.
    let sample = &made("passkey", 8 << 10, 1)[0];
    assert_eq!(sample.input_context.matches("The grass is green.").count(), 326);
}

#[test]
fn the_key_asked_for_has_its_value() {
    for sample in made("kv_retrieval", 3000, 10) {
        let key = sample.extra["question"].as_str().unwrap().split('"').nth(1).unwrap();
        let pair = format!("\"{key}\": \"{}\"", sample.outputs[0]);
        assert_eq!(sample.input_context.matches(&pair).count(), 1);
        assert_eq!(sample.input_context.matches(key).count(), 1);
        let json = sample.input_context.split("JSON data:\n").nth(1).unwrap();
        let pairs: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(json.trim()).unwrap();
        assert!(pairs.len() > 1200 && sample.length > 2900, "{}", sample.length);
        let depth = sample.extra["depths"][0].as_f64().unwrap();
        assert!((depth - sample.index as f64 / 10.0).abs() < 0.01);
    }
}

#[test]
fn the_number_asked_for_is_in_the_list() {
    for sample in made("math_find", 2000, 21) {
        let list = sample.input_context.split("list?\n\n").nth(1).unwrap().trim();
        let mut numbers: Vec<f64> = serde_json::from_str(list).unwrap();
        numbers.sort_by(f64::total_cmp);
        let middle = numbers.len() / 2;
        let median = if numbers.len() % 2 == 1 {
            numbers[middle]
        } else {
            (numbers[middle - 1] + numbers[middle]) / 2.0
        };
        let mut distinct = numbers.clone();
        distinct.dedup();
        let count = distinct.len();
        let question = sample.extra["question"].as_str().unwrap();
        let rank = ["second", "third"]
            .iter()
            .position(|word| question.contains(word))
            .map_or(0, |i| i + 1);
        let expected = if question.contains("median") {
            median
        } else if question.contains("largest") {
            distinct[count - 1 - rank]
        } else {
            distinct[rank]
        };
        assert_eq!(sample.outputs[0].parse::<f64>().unwrap(), expected, "{question}");
        assert!(sample.input_context.contains("What is the ") && sample.length > 1900);
    }
}

#[test]
fn what_cannot_be_made_is_named() {
    let error = |task, length| {
        generate(task, length, 1, 1, &ChatFrame::base(), &Words).unwrap_err().to_string()
    };
    assert!(error("longbook_qa_eng", 4096).contains("passkey"));
    assert!(error("passkey", 20).contains("use a length of at least"));
}

fn written(lines: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    std::fs::write(&path, lines).unwrap();
    (folder, path)
}

#[test]
fn labels_come_in_every_form() {
    let lines = [
        json!({"id": 0, "context": "c", "input": "i", "answer": "one", "options": []}),
        json!({"id": 1, "context": "c", "input": "i", "answer": [["one"], "two"], "options": null}),
        json!({"id": 2, "context": "c", "input": "i", "answer": [85.5]}),
        json!({"id": 3, "context": "c", "input": "i", "answer": []}),
        json!({"id": 4, "content": "c", "input": "i", "answer": 7}),
    ];
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let (_folder, path) = written(&text);
    let reading = read(&path, "passkey", &ChatFrame::base(), None, usize::MAX, &Words).unwrap();
    let outputs: Vec<_> = reading.items.iter().map(|sample| sample.outputs.join("|")).collect();
    assert_eq!(outputs, ["one", "one|two", "85.5", "7"]);
    assert!(reading.errors[0].to_string().contains("data.jsonl:4: the answer is empty"));

    let options = json!(["run", "walk", "sit", "lie"]);
    let lines = [
        json!({"context": "c", "input": "i", "answer": ["walk"], "options": options}),
        json!({"context": "c", "input": "i", "answer": ["walk", "B"], "options": options}),
        json!({"context": "c", "input": "i", "answer": ["fly"], "options": options}),
    ];
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let (_folder, path) = written(&text);
    for task in ["code_debug", "longbook_choice_eng"] {
        let reading = read(&path, task, &ChatFrame::base(), None, usize::MAX, &Words).unwrap();
        assert_eq!(reading.items.len(), 2);
        assert!(reading.items.iter().all(|sample| sample.outputs == ["walk", "B"]));
        assert!(reading.errors[0].to_string().contains(":3: the answer \"fly\""));
        let metric = tasks().into_iter().find(|info| info.name == task).unwrap().metric;
        assert_eq!(metric.score("B. walk", &reading.items[0]), 1.0);
        assert_eq!(metric.score("A. run", &reading.items[0]), 0.0);
    }
}

#[test]
fn a_long_text_loses_its_middle() {
    let context: Vec<String> = (0..5000).map(|i| format!("w{i}")).collect();
    let record = json!({"context": context.join(" "), "input": "Who?", "answer": "x"});
    let (_folder, path) = written(&record.to_string());
    for length in [300, 999, 3000] {
        let read =
            read(&path, "longbook_qa_eng", &ChatFrame::llama3(), Some(length), usize::MAX, &Words)
                .unwrap();
        let sample = &read.items[0];
        assert!(
            sample.length <= length && sample.length > length - 8,
            "{length}: {}",
            sample.length
        );
        assert!(
            sample.input_context.contains("w0 w1 ") && sample.input_context.contains(" w4999\n\n")
        );
        assert!(
            sample.input_query.starts_with("Question: Who?")
                && sample.input_query.ends_with("Answer:")
        );
        let last = length / 2 - 60;
        let (early, late) = (format!(" w{last} "), format!(" w{} ", 5000 - last));
        assert!(sample.input_context.contains(&early) && sample.input_context.contains(&late));
    }
    // A question that does not fit costs its own sample, and no other.
    let short =
        read(&path, "longbook_qa_eng", &ChatFrame::llama3(), Some(50), usize::MAX, &Words).unwrap();
    let named = ":1: ";
    assert!(short.items.is_empty() && short.errors[0].to_string().contains(named));
    let whole =
        read(&path, "longbook_qa_eng", &ChatFrame::base(), Some(9000), usize::MAX, &Words).unwrap();
    assert!(whole.items[0].length > 5000);
}

#[test]
fn only_the_samples_wanted_are_read() {
    let line =
        |i: usize| json!({"context": format!("c{i}"), "input": "i", "answer": i}).to_string();
    let text = [&line(0), "", "{\"context\": 3}", &line(2), "cut", &line(4), "worse"].join("\n");
    let (_folder, path) = written(&text);
    for (keep, indices, errors) in
        [(0, &[][..], 0), (1, &[0], 0), (2, &[0, 2], 1), (3, &[0, 2, 4], 2), (9, &[0, 2, 4], 3)]
    {
        let reading = read(&path, "passkey", &ChatFrame::base(), None, keep, &Words).unwrap();
        let found: Vec<usize> = reading.items.iter().map(|sample| sample.index).collect();
        assert_eq!((found.as_slice(), reading.errors.len()), (indices, errors));
        for sample in &reading.items {
            // A mended line would not change the number of any other.
            assert_eq!(sample.outputs, [sample.index.to_string()]);
        }
        let named = [":3: there is no field", ":5: ", ":7: "];
        for (error, place) in reading.errors.iter().zip(named) {
            assert!(error.to_string().contains(&format!("data.jsonl{place}")), "{error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn foreign_lines_never_panic(lines in prop::collection::vec(".{0,30}", 0..5), answer in ".{0,9}", task in 0..10_usize) {
        let good = json!({"context": "c", "input": "i", "answer": ["walk", "B"], "options": ["run", "walk"]});
        let odd = json!({"context": answer, "input": answer, "answer": answer, "options": [answer, 3]});
        let (_folder, path) = written(&format!("{good}\n{}\n{odd}", lines.join("\n")));
        let task = &tasks()[task];
        let reading = read(&path, &task.name, &ChatFrame::base(), None, usize::MAX, &Words).unwrap();
        prop_assert!(!reading.items.is_empty());
        for sample in &reading.items {
            let score = task.metric.score(&answer, sample);
            prop_assert!((0.0..=1.0).contains(&score));
        }
        for error in reading.errors {
            let text = error.to_string();
            prop_assert!(text.contains("data.jsonl:"), "{}", text);
        }
    }
}
