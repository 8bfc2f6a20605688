//! Pages of the web.

use super::{ParseError, Parsed, markdown};
use crate::encoding::{Wanted, decode, note_of};

/// Bytes in which a page says its encoding, as browsers look for it.
const HEAD: usize = 1024;

/// Reads a page as Markdown.
pub(super) fn read(bytes: &[u8], wanted: Option<Wanted>) -> Result<Parsed, ParseError> {
    let said = wanted.or_else(|| declared(bytes));
    let (text, encoding) = match (wanted, said) {
        // What the page says of itself may be wrong.
        (None, Some(said)) => decode(bytes, Some(said)).or_else(|_| decode(bytes, None)),
        (wanted, _) => decode(bytes, wanted),
    }?;
    let notes = note_of(&encoding).into_iter().collect();
    Ok(Parsed { text: markdown::of_html(&text, None)?, encoding: Some(encoding), notes })
}

/// The encoding that a page says it has, if it has no mark that says it better.
fn declared(bytes: &[u8]) -> Option<Wanted> {
    if encoding_rs::Encoding::for_bom(bytes).is_some() {
        return None;
    }
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(HEAD)]).to_ascii_lowercase();
    let at = head.find("charset=").map(|at| at + "charset=".len());
    let at = at.or_else(|| head.find("encoding=").map(|at| at + "encoding=".len()))?;
    let label = head[at..].trim_start_matches(['"', '\'', ' ']);
    let end = label.find(['"', '\'', ' ', '>', ';', '/', '?']).unwrap_or(label.len());
    label[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> (String, String, bool) {
        let parsed = read(bytes, None).unwrap();
        let encoding = parsed.encoding.unwrap();
        (parsed.text, encoding.name.into_owned(), encoding.is_guessed)
    }

    #[test]
    fn a_page_says_its_encoding() {
        let page = b"<meta charset=\"iso-8859-2\"><p>\xb1\xe6\xea</p>";
        assert_eq!(text(page), ("ąćę".into(), "ISO-8859-2".into(), false));
        let page =
            b"<meta http-equiv=content-type content='text/html; charset=koi8-r'><p>\xd2\xd5</p>";
        assert_eq!(text(page), ("ру".into(), "KOI8-R".into(), false));
        // It says what it is not.
        let page = b"<meta charset=utf-8><p>caf\xe9 au lait, d\xe9j\xe0 vu</p>";
        assert_eq!(text(page), ("café au lait, déjà vu".into(), "windows-1252".into(), true));
        assert_eq!(text("<p>é</p>".as_bytes()), ("é".into(), "UTF-8".into(), false));
    }
}
