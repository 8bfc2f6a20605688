//! What both readers of XML need: its text as UTF-8, attributes, characters.

use super::ParseError;
use crate::encoding::decode;
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};

/// The text of a file of XML, which is in UTF-8 or, with a mark, in UTF-16.
pub(super) fn text_of(bytes: &[u8], name: &str) -> Result<String, ParseError> {
    let no_text = |_| ParseError::Damaged(format!("{name} in it is no text"));
    Ok(decode(bytes, None).map_err(no_text)?.0)
}

/// Goes through `xml`, calling `on` for every event. Names of elements and attributes are taken
/// without their prefixes.
pub(super) fn each(
    xml: &str,
    name: &str,
    mut on: impl FnMut(&Event<'_>) -> Result<(), ParseError>,
) -> Result<(), ParseError> {
    let mut reader = Reader::from_str(xml);
    reader.config_mut().allow_dangling_amp = true;
    loop {
        let event = reader.read_event().map_err(|error| {
            let at = reader.error_position();
            ParseError::Damaged(format!("{name} in it, byte {at}: {error}"))
        })?;
        match event {
            Event::Eof => return Ok(()),
            event => on(&event)?,
        }
    }
}

/// The value of the attribute `name`, without regard to its prefix.
pub(super) fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    // The check for attributes given twice takes time that grows with the square of their number.
    let mut attributes = element.attributes();
    let found = attributes.with_checks(false).flatten().find(|other| local(other.key.0) == name)?;
    Some(unescaped(&found.value))
}

/// A name without its prefix.
pub(super) fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

/// The text of a reference such as `&amp;` or `&#233;`; what it says if nobody knows it.
pub(super) fn reference(reference: &BytesRef<'_>) -> String {
    match reference.resolve_char_ref() {
        Ok(Some(c)) => c.to_string(),
        _ => {
            let name = reference.xml10_content();
            resolve_predefined_entity(&name).map_or_else(|| format!("&{name};"), str::to_owned)
        }
    }
}

/// An attribute's value with its references replaced.
fn unescaped(value: &str) -> String {
    match quick_xml::escape::unescape(value) {
        Ok(value) => value.into_owned(),
        Err(_) => value.to_owned(),
    }
}
