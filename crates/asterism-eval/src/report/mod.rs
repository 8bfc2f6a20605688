//! What an evaluation found, for people: Markdown and one HTML page that needs nothing else.
//!
//! Receives a folder of answers, which may still grow; leaves `report.md`, its pictures as `.svg`,
//! and `report.html` in that folder. Everything is computed from the answers: a report can be drawn
//! again at any time.

mod document;
mod plot;
mod results;
#[cfg(test)]
pub(super) mod tests;
mod text;

pub(crate) use results::both;
pub use results::{AtLength, Cell, Needle, Numbered, Results, TaskRow};

use crate::EvalError;
use crate::run::info::replace;
use document::Part;
use std::path::{Path, PathBuf};

/// A report in both forms, with its pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// `report.md`.
    pub markdown: String,
    /// `report.html`.
    pub html: String,
    /// The pictures that the Markdown links to: file name and SVG.
    pub pictures: Vec<(&'static str, String)>,
}

impl Report {
    /// Draws the report of `results`.
    ///
    /// # Errors
    ///
    /// A picture that cannot be drawn.
    pub fn of(results: &Results) -> Result<Self, EvalError> {
        let parts = text::parts(results)?;
        let pictures = parts.iter().filter_map(|part| match part {
            Part::Picture(picture) => Some((picture.file, picture.svg.clone())),
            _ => None,
        });
        Ok(Self {
            markdown: document::markdown(&parts),
            html: document::html(&text::title(results), &parts),
            pictures: pictures.collect(),
        })
    }

    /// Writes everything into `dir`. Returns the two reports' paths, the page first.
    ///
    /// # Errors
    ///
    /// Files that cannot be written.
    pub fn write(&self, dir: &Path) -> Result<[PathBuf; 2], EvalError> {
        let save = |name: &str, text: &str| {
            let path = dir.join(name);
            replace(&path, text)?;
            Ok::<_, EvalError>(path)
        };
        for (name, svg) in &self.pictures {
            save(name, svg)?;
        }
        Ok([save("report.html", &self.html)?, save("report.md", &self.markdown)?])
    }
}

/// A score in points: `84.2`.
#[must_use]
pub fn points(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

/// A difference in points, with its sign: `+1.3`, `−0.4`, `0.0`.
#[must_use]
pub fn signed_points(share: f64) -> String {
    match format!("{:+.1}", 100.0 * share).as_str() {
        "+0.0" | "-0.0" => "0.0".to_owned(),
        text => text.replace('-', "−"),
    }
}

/// `4k` or `1m` where that is exact, otherwise all digits.
#[must_use]
pub fn short(tokens: usize) -> String {
    match tokens {
        n if n > 0 && n.is_multiple_of(1 << 20) => format!("{}m", n >> 20),
        n if n > 0 && n.is_multiple_of(1 << 10) => format!("{}k", n >> 10),
        n => n.to_string(),
    }
}
