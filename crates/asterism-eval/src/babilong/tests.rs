//! What every mixed sample must be.

use std::path::Path;

use proptest::prelude::*;

use super::*;

struct Words;

impl CountTokens for Words {
    fn count(&self, text: &str) -> Result<usize, EvalError> {
        Ok(text.split_whitespace().count())
    }
}

#[test]
fn facts_stand_in_order_among_sentences() {
    let settings = Settings { frame: ChatFrame::llama3(), ..Settings::default() };
    let book = Haystack::embedded();
    for task in 1..=20 {
        let name = format!("qa{task}");
        for sample in generate(&settings, &name, 4096, 3, &Words).unwrap().samples {
            assert!(sample.length <= 4096 && sample.length > 4050, "{name}: {}", sample.length);
            let text = sample.input_context.split("<context>\n").last().unwrap();
            let text = text.split("\n</context>").next().unwrap();
            let depths: Vec<f64> = serde_json::from_value(sample.extra["depths"].clone()).unwrap();
            assert!(
                depths.is_sorted() && depths.iter().all(|depth| (0.0..1.0).contains(depth)),
                "{name}"
            );
            // Between two facts the text is the book's.
            let starts: Vec<usize> =
                depths.iter().map(|d| (d * text.len() as f64).round() as usize).collect();
            for pair in starts.windows(2) {
                let after =
                    text[pair[0]..pair[1]].split_once(". ").map_or("", |(_, rest)| rest.trim());
                let start: Vec<&str> = after.split(' ').take(6).collect();
                assert!(book.text().contains(&start.join(" ")), "{name}: {start:?}");
            }
            let right =
                compare_answers(task, &sample.outputs[0], &sample.outputs[0], &sample.input_query);
            assert!(right || sample.outputs[0] == "none", "{name}");
        }
    }
}

#[test]
fn a_window_keeps_the_facts_in_it() {
    let settings = Settings { window: Some((0.5, 0.75)), ..Settings::default() };
    for sample in generate(&settings, "qa1", 6000, 5, &Words).unwrap().samples {
        let depths: Vec<f64> = serde_json::from_value(sample.extra["depths"].clone()).unwrap();
        assert!(depths.iter().all(|depth| (0.45..0.8).contains(depth)), "{depths:?}");
    }
}

#[test]
fn what_cannot_be_made_is_named() {
    let settings = Settings::default();
    let error =
        |task, length| generate(&settings, task, length, 1, &Words).unwrap_err().to_string();
    assert!(error("qa21", 4096).contains("qa20") && error("qa01", 4096).contains("qa20"));
    assert!(error("qa1", 100).contains("use a length of at least"), "{}", error("qa1", 100));
    let facts = Some(("a file".to_owned(), stories("qa1", 1, 3).unwrap()));
    let few = Settings { facts, ..settings.clone() };
    let set = generate(&few, "qa1", 4096, 3, &Words).unwrap();
    assert_eq!((set.samples.len(), &set.metadata["facts_source"]), (3, &json!("a file")));
    let few = generate(&few, "qa1", 4096, 9, &Words).unwrap_err().to_string();
    assert!(few.contains("9 questions that fit"), "{few}");
    let empty = Settings { books: vec![Haystack::new("t", "One. Two.")], ..settings };
    assert!(matches!(generate(&empty, "qa1", 4096, 1, &Words), Err(EvalError::NotEnough { .. })));
}

#[test]
fn the_longest_lengths_are_made_of_many_pieces() {
    let settings = Settings::default();
    let sample = generate(&settings, "qa2", 1_000_000, 1, &Words).unwrap().samples.remove(0);
    assert!(sample.length > 999_900 && sample.length <= 1_000_000, "{}", sample.length);
}

#[test]
fn published_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let record =
        |input: &str| json!({"input": input, "question": "Where is John? ", "target": "kitchen"});
    let lines = format!("{}\n{{\"input\": 1}}\n\n{}\n", record("a"), record("b"));
    let array = format!("[\n{},\n{{\"input\": 1}},\n{}]", record("a"), record("b"));
    for (name, text, line) in [("qa1.jsonl", lines, 2), ("qa1.json", array, 3)] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let reading = read_published(&path, "qa1", &ChatFrame::base(), usize::MAX, &Words).unwrap();
        assert_eq!(reading.items.len(), 2, "{name}");
        assert_eq!((reading.items[1].index, reading.items[1].outputs[0].as_str()), (2, "kitchen"));
        assert!(reading.items[1].input_context.contains("<context>\nb\n</context>"));
        assert!(reading.items[1].length > 128);
        let error = reading.errors[0].to_string();
        assert!(error.contains(&format!("{name}:{line}: ")), "{error}");
        let metric = tasks()[0].metric;
        assert_eq!(metric.score("It is the kitchen.", &reading.items[0]), 1.0);
        assert_eq!(metric.score("kitchen or office", &reading.items[0]), 0.0);
    }
    let tables = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/eval/tables");
    let read = |name: &str, keep| {
        read_published(&tables.join(name), "qa1", &ChatFrame::base(), keep, &Words)
    };
    // Row 1 and 2 of this table are broken; the second table comes in two parts.
    let odd = read("odd.parquet", 5).unwrap();
    assert_eq!(odd.items.iter().map(|sample| sample.index).collect::<Vec<_>>(), [0, 3, 4, 5, 6]);
    assert!(odd.errors[0].to_string().contains("odd.parquet: column \"question\": row 1"));
    let split = read("split.parquet", 30).unwrap();
    assert_eq!((split.items.len(), split.errors.len()), (30, 0));
    for (index, sample) in split.items.iter().enumerate() {
        let fact = format!("\nMary went to room {index}.");
        assert!(sample.index == index && sample.input_context.contains(&fact));
        assert_eq!(sample.outputs, [format!("room {}", index % 3)]);
        assert_eq!(sample.extra["question"], "Where is Mary? ");
    }
    let error = read("missing.parquet", 5).unwrap_err().to_string();
    assert!(error.contains("missing.parquet: column \"target\": there is no such"), "{error}");
    let error = read("nowhere.parquet", 5).unwrap_err().to_string();
    assert!(error.contains("nowhere.parquet"), "{error}");

    let path = folder.path().join("bad.json");
    std::fs::write(&path, "{").unwrap();
    let error = read_published(&path, "qa1", &ChatFrame::base(), usize::MAX, &Words).unwrap_err();
    assert!(error.to_string().contains("bad.json"), "{error}");
}

/// Counts a token more for each sentence than it has alone: joined texts are longer than their
/// parts.
struct Joined;

impl CountTokens for Joined {
    fn count(&self, text: &str) -> Result<usize, EvalError> {
        Ok(Words.count(text)? + text.matches(". ").count())
    }
}

#[test]
fn no_sample_is_longer_than_asked_for() {
    for length in [1500, 3000, 9000] {
        let set = generate(&Settings::default(), "qa1", length, 5, &Joined).unwrap();
        for sample in &set.samples {
            let text = format!("{}{}", sample.input_context, sample.input_query);
            assert_eq!(sample.length, Joined.count(&text).unwrap() + GENERATED);
            assert!(sample.length <= length && sample.length > length - 40, "{}", sample.length);
        }
    }
}

#[test]
fn little_room_is_filled_too() {
    // A fact or two less than the length leaves: the search for sentences ends.
    let prompt = generate(&Settings::default(), "qa4", 2000, 1, &Words).unwrap();
    let text = prompt.samples[0].input_context.split("<context>").last().unwrap();
    let fixed = prompt.samples[0].length - Words.count(text).unwrap();
    for room in [26, 30, 40] {
        let set = generate(&Settings::default(), "qa4", fixed + room, 3, &Words).unwrap();
        assert!(set.samples.iter().all(|sample| sample.length <= fixed + room));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn foreign_arrays_never_panic(odd in ".{0,40}", text in ".{0,9}") {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qa1.json");
        let good = json!({"input": text, "question": "Where is John? ", "target": "kitchen"});
        for (content, least) in [(odd.clone(), 0), (format!("[{good}, {}, {good}]", json!(odd)), 2)] {
            std::fs::write(&path, content).unwrap();
            match read_published(&path, "qa1", &ChatFrame::base(), usize::MAX, &Words) {
                Ok(reading) => prop_assert!(reading.items.len() >= least),
                Err(error) => prop_assert!(least == 0 && error.to_string().contains("qa1.json")),
            }
        }
    }
}
