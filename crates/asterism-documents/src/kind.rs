//! What a file is: by what it begins with, and by its name where that says nothing.

use memchr::memmem;
use serde::{Deserialize, Serialize};

/// What a document was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Kind {
    /// Plain text, source code, Markdown: kept as it is.
    Text,
    /// A page of the web: Markdown.
    Html,
    /// A book: its chapters in the order in which they are read, as Markdown.
    Epub,
    /// A file of Word: paragraphs, headings, lists and tables, as Markdown.
    Docx,
    /// Text of its pages.
    Pdf,
}

/// What is known of a file that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsupported {
    /// What it is.
    pub(crate) what: &'static str,
    /// What its owner can do.
    pub(crate) instead: &'static str,
}

/// Bytes in which a PDF's mark is looked for: some have others in front.
const PDF_HEAD: usize = 1024;

impl Kind {
    /// Its name on the wire and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Html => "html",
            Self::Epub => "epub",
            Self::Docx => "docx",
            Self::Pdf => "pdf",
        }
    }

    /// What a file called `name` is, by the name alone.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let ending = name.rsplit(['/', '\\']).next().and_then(|file| file.rsplit_once('.'));
        match ending.map(|(_, ending)| ending.to_ascii_lowercase()).as_deref() {
            Some("html" | "htm" | "xhtml") => Self::Html,
            Some("epub") => Self::Epub,
            Some("docx" | "docm" | "dotx") => Self::Docx,
            Some("pdf") => Self::Pdf,
            _ => Self::Text,
        }
    }

    /// What the file called `name` with these bytes is.
    pub(crate) fn of(name: &str, bytes: &[u8]) -> Result<Self, Unsupported> {
        let head = &bytes[..bytes.len().min(PDF_HEAD)];
        if memmem::find(head, b"%PDF-").is_some() {
            return Ok(Self::Pdf);
        }
        if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
            return of_archive(bytes);
        }
        let refused = |what, instead| Err(Unsupported { what, instead });
        if bytes.starts_with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") {
            return refused("a file of an old Office", "save it as .docx or PDF");
        }
        if bytes.starts_with(b"{\\rtf") {
            return refused("rich text (RTF)", "save it as .docx or plain text");
        }
        let by_name = Self::of_name(name);
        if by_name == Self::Html || is_html(bytes) {
            return Ok(Self::Html);
        }
        match by_name {
            Self::Epub | Self::Docx => refused("no archive, though its name says so", "repair it"),
            Self::Pdf => refused("no PDF, though its name says so", "repair it"),
            _ => Ok(Self::Text),
        }
    }
}

/// What a ZIP archive holds, by the names in it, which are not compressed.
fn of_archive(bytes: &[u8]) -> Result<Kind, Unsupported> {
    let has = |name: &[u8]| memmem::find(bytes, name).is_some();
    let instead = "unpack it, or save it as one of .docx, .epub, PDF or text";
    if has(b"mimetypeapplication/epub+zip") || has(b"META-INF/container.xml") {
        Ok(Kind::Epub)
    } else if has(b"word/document.xml") || has(b"word/document2.xml") {
        Ok(Kind::Docx)
    } else if has(b"mimetypeapplication/vnd.oasis.opendocument") {
        Err(Unsupported { what: "an OpenDocument file", instead: "save it as .docx or PDF" })
    } else if has(b"xl/workbook.xml") {
        Err(Unsupported { what: "a file of Excel", instead: "save it as .csv" })
    } else if has(b"ppt/presentation.xml") {
        Err(Unsupported { what: "a file of PowerPoint", instead: "save it as PDF" })
    } else {
        Err(Unsupported { what: "a ZIP archive", instead })
    }
}

/// Whether a text begins as a page of the web does.
fn is_html(bytes: &[u8]) -> bool {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    let begins = |with: &[u8]| text.get(..with.len()).is_some_and(|b| b.eq_ignore_ascii_case(with));
    begins(b"<!doctype html") || begins(b"<html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_begins_with_counts_more_than_its_name() {
        let of = |name: &str, bytes: &[u8]| Kind::of(name, bytes).map_err(|other| other.what);
        assert_eq!(of("a.txt", b"%PDF-1.7\n"), Ok(Kind::Pdf));
        assert_eq!(of("a", b"\xef\xbb\xbf \n<!DOCTYPE HTML><p>"), Ok(Kind::Html));
        assert_eq!(of("a.HTM", b"<p>"), Ok(Kind::Html));
        assert_eq!(of("a.rs", b"fn main() {}"), Ok(Kind::Text));
        assert_eq!(of("a.zip", b"PK\x03\x04..word/document.xml"), Ok(Kind::Docx));
        assert_eq!(of("a.docx", b"PK\x03\x04..mimetypeapplication/epub+zip"), Ok(Kind::Epub));
        assert_eq!(of("a.docx", b"PK\x03\x04"), Err("a ZIP archive"));
        assert!(of("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1").unwrap_err().contains("Office"));
        assert!(of("a.pdf", b"hello").unwrap_err().contains("no PDF"));
        assert!(of("a.txt", b"{\\rtf1").unwrap_err().contains("RTF"));
    }

    #[test]
    fn names_say_what_a_document_was() {
        assert_eq!(Kind::of_name("b/Paper.PDF"), Kind::Pdf);
        assert_eq!(Kind::of_name("a.pdf/notes"), Kind::Text);
        assert_eq!(Kind::of_name("docx"), Kind::Text);
    }
}
