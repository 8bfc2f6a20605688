//! Which paragraphs are headings.

use super::super::ParseError;
use super::super::xml::{attribute, each, local};
use quick_xml::events::Event;
use std::collections::HashMap;

/// Styles that are based on others are looked through so far, in case they go round in circles.
const MOST_BASES: usize = 32;

/// The levels of headings, by the ids of their styles.
pub(super) fn heading_levels(xml: &str, path: &str) -> Result<HashMap<String, usize>, ParseError> {
    #[derive(Default)]
    struct Style {
        level: Option<usize>,
        base: Option<String>,
    }
    let mut styles: HashMap<String, Style> = HashMap::new();
    let mut id = String::new();
    each(xml, path, |event| {
        let (Event::Start(element) | Event::Empty(element)) = event else { return Ok(()) };
        let value = || attribute(element, "val").unwrap_or_default();
        let name = local(element.name().0);
        if name == "style" {
            id = attribute(element, "styleId").unwrap_or_default();
            styles.insert(id.clone(), Style::default());
        }
        let Some(style) = styles.get_mut(&id) else { return Ok(()) };
        match name {
            "name" => style.level = level_of_name(&value()).or(style.level),
            "basedOn" => style.base = Some(value()),
            "outlineLvl" => style.level = level_of_outline(&value()).or(style.level),
            _ => {}
        }
        Ok(())
    })?;
    let level = |id: &String| {
        let mut next = Some(id);
        for _ in 0..MOST_BASES {
            let style = styles.get(next?)?;
            if style.level.is_some() {
                return style.level;
            }
            next = style.base.as_ref();
        }
        None
    };
    Ok(styles.keys().filter_map(|id| Some((id.clone(), level(id)?))).collect())
}

fn level_of_name(name: &str) -> Option<usize> {
    let name = name.to_ascii_lowercase();
    match name.strip_prefix("heading ") {
        Some(number) => number.trim().parse().ok().filter(|level| (1..=9).contains(level)),
        None => (name == "title").then_some(1),
    }
}

/// Outlines count from 0; 9 is plain text.
pub(super) fn level_of_outline(value: &str) -> Option<usize> {
    value.parse::<usize>().ok().filter(|level| *level < 9).map(|level| level + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_found_by_name_level_or_base() {
        let styles = "<w:styles><w:style w:styleId='A'><w:name w:val='heading 2'/></w:style>\
            <w:style w:styleId='B'><w:basedOn w:val='A'/></w:style>\
            <w:style w:styleId='C'><w:pPr><w:outlineLvl w:val='0'/></w:pPr></w:style>\
            <w:style w:styleId='D'><w:basedOn w:val='D'/></w:style></w:styles>";
        let levels = heading_levels(styles, "styles.xml").unwrap();
        let expected = [("A", 2), ("B", 2), ("C", 1)].map(|(id, level)| (id.to_owned(), level));
        assert_eq!(levels, HashMap::from(expected));
    }
}
