//! Books: the chapters of an EPUB in the order in which they are read.

use super::archive::{Archive, resolve};
use super::xml::{attribute, each, local, reference};
use super::{ParseError, Parsed, markdown};
use crate::place::BREAK;
use quick_xml::Writer;
use quick_xml::events::{BytesEnd, Event};
use std::collections::HashMap;

/// Where every book says which file describes it.
const CONTAINER: &str = "META-INF/container.xml";
/// Where a book says which of its files are encrypted.
const ENCRYPTION: &str = "META-INF/encryption.xml";

/// A file of a book.
struct Item {
    path: String,
    is_text: bool,
    /// Whether it is the list of contents of EPUB 3.
    is_contents: bool,
}

/// What describes a book.
#[derive(Default)]
struct Package {
    /// By id.
    items: HashMap<String, Item>,
    /// Ids of its chapters, in order.
    spine: Vec<String>,
    /// Id of the list of contents of EPUB 2.
    ncx: Option<String>,
}

/// Reads the chapters of a book, of which `most` bytes may be unpacked.
pub(super) fn read(bytes: &[u8], most: u64) -> Result<Parsed, ParseError> {
    let mut archive = Archive::open(bytes, most)?;
    let described = rootfile(&archive.needed_xml(CONTAINER)?)?;
    let package = package(&archive.needed_xml(&described)?, &described)?;
    let locked = match archive.xml(ENCRYPTION)? {
        Some(list) => encrypted(&list)?,
        None => Vec::new(),
    };
    let titles = titles(&mut archive, &package)?;
    let (mut text, mut notes, mut number) = (String::new(), Vec::new(), 0);
    for id in &package.spine {
        let Some(item) = package.items.get(id).filter(|item| item.is_text) else { continue };
        if locked.contains(&item.path) {
            return Err(ParseError::Encrypted);
        }
        number += 1;
        match archive.xml(&item.path)? {
            Some(page) => {
                let title = titles.get(&item.path).map(String::as_str);
                text.push_str(&markdown::of_html(&opened(&page), title)?);
            }
            None => notes.push(format!("chapter {number}: {} is missing", item.path)),
        }
        text.push('\n');
        text.push(BREAK);
    }
    if number == 0 {
        return Err(ParseError::Damaged("its spine names no chapter".to_owned()));
    }
    let is_blank = text.trim_matches(|c: char| c.is_whitespace() || c == BREAK).is_empty();
    if is_blank {
        return Err(ParseError::NoText("its chapters are pictures".to_owned()));
    }
    Ok(Parsed { text, encoding: None, notes })
}

/// The path of the file that describes the book.
fn rootfile(container: &str) -> Result<String, ParseError> {
    let mut path = None;
    each(container, CONTAINER, |event| {
        if let Event::Start(element) | Event::Empty(element) = event
            && local(element.name().0) == "rootfile"
            && path.is_none()
        {
            path = attribute(element, "full-path");
        }
        Ok(())
    })?;
    let path = path.map(|path| resolve("", &path));
    path.ok_or_else(|| ParseError::Damaged(format!("{CONTAINER} in it names no package")))
}

fn package(opf: &str, path: &str) -> Result<Package, ParseError> {
    let mut package = Package::default();
    each(opf, path, |event| {
        let (Event::Start(element) | Event::Empty(element)) = event else { return Ok(()) };
        match local(element.name().0) {
            "item" => {
                let (Some(id), Some(target)) =
                    (attribute(element, "id"), attribute(element, "href"))
                else {
                    return Ok(());
                };
                let kind = attribute(element, "media-type").unwrap_or_default();
                let is_text = kind.contains("html") || kind.contains("dtbook");
                let properties = attribute(element, "properties").unwrap_or_default();
                let is_contents = properties.split_whitespace().any(|word| word == "nav");
                let path = resolve(path, &decoded(&target));
                package.items.insert(id, Item { path, is_text, is_contents });
            }
            "spine" => package.ncx = attribute(element, "toc"),
            "itemref" => package.spine.extend(attribute(element, "idref")),
            _ => {}
        }
        Ok(())
    })?;
    Ok(package)
}

/// Titles of chapters by path, from the list of contents; the first of several in one file.
fn titles(
    archive: &mut Archive<'_>,
    package: &Package,
) -> Result<HashMap<String, String>, ParseError> {
    let nav = package.items.values().find(|item| item.is_contents);
    let ncx = package.ncx.as_ref().and_then(|id| package.items.get(id));
    let Some(Item { path, .. }) = nav.or(ncx) else { return Ok(HashMap::new()) };
    // A book without its list of contents still has its text.
    let Some(list) = archive.xml(path)? else { return Ok(HashMap::new()) };
    let (mut titles, mut target, mut title) = (HashMap::new(), None::<String>, String::new());
    let mut keep = |target: Option<String>, title: &mut String| {
        let words = title.split_whitespace().collect::<Vec<_>>().join(" ");
        title.clear();
        if let Some(target) = target.filter(|_| !words.is_empty()) {
            let file = target.split('#').next().unwrap_or_default();
            titles.entry(resolve(path, &decoded(file))).or_insert(words);
        }
    };
    let read = each(&list, path, |event| {
        match event {
            // EPUB 3: a link around its title.
            Event::Start(element) if local(element.name().0) == "a" => {
                title.clear();
                target = attribute(element, "href");
            }
            Event::End(element) if local(element.name().0) == "a" => {
                keep(target.take(), &mut title);
            }
            // EPUB 2: a title, and then what it is of.
            Event::Start(element) if local(element.name().0) == "navLabel" => title.clear(),
            Event::Start(element) | Event::Empty(element)
                if local(element.name().0) == "content" =>
            {
                keep(attribute(element, "src"), &mut title);
            }
            Event::Text(text) => title.push_str(&text.xml10_content()),
            Event::GeneralRef(entity) => title.push_str(&reference(entity)),
            _ => {}
        }
        Ok(())
    });
    // What was read before the list broke is right.
    drop(read);
    Ok(titles)
}

/// Paths of files that only a reader with a key can read.
fn encrypted(list: &str) -> Result<Vec<String>, ParseError> {
    let mut paths = Vec::new();
    each(list, ENCRYPTION, |event| {
        if let Event::Start(element) | Event::Empty(element) = event
            && local(element.name().0) == "CipherReference"
        {
            paths.extend(attribute(element, "URI").map(|path| resolve("", &decoded(&path))));
        }
        Ok(())
    })?;
    Ok(paths)
}

/// A page of XHTML as a parser of HTML takes it, to which `<title/>` opens a title that never ends.
/// What is no XML stays as it is.
fn opened(page: &str) -> String {
    const VOID: [&str; 14] = [
        "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param",
        "source", "track", "wbr",
    ];
    let mut writer = Writer::new(Vec::with_capacity(page.len()));
    let written = each(page, "", |event| {
        let event = match event {
            Event::Decl(_) | Event::PI(_) => return Ok(()),
            Event::Empty(element) if !VOID.contains(&local(element.name().0)) => {
                let name = element.name().0.to_owned();
                let failed = |_| ParseError::Damaged(String::new());
                writer.write_event(Event::Start(element.clone())).map_err(failed)?;
                Event::End(BytesEnd::new(name))
            }
            Event::CData(data) => match data.clone().escape() {
                Ok(text) => Event::Text(text),
                Err(_) => return Ok(()),
            },
            other => other.clone(),
        };
        writer.write_event(event).map_err(|_| ParseError::Damaged(String::new()))
    });
    match written.map(|()| String::from_utf8(writer.into_inner())) {
        Ok(Ok(page)) => page,
        _ => page.to_owned(),
    }
}

/// A path of an address: `%20` is a blank.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, more @ ..] = rest {
        let hex = more.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = hex.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        rest = if byte.is_some() { &more[2..] } else { more };
        bytes.push(byte.unwrap_or(*first));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xhtml_becomes_html_and_what_is_neither_stays() {
        let page = "<?xml version='1.0'?><html><head><title/></head><body><p>a &amp; b<br/>\
                    <![CDATA[<c>]]></p><a id='x'/></body></html>";
        let html = opened(page);
        assert!(html.contains("<title></title>") && html.contains("<br/>"), "{html}");
        assert!(html.contains("a &amp; b") && html.contains("&lt;c&gt;"), "{html}");
        assert_eq!(opened("<p>a</b>"), "<p>a</b>");
    }

    #[test]
    fn paths_are_decoded() {
        assert_eq!(decoded("a%20b%2fc%zz%4"), "a b/c%zz%4");
    }
}
