//! Scores over lengths: the mean in one large panel, every task in a small one.

use super::{Area, Drawn, FONT, GRID, INK, WIDTH, colour, length_label, marker, picture, write};
use crate::EvalError;
use crate::report::results::{Cell, Results};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

const TALL: u32 = 420;
const SMALL: u32 = 190;
const COLUMNS: usize = 4;

/// One panel: for each series the points (position among the lengths, score).
struct Panel<'a> {
    title: &'a str,
    lengths: &'a [String],
    series: Vec<Vec<(usize, Cell)>>,
    low: f64,
    /// Large panels name their axes.
    large: bool,
}

/// The mean score by length and method, with intervals.
pub(in crate::report) fn score(results: &Results) -> Result<String, EvalError> {
    let names = names(results);
    let lengths = labels(results);
    let series: Vec<Vec<(usize, Cell)>> = (0..names.len())
        .map(|method| points(results.lengths.iter().map(|at| at.whole_mean(method))))
        .collect();
    let lowest = series.iter().flatten().map(|(_, cell)| cell.score.low).fold(1.0, f64::min);
    // Close to the data, in steps of ten points, but never less than twenty points high.
    let low = ((lowest * 10.0).floor() * 10.0).clamp(0.0, 80.0);
    let panel = Panel { title: "", lengths: &lengths, series, low, large: true };
    picture(TALL, &names, |area| panel.draw(area))
}

/// The score of every task by length and method, with intervals.
pub(in crate::report) fn tasks(results: &Results) -> Result<String, EvalError> {
    let names = names(results);
    let lengths = labels(results);
    let tasks: Vec<&str> = results.info.tasks.iter().map(|task| task.name.as_str()).collect();
    let has_answers = |task: &&&str| {
        results.lengths.iter().any(|at| at.tasks.iter().any(|row| row.task == ***task))
    };
    let tasks: Vec<&str> = tasks.iter().filter(has_answers).copied().collect();
    let rows = tasks.len().div_ceil(COLUMNS) as u32;
    picture(rows * SMALL, &names, |area| {
        let tile = WIDTH / COLUMNS as u32;
        for (i, task) in tasks.iter().enumerate() {
            let (x, y) = (i as u32 % COLUMNS as u32 * tile, i as u32 / COLUMNS as u32 * SMALL);
            let cell = |method: usize| {
                points(results.lengths.iter().map(|at| {
                    at.tasks.iter().find(|row| row.task == *task).and_then(|row| row.cells[method])
                }))
            };
            let series = (0..names.len()).map(cell).collect();
            let panel = Panel { title: task, lengths: &lengths, series, low: 0.0, large: false };
            panel.draw(&area.clone().shrink((x, y), (tile, SMALL)))?;
        }
        Ok(())
    })
}

fn names(results: &Results) -> Vec<&str> {
    results.info.methods.iter().map(|method| method.name.as_str()).collect()
}

fn labels(results: &Results) -> Vec<String> {
    results.lengths.iter().map(|at| length_label(at.length)).collect()
}

fn points(cells: impl Iterator<Item = Option<Cell>>) -> Vec<(usize, Cell)> {
    cells.enumerate().filter_map(|(i, cell)| Some((i, cell?))).collect()
}

impl Panel<'_> {
    fn draw(&self, area: &Area<'_>) -> Drawn {
        let (size, left, bottom) = if self.large { (15, 64, 52) } else { (12, 40, 26) };
        // Room for marks at exactly 100.
        let top = 100.0 + (100.0 - self.low) * 0.03;
        let last = self.lengths.len() as f64 - 0.5;
        let mut builder = ChartBuilder::on(area);
        builder.margin_right(16).margin_top(if self.large { 12 } else { 6 });
        builder.x_label_area_size(bottom).y_label_area_size(left);
        if !self.large {
            builder.caption(self.title, (FONT, 15).into_font().color(&INK));
        }
        let mut chart = builder.build_cartesian_2d(-0.5..last, self.low..top)?;
        let mut mesh = chart.configure_mesh();
        mesh.disable_x_mesh()
            .disable_x_axis()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(INK)
            .y_labels(if self.large { 10 } else { 5 })
            .y_label_formatter(&|score| format!("{score:.0}"))
            .label_style((FONT, size).into_font().color(&INK));
        if self.large {
            mesh.y_desc("score").axis_desc_style((FONT, 16).into_font().color(&INK));
        }
        mesh.draw()?;

        for (i, line) in self.series.iter().enumerate() {
            let at = |(position, cell): &(usize, Cell)| {
                (*position as f64 + self.offset(i), 100.0 * cell.score.mean)
            };
            let colour = colour(i);
            chart.draw_series(LineSeries::new(
                line.iter().map(at),
                colour.stroke_width(self.stroke()),
            ))?;
            for point in line {
                let (x, y) = at(point);
                let score = point.1.score;
                let ends = [100.0 * score.low, 100.0 * score.high].map(|y| (x, y.max(self.low)));
                let plot = chart.plotting_area();
                plot.draw(&PathElement::new(ends.to_vec(), colour.stroke_width(self.stroke())))?;
                plot.draw(&marker((x, y), i, if self.large { 5 } else { 3 }))?;
            }
        }
        self.draw_lengths(area, chart.plotting_area().get_pixel_range(), size)
    }

    fn stroke(&self) -> u32 {
        if self.large { 2 } else { 1 }
    }

    /// Points of the same length stand side by side, not on each other.
    fn offset(&self, series: usize) -> f64 {
        let count = self.series.len() as f64;
        let step = (0.5 / count).min(0.08);
        (series as f64 - (count - 1.0) / 2.0) * step
    }

    /// The lengths below the axis. They are categories: no scale spaces them by itself.
    fn draw_lengths(
        &self,
        area: &Area<'_>,
        (x, y): (std::ops::Range<i32>, std::ops::Range<i32>),
        size: i32,
    ) -> Drawn {
        let (left, top) = area.get_base_pixel();
        let slot = f64::from(x.end - x.start) / self.lengths.len() as f64;
        let below = y.end - top;
        let axis = vec![(x.start - left, below), (x.end - left, below)];
        area.draw(&PathElement::new(axis, INK.stroke_width(1)))?;
        // Labels that would run into each other: every second, third ...
        let every = (f64::from(size) * 2.8 / slot).ceil().max(1.0) as usize;
        for (i, label) in self.lengths.iter().enumerate().step_by(every) {
            let centre = x.start - left + (slot * (i as f64 + 0.5)) as i32;
            area.draw(&PathElement::new(vec![(centre, below), (centre, below + 4)], INK))?;
            write(area, label, (centre, below + 14), size, HPos::Center)?;
        }
        if self.large {
            let centre = (x.start + x.end) / 2 - left;
            write(area, "length, tokens", (centre, below + 38), 16, HPos::Center)?;
        }
        Ok(())
    }
}
