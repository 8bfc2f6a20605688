//! Where needles are lost: their depth in the context against its length, one map per method.

use super::{Area, Drawn, FONT, GRID, INK, WIDTH, columns, length_label, picture, write};
use crate::EvalError;
use crate::report::results::{Needle, Results};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Bands of depth, each a tenth of the context.
const BANDS: usize = 10;
const BAND: i32 = 24;
const HEAD: i32 = 34;
const FOOT: i32 = 48;
const LEFT: i32 = 84;
const RIGHT: i32 = 16;
const SCALE: u32 = 46;

/// Colours from 0 to 1, dark to bright, of evenly rising brightness.
const STOPS: [(u8, u8, u8); 5] =
    [(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)];

/// A map per method; nothing where no needle's depth is known.
pub(in crate::report) fn depth(results: &Results) -> Result<Option<String>, EvalError> {
    let methods: Vec<usize> = (0..results.info.methods.len())
        .filter(|method| results.needles.iter().any(|needle| needle.method == *method))
        .collect();
    if methods.is_empty() {
        return Ok(None);
    }
    let lengths: Vec<usize> = results.lengths.iter().map(|at| at.length).collect();
    let columns = columns(methods.len());
    let rows = methods.len().div_ceil(columns);
    let (tile, height) = (WIDTH as i32 / columns as i32, HEAD + BANDS as i32 * BAND + FOOT);
    let whole = rows as u32 * height as u32 + SCALE;
    let svg = picture(whole, &[], |area| {
        for (i, &method) in methods.iter().enumerate() {
            let corner = ((i % columns) as i32 * tile, (i / columns) as i32 * height);
            let name = &results.info.methods[method].name;
            let needles = results.needles.iter().filter(|needle| needle.method == method);
            map(area, corner, tile, name, &lengths, &needles.collect::<Vec<_>>())?;
        }
        scale(area, (rows as i32 * height) + 8)
    })?;
    Ok(Some(svg))
}

/// The map of one method, `width` pixels wide, with its upper left corner at `corner`.
fn map(
    area: &Area<'_>,
    (left, top): (i32, i32),
    width: i32,
    name: &str,
    lengths: &[usize],
    needles: &[&Needle],
) -> Drawn {
    // A few lengths need not fill the page.
    let cell = ((width - LEFT - RIGHT) / lengths.len().max(1) as i32).min(110);
    let (x0, y0) = (left + LEFT, top + HEAD);
    let right = x0 + cell * lengths.len() as i32;
    // Long names are written smaller, and never start in the panel before.
    let letters = name.chars().count() as i32;
    let size = (2 * (width - RIGHT) / letters.max(1)).clamp(9, 16);
    let half = letters * size / 4;
    let centre = ((x0 + right) / 2).clamp(left + half, (left + width - half).max(left + half));
    write(area, name, (centre, top + HEAD / 2), size, HPos::Center)?;
    for (column, &length) in lengths.iter().enumerate() {
        let x = x0 + column as i32 * cell;
        for band in 0..BANDS {
            let y = y0 + band as i32 * BAND;
            let inside = |needle: &&&Needle| needle.length == length && band_of(needle) == band;
            let found: Vec<bool> = needles.iter().filter(inside).map(|n| n.found).collect();
            square(area, (x, y), cell, &found)?;
        }
        let below = y0 + BANDS as i32 * BAND + 14;
        write(area, &length_label(length), (x + cell / 2, below), 13, HPos::Center)?;
    }
    for band in (0..=BANDS).step_by(2) {
        let label = format!("{} %", band * 100 / BANDS);
        write(area, &label, (x0 - 8, y0 + band as i32 * BAND), 13, HPos::Right)?;
    }
    let below = y0 + BANDS as i32 * BAND + 34;
    write(area, "length, tokens", ((x0 + right) / 2, below), 14, HPos::Center)?;
    let turned = (FONT, 14).into_font().transform(FontTransform::Rotate270).color(&INK);
    let at = (left + 14, y0 + BANDS as i32 * BAND / 2);
    let style = turned.pos(Pos::new(HPos::Center, VPos::Center));
    area.draw(&Text::new("depth in the context", at, style))?;
    Ok(())
}

fn band_of(needle: &Needle) -> usize {
    ((needle.depth * BANDS as f64) as usize).min(BANDS - 1)
}

/// The share of needles found in one band at one length, or an empty frame where there were none.
fn square(area: &Area<'_>, (x, y): (i32, i32), width: i32, found: &[bool]) -> Drawn {
    let corners = [(x + 1, y + 1), (x + width - 1, y + BAND - 1)];
    if found.is_empty() {
        area.draw(&Rectangle::new(corners, GRID.stroke_width(1)))?;
        return Ok(());
    }
    let share = found.iter().filter(|found| **found).count() as f64 / found.len() as f64;
    area.draw(&Rectangle::new(corners, shade(share).filled()))?;
    // Not the paper's white nor the ink: these colours stay on a dark page.
    let ink = if share > 0.6 { RGBColor(17, 17, 17) } else { RGBColor(254, 254, 254) };
    let place = Pos::new(HPos::Center, VPos::Center);
    let style = (FONT, 13).into_font().color(&ink).pos(place);
    let text = format!("{:.0}", 100.0 * share);
    area.draw(&Text::new(text, (x + width / 2, y + BAND / 2), style))?;
    Ok(())
}

/// What the colours mean.
fn scale(area: &Area<'_>, top: i32) -> Drawn {
    const STEPS: i32 = 50;
    let (width, height) = (300, 14);
    let left = (WIDTH as i32 - width) / 2;
    for i in 0..STEPS {
        let (from, to) = (left + i * width / STEPS, left + (i + 1) * width / STEPS);
        let fill = shade(f64::from(i) / f64::from(STEPS - 1)).filled();
        area.draw(&Rectangle::new([(from, top), (to, top + height)], fill))?;
    }
    write(area, "0", (left - 8, top + height / 2), 13, HPos::Right)?;
    let text = "100 % of needles found";
    write(area, text, (left + width + 8, top + height / 2), 13, HPos::Left)
}

/// The colour of a share in 0..=1.
fn shade(share: f64) -> RGBColor {
    let position = share.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let below = (position as usize).min(STOPS.len() - 2);
    let part = position - below as f64;
    let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * part).round() as u8;
    let (a, b) = (STOPS[below], STOPS[below + 1]);
    RGBColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_and_bands_cover_their_ends() {
        assert_eq!(shade(0.0), RGBColor(68, 1, 84));
        assert_eq!(shade(0.5), RGBColor(33, 145, 140));
        assert_eq!(shade(1.0), RGBColor(253, 231, 37));
        let at = |depth| band_of(&Needle { method: 0, length: 1, depth, found: true });
        assert_eq!([0.0, 0.099, 0.1, 0.95, 1.0].map(at), [0, 0, 1, 9, 9]);
    }
}
