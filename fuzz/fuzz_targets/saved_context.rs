//! Files of contexts on disk, one of three: what the context is, the header of a host's keys, a
//! server's label.

#![no_main]

use asterism::saved::fuzzing::{read_header, read_manifest};
use asterism_serve::fuzzing::read_label;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, file)) = data.split_first() else { return };
    match kind % 3 {
        0 => match read_manifest(file) {
            Ok(tokens) => assert!(tokens > 0 && tokens <= file.len()),
            Err(error) => assert!(error.to_string().len() < 2000, "{error}"),
        },
        1 => assert!(matches!(read_header(file), None | Some(4))),
        _ => {
            let id = read_label(file).unwrap_or_default();
            assert!(id.len() <= file.len());
        }
    }
});
