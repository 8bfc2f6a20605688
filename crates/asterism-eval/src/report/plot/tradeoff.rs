//! What speed and small caches cost: the mean score against the speed-up over the baseline, against
//! the time that an answer takes, or against the share of the baseline's memory for keys, one panel
//! per length.

use super::{Area, Drawn, FONT, GRID, INK, WIDTH, colour, columns, length_label, marker, picture};
use crate::EvalError;
use crate::report::results::{AtLength, Cell, Results, baseline};
use plotters::prelude::*;
use std::ops::Range;

const PANEL: u32 = 320;

/// What a score is drawn against.
struct Axis {
    name: &'static str,
    /// A method's place on it.
    of: fn(&Cell) -> Option<f64>,
    /// What a place is called, with so many digits.
    label: fn(f64, usize) -> String,
    /// The place of the baseline, where all panels share it; each has a range of its own, from 0,
    /// where they do not.
    baseline: Option<f64>,
}

const SPEED: Axis = Axis {
    name: "speed-up, time to first token",
    of: |cell| cell.speedup,
    label: |speedup, digits| format!("{speedup:.digits$}×"),
    baseline: Some(1.0),
};
const TIME: Axis = Axis {
    name: "time to the end of the answer, s",
    of: |cell| cell.total_s,
    label: |seconds, digits| format!("{seconds:.digits$}"),
    baseline: None,
};
const MEMORY: Axis = Axis {
    name: "memory of keys and values",
    of: |cell| cell.kv_share,
    label: |share, digits| format!("{:.*} %", digits.saturating_sub(1), 100.0 * share),
    baseline: Some(1.0),
};

impl Axis {
    /// What it shows where methods are at these places.
    fn range(&self, cells: impl Iterator<Item = Cell>) -> Range<f64> {
        let places: Vec<f64> = cells.filter_map(|cell| (self.of)(&cell)).collect();
        let most = places.iter().copied().fold(self.baseline.unwrap_or(0.0), f64::max);
        let Some(baseline) = self.baseline else {
            // No time at all is a panel without a point.
            return 0.0..if most > 0.0 { 1.08 * most } else { 1.0 };
        };
        let least = places.iter().copied().fold(baseline, f64::min);
        let room = (most - least).max(0.2) * 0.08;
        (least - room).max(0.0)..most + room
    }
}

/// Scores against the speed-up.
pub(in crate::report) fn speed(results: &Results) -> Result<String, EvalError> {
    panels(results, &SPEED)
}

/// Scores against the time to the end of the answer; nothing if no times can be compared.
pub(in crate::report) fn time(results: &Results) -> Result<Option<String>, EvalError> {
    let mut cells = results.lengths.iter().flat_map(|at| &at.mean).flatten();
    let is_timed = cells.any(|cell| cell.total_s.is_some_and(|seconds| seconds > 0.0));
    is_timed.then(|| panels(results, &TIME)).transpose()
}

/// Scores against the memory of keys and values; nothing where it is that of the baseline for all
/// methods.
pub(in crate::report) fn memory(results: &Results) -> Result<Option<String>, EvalError> {
    results.memory_differs().then(|| panels(results, &MEMORY)).transpose()
}

/// One panel per length with a point per method.
fn panels(results: &Results, axis: &Axis) -> Result<String, EvalError> {
    let names: Vec<&str> = results.info.methods.iter().map(|method| method.name.as_str()).collect();
    let means = |at| (0..names.len()).filter_map(move |method| AtLength::whole_mean(at, method));
    let cells = || results.lengths.iter().flat_map(means);
    let lowest = cells().map(|cell| cell.score.low).fold(1.0, f64::min);
    let low = ((lowest * 10.0).floor() * 10.0).clamp(0.0, 80.0);
    let shared = axis.range(cells());

    let columns = columns(results.lengths.len());
    let rows = results.lengths.len().div_ceil(columns) as u32;
    let tile = WIDTH / columns as u32;
    picture(rows * PANEL, &names, |area| {
        for (i, at) in results.lengths.iter().enumerate() {
            let corner = ((i % columns) as u32 * tile, (i / columns) as u32 * PANEL);
            let area = area.clone().shrink(corner, (tile, PANEL));
            let x = match axis.baseline {
                Some(_) => shared.clone(),
                None => axis.range(means(at)),
            };
            panel(&area, at, axis, baseline(&results.info), x, low, i % columns == 0)?;
        }
        Ok(())
    })
}

fn panel(
    area: &Area<'_>,
    at: &AtLength,
    axis: &Axis,
    baseline: usize,
    x: Range<f64>,
    low: f64,
    first: bool,
) -> Drawn {
    let top = 100.0 + (100.0 - low) * 0.03;
    let mut chart = ChartBuilder::on(area)
        .caption(length_label(at.length), (FONT, 17).into_font().color(&INK))
        .margin_right(16)
        .margin_top(8)
        .x_label_area_size(46)
        .y_label_area_size(64)
        .build_cartesian_2d(x.clone(), low..top)?;
    let span = x.end - x.start;
    let digits = if span < 0.6 { 2 } else { 1 };
    let x_label = |place: &f64| (axis.label)(*place, digits);
    let y_label = |score: &f64| format!("{score:.0}");
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .x_labels(5)
        .y_labels(6)
        .x_desc(axis.name)
        .x_label_formatter(&x_label)
        .y_label_formatter(&y_label)
        .label_style((FONT, 14).into_font().color(&INK))
        .axis_desc_style((FONT, 15).into_font().color(&INK));
    if first {
        mesh.y_desc("mean score");
    }
    mesh.draw()?;

    let plot = chart.plotting_area();
    // The baseline's score all the way across: what lies on it costs nothing.
    if let Some(cell) = at.whole_mean(baseline) {
        let y = 100.0 * cell.score.mean;
        let dash = span / 60.0;
        let dashes = (0..30).map(|i| x.start + 2.0 * f64::from(i) * dash);
        for start in dashes {
            let line = vec![(start, y), (start + dash, y)];
            plot.draw(&PathElement::new(line, colour(baseline).stroke_width(1)))?;
        }
    }
    for i in 0..at.mean.len() {
        let Some((cell, place)) = at.whole_mean(i).and_then(|cell| Some((cell, (axis.of)(&cell)?)))
        else {
            continue;
        };
        let ends = [cell.score.low, cell.score.high].map(|s| (place, (100.0 * s).max(low)));
        plot.draw(&PathElement::new(ends.to_vec(), colour(i).stroke_width(2)))?;
        plot.draw(&marker((place, 100.0 * cell.score.mean), i, 5))?;
    }
    Ok(())
}
