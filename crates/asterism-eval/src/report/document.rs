//! A report before it is Markdown or HTML: headings, paragraphs, tables and pictures in order.

/// A part of a report.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    /// A heading; 1 is the title.
    Heading(u8, String),
    /// A paragraph of plain text.
    Text(String),
    /// A table.
    Table(Table),
    /// A picture.
    Picture(Picture),
}

/// A table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    pub(super) header: Vec<String>,
    pub(super) rows: Vec<Vec<Entry>>,
    /// Columns of text, from the left; the others hold numbers. The first one names the row.
    pub(super) text: usize,
}

/// A picture with what it shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Picture {
    /// File name, without folder.
    pub(super) file: &'static str,
    pub(super) svg: String,
    /// Description of the picture: shown below it, and read out instead of it.
    pub(super) caption: String,
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Entry {
    pub(super) text: String,
    /// A second, smaller line.
    pub(super) detail: String,
    pub(super) tone: Tone,
}

/// Emphasis of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Tone {
    #[default]
    Plain,
    /// A total.
    Strong,
    /// A difference that chance explains.
    Noise,
    /// A gain that chance does not explain.
    Better,
    /// A loss that chance does not explain.
    Worse,
}

impl<T: Into<String>> From<T> for Entry {
    fn from(text: T) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

/// The parts as Markdown; pictures are links to their files.
pub(super) fn markdown(parts: &[Part]) -> String {
    let mut out = String::new();
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        match part {
            Part::Heading(level, text) => {
                out.push_str(&format!("{} {text}\n", "#".repeat(usize::from(*level))));
            }
            Part::Text(text) => out.push_str(&format!("{text}\n")),
            Part::Picture(picture) => {
                out.push_str(&format!("![{}]({})\n", picture.caption, picture.file));
            }
            Part::Table(table) => markdown_table(&mut out, table),
        }
    }
    out
}

fn markdown_table(out: &mut String, table: &Table) {
    let escape = |text: &str| text.replace('|', "\\|");
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    out.push_str(&line(table.header.iter().map(|text| escape(text)).collect()));
    let rule = |i: usize| if i < table.text { ":--" } else { "--:" }.to_owned();
    out.push_str(&line((0..table.header.len()).map(rule).collect()));
    for row in &table.rows {
        let cell = |entry: &Entry| {
            let mark = match entry.tone {
                Tone::Strong => "**",
                _ => "",
            };
            let text = format!("{mark}{}{mark}", escape(&entry.text));
            match entry.detail.as_str() {
                "" => text,
                detail => format!("{text}<br>{}", escape(detail)),
            }
        };
        out.push_str(&line(row.iter().map(cell).collect()));
    }
}

/// The parts as one HTML page that needs nothing else.
pub(super) fn html(title: &str, parts: &[Part]) -> String {
    let mut body = String::new();
    for part in parts {
        match part {
            Part::Heading(level, text) => {
                body.push_str(&format!("<h{level}>{}</h{level}>\n", escape(text)));
            }
            Part::Text(text) => body.push_str(&format!("<p>{}</p>\n", escape(text))),
            Part::Picture(picture) => {
                let Picture { svg, caption, .. } = picture;
                let caption = escape(caption);
                body.push_str(&format!(
                    "<figure role=\"img\" aria-label=\"{caption}\">\n{}\n<figcaption>{caption}</figcaption>\n</figure>\n",
                    scalable(svg)
                ));
            }
            Part::Table(table) => html_table(&mut body, table),
        }
    }
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        escape(title),
        include_str!("page.css"),
    )
}

fn html_table(out: &mut String, table: &Table) {
    out.push_str("<div class=\"scroll\"><table>\n<thead><tr>");
    for (i, text) in table.header.iter().enumerate() {
        let class = if i > 0 && i < table.text { " class=\"text\"" } else { "" };
        out.push_str(&format!("<th scope=\"col\"{class}>{}</th>", escape(text)));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        out.push_str("<tr>");
        for (i, entry) in row.iter().enumerate() {
            let (tag, scope) = if i == 0 { ("th", " scope=\"row\"") } else { ("td", "") };
            let class = match entry.tone {
                Tone::Plain if i > 0 && i < table.text => " class=\"text\"",
                Tone::Plain => "",
                Tone::Strong => " class=\"strong\"",
                Tone::Noise => " class=\"noise\"",
                Tone::Better => " class=\"better\"",
                Tone::Worse => " class=\"worse\"",
            };
            let detail = match entry.detail.as_str() {
                "" => String::new(),
                detail => format!("<small>{}</small>", escape(detail)),
            };
            out.push_str(&format!("<{tag}{scope}{class}>{}{detail}</{tag}>", escape(&entry.text)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
}

/// A picture that shrinks with the page: its size in pixels becomes a view box alone.
fn scalable(svg: &str) -> String {
    let body = svg.trim();
    let (Some(open), true) = (body.find("viewBox="), body.starts_with("<svg ")) else {
        return body.to_owned();
    };
    format!("<svg {}", &body[open..])
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same_and_escape_what_is_foreign() {
        let entry = Entry { text: "-1".into(), detail: "x|y".into(), tone: Tone::Worse };
        let table = Table {
            header: vec!["a|b".into(), "c".into()],
            rows: vec![vec!["<m>".into(), entry]],
            text: 1,
        };
        let svg = "<svg width=\"9\" height=\"9\" viewBox=\"0 0 9 9\"></svg>".to_owned();
        let picture = Picture { file: "p.svg", svg, caption: "a \"p\"".into() };
        let parts = [
            Part::Heading(2, "T & U".into()),
            Part::Text("para".into()),
            Part::Table(table),
            Part::Picture(picture),
        ];
        assert_eq!(
            markdown(&parts),
            "## T & U\n\npara\n\n| a\\|b | c |\n| :-- | --: |\n| <m> | -1<br>x\\|y |\n\n\
             ![a \"p\"](p.svg)\n"
        );
        let page = html("T", &parts);
        for piece in [
            "<h2>T &amp; U</h2>",
            "<th scope=\"row\">&lt;m&gt;</th><td class=\"worse\">-1<small>x|y</small></td>",
            "<svg viewBox=\"0 0 9 9\"></svg>",
            "aria-label=\"a &quot;p&quot;\"",
        ] {
            assert!(page.contains(piece), "{piece}: {page}");
        }
        assert!(!page.contains("http"), "nothing is loaded from elsewhere");
    }
}
