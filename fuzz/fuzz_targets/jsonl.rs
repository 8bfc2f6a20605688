//! Lines of samples, and a journal of results that is gone on with: no byte of it may be lost.

#![no_main]

use asterism_eval::read_jsonl;
use asterism_eval::run::journal::{Journal, Part};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

const FORM: [Part; 3] = [Part::Word("{\"index\":"), Part::Number, Part::Word(",\"pred\":\"")];

fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().join("lines.jsonl");
    std::fs::write(&path, data).expect("file");
    if let Ok(reading) = read_jsonl(&path, 16) {
        assert!(reading.items.len() <= 16);
    }
    match Journal::open::<Map<String, Value>>(path.clone(), "result", &FORM) {
        Ok((mut journal, contents)) => {
            journal.append(&serde_json::json!({"index": 1})).expect("append");
            let after = std::fs::read(&path).expect("file");
            let added = b"{\"index\":1}\n";
            let kept = after.strip_suffix(added).expect("the new line is the last");
            // All that was there, but for the beginning of one of our lines at its end.
            let lost = data.len().saturating_sub(kept.len());
            assert!(data.starts_with(kept.strip_suffix(b"\n").unwrap_or(kept)));
            let tail = &data[data.len() - lost..];
            assert!(
                lost == 0 || b"{\"index\":".starts_with(tail) || tail.starts_with(b"{\"index\":")
            );
            assert!(contents.records.len() <= data.len());
        }
        Err(_) => assert_eq!(std::fs::read(&path).expect("file"), data),
    }
});
