//! The text of a part of a file: what stands in it, put together element by element.

use super::super::ParseError;
use super::super::xml::{attribute, each, local, reference};
use super::styles::level_of_outline;
use quick_xml::events::{BytesStart, Event};
use std::collections::HashMap;

/// A text as it is put together.
pub(super) struct Body<'a> {
    levels: &'a HashMap<String, usize>,
    /// What the names of notes begin with.
    prefix: &'static str,
    out: String,
    /// Paragraphs that are open: a text box stands within one.
    paragraphs: Vec<Paragraph>,
    /// Tables that are open: one may stand within another's cell.
    tables: Vec<Table>,
    /// Runs, and texts within them, that are open.
    runs: usize,
    texts: usize,
    /// Elements that are open within one that is left out, itself included.
    left_out: usize,
}

#[derive(Default)]
struct Paragraph {
    text: String,
    level: Option<usize>,
    is_item: bool,
}

#[derive(Default)]
struct Table {
    rows: Vec<Vec<String>>,
}

impl<'a> Body<'a> {
    pub(super) fn new(levels: &'a HashMap<String, usize>, prefix: &'static str) -> Self {
        let (out, paragraphs, tables) = (String::new(), Vec::new(), Vec::new());
        Self { levels, prefix, out, paragraphs, tables, runs: 0, texts: 0, left_out: 0 }
    }

    pub(super) fn text(mut self, xml: &str, path: &str) -> Result<String, ParseError> {
        each(xml, path, |event| {
            match event {
                Event::Start(element) => self.open(element),
                Event::Empty(element) => {
                    self.open(element);
                    self.close(local(element.name().0));
                }
                Event::End(element) => self.close(local(element.name().0)),
                Event::Text(text) if self.texts > 0 => self.add(&text.xml10_content()),
                Event::CData(text) if self.texts > 0 => self.add(&text.xml10_content()),
                Event::GeneralRef(entity) if self.texts > 0 => self.add(&reference(entity)),
                _ => {}
            }
            Ok(())
        })?;
        Ok(self.out)
    }

    fn open(&mut self, element: &BytesStart<'_>) {
        let value = |name| attribute(element, name).unwrap_or_default();
        let name = local(element.name().0);
        let is_left_out = match name {
            // What was there before: the other copy of what follows, or moved elsewhere.
            "Fallback" | "moveFrom" | "del" => true,
            // Lines between the text and its notes.
            "footnote" | "endnote" => value("type").to_ascii_lowercase().contains("separator"),
            _ => false,
        };
        if is_left_out || self.left_out > 0 {
            self.left_out += 1;
            return;
        }
        match name {
            "p" => self.paragraphs.push(Paragraph::default()),
            "r" => self.runs += 1,
            "t" => self.texts += 1,
            "tbl" => self.tables.push(Table::default()),
            "tr" => {
                if let Some(table) = self.tables.last_mut() {
                    table.rows.push(Vec::new());
                }
            }
            "tc" => {
                if let Some(row) = self.row() {
                    row.push(String::new());
                }
            }
            "pStyle" => {
                let level = self.levels.get(&value("val")).copied();
                self.paragraph(|paragraph| paragraph.level = level.or(paragraph.level));
            }
            "outlineLvl" => {
                let level = level_of_outline(&value("val"));
                self.paragraph(|paragraph| paragraph.level = level.or(paragraph.level));
            }
            // A numbering of 0 takes that of the style away.
            "numId" => {
                let is_item = value("val") != "0";
                self.paragraph(|paragraph| paragraph.is_item = is_item);
            }
            // Elsewhere these are stops of a ruler, and breaks between columns.
            "tab" | "ptab" if self.runs > 0 => self.add("\t"),
            "br" | "cr" if self.runs > 0 => self.add("\n"),
            "noBreakHyphen" => self.add("-"),
            "footnoteReference" => self.add(&format!("[^{}]", value("id"))),
            "endnoteReference" => self.add(&format!("[^e{}]", value("id"))),
            "footnote" | "endnote" => {
                self.out.push_str(&format!("\n[^{}{}]: ", self.prefix, value("id")));
            }
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        if self.left_out > 0 {
            self.left_out -= 1;
            return;
        }
        match name {
            "r" => self.runs = self.runs.saturating_sub(1),
            "t" => self.texts = self.texts.saturating_sub(1),
            "p" => {
                if let Some(paragraph) = self.paragraphs.pop() {
                    self.put(&paragraph);
                }
            }
            "tbl" => {
                if let Some(table) = self.tables.pop() {
                    self.put_table(&table);
                }
            }
            _ => {}
        }
    }

    fn row(&mut self) -> Option<&mut Vec<String>> {
        self.tables.last_mut()?.rows.last_mut()
    }

    fn paragraph(&mut self, change: impl FnOnce(&mut Paragraph)) {
        if let Some(paragraph) = self.paragraphs.last_mut() {
            change(paragraph);
        }
    }

    fn add(&mut self, text: &str) {
        match self.paragraphs.last_mut() {
            Some(paragraph) => paragraph.text.push_str(text),
            None => self.out.push_str(text),
        }
    }

    /// Puts a paragraph where it belongs: into the cell that it is in, or the text.
    fn put(&mut self, paragraph: &Paragraph) {
        if let Some(cell) = self.row().and_then(|row| row.last_mut()) {
            join(cell, &paragraph.text);
            return;
        }
        let text = paragraph.text.trim_end();
        match (paragraph.level, paragraph.is_item) {
            _ if text.is_empty() => {}
            (Some(level), _) => {
                let title = text.split_whitespace().collect::<Vec<_>>().join(" ");
                self.out.push_str(&format!("\n{} {title}\n", "#".repeat(level.min(6))));
            }
            (None, true) => self.out.push_str(&format!("- {text}")),
            (None, false) => self.out.push_str(text),
        }
        self.out.push('\n');
        if !paragraph.is_item {
            self.out.push('\n');
        }
    }

    /// Puts a table where it belongs: into the cell that it is in, row by row, or the text.
    fn put_table(&mut self, table: &Table) {
        let mut text = String::new();
        for (number, row) in table.rows.iter().enumerate() {
            text.push_str(&format!("| {} |\n", row.join(" | ")));
            if number == 0 {
                text.push_str(&format!("|{}\n", " --- |".repeat(row.len())));
            }
        }
        let rows = table.rows.iter().map(|row| row.join(", "));
        let inner = rows.collect::<Vec<_>>().join("; ");
        match self.row().and_then(|row| row.last_mut()) {
            Some(cell) => join(cell, &inner),
            None => self.out.push_str(&format!("\n{text}\n")),
        }
    }
}

/// Adds a paragraph to a cell, which is one line; a bar would end it.
fn join(cell: &mut String, text: &str) {
    for word in text.split_whitespace() {
        if !cell.is_empty() {
            cell.push(' ');
        }
        cell.push_str(&word.replace('|', "\\|"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> String {
        let levels = HashMap::from([("H1".to_owned(), 1)]);
        let xml = format!("<w:document xmlns:w='w'><w:body>{body}</w:body></w:document>");
        Body::new(&levels, "").text(&xml, "document.xml").unwrap()
    }

    #[test]
    fn paragraphs_lists_and_headings() {
        let text = of("<w:p><w:pPr><w:pStyle w:val='H1'/></w:pPr><w:r><w:t>The </w:t></w:r>\
            <w:r><w:t>Sea</w:t></w:r></w:p><w:p><w:pPr><w:tabs><w:tab w:val='left'/></w:tabs>\
            </w:pPr><w:r><w:t>a</w:t><w:tab/><w:t>b &amp; c&#233;</w:t><w:br/><w:t>d</w:t></w:r></w:p>\
            <w:p><w:pPr><w:numPr><w:numId w:val='3'/></w:numPr></w:pPr><w:r><w:t>item</w:t></w:r></w:p>");
        assert_eq!(text, "\n# The Sea\n\n\na\tb & cé\nd\n\n- item\n");
    }

    #[test]
    fn what_was_deleted_or_is_there_twice_is_left_out() {
        let text = of("<w:p><w:del><w:r><w:delText>x</w:delText><w:t>x</w:t></w:r></w:del><w:ins>\
            <w:r><w:t>new</w:t></w:r></w:ins><w:moveFrom><w:r><w:t>x</w:t></w:r></w:moveFrom>\
            <w:r><w:instrText>x</w:instrText></w:r><w:r><mc:AlternateContent><mc:Choice><w:p><w:r>\
            <w:t>box</w:t></w:r></w:p></mc:Choice><mc:Fallback><w:p><w:r><w:t>x</w:t></w:r></w:p>\
            </mc:Fallback></mc:AlternateContent></w:r></w:p>");
        assert_eq!(text, "box\n\nnew\n\n");
    }

    #[test]
    fn tables_are_rows_of_cells() {
        let cell = |text: &str| format!("<w:tc><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:tc>");
        let inner = format!("<w:tbl><w:tr>{}{}</w:tr></w:tbl>", cell("x"), cell("y"));
        let text = of(&format!(
            "<w:tbl><w:tr>{}{}</w:tr><w:tr>{}<w:tc>{inner}<w:p/></w:tc></w:tr></w:tbl>",
            cell("a"),
            cell("b"),
            cell("1|2")
        ));
        assert_eq!(text, "\n| a | b |\n| --- | --- |\n| 1\\|2 | x, y |\n\n");
    }
}
