//! Files of Word: paragraphs, headings, lists, tables and notes.
//!
//! Read are the text as it stands with all changes accepted, and foot- and endnotes behind it.
//! Headers, footers, comments and pictures are not.

mod body;
mod styles;

use super::archive::{Archive, resolve};
use super::xml::{attribute, each, local};
use super::{ParseError, Parsed};
use body::Body;
use quick_xml::events::Event;
use std::collections::HashMap;
use styles::heading_levels;

/// Reads a file, of which `most` bytes may be unpacked.
pub(super) fn read(bytes: &[u8], most: u64) -> Result<Parsed, ParseError> {
    let mut archive = Archive::open(bytes, most)?;
    let main = main_part(&mut archive)?;
    let related = related(&mut archive, &main)?;
    let part = |archive: &mut Archive<'_>, kind: &str| -> Result<_, ParseError> {
        let Some(path) = related.get(kind) else { return Ok(None) };
        Ok(archive.xml(path)?.map(|xml| (xml, path)))
    };
    let levels = match part(&mut archive, "styles")? {
        Some((xml, path)) => heading_levels(&xml, path)?,
        None => HashMap::new(),
    };
    let mut text = Body::new(&levels, "").text(&archive.needed_xml(&main)?, &main)?;
    for (kind, prefix) in [("footnotes", ""), ("endnotes", "e")] {
        if let Some((xml, path)) = part(&mut archive, kind)? {
            text.push_str(&Body::new(&levels, prefix).text(&xml, path)?);
        }
    }
    if text.trim().is_empty() {
        return Err(ParseError::NoText("its paragraphs are empty".to_owned()));
    }
    Ok(Parsed { text, encoding: None, notes: Vec::new() })
}

/// The path of the text.
fn main_part(archive: &mut Archive<'_>) -> Result<String, ParseError> {
    let found = related(archive, "")?.remove("officeDocument");
    Ok(found.unwrap_or_else(|| "word/document.xml".to_owned()))
}

/// What the part `path` says belongs to it: paths by what they are to it.
fn related(archive: &mut Archive<'_>, path: &str) -> Result<HashMap<String, String>, ParseError> {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let list = resolve("", &format!("{folder}/_rels/{file}.rels"));
    let mut parts = HashMap::new();
    let Some(xml) = archive.xml(&list)? else { return Ok(parts) };
    each(&xml, &list, |event| {
        if let Event::Start(element) | Event::Empty(element) = event
            && local(element.name().0) == "Relationship"
            && let (Some(kind), Some(target)) =
                (attribute(element, "Type"), attribute(element, "Target"))
        {
            let kind = kind.rsplit('/').next().unwrap_or_default().to_owned();
            parts.entry(kind).or_insert_with(|| resolve(path, &target));
        }
        Ok(())
    })?;
    Ok(parts)
}
