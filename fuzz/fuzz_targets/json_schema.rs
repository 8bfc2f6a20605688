//! Schemas that answers have to follow: refused, or followed for some tokens, within bounds.

#![no_main]

use asterism_serve::fuzzing::follow_schema;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(schema) = serde_json::from_slice(data) else { return };
    follow_schema(&schema, 40);
});
