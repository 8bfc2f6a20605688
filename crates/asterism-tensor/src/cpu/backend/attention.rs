//! Attention over cached keys, whatever segments these come in.

use super::{Result, cached, floats, floats_mut};
use crate::cpu::{Cpu, KvSegment, KvSequence, RowPositions};
use crate::{Aligned, Attention, HeadShape, MassOver, Part, PartMut, Positions, Segment, Sequence};

pub(super) fn kv_segments<'a>(segments: &[Segment<'a, Cpu>]) -> Vec<KvSegment<'a>> {
    let mut all = Vec::with_capacity(segments.len());
    for s in segments {
        let (keys, values) = (cached(s.keys), cached(s.values));
        let (tokens, start, hidden) = (s.tokens, s.start, s.hidden.map(Vec::as_slice));
        match s.kept {
            Some(kept) => all.extend(KvSegment::of_kept(kept, [keys, values], start, hidden)),
            None => all.push(KvSegment { keys, values, tokens, start, hidden, head: None }),
        }
    }
    all
}

pub(super) fn kv_sequence<'a>(
    sequence: &Sequence<'a, Cpu>,
    segments: &'a [KvSegment<'a>],
) -> KvSequence<'a> {
    let (rows, positions) = (sequence.rows.clone(), row_positions(sequence.positions));
    KvSequence { rows, positions, segments }
}

fn row_positions<'a>(positions: Positions<'a, Cpu>) -> RowPositions<'a> {
    match positions {
        Positions::From(start) => RowPositions::From(start),
        Positions::Listed(listed) => RowPositions::Listed(listed),
    }
}

impl Attention for Cpu {
    fn attend(
        &self,
        q: Part<'_, Aligned<f32>>,
        shape: HeadShape,
        sequences: &[Sequence<'_, Self>],
        out: PartMut<'_, Aligned<f32>>,
        lse: PartMut<'_, Aligned<f32>>,
    ) -> Result {
        let segments: Vec<Vec<_>> = sequences.iter().map(|s| kv_segments(s.segments)).collect();
        let sequences: Vec<KvSequence<'_>> = sequences
            .iter()
            .zip(&segments)
            .map(|(s, segments)| KvSequence {
                rows: s.rows.clone(),
                positions: row_positions(s.positions),
                segments,
            })
            .collect();
        self.attend(floats(q), shape, &sequences, floats_mut(out), floats_mut(lse));
        Ok(())
    }

    fn mass(
        &self,
        q: Part<'_, Aligned<f32>>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        lse: Part<'_, Aligned<f32>>,
        over: MassOver,
        sums: PartMut<'_, Aligned<f32>>,
    ) -> Result {
        let segments = kv_segments(sequence.segments);
        let sequence = kv_sequence(sequence, &segments);
        self.mass(floats(q), shape, &sequence, floats(lse), over, floats_mut(sums));
        Ok(())
    }

    fn merge(
        &self,
        out: PartMut<'_, Aligned<f32>>,
        lse: PartMut<'_, Aligned<f32>>,
        part: Part<'_, Aligned<f32>>,
        part_lse: Part<'_, Aligned<f32>>,
    ) -> Result {
        self.merge(floats_mut(out), floats_mut(lse), floats(part), floats(part_lse));
        Ok(())
    }

    fn merge_all(
        &self,
        count: usize,
        parts: Part<'_, Aligned<f32>>,
        lse: Part<'_, Aligned<f32>>,
        out: PartMut<'_, Aligned<f32>>,
    ) -> Result {
        let (width, rows) = (out.len, lse.len / count.max(1));
        let (out, parts, lse) = (floats_mut(out), floats(parts), floats(lse));
        out.fill(0.0);
        let mut merged = vec![f32::NEG_INFINITY; rows];
        for (part, part_lse) in parts.chunks(width.max(1)).zip(lse.chunks(rows.max(1))) {
            self.merge(out, &mut merged, part, part_lse);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_merge_as_one_after_the_other_do() {
        let cpu = Cpu::new(1, None).unwrap();
        let aligned = |values: Vec<f32>| -> Aligned<f32> { values.into_iter().collect() };
        let (count, rows, dim) = (3, 4, 5);
        let parts = aligned((0..count * rows * dim).map(|i| (i * 7 % 11) as f32).collect());
        let mut lse: Vec<f32> = (0..count * rows).map(|i| (i * 5 % 7) as f32).collect();
        lse[1] = f32::NEG_INFINITY;
        for of_last in [3, 7, 11] {
            lse[of_last] = f32::NEG_INFINITY;
        }
        let lse = aligned(lse);
        let mut expected = aligned(parts[..rows * dim].to_vec());
        let mut merged = aligned(lse[..rows].to_vec());
        for part in 1..count {
            Attention::merge(
                &cpu,
                PartMut::new(&mut expected, 0..rows * dim),
                PartMut::new(&mut merged, 0..rows),
                Part::new(&parts, part * rows * dim..(part + 1) * rows * dim),
                Part::new(&lse, part * rows..(part + 1) * rows),
            )
            .unwrap();
        }
        let mut out = aligned(vec![f32::NAN; rows * dim]);
        let (all, all_lse) = (Part::new(&parts, 0..parts.len()), Part::new(&lse, 0..lse.len()));
        let to = PartMut::new(&mut out, 0..rows * dim);
        Attention::merge_all(&cpu, count, all, all_lse, to).unwrap();
        let error = |row: usize| {
            let row = row * dim..(row + 1) * dim;
            let pairs = out[row.clone()].iter().zip(&expected[row]);
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        assert!((0..rows - 1).all(|row| error(row) < 1e-5), "{out:?} {expected:?}");
        assert!(out[(rows - 1) * dim..].iter().all(|x| *x == 0.0), "{out:?}");
    }
}
