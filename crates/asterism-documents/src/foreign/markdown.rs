//! HTML as Markdown that is meant to be read: without escapes, and links only where they lead
//! somewhere outside.

use super::ParseError;
use htmd::element_handler::{HandlerResult, Handlers};
use htmd::options::{BulletListMarker, Options};
use htmd::{Element, HtmlToMarkdown};
use std::sync::{Arc, Mutex, PoisonError};

/// Elements whose content nobody reads.
const SKIPPED: [&str; 6] = ["script", "style", "noscript", "template", "svg", "iframe"];

/// The text of a page of HTML, below its title if it has no heading of its own. `title` is that of
/// a page that says none.
pub(super) fn of_html(html: &str, title: Option<&str>) -> Result<String, ParseError> {
    let said = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&said);
    let options = Options {
        bullet_list_marker: BulletListMarker::Dash,
        ul_bullet_spacing: 1,
        ol_number_spacing: 1,
        ..Options::default()
    };
    let converter = HtmlToMarkdown::builder()
        .options(options)
        .skip_tags(SKIPPED.to_vec())
        .add_handler(vec!["title"], move |handlers: &dyn Handlers, element: Element<'_>| {
            let title = handlers.walk_children(element.node).content;
            *heard.lock().unwrap_or_else(PoisonError::into_inner) = title.trim().to_owned();
            None
        })
        .add_handler(vec!["a"], link)
        .add_handler(vec!["img"], |_: &dyn Handlers, element: Element<'_>| {
            let alternative = value(&element, "alt").unwrap_or_default();
            let alternative = alternative.trim();
            (!alternative.is_empty()).then(|| HandlerResult::from(format!("[{alternative}]")))
        })
        .build();
    let markdown =
        converter.convert(html).map_err(|error| ParseError::Damaged(error.to_string()))?;
    let text = unescaped(&markdown);
    let said = unescaped(&said.lock().unwrap_or_else(PoisonError::into_inner));
    let title = title.filter(|title| !title.is_empty()).unwrap_or(&said);
    let has_heading = text.lines().any(|line| line.starts_with('#'));
    if title.trim().is_empty() || has_heading || text.trim().is_empty() {
        return Ok(text);
    }
    Ok(format!("# {}\n\n{text}", title.split_whitespace().collect::<Vec<_>>().join(" ")))
}

/// A link's text, and where it leads if that is a page or an address.
fn link(handlers: &dyn Handlers, element: Element<'_>) -> Option<HandlerResult> {
    let text = handlers.walk_children(element.node).content;
    let target = value(&element, "href").unwrap_or_default();
    let leads_out = ["http://", "https://", "mailto:"].iter().any(|way| target.starts_with(way));
    let says_it = target.trim_end_matches('/').ends_with(text.trim().trim_end_matches('/'));
    if !leads_out || text.trim().is_empty() || says_it {
        return Some(text.into());
    }
    Some(format!("[{}]({target})", text.trim()).into())
}

fn value(element: &Element<'_>, name: &str) -> Option<String> {
    let found = element.attrs.iter().find(|attribute| &*attribute.name.local == name)?;
    Some(found.value.to_string())
}

/// Markdown without the backslashes by which it says that a sign is only a sign: what a page shows.
/// Code has none; a line that would be a heading without keeps its own.
fn unescaped(markdown: &str) -> String {
    let mut out = String::with_capacity(markdown.len());
    let mut is_code = false;
    for line in markdown.split_inclusive('\n') {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        if is_code {
            out.push_str(line);
            continue;
        }
        // Code within a line stands between backquotes that no backslash precedes.
        let (mut rest, mut in_span) = (line, false);
        while let Some(c) = rest.chars().next() {
            let (taken, shown) = match c {
                '`' => {
                    in_span = !in_span;
                    (1, "`")
                }
                '\\' if rest.starts_with("\\#") && rest.len() == line.len() => (2, "\\#"),
                '\\' if !in_span && rest[1..].starts_with(|c: char| c.is_ascii_punctuation()) => {
                    (2, &rest[1..2])
                }
                '\u{a0}' => (2, " "),
                c => (c.len_utf8(), &rest[..c.len_utf8()]),
            };
            out.push_str(shown);
            rest = &rest[taken..];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(html: &str) -> String {
        of_html(html, None).unwrap()
    }

    #[test]
    fn what_a_page_shows_is_kept_and_nothing_else() {
        let page = "<html><head><title>On *stars*</title><style>p {}</style></head><body>\
            <script>let x = 1;</script><p>snake_case &amp; 2 &lt; 3 &#169; [1]</p>\
            <p>See <a href='#top'>above</a>, <a href='https://a.org/x'>there</a>, \
            <a href='https://a.org'>https://a.org</a>.<img src='data:image/png;base64,AAAA' \
            alt='A star'><img src='dot.gif'></p><pre><code>a_b &amp;&amp; c\\_d</code></pre>\
            <ul><li>one</li><li>two <code>x_y\\*</code></li></ul></body></html>";
        let text = of(page);
        assert!(text.starts_with("# On *stars*\n\n"), "{text}");
        assert!(text.contains("snake_case & 2 < 3 © [1]"), "{text}");
        assert!(
            text.contains("See above, [there](https://a.org/x), https://a.org.[A star]"),
            "{text}"
        );
        assert!(text.contains("a_b && c\\_d"), "{text}");
        assert!(text.contains("- one\n- two `x_y\\*`"), "{text}");
        assert!(!text.contains("let x") && !text.contains("base64"), "{text}");
    }

    #[test]
    fn tables_have_rows_and_a_title_gives_way_to_a_heading() {
        let text = of("<title>Site</title><h1>Page</h1><table><tr><th>a</th><th>b</th></tr>\
                       <tr><td>1</td><td>2|3</td></tr></table>");
        assert!(text.starts_with("# Page"), "{text}");
        let cells = |row: &str| text.lines().any(|line| line.replace(' ', "").starts_with(row));
        assert!(cells("|a|b|") && cells("|1|2"), "{text}");
    }

    proptest! {
        #[test]
        fn no_markup_makes_it_panic(html in r"(<[/!]?(a|p|b|ul|li|table|tr|td|pre|code|h1)[ >]|[a-z<>&;`*_\\é]){0,60}") {
            let _ = of_html(&html, None);
        }
    }
}
