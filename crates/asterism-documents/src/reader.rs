//! From paths and bytes to documents.

use crate::child::Child;
use crate::encoding::Wanted;
use crate::folder::{Found, Reason, Selection, Skipped, shown, walk};
use crate::foreign::{Limits, Parsed, parse};
use crate::{Document, Kind, ReadError};
use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How files are read.
#[derive(Debug, Clone)]
pub struct Reader {
    /// How the process is started that reads what is not plain text.
    pub child: Child,
    /// What that process may take.
    pub limits: Limits,
    /// The encoding of texts; guessed where it is `None` and the file does not say.
    pub encoding: Option<Wanted>,
    /// Bytes of a file at most.
    pub most_bytes: u64,
}

/// A file that is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where it is.
    pub path: PathBuf,
    /// Which of the paths that were given has it, from 0.
    pub given: usize,
    /// Whether it was found in a folder, and not named by itself: its document has a header, and
    /// that it cannot be read is no error.
    pub in_folder: bool,
    /// Its bytes and when it was changed last, if it is a file: another stamp is another text.
    pub stamp: Option<(u64, SystemTime)>,
}

impl Source {
    /// The name of its document.
    #[must_use]
    pub fn name(&self) -> String {
        shown(&self.path)
    }
}

/// What there is to read.
#[derive(Debug, Default)]
pub struct Listing {
    /// Files, in order: paths as they were given, folders by name.
    pub sources: Vec<Source>,
    /// What is in the folders and is not read.
    pub skipped: Vec<Skipped>,
}

/// Bytes of a file at most where nothing else is asked for.
const MOST_BYTES: u64 = 64 << 20;

/// The files of `paths`: files as they are, of folders those of `selection`. A file that was given
/// before is not found in a folder again. A path `-` stands for standard input, and has none.
///
/// # Errors
/// [`ReadError::Io`] for paths that are not there.
pub fn list(paths: &[PathBuf], selection: &Selection) -> Result<Listing, ReadError> {
    let mut listing = Listing::default();
    let mut met = HashSet::new();
    for (given, path) in paths.iter().enumerate().filter(|(_, path)| path.as_os_str() != "-") {
        let error = |error| ReadError::Io { name: shown(path), error };
        let about = path.metadata().map_err(error)?;
        if !about.is_dir() {
            let stamp = stamp(&about);
            met.insert(path.canonicalize().unwrap_or_else(|_| path.clone()));
            listing.sources.push(Source { path: path.clone(), given, in_folder: false, stamp });
            continue;
        }
        let Found { files, skipped } = walk(path, selection)?;
        listing.skipped.extend(skipped);
        for path in files {
            let (name, about) = (shown(&path), path.metadata());
            let whole = path.canonicalize().unwrap_or_else(|_| path.clone());
            let skip = match about {
                Err(error) => Reason::Failed(ReadError::Io { name: name.clone(), error }),
                Ok(_) if !met.insert(whole) => Reason::Twice,
                Ok(about) if about.len() == 0 => Reason::Empty,
                Ok(about) => {
                    let stamp = stamp(&about);
                    listing.sources.push(Source { path, given, in_folder: true, stamp });
                    continue;
                }
            };
            listing.skipped.push(Skipped { name, reason: skip });
        }
    }
    Ok(listing)
}

fn stamp(about: &std::fs::Metadata) -> Option<(u64, SystemTime)> {
    // Systems that do not know when a file was changed still know its length.
    let changed = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    about.is_file().then_some((about.len(), changed))
}

impl Reader {
    /// A reader with the usual limits, which guesses encodings.
    #[must_use]
    pub fn new(child: Child) -> Self {
        Self { child, limits: Limits::default(), encoding: None, most_bytes: MOST_BYTES }
    }

    /// Reads a file; pipes as well.
    ///
    /// # Errors
    /// Why it is no document.
    pub fn file(&self, source: &Source) -> Result<Document, ReadError> {
        self.file_while(source, &|| true)
    }

    /// As [`Reader::file`], as long as it `is_wanted`: that is asked about before, and while
    /// another process reads it.
    ///
    /// # Errors
    /// As [`Reader::file`], and [`ReadError::Cancelled`].
    pub fn file_while(
        &self,
        source: &Source,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Document, ReadError> {
        let name = source.name();
        if !is_wanted() {
            return Err(ReadError::Cancelled { name });
        }
        let bytes = self.bytes_of(&source.path, &name)?;
        let document = self.document_while(name, bytes, is_wanted)?;
        Ok(if source.in_folder { document.with_header() } else { document })
    }

    /// Reads bytes that came from somewhere under the name `name`.
    ///
    /// # Errors
    /// Why they are no document.
    pub fn document(&self, name: String, bytes: Vec<u8>) -> Result<Document, ReadError> {
        self.document_while(name, bytes, &|| true)
    }

    /// As [`Reader::document`], as long as that `is_wanted`, which is asked every 50 ms.
    ///
    /// # Errors
    /// As [`Reader::document`], and [`ReadError::Cancelled`].
    pub fn document_while(
        &self,
        name: String,
        bytes: Vec<u8>,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Document, ReadError> {
        self.check(&name, bytes.len() as u64)?;
        // What is said of the encoding of a text cannot be true of these kinds: bytes decide.
        let kind = Kind::of(&name, &bytes).map_err(|other| {
            let (what, instead) = (other.what, other.instead);
            ReadError::Unsupported { name: name.clone(), what, instead }
        })?;
        let parsed = match kind {
            Kind::Text => parse(kind, &bytes, self.encoding, &self.limits)
                .map_err(|error| ReadError::of(&name, error, &self.limits)),
            _ => self.child.read(&name, kind, &bytes, self.encoding, &self.limits, is_wanted),
        };
        let Parsed { text, encoding, notes } = parsed?;
        Ok(Document { encoding, notes, ..Document::new(name, kind, text) })
    }

    fn check(&self, name: &str, bytes: u64) -> Result<(), ReadError> {
        let most = self.most_bytes;
        let name = || name.to_owned();
        if bytes > most { Err(ReadError::TooLarge { name: name(), bytes, most }) } else { Ok(()) }
    }

    fn bytes_of(&self, path: &Path, name: &str) -> Result<Vec<u8>, ReadError> {
        let failed = |error| ReadError::Io { name: name.to_owned(), error };
        let about = path.metadata().map_err(failed)?;
        if about.is_file() {
            self.check(name, about.len())?;
        }
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(failed)?;
        file.take(self.most_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> Reader {
        // Nothing here needs another process.
        Reader::new(Child { program: "/no/such/program".into(), arguments: Vec::new() })
    }

    #[test]
    fn files_are_listed_in_the_order_given_and_once() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("b.txt", "b"), ("a.txt", "a"), ("empty.txt", "")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let paths = [dir.path().join("b.txt"), dir.path().to_owned()];
        let listing = list(&paths, &Selection::default()).unwrap();
        let read: Vec<_> = listing.sources.iter().map(|s| reader().file(s).unwrap()).collect();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].text, "b");
        assert!(read[1].text.ends_with("a.txt <==\na"), "{}", read[1].text);
        let skipped: Vec<_> = listing.skipped.iter().map(|s| s.reason.code()).collect();
        assert_eq!(skipped, ["twice", "empty"]);
        let error = list(&["/no/such".into()], &Selection::default()).unwrap_err();
        assert!(error.to_string().contains("/no/such"), "{error}");
    }

    #[test]
    fn what_is_no_text_is_refused_by_name() {
        let read = |name: &str, bytes: &[u8]| reader().document(name.into(), bytes.to_vec());
        let code = |name, bytes| read(name, bytes).unwrap_err().code();
        assert_eq!(code("a.bin", b"ab\0"), "file_binary");
        assert_eq!(code("a.rtf", b"{\\rtf1}"), "file_unsupported");
        assert_eq!(code("a.pdf", b"%PDF-1.5"), "file_reader_not_started");
        let small = Reader { most_bytes: 3, ..reader() };
        let error = small.document("long.txt".into(), b"four".to_vec()).unwrap_err();
        assert_eq!(error.code(), "file_too_large");
        assert!(error.to_string().contains("long.txt: 4 bytes"), "{error}");
        let guessed = read("a.txt", b"caf\xe9").unwrap();
        assert_eq!(guessed.notes, ["read as windows-1252, a guess"]);
    }
}
