//! Pages of PDFs.

use super::{ParseError, Parsed};
use crate::place::BREAK;
use pdf_extract::{Document, PlainTextOutput, output_doc_page};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The letters of U+FB00 and its successors, which stand for how they are printed.
const LIGATURES: [&str; 7] = ["ff", "fi", "fl", "ffi", "ffl", "st", "st"];

/// Reads the text of every page, `most` bytes of it at most. A page that cannot be read, or has
/// none, is named and costs only itself.
pub(super) fn read(bytes: &[u8], most: u64) -> Result<Parsed, ParseError> {
    let mut document =
        Document::load_mem(bytes).map_err(|error| ParseError::Damaged(error.to_string()))?;
    // Many are locked against changes only, by an empty password.
    if document.is_encrypted() && document.decrypt("").is_err() {
        return Err(ParseError::Encrypted);
    }
    let count = document.get_pages().len();
    if count == 0 {
        return Err(ParseError::Damaged("it has no pages".to_owned()));
    }
    let (mut text, mut blank, mut failed) = (String::new(), Vec::new(), Vec::new());
    for number in 1..=u32::try_from(count).map_err(|_| ParseError::TooMuch)? {
        let mut page = String::new();
        let read = catch_unwind(AssertUnwindSafe(|| {
            output_doc_page(&document, &mut PlainTextOutput::new(&mut page), number)
        }));
        if !matches!(read, Ok(Ok(()))) {
            failed.push(number);
        } else if page.trim().is_empty() {
            blank.push(number);
        }
        for c in unhyphenated(&page).chars() {
            match c {
                // A page ends at its form feed: it has none within.
                BREAK => text.push(' '),
                '\u{fb00}'..='\u{fb06}' => text.push_str(LIGATURES[c as usize - 0xfb00]),
                c => text.push(c),
            }
        }
        text.push('\n');
        text.push(BREAK);
        if text.len() as u64 > most {
            return Err(ParseError::TooMuch);
        }
    }
    let mut notes = Vec::new();
    if !blank.is_empty() {
        notes.push(format!("{}: no text, scanned?", pages(&blank)));
    }
    if !failed.is_empty() {
        notes.push(format!("{}: could not be read to the end", pages(&failed)));
    }
    if text.trim_matches(|c: char| c.is_whitespace() || c == BREAK).is_empty() {
        let why = notes.join(", ");
        return Err(match blank.is_empty() {
            true => ParseError::Damaged(why),
            false => ParseError::NoText(format!("{why}; recognise its characters (OCR) first")),
        });
    }
    Ok(Parsed { text, encoding: None, notes })
}

/// A page with words that were cut at the ends of lines in one piece, as pdftotext has them.
fn unhyphenated(page: &str) -> String {
    let mut out = String::with_capacity(page.len());
    let mut lines = page.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let cut = line.trim_end().strip_suffix('-').filter(|cut| cut.ends_with(char::is_lowercase));
        let goes_on = lines.peek().is_some_and(|next| next.starts_with(char::is_lowercase));
        out.push_str(cut.filter(|_| goes_on).unwrap_or(line));
    }
    out
}

/// `page 7`, or `pages 3-5, 9`.
fn pages(numbers: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let run = |(first, last): &(u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    let list: Vec<String> = runs.iter().map(run).collect();
    format!("page{} {}", if numbers.len() == 1 { "" } else { "s" }, list.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_named_in_runs() {
        assert_eq!(pages(&[7]), "page 7");
        assert_eq!(pages(&[3, 4, 5, 9]), "pages 3-5, 9");
    }

    #[test]
    fn words_that_were_cut_are_whole() {
        let page = "an effi-\ncient of- \nfice on 3-\nlanes, A-\nb, Mary-\nAnn, end-\n";
        assert_eq!(
            unhyphenated(page),
            "an efficient office on 3-\nlanes, A-\nb, Mary-\nAnn, end-\n"
        );
    }

    #[test]
    fn what_is_no_pdf_is_damaged() {
        for bytes in [&b"%PDF-1.5"[..], b"%PDF-1.5\ntrailer\n<< /Root 1 0 R >>\n%%EOF"] {
            assert!(matches!(read(bytes, 1 << 20), Err(ParseError::Damaged(_))));
        }
    }
}
