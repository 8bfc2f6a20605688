//! A book: any bytes as one, and any bytes as the parts of one.

#![no_main]

#[path = "common/parts.rs"]
mod parts;

use asterism_documents::Kind;
use libfuzzer_sys::fuzz_target;

/// Names of the parts.
const PARTS: [&str; 5] =
    ["META-INF/container.xml", "content.opf", "toc.ncx", "META-INF/encryption.xml", "a.xhtml"];

fuzz_target!(|bytes: &[u8]| parts::read(Kind::Epub, &PARTS, bytes));
