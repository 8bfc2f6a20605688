//! Bodies of requests: read, or refused with an error in the shape that clients know.

#![no_main]

use asterism_serve::fuzzing::{Request, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, body)) = data.split_first() else { return };
    let kinds =
        [Request::Chat, Request::Completion, Request::Context, Request::Change, Request::Ask];
    if let Err(error) = read(kinds[usize::from(*kind) % kinds.len()], body) {
        let error = &error["error"];
        assert!(error["message"].is_string() && error["code"].is_string());
    }
});
