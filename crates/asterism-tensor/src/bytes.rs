//! Read-only bytes of a model file: embedded in the binary, mapped from disk, or owned.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

/// The contents of one model file, whichever way they came to be in memory.
#[derive(Debug)]
pub struct Bytes(Source);

/// Private: [`Bytes::release`] may touch only what [`Bytes::map`] mapped, and nobody else can make
/// a [`Source::Mapped`].
#[derive(Debug)]
enum Source {
    /// Bytes that live as long as the program, of whatever origin.
    Static(&'static [u8]),
    /// A private, read-only mapping of a file: pages are read when they are touched.
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
            return Ok(Vec::new().into());
        }
        // SAFETY: the mapping is private and read-only. Should another process cut the file while
        // it is mapped, a read past the new end raises SIGBUS, as with every memory-mapped reader;
        // checkpoints are written once, and the Hub cache replaces files rather than editing them.
        unsafe { memmap2::Mmap::map(&file) }.map(|map| Self(Source::Mapped(map)))
    }

    /// Whether they are a file's, read when they are touched.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        matches!(self.0, Source::Mapped(_))
    }

    /// Gives the memory of pages that were read back to the system where [`Bytes::map`] mapped
    /// them, since they can be read from their file again: weights that have been packed are needed
    /// once, not twice. Other bytes stay as they are.
    #[allow(unsafe_code)]
    pub fn release(&self) {
        #[cfg(target_os = "linux")]
        if let Source::Mapped(map) = &self.0 {
            // SAFETY: asks for a constant of the system.
            let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(4096) as usize;
            let range = map.as_ptr_range();
            let start = (range.start as usize).next_multiple_of(page);
            let end = range.end as usize / page * page;
            if start < end {
                // SAFETY: whole pages of a private read-only mapping of a file, which nobody can
                // have written to. Linux drops the pages and reads them again from the file when
                // they are touched. A refusal changes nothing.
                unsafe { libc::madvise(start as *mut _, end - start, libc::MADV_DONTNEED) };
            }
        }
    }
}

/// Bytes that live as long as the program: compiled into the binary, for one.
impl From<&'static [u8]> for Bytes {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Source::Static(bytes))
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Source::Owned(bytes))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Source::Static(bytes) => bytes,
            Source::Mapped(map) => map,
            Source::Owned(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/nano/tokenizer.json");

    #[test]
    fn released_bytes_read_the_same() {
        let read = std::fs::read(FILE).unwrap();
        // Pages of no file: the system would give zeros for them.
        let leaked: &'static [u8] = Vec::leak(read.clone());
        let map = Bytes::map(Path::new(FILE)).unwrap();
        assert!(map.is_mapped() && map.len() > 3 * 4096);
        for bytes in [map, leaked.into(), read.clone().into()] {
            for _ in 0..2 {
                assert!(bytes[..] == read[..]);
                bytes.release();
            }
            assert!(bytes[..] == read[..]);
        }
    }

    #[test]
    fn an_empty_file_gives_no_bytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes = Bytes::map(file.path()).unwrap();
        assert!(bytes.is_empty() && !bytes.is_mapped());
    }
}
