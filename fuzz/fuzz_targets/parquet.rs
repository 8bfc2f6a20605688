//! A table of samples in a Parquet file.

#![no_main]

use asterism_eval::babilong::read_published;
use asterism_eval::{ChatFrame, CountTokens, EvalError};
use libfuzzer_sys::fuzz_target;

struct Words;

impl CountTokens for Words {
    fn count(&self, text: &str) -> Result<usize, EvalError> {
        Ok(text.split_whitespace().count())
    }
}

fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().join("table.parquet");
    // With a true end, so that mutations reach the description; and as they are.
    let mut framed = data.to_vec();
    framed.extend((data.len() as u32).to_le_bytes());
    framed.extend(b"PAR1");
    let frame = ChatFrame::new("none", "", "", &[]);
    for file in [framed.as_slice(), data] {
        std::fs::write(&path, file).expect("file");
        if let Ok(reading) = read_published(&path, "qa1", &frame, 64, &Words) {
            assert!(reading.items.len() <= 64);
        }
    }
});
