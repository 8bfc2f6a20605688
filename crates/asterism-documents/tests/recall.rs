//! Files of other programs (`files/make.sh`): the words that pdftotext and pandoc read in them are
//! read here, and no others; facts stand at the places where those programs have them.

use asterism_documents::{Document, Kind, Limits, ParseError, Parsed, parse};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files")
}

fn read(name: &str) -> Result<Parsed, ParseError> {
    let bytes = std::fs::read(folder().join(name)).expect("file");
    parse(Kind::of_name(name), &bytes, None, &Limits::default())
}

fn document(name: &str) -> Document {
    let Parsed { text, .. } = read(name).expect("it is read");
    Document::new(name.to_owned(), Kind::of_name(name), text)
}

/// What the other program reads.
fn reference(name: &str) -> String {
    std::fs::read_to_string(folder().join("read").join(format!("{name}.txt"))).expect("reference")
}

/// How often each word occurs; a word is letters and digits.
fn words(text: &str) -> HashMap<&str, usize> {
    let mut words = HashMap::new();
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        *words.entry(word).or_default() += 1;
    }
    words
}

/// The share of the words of `of` that are in `text`, as often.
fn share(of: &str, text: &str) -> f64 {
    let (all, found) = (words(of), words(text));
    let kept = |(word, count): (&&str, &usize)| *count.min(found.get(*word).unwrap_or(&0));
    all.iter().map(kept).sum::<usize>() as f64 / all.values().sum::<usize>() as f64
}

#[test]
fn words_are_those_that_other_programs_read() {
    let least = [
        ("tex.pdf", 0.99, 0.98),
        ("chromium.pdf", 0.99, 0.98),
        ("writer.pdf", 0.99, 0.98),
        ("columns.pdf", 0.98, 0.98),
        ("pandoc.docx", 0.99, 0.99),
        ("writer.docx", 0.99, 0.99),
        ("book.epub", 0.99, 0.99),
        ("page.html", 0.99, 0.99),
        ("writer.html", 0.99, 0.99),
    ];
    for (name, recall_least, precision_least) in least {
        let (document, reference) = (document(name), reference(name));
        let recall = share(&reference, &document.text);
        let precision = share(&document.text, &reference);
        println!("{name:14} recall {recall:.4} precision {precision:.4}");
        assert!(recall >= recall_least, "{name}: recall {recall}");
        assert!(precision >= precision_least, "{name}: precision {precision}");
    }
}

const FACTS: [(&str, &str); 3] = [
    ("The access code for the Oslo archive is 90571.", "Where I Lived"),
    ("The secret word of Daniel Larsen is clever-candle.", "Sounds"),
    ("The access code for the Lisbon vault is 48213.", "Solitude"),
];

/// Where the words of `fact` stand in `text`, whatever white space is between them.
fn find(text: &str, fact: &str) -> std::ops::Range<usize> {
    let words: Vec<&str> = fact.split_whitespace().collect();
    for (start, _) in text.match_indices(words[0]) {
        let mut rest = &text[start..];
        let all = words.iter().all(|word| match rest.trim_start().strip_prefix(word) {
            Some(behind) => {
                rest = behind;
                true
            }
            None => false,
        });
        if all {
            return start..text.len() - rest.len();
        }
    }
    panic!("{fact:?} is not in the text")
}

#[test]
fn facts_stand_on_the_pages_where_pdftotext_has_them() {
    for name in ["tex.pdf", "chromium.pdf", "writer.pdf"] {
        let (document, reference) = (document(name), reference(name));
        for (fact, _) in FACTS {
            let page = |text: &str| text[..find(text, fact).start].matches('\u{c}').count() + 1;
            let place = document.cite(find(&document.text, fact));
            assert_eq!(place, format!("{name}, page {}", page(&reference)), "{fact}");
        }
        assert_eq!(document.pieces.len(), reference.matches('\u{c}').count(), "{name}");
    }
}

#[test]
fn facts_stand_in_their_chapters_and_below_their_headings() {
    for name in
        ["book.epub", "book2.epub", "pandoc.docx", "writer.docx", "page.html", "writer.html"]
    {
        let document = document(name);
        for (fact, title) in FACTS {
            let place = document.cite(find(&document.text, fact));
            assert!(place.starts_with(name) && place.contains(title), "{place}, not {title}");
        }
    }
    let book = document("book.epub");
    let chapters: Vec<String> = book.pieces.iter().map(|piece| piece.place.to_string()).collect();
    assert!(chapters.iter().any(|chapter| chapter.ends_with(", \"Économie\"")), "{chapters:?}");
}

#[test]
fn tables_lists_notes_and_accents_are_kept() {
    for name in ["pandoc.docx", "writer.docx", "book.epub", "page.html", "writer.html"] {
        let text = document(name).text;
        let squeezed = text.replace([' ', '-'], "");
        assert!(squeezed.contains("|Boards|8.03|used|"), "{name}: {text}");
        assert!(text.contains("“Où est l’hôtel?”"), "{name}");
        assert!(text.contains("snake_case_name.txt"), "{name}");
        assert!(text.contains("Footnotes are read, too."), "{name}");
        assert!(text.contains("- Fuel"), "{name}: {text}");
        assert!(text.contains("# Sounds"), "{name}");
    }
}

#[test]
fn pages_without_text_are_named() {
    assert_eq!(read("columns.pdf").expect("text").notes, ["page 4: no text, scanned?"]);
    let Err(ParseError::NoText(why)) = read("scanned.pdf") else { panic!("it has no text") };
    assert!(why.contains("pages 1-2: no text, scanned?"), "{why}");
}
