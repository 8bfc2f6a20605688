//! Read-only bytes of a model file: embedded in the binary, mapped from disk, or owned.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

/// The contents of one model file, whichever way they came to be in memory.
#[derive(Debug)]
pub enum Bytes {
    /// Compiled into the binary.
    Embedded(&'static [u8]),
    /// Mapped from a file: pages are read when they are touched.
    Mapped(memmap2::Mmap),
    /// Read or made at run time.
    Owned(Vec<u8>),
}

impl Bytes {
    /// Maps a whole file. An empty file gives empty bytes (an empty mapping is an error on Linux).
    ///
    /// # Errors
    /// Whatever opening or mapping the file gives.
    #[allow(unsafe_code)]
    pub fn map(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Self::Owned(Vec::new()));
        }
        // SAFETY: the mapping is private and read-only. Should another process cut the file while
        // it is mapped, a read past the new end raises SIGBUS, as with every memory-mapped reader;
        // checkpoints are written once, and the Hub cache replaces files rather than editing them.
        unsafe { memmap2::Mmap::map(&file) }.map(Self::Mapped)
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Embedded(bytes) => bytes,
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}
