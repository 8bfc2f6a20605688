//! What is done with foreign bytes, for fuzz targets: no part of the interface.

use super::{Layout, Manifest, SavedError, StoredBlock};
use crate::cache::BlockKey;
use crate::plan::Span;
use crate::tensor::{HeadShape, KvPrecision};
use std::path::Path;

/// Reads the bytes of a `context.json`: how many tokens it has.
///
/// # Errors
/// What is wrong with it.
pub fn read_manifest(bytes: &[u8]) -> Result<usize, SavedError> {
    Manifest::of_bytes(Path::new("context.json"), bytes).map(|manifest| manifest.plan.tokens)
}

/// Reads the header of a host's file, of two blocks of a small model: how many checksums it has;
/// `None` if it is another file's.
#[must_use]
pub fn read_header(bytes: &[u8]) -> Option<usize> {
    let shape = HeadShape { heads: 2, kv_heads: 1, head_dim: 4 };
    let block = |start: usize| {
        let span = Span { start, len: 3 };
        let key = BlockKey::of("fuzzing", 0, &[], span, &[1, 2, 3]);
        StoredBlock { key, tokens: 3, kept: None }
    };
    let blocks = vec![block(0), block(3)];
    let layout = Layout { layers: 2, shape, precision: KvPrecision::Bf16, blocks };
    layout.read(bytes).map(|checksums| checksums.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_whole_files() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/saved_context/");
        // The first byte says which file it is.
        let seed = |name: &str| std::fs::read(format!("{seeds}{name}")).unwrap()[1..].to_vec();
        assert_eq!(read_header(&seed("header")), Some(4));
        assert_eq!(read_manifest(&seed("manifest")).unwrap(), 48);
    }
}
