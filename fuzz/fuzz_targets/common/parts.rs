//! Archives for readers of archives.

use asterism_documents::{Kind, Limits, parse};
use std::io::{Cursor, Write};
use zip::write::SimpleFileOptions;

/// Reads `bytes` as a file of `kind`, and as the parts of one, which an archive of random bytes
/// would hardly ever have: those of the names `parts`, of which in `bytes` a zero ends each but the
/// last.
pub(crate) fn read(kind: Kind, parts: &[&str], bytes: &[u8]) {
    let limits = Limits { unpacked: 1 << 20, ..Limits::default() };
    let _ = parse(kind, bytes, None, &limits);
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, part) in parts.iter().zip(bytes.splitn(parts.len(), |byte| *byte == 0)) {
        // A part that is not there at all is something else than an empty one.
        if !part.is_empty() && zip.start_file(*name, stored).is_ok() {
            let _ = zip.write_all(part);
        }
    }
    if let Ok(archive) = zip.finish() {
        let _ = parse(kind, archive.get_ref(), None, &limits);
    }
}
