//! A ZIP archive, whose files may not unpack to more than they are allowed all together.

use super::ParseError;
use std::io::{Cursor, Read};
use zip::ZipArchive;
use zip::result::ZipError;

/// An archive in memory.
pub(super) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// Bytes that may still be unpacked.
    left: u64,
}

impl<'a> Archive<'a> {
    /// The archive of these bytes, of which `most` may be unpacked.
    pub(super) fn open(bytes: &'a [u8], most: u64) -> Result<Self, ParseError> {
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|error| damaged("it", &error))?;
        Ok(Self { zip, left: most })
    }

    /// The bytes of the file `name`; `None` if there is none of that name.
    pub(super) fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>, ParseError> {
        let mut file = match self.zip.by_name(name) {
            Ok(file) => file,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(error) => return Err(damaged(name, &error)),
        };
        if file.encrypted() {
            return Err(ParseError::Encrypted);
        }
        let mut bytes = Vec::new();
        let read = file.by_ref().take(self.left + 1).read_to_end(&mut bytes);
        if bytes.len() as u64 > self.left {
            return Err(ParseError::TooMuch);
        }
        read.map_err(|error| ParseError::Damaged(format!("{name} in it: {error}")))?;
        self.left -= bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// The file `name` as XML; `None` if there is none of that name.
    pub(super) fn xml(&mut self, name: &str) -> Result<Option<String>, ParseError> {
        self.read(name)?.map(|bytes| super::xml::text_of(&bytes, name)).transpose()
    }

    /// The file `name` as XML; it must be there.
    pub(super) fn needed_xml(&mut self, name: &str) -> Result<String, ParseError> {
        let missing = || ParseError::Damaged(format!("there is no {name} in it"));
        self.xml(name)?.ok_or_else(missing)
    }
}

fn damaged(name: &str, error: &ZipError) -> ParseError {
    match error {
        ZipError::UnsupportedArchive(what) if *what == ZipError::PASSWORD_REQUIRED => {
            ParseError::Encrypted
        }
        error => ParseError::Damaged(format!("{name}: {error}")),
    }
}

/// The path of `target` in an archive, as the file `base` in it names it.
pub(super) fn resolve(base: &str, target: &str) -> String {
    let folder = base.rfind('/').map_or("", |slash| &base[..slash]);
    let whole = match target.strip_prefix('/') {
        Some(absolute) => absolute.to_owned(),
        None => format!("{folder}/{target}"),
    };
    let mut path: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = path.pop(),
            part => path.push(part),
        }
    }
    path.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_an_archive_are_relative_to_who_names_them() {
        assert_eq!(resolve("OEBPS/content.opf", "text/a.xhtml"), "OEBPS/text/a.xhtml");
        assert_eq!(resolve("content.opf", "./a.xhtml"), "a.xhtml");
        assert_eq!(resolve("a/b/c.opf", "../../../d.xhtml"), "d.xhtml");
        assert_eq!(resolve("_rels/.rels", "/word/document.xml"), "word/document.xml");
    }
}
