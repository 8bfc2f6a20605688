//! The colours of all plots.

use plotters::style::RGBColor;

/// Text and axes.
pub const INK: RGBColor = RGBColor(51, 51, 51);
/// Lines behind the data.
pub const GRID: RGBColor = RGBColor(222, 222, 222);

/// Okabe and Ito's colours, which colour-blind people can tell apart.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
    RGBColor(148, 103, 60),
];

/// The colour of series number `series`; they repeat.
#[must_use]
pub fn colour(series: usize) -> RGBColor {
    COLOURS[series % COLOURS.len()]
}
