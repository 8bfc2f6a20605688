//! Keys and values of one head as panels, for prefill in f32.

use super::wide;
use half::bf16;
use std::ops::Range;

/// Keys of one head as panels of columns: `out[t / panel, d, t % panel] = keys[t, d]` for `count`
/// keys of `dim` elements, `stride` apart; what is missing of the last panel is zero.
#[inline(always)]
pub(in super::super) fn unpack_keys<const PANEL: usize>(
    keys: &[bf16],
    stride: usize,
    count: usize,
    dim: usize,
    out: &mut [f32],
) {
    unpack_some_keys::<PANEL>(keys, stride, 0..count, dim, out);
}

/// Those of `range` alone, of which `keys` is the first, and the zeros behind them.
#[inline(always)]
pub(in super::super) fn unpack_some_keys<const PANEL: usize>(
    keys: &[bf16],
    stride: usize,
    range: Range<usize>,
    dim: usize,
    out: &mut [f32],
) {
    columns::<_, PANEL>(keys, stride, range, dim, out, wide);
}

/// Values of one head as panels: `out[d / panel, t, d % panel] = values[t, d]` for `count` values,
/// with `between` elements from one panel to the next; what is missing of the last panel is zero.
#[inline(always)]
pub(in super::super) fn unpack_values<const PANEL: usize>(
    values: &[bf16],
    stride: usize,
    count: usize,
    dim: usize,
    out: &mut [f32],
    between: usize,
) {
    rows::<_, PANEL>(values, stride, count, dim, out, between, wide);
}

/// [`unpack_keys`] of keys in f32.
pub(in super::super) fn copy_keys<const PANEL: usize>(
    keys: &[f32],
    stride: usize,
    count: usize,
    dim: usize,
    out: &mut [f32],
) {
    columns::<_, PANEL>(keys, stride, 0..count, dim, out, |v| v);
}

/// [`unpack_values`] of values in f32.
pub(in super::super) fn copy_values<const PANEL: usize>(
    values: &[f32],
    stride: usize,
    count: usize,
    dim: usize,
    out: &mut [f32],
    between: usize,
) {
    rows::<_, PANEL>(values, stride, count, dim, out, between, |v| v);
}

#[inline(always)]
fn columns<T: Copy, const PANEL: usize>(
    keys: &[T],
    stride: usize,
    range: Range<usize>,
    dim: usize,
    out: &mut [f32],
    value: impl Fn(T) -> f32,
) {
    for t in range.start..range.end.next_multiple_of(PANEL) {
        let out = &mut out[t / PANEL * dim * PANEL + t % PANEL..];
        let key = range.contains(&t).then(|| &keys[(t - range.start) * stride..][..dim]);
        for (d, out) in out.iter_mut().step_by(PANEL).take(dim).enumerate() {
            *out = key.map_or(0.0, |key| value(key[d]));
        }
    }
}

#[inline(always)]
fn rows<T: Copy, const PANEL: usize>(
    values: &[T],
    stride: usize,
    count: usize,
    dim: usize,
    out: &mut [f32],
    between: usize,
    value: impl Fn(T) -> f32,
) {
    // One panel after the other: rows of several lie at the same place of their pages.
    for (p, d) in (0..dim).step_by(PANEL).enumerate() {
        let panel = out[p * between..].as_chunks_mut::<PANEL>().0;
        for (t, out) in panel.iter_mut().take(count).enumerate() {
            let source = &values[t * stride + d..][..PANEL.min(dim - d)];
            if let Some((source, _)) = source.split_first_chunk::<PANEL>() {
                for (o, v) in out.iter_mut().zip(source) {
                    *o = value(*v);
                }
            } else {
                out.fill(0.0);
                for (o, v) in out.iter_mut().zip(source) {
                    *o = value(*v);
                }
            }
        }
    }
}
