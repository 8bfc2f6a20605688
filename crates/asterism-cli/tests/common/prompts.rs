//! What `asterism batch` reads and writes in tests of hosts as processes.

use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A file of prompts with contexts of their own, so that no block of one is another's, each with
/// prose of so many repetitions.
pub(crate) fn prompts(dir: &TempDir, repetitions: usize) -> PathBuf {
    let line = |number: usize| {
        let prose = format!("It is day {number}. The grass is green and the sky is blue. ")
            .repeat(repetitions);
        serde_json::json!({
            "index": number,
            "input_context": format!("{prose}The access code for vault {number} is 4821{number}."),
            "input_query": format!("What is the access code for vault {number}?"),
        })
        .to_string()
    };
    let path = dir.path().join("prompts.jsonl");
    std::fs::write(&path, (0..3).map(|n| line(n) + "\n").collect::<String>()).unwrap();
    path
}

/// The records that a batch has written to `out`.
pub(crate) fn records(out: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(out).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
