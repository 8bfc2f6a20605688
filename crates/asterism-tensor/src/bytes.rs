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

    /// Gives the memory of pages that were read back to the system, where the contents can be read
    /// from their file again: weights that have been packed are needed once, not twice.
    #[allow(unsafe_code)]
    pub fn release(&self) {
        #[cfg(target_os = "linux")]
        if matches!(self, Self::Embedded(_) | Self::Mapped(_)) {
            // SAFETY: asks for a constant of the system.
            let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(4096) as usize;
            let range = self.as_ptr_range();
            let start = (range.start as usize).next_multiple_of(page);
            let end = range.end as usize / page * page;
            if start < end {
                // SAFETY: whole pages within these bytes, which are never written: a private
                // read-only mapping of a file or of this program. Linux drops the pages and reads
                // them again from the file when they are touched. A refusal changes nothing.
                unsafe { libc::madvise(start as *mut _, end - start, libc::MADV_DONTNEED) };
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_bytes_read_the_same() {
        static EMBEDDED: &[u8] = include_bytes!("../../../models/nano/tokenizer.json");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/nano/tokenizer.json");
        let owned = Bytes::Owned(std::fs::read(path).unwrap());
        for bytes in [Bytes::Embedded(EMBEDDED), Bytes::map(Path::new(path)).unwrap()] {
            assert!(bytes.len() > 3 * 4096);
            for _ in 0..2 {
                assert!(bytes[..] == owned[..]);
                bytes.release();
            }
        }
    }
}
