//! A book: any bytes as one, and any bytes as the parts of one, which an archive of random
//! bytes would hardly ever have.

#![no_main]

use asterism_documents::{Kind, Limits, parse};
use libfuzzer_sys::fuzz_target;
use std::io::{Cursor, Write};
use zip::write::SimpleFileOptions;

/// Names of the parts; in the input a zero ends each but the last.
const PARTS: [&str; 5] =
    ["META-INF/container.xml", "content.opf", "toc.ncx", "META-INF/encryption.xml", "a.xhtml"];

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits { unpacked: 1 << 20, ..Limits::default() };
    let _ = parse(Kind::Epub, bytes, None, &limits);
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, part) in PARTS.iter().zip(bytes.splitn(PARTS.len(), |byte| *byte == 0)) {
        // A part that is not there at all is something else than an empty one.
        if !part.is_empty() && zip.start_file(*name, stored).is_ok() {
            let _ = zip.write_all(part);
        }
    }
    if let Ok(archive) = zip.finish() {
        let _ = parse(Kind::Epub, archive.get_ref(), None, &limits);
    }
});
