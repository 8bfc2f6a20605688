//! Reading files that somebody else put there: what they are and how large is looked at first.
//!
//! A pipe without a writer is waited for without end, a device fills memory without end, and a
//! sparse file of gigabytes costs nobody anything but its reader.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// What some editors begin a file with: no part of what it says.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// `bytes` without a byte order mark in front.
#[must_use]
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// The size of a regular file.
///
/// # Errors
/// Whatever the system says, and [`ErrorKind::InvalidInput`] for folders, pipes and devices.
pub fn regular_size(path: &Path) -> Result<u64> {
    let about = path.metadata()?;
    if about.is_file() {
        return Ok(about.len());
    }
    let kind = if about.is_dir() { "a folder" } else { "a pipe or a device" };
    Err(Error::new(ErrorKind::InvalidInput, format!("it is {kind}, not a regular file")))
}

/// Reads a whole regular file of at most `most` bytes.
///
/// # Errors
/// As [`regular_size`], and [`ErrorKind::FileTooLarge`] with both numbers.
pub fn read_regular(path: &Path, most: u64) -> Result<Vec<u8>> {
    let size = regular_size(path)?;
    let too_large = |size: u64| {
        let message = format!("it has {size} bytes; such a file has at most {most}");
        Err(Error::new(ErrorKind::FileTooLarge, message))
    };
    if size > most {
        return too_large(size);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // Some files, those of /proc for example, are longer than they say.
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        read if read > most => too_large(read),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked_before_anything_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sparse");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let error = read_regular(&path, 1000).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        assert!(error.to_string().contains("1099511627776") && error.to_string().contains("1000"));
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(read_regular(&path, 3).unwrap(), b"abc");
        assert!(read_regular(&path, 2).is_err());
        assert!(read_regular(dir.path(), 2).unwrap_err().to_string().contains("a folder"));
    }

    #[cfg(unix)]
    #[test]
    fn devices_and_pipes_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        for path in [fifo.as_path(), Path::new("/dev/zero"), Path::new("/dev/null")] {
            let error = read_regular(path, 1000).unwrap_err().to_string();
            assert!(error.contains("a pipe or a device"), "{error}");
        }
    }

    #[test]
    fn a_mark_is_no_part_of_what_a_file_says() {
        assert_eq!(without_mark(b"\xef\xbb\xbf{}"), b"{}");
        assert_eq!(without_mark(b"{}"), b"{}");
    }
}
