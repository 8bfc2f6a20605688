//! The pictures of a report, as SVG on white paper.
//!
//! The page gives paper, ink and grid its own colours, by the very values of `palette`: see
//! `page.css`.

mod depth;
mod lines;
mod tradeoff;

pub(super) use depth::depth;
pub(super) use lines::{score, tasks};
pub(super) use tradeoff::{memory, speed, time};

use crate::EvalError;
use crate::palette::{GRID, INK, colour};
use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

const WIDTH: u32 = 1000;
const FONT: &str = "sans-serif";
const LEGEND_ROW: u32 = 26;
const GAP: u32 = 10;
/// Pixels of a character of the legend, roughly.
const LETTER: u32 = 8;
/// Pixels of a legend entry beside its name.
const LEGEND_MARK: u32 = 74;

/// The point of a series: its form changes too, for those who cannot tell the colours apart.
/// `size` is half its width in pixels.
fn marker<'a, C: Clone + 'static>(
    at: C,
    series: usize,
    size: i32,
) -> DynElement<'a, SVGBackend<'a>, C> {
    let colour = colour(series);
    // Colours repeat after eight: then with other forms.
    match (series + series / 8) % 4 {
        0 => Circle::new(at, size, colour.filled()).into_dyn(),
        1 => TriangleMarker::new(at, size + 2, colour.filled()).into_dyn(),
        2 => Cross::new(at, size, colour.stroke_width(3)).into_dyn(),
        _ => Circle::new(at, size, colour.stroke_width(2)).into_dyn(),
    }
}

/// Columns of a grid of `count` panels: at most three, and no panel alone in its row if two
/// columns avoid that.
fn columns(count: usize) -> usize {
    if count == 4 { 2 } else { count.clamp(1, 3) }
}

/// A picture of `height` pixels with a legend of `names` below it.
fn picture(
    height: u32,
    names: &[&str],
    draw: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<String, EvalError> {
    let mut text = String::new();
    let rows = legend_rows(names);
    let whole = height + GAP + rows.len() as u32 * LEGEND_ROW + GAP;
    let all = |text: &mut String| -> Drawn {
        let root = SVGBackend::with_string(text, (WIDTH, whole)).into_drawing_area();
        root.fill(&WHITE)?;
        let (top, _) = root.split_vertically(height);
        draw(&top)?;
        let (_, bottom) = root.split_vertically(height + GAP);
        for (line, row) in rows.iter().enumerate() {
            legend(&bottom, row, names, line as i32)?;
        }
        root.present()?;
        Ok(())
    };
    all(&mut text).map_err(|error| EvalError::Picture { reason: error.to_string() })?;
    Ok(text)
}

/// Which names go into which row: as many as fit.
fn legend_rows(names: &[&str]) -> Vec<Vec<usize>> {
    let mut rows: Vec<Vec<usize>> = Vec::new();
    let mut used = 0;
    for (i, name) in names.iter().enumerate() {
        let width = entry_width(name);
        match rows.last_mut().filter(|_| used + width <= WIDTH - 40) {
            Some(row) => row.push(i),
            None => {
                rows.push(vec![i]);
                used = 0;
            }
        }
        used += width;
    }
    rows
}

fn entry_width(name: &str) -> u32 {
    LEGEND_MARK + LETTER * name.chars().count() as u32
}

fn legend(area: &Area<'_>, row: &[usize], names: &[&str], line: i32) -> Drawn {
    let width: u32 = row.iter().map(|&i| entry_width(names[i])).sum();
    let mut x = (WIDTH.saturating_sub(width) / 2) as i32;
    let y = line * LEGEND_ROW as i32 + LEGEND_ROW as i32 / 2;
    for &i in row {
        let stroke = colour(i).stroke_width(2);
        area.draw(&PathElement::new(vec![(x, y), (x + 32, y)], stroke))?;
        area.draw(&marker((x + 16, y), i, 5))?;
        write(area, names[i], (x + 42, y), 15, HPos::Left)?;
        x += entry_width(names[i]) as i32;
    }
    Ok(())
}

/// Ink at a point, centred vertically.
fn write(area: &Area<'_>, text: &str, at: (i32, i32), size: i32, side: HPos) -> Drawn {
    let style = (FONT, size).into_font().color(&INK).pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style))?;
    Ok(())
}

/// `4K` where that is exact.
fn length_label(tokens: usize) -> String {
    crate::report::short(tokens).to_uppercase()
}
