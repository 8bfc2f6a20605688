//! What `batch` does to files: it adds results, and loses nothing.

use crate::binary::{asterism, fail, succeed};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder with an input of two prompts.
fn folder() -> (TempDir, PathBuf, PathBuf) {
    let dir = TempDir::new().expect("dir");
    let input = dir.path().join("in.jsonl");
    std::fs::write(&input, [prompt(0, "one"), prompt(1, "two")].concat()).expect("input");
    let output = dir.path().join("out.jsonl");
    (dir, input, output)
}

fn prompt(index: i64, context: &str) -> String {
    let query = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n";
    serde_json::json!({"index": index, "input_context": context, "input_query": query}).to_string()
        + "\n"
}

fn batch(input: &Path, output: &Path) -> assert_cmd::Command {
    let mut command = asterism();
    command.arg("batch").args([input, output]).args(["--max-tokens", "1"]);
    command
}

#[test]
fn a_run_that_cannot_start_changes_no_file() {
    let (dir, input, output) = folder();
    for text in ["precious", "{\"index\":7,\"mine\":1}", "notes\n", "{\"index\":7,\"pred\":\"x"] {
        std::fs::write(&output, text).expect("output");
        fail(batch(&input, &output).args(["--model", "/nope"]), 1);
        assert_eq!(std::fs::read_to_string(&output).expect("output"), text);
        let message = fail(&mut batch(&input, &output), 1);
        assert!(message.contains("out.jsonl:1: no result of batch"), "{message}");
        assert_eq!(std::fs::read_to_string(&output).expect("output"), text);
    }
    std::fs::remove_file(&output).expect("remove");
    fail(batch(&input, &output).args(["--model", "/nope"]), 1);
    assert!(!output.exists(), "no model, no file");
    let before = std::fs::read(&input).expect("input");
    let message = fail(&mut batch(&input, &input), 2);
    assert!(message.contains("both input and output"), "{message}");
    assert_eq!(std::fs::read(&input).expect("input"), before);
    let message = fail(&mut batch(&input, dir.path()), 1);
    assert!(message.contains("not a regular file"), "{message}");
}

#[test]
fn answers_to_something_else_are_not_gone_on_from() {
    let (_dir, input, output) = folder();
    succeed(&mut batch(&input, &output));
    let first = std::fs::read(&output).expect("output");
    let (_, message) = succeed(&mut batch(&input, &output));
    assert!(message.contains("0 written, 2 already there"), "{message}");
    // How the work is shared out is no other run.
    succeed(batch(&input, &output).args(["--hosts", "2", "--threads", "1"]));
    for other in [
        ["--method", "dense"],
        ["--block", "64"],
        ["--max-tokens", "2"],
        ["--dtype", "f32"],
        ["--stop", "x"],
        ["--seed", "1"],
    ] {
        let mut command = asterism();
        command.arg("batch").args([&input, &output]).args(other);
        if other[0] != "--max-tokens" {
            command.args(["--max-tokens", "1"]);
        }
        let message = fail(&mut command, 1);
        assert!(message.contains("another model, method or settings"), "{other:?}: {message}");
    }
    std::fs::write(&input, [prompt(0, "one"), prompt(1, "TWO")].concat()).expect("input");
    let message = fail(&mut batch(&input, &output), 1);
    assert!(message.contains("line 2") && message.contains("another prompt"), "{message}");
    assert_eq!(std::fs::read(&output).expect("output"), first);
}

#[test]
fn two_samples_of_one_index_are_refused_before_work() {
    let (_dir, input, output) = folder();
    std::fs::write(&input, [prompt(3, "a"), prompt(0, "b"), prompt(3, "c")].concat()).expect("in");
    let message = fail(&mut batch(&input, &output), 1);
    assert!(message.contains("lines 1 and 3 both have index 3"), "{message}");
    assert!(!output.exists());
}

#[test]
fn a_byte_order_mark_costs_no_sample_and_bytes_that_are_no_text_only_theirs() {
    let (_dir, input, output) = folder();
    let mut bytes = b"\xef\xbb\xbf".to_vec();
    bytes.extend(prompt(0, "one").bytes());
    bytes.extend(b"{\"input_context\": \"\xff\", \"input_query\": \"x\"}\n");
    std::fs::write(&input, bytes).expect("input");
    let message = fail(&mut batch(&input, &output), 1);
    assert!(message.contains("1 written, 0 already there, 1 failed"), "{message}");
    assert!(message.contains("line 2"), "{message}");
}

#[cfg(unix)]
#[test]
fn of_two_runs_on_one_output_one_is_refused() {
    let (_dir, input, output) = folder();
    let long = "The grass is green. ".repeat(1500);
    std::fs::write(&input, (0..3).map(|i| prompt(i, &long)).collect::<String>()).expect("input");
    let start = || {
        std::process::Command::new(assert_cmd::cargo::cargo_bin("asterism"))
            .arg("batch")
            .args([&input, &output])
            .args(["--max-tokens", "1", "--device", "cpu"])
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("start")
    };
    let both = [start(), start()].map(|child| child.wait_with_output().expect("wait"));
    let [a, b] =
        both.map(|run| (run.status.code(), String::from_utf8_lossy(&run.stderr).into_owned()));
    let busy = |(code, message): &(Option<i32>, String)| {
        *code == Some(1) && message.contains("another run is writing here")
    };
    assert!(busy(&a) != busy(&b), "{a:?} {b:?}");
    let text = std::fs::read_to_string(&output).expect("output");
    assert_eq!(text.lines().count(), 3);
}
