//! The picture: time and speed-up over the length of the context, and tokens/s over the number of
//! questions asked at once if there are several, as SVG.
//!
//! All panels have logarithmic axes: there a constant factor is a constant distance, and an effort
//! that grows as a power of the length is a straight line.

use super::stats::Stats;
use anyhow::{Result, anyhow};
use asterism::plan::words::short;
use asterism_eval::palette::{GRID, INK, colour};
use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::coord::combinators::{BindKeyPoints, IntoLogRange};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Line = Vec<(f64, Stats)>;

const WIDTH: u32 = 1200;
const TITLE: u32 = 48;
const PANEL: u32 = 460;
const GAP: u32 = 16;
const LEGEND_ROW: u32 = 26;
const FONT: &str = "sans-serif";

/// One line in every panel.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) name: String,
    /// Which colour: that of the method.
    pub(super) colour: usize,
    /// Which marker: that of the number of hosts.
    pub(super) shape: usize,
    pub(super) points: Vec<Point>,
    /// Tokens per second of all sequences together by their number, at the longest length.
    pub(super) rates: Line,
}

/// What a panel shows.
struct Axes<'a> {
    heading: &'a str,
    x_name: &'a str,
    y_name: &'a str,
    /// Behind every number of the y axis.
    unit: &'a str,
}

/// One measured case.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) tokens: usize,
    /// Seconds of phase 1.
    pub(super) time: Stats,
    pub(super) speedup: f64,
}

impl Series {
    fn colour(&self) -> RGBColor {
        colour(self.colour)
    }

    fn line(&self, value: impl Fn(&Point) -> Stats) -> Line {
        let mut line: Line = self.points.iter().map(|p| (p.tokens as f64, value(p))).collect();
        line.sort_by(|a, b| a.0.total_cmp(&b.0));
        line
    }
}

/// Draws all series under `title`; `speedup` is the heading of the second panel.
pub(super) fn svg(title: &str, speedup: &str, series: &[Series]) -> Result<String> {
    let mut text = String::new();
    draw(&mut text, title, speedup, series).map_err(|error| anyhow!("cannot draw: {error}"))?;
    Ok(text)
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(text: &mut String, title: &str, speedup: &str, series: &[Series]) -> Drawn {
    let rows = series.len().div_ceil(2) as u32;
    let has_rates = series.iter().any(|one| one.rates.len() > 1);
    let panels = if has_rates { 2 * PANEL } else { PANEL };
    let height = TITLE + panels + GAP + rows * LEGEND_ROW + GAP;
    let root = SVGBackend::with_string(text, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let style = (FONT, 20).into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Center));
    root.draw(&Text::new(title, (WIDTH as i32 / 2, TITLE as i32 / 2), style))?;
    let (_, below) = root.split_vertically(TITLE);
    let (panels, legend) = below.split_vertically(panels);
    let (panels, lower) = panels.split_vertically(PANEL);
    let (_, legend) = legend.split_vertically(GAP);
    let (left, right) = panels.split_horizontally(WIDTH / 2);
    let once = |value: f64| Stats { median: value, min: value, max: value };
    let times: Vec<Line> = series.iter().map(|s| s.line(|p| p.time)).collect();
    let speedups: Vec<Line> = series.iter().map(|s| s.line(|p| once(p.speedup))).collect();
    let x_name = "length of the context, tokens";
    let heading = "time to encode the context";
    panel(&left, &Axes { heading, x_name, y_name: "seconds", unit: "" }, series, &times)?;
    let (heading, y_name) = (speedup, "times as fast");
    panel(&right, &Axes { heading, x_name, y_name, unit: "×" }, series, &speedups)?;
    if has_rates {
        let heading = "decoding, all sequences together, behind the longest context";
        let x_name = "questions asked at once";
        let rates: Vec<Line> = series.iter().map(|one| one.rates.clone()).collect();
        panel(&lower, &Axes { heading, x_name, y_name: "tokens/s", unit: "" }, series, &rates)?;
    }
    for (i, one) in series.iter().enumerate() {
        let (x, y) = ((i as u32 % 2 * WIDTH / 2 + 84) as i32, i as u32 / 2 * LEGEND_ROW);
        legend_entry(&legend, one, x, (y + LEGEND_ROW / 2) as i32)?;
    }
    root.present()?;
    Ok(())
}

/// One set of axes with a line per series and a bar from the fastest to the slowest run.
fn panel(area: &Area<'_>, axes: &Axes<'_>, series: &[Series], lines: &[Line]) -> Drawn {
    let Axes { heading, x_name, y_name, unit } = *axes;
    let lengths: Vec<f64> = lines.iter().flatten().map(|(tokens, _)| *tokens).collect();
    let ends = lines.iter().flatten().flat_map(|(_, stats)| [stats.min, stats.max]);
    let (x, y) = (range(lengths.iter().copied(), 1.25), range(ends, 1.5));
    let (x_ticks, y_ticks) = (length_ticks(lengths, &x), ticks(&y));
    let (x_count, y_count) = (x_ticks.len(), y_ticks.len());
    let mut chart = ChartBuilder::on(area)
        .caption(heading, (FONT, 17).into_font().color(&INK))
        .margin_left(12)
        .margin_right(28)
        .x_label_area_size(50)
        .y_label_area_size(72)
        .build_cartesian_2d(
            x.log_scale().with_key_points(x_ticks),
            y.log_scale().with_key_points(y_ticks),
        )?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(INK)
        .x_labels(x_count)
        .y_labels(y_count)
        .x_desc(x_name)
        .y_desc(y_name)
        .x_label_formatter(&|tokens| short(*tokens as usize).to_uppercase())
        .y_label_formatter(&|value| format!("{}{unit}", value))
        .label_style((FONT, 14).into_font().color(&INK))
        .axis_desc_style((FONT, 15).into_font().color(&INK))
        .draw()?;
    for (one, line) in series.iter().zip(lines) {
        let colour = one.colour();
        let medians = line.iter().map(|(tokens, stats)| (*tokens, stats.median));
        chart.draw_series(LineSeries::new(medians.clone(), colour.stroke_width(2)))?;
        for (tokens, stats) in line.iter().filter(|(_, stats)| stats.min < stats.max) {
            let ends = vec![(*tokens, stats.min), (*tokens, stats.max)];
            chart.plotting_area().draw(&PathElement::new(ends, colour.stroke_width(1)))?;
        }
        for at in medians {
            chart.plotting_area().draw(&marker(at, one))?;
        }
    }
    Ok(())
}

fn legend_entry(area: &Area<'_>, one: &Series, x: i32, y: i32) -> Drawn {
    let line = vec![(x, y), (x + 36, y)];
    area.draw(&PathElement::new(line, one.colour().stroke_width(2)))?;
    area.draw(&marker((x + 18, y), one))?;
    let style = (FONT, 15).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
    area.draw(&Text::new(one.name.clone(), (x + 46, y), style))?;
    Ok(())
}

/// The point of one measurement, in the form that stands for the number of hosts.
fn marker<'a, C: Clone + 'static>(at: C, one: &Series) -> DynElement<'a, SVGBackend<'a>, C> {
    let colour = one.colour();
    match one.shape % 4 {
        0 => Circle::new(at, 4, colour.filled()).into_dyn(),
        1 => TriangleMarker::new(at, 6, colour.filled()).into_dyn(),
        2 => Cross::new(at, 5, colour.stroke_width(2)).into_dyn(),
        _ => Circle::new(at, 5, colour.stroke_width(2)).into_dyn(),
    }
}

/// From the smallest to the largest value with room beyond either, as a factor.
fn range(values: impl Iterator<Item = f64>, room: f64) -> std::ops::Range<f64> {
    let ends = |(low, high): (f64, f64), value: f64| (low.min(value), high.max(value));
    let (low, high) = values.fold((f64::INFINITY, 0.0), ends);
    low / room..high * room
}

/// Measured lengths, without those whose label would run into the one before.
fn length_ticks(mut lengths: Vec<f64>, range: &std::ops::Range<f64>) -> Vec<f64> {
    lengths.sort_by(f64::total_cmp);
    let gap = (range.end / range.start).ln() / 10.0;
    let mut last = f64::NEG_INFINITY;
    lengths.retain(|length| {
        let far = length.ln() - last >= gap;
        if far {
            last = length.ln();
        }
        far
    });
    lengths
}

/// Round numbers in `range`: powers of ten, with others between them where those are too few.
fn ticks(range: &std::ops::Range<f64>) -> Vec<f64> {
    let digits: [&[u32]; 4] = [&[1], &[1, 2, 5], &[1, 2, 3, 5, 7], &[1, 2, 3, 4, 5, 6, 7, 8, 9]];
    let (low, high) = (range.start.log10().floor() as i32, range.end.log10().ceil() as i32);
    // A quotient of whole numbers, so that 0.7 is the number that is written so.
    let scaled = |digit: u32, power: i32| match power {
        ..0 => f64::from(digit) / 10f64.powi(-power),
        _ => f64::from(digit) * 10f64.powi(power),
    };
    let of = |digits: &[u32]| -> Vec<f64> {
        let all = (low..=high).flat_map(|power| digits.iter().map(move |d| scaled(*d, power)));
        all.filter(|tick| range.contains(tick)).collect()
    };
    let candidates = digits.map(of);
    candidates.iter().find(|ticks| ticks.len() >= 3).unwrap_or(&candidates[3]).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, colour: usize, shape: usize, scale: f64) -> Series {
        let point = |tokens: usize| {
            let time = scale * (tokens as f64 / 1024.0).powf(1.6);
            let time = Stats { median: time, min: time * 0.9, max: time * 1.2 };
            Point { tokens, time, speedup: 1.0 / scale * (tokens as f64 / 4096.0).powf(0.4) }
        };
        let points = [65_536, 4096, 16_384, 131_072].map(point).to_vec();
        Series { name: name.into(), colour, shape, points, rates: Vec::new() }
    }

    #[test]
    fn the_picture_names_everything() {
        let names = ["dense", "star:block=1/4", "zigzag, 4 hosts", "a<b"];
        let all: Vec<Series> =
            (0..4).map(|i| series(names[i], i, i, 1.0 / (1.0 + i as f64))).collect();
        let text = svg("nano & co", "speed-up over dense", &all).unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
        let expected = ["dense", "star:block=1/4", "zigzag, 4 hosts", "a&lt;b", "nano &amp; co"];
        let labels = ["4K", "16K", "64K", "128K", "tokens", "seconds", "speed-up over dense"];
        for word in expected.into_iter().chain(labels) {
            assert!(text.contains(word), "{word}");
        }
        assert_eq!(text.matches('<').count(), text.matches('>').count());
    }

    #[test]
    fn rates_of_several_sequences_have_a_panel() {
        let mut one = series("dense", 0, 0, 1.0);
        assert!(!svg("t", "s", &[one.clone()]).unwrap().contains("asked at once"));
        let rate = |value: f64| Stats { median: value, min: value, max: value };
        one.rates = vec![(1.0, rate(300.0)), (16.0, rate(1500.0))];
        let text = svg("t", "s", &[one]).unwrap();
        assert!(text.contains("questions asked at once") && text.contains("16"), "{text}");
    }

    #[test]
    fn one_point_is_a_picture_too() {
        let mut one = series("dense", 0, 0, 1.0);
        one.points.truncate(1);
        assert!(svg("t", "s", &[one]).unwrap().contains("64K"));
    }

    #[test]
    fn ticks_are_round_and_not_crowded() {
        assert_eq!(ticks(&(0.7..200.0)), [1.0, 10.0, 100.0]);
        assert_eq!(ticks(&(0.7..6.0)), [1.0, 2.0, 5.0]);
        assert_eq!(ticks(&(0.6..3.6)), [0.7, 1.0, 2.0, 3.0]);
        assert_eq!(ticks(&(0.75..1.6)), [0.8, 0.9, 1.0]);
        assert_eq!(
            length_ticks(vec![5000.0, 4096.0, 65536.0], &(4000.0..70000.0)),
            [4096.0, 65536.0]
        );
    }
}
