//! A file of Word: any bytes as one, and any bytes as the parts of one.

#![no_main]

#[path = "common/parts.rs"]
mod parts;

use asterism_documents::Kind;
use libfuzzer_sys::fuzz_target;

/// Names of the parts.
const PARTS: [&str; 5] = [
    "_rels/.rels",
    "word/_rels/document.xml.rels",
    "word/styles.xml",
    "word/footnotes.xml",
    "word/document.xml",
];

fuzz_target!(|bytes: &[u8]| parts::read(Kind::Docx, &PARTS, bytes));
