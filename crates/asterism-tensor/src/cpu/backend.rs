//! The CPU as a [`Backend`]: activations are f32 slices, keys [`Kv`]. Nothing here computes.

use super::{
    Activations, Cpu, CpuError, Kv, KvSegment, KvSequence, KvView, PackedMatrix, RowPositions,
    available, ops,
};
use crate::{
    Aligned, Backend, Choice, ElementsView, Grain, HeadShape, KeptKeys, KvBytes, KvPrecision,
    LayerWidths, MassOver, Memory, Part, PartMut, Pass, Peak, Positions, Precision, Rotation,
    RowReader, Sampling, Segment, Sequence, Slab, SplitQkv, TensorError, TileMask,
};

use std::convert::Infallible;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Rows that pass through the linear layers together.
const LINEAR_ROWS: usize = 512;

/// Tokens of one forward pass of a large team.
const MOST_CHUNK_TOKENS: usize = 2048;

type Result<T = ()> = std::result::Result<T, TensorError>;

impl Memory for Aligned<f32> {
    fn len(&self) -> usize {
        <[f32]>::len(self)
    }

    fn bytes(&self) -> usize {
        size_of_val::<[f32]>(self)
    }
}

impl Memory for Kv {
    fn len(&self) -> usize {
        self.len()
    }

    fn bytes(&self) -> usize {
        self.bytes()
    }
}

impl Memory for PackedMatrix {
    fn len(&self) -> usize {
        self.inputs() * self.outputs()
    }

    fn bytes(&self) -> usize {
        self.bytes()
    }
}

/// Tokens and their positions.
#[derive(Debug, Default)]
pub struct Ids {
    tokens: Vec<u32>,
    positions: Vec<u32>,
}

fn floats(part: Part<'_, Aligned<f32>>) -> &[f32] {
    &part.of[part.range()]
}

fn floats_mut(part: PartMut<'_, Aligned<f32>>) -> &mut [f32] {
    let range = part.range();
    &mut part.of[range]
}

fn cached(part: Part<'_, Kv>) -> KvView<'_> {
    part.of.view(part.range())
}

/// Keys as numbers, `[tokens, kv_heads, head_dim]`.
fn numbers(part: Part<'_, Kv>, shape: HeadShape) -> Vec<f32> {
    let view = cached(part);
    view.to_bytes().to_f32(view.precision(), shape.head_dim)
}

/// The token that `sampling` chooses; `None` if a logit is not finite.
fn choose(logits: &[f32], sampling: &Sampling, seen: Option<&[bool]>, uniform: u64) -> Option<u32> {
    if !sampling.is_largest() {
        let finite = logits.iter().all(|logit| logit.is_finite());
        return finite.then(|| sampling.choose(logits, seen, uniform));
    }
    let (mut best, mut finite) = (0, true);
    for (i, logit) in logits.iter().enumerate() {
        finite &= logit.is_finite();
        if *logit > logits[best] {
            best = i;
        }
    }
    finite.then_some(best as u32)
}

fn kv_segments<'a>(segments: &[Segment<'a, Cpu>]) -> Vec<KvSegment<'a>> {
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

fn kv_sequence<'a>(sequence: &Sequence<'a, Cpu>, segments: &'a [KvSegment<'a>]) -> KvSequence<'a> {
    let (rows, positions) = (sequence.rows.clone(), row_positions(sequence.positions));
    KvSequence { rows, positions, segments }
}

fn row_positions<'a>(positions: Positions<'a, Cpu>) -> RowPositions<'a> {
    match positions {
        Positions::From(start) => RowPositions::From(start),
        Positions::Listed(listed) => RowPositions::Listed(listed),
    }
}

impl Cpu {
    fn pack(&self, parts: &[ElementsView<'_>], inputs: usize, paired: bool) -> PackedMatrix {
        if let Some(parts) = parts.iter().map(|part| part.bf16()).collect::<Option<Vec<_>>>() {
            self.pack_bf16_parts(&parts, inputs, paired)
        } else if let Some(parts) = parts.iter().map(|part| part.f32()).collect::<Option<Vec<_>>>()
        {
            self.pack_f32_parts(&parts, inputs, paired)
        } else {
            panic!("matrices of two precisions stacked")
        }
    }
}

impl Backend for Cpu {
    const ROWS: Precision = Precision::F32;

    /// It reads memory so slowly that any matrix worth a thought is worth dividing.
    const EXCHANGE_BYTES: u64 = 0;

    type Rows = Aligned<f32>;
    type Sums = Aligned<f32>;
    type Kv = Kv;
    type Activations = Activations;
    type Ids = Ids;
    type Flags = Vec<bool>;
    type Kept = KeptKeys;
    type Listed = Vec<u32>;
    type Recording = Infallible;
    type Matrix = PackedMatrix;
    type Mark = Instant;
    type Vector = Vec<f32>;
    type Embedding = RowReader;

    fn describe(&self) -> String {
        let threads = self.threads();
        format!("{threads} thread{}, {}", if threads == 1 { "" } else { "s" }, self.isa())
    }

    fn chunk_tokens(&self) -> usize {
        (128 * self.threads()).clamp(512, MOST_CHUNK_TOKENS)
    }

    fn linear_rows(&self) -> usize {
        LINEAR_ROWS
    }

    fn most_chunk_tokens() -> usize {
        MOST_CHUNK_TOKENS
    }

    fn pass_bytes(widths: LayerWidths, tokens: usize) -> u64 {
        let LayerWidths { hidden, intermediate, vocab, shape } = widths;
        let (rows, q) = (LINEAR_ROWS.min(tokens), shape.q_width());
        // All f32: residual stream, angles, log-sum-exps, logits, queries, outputs, keys and
        // values; of rows in a layer, those as projected, inputs, and the gated ones.
        let floats = tokens * (hidden + shape.head_dim + shape.heads + 2 * (q + shape.kv_width()))
            + vocab
            + rows * (shape.qkv_width() + hidden.max(q) + intermediate);
        (4 * floats) as u64
    }

    fn shares_memory() -> bool {
        true
    }

    fn free_memory(&self) -> Result<Option<u64>> {
        Ok(available::memory())
    }

    fn take_peak_memory(&self) -> Result<Option<u64>> {
        // The process's memory is the system's to count.
        Ok(None)
    }

    fn peak(&self, precision: Precision) -> Result<Peak> {
        Ok(self.peak(precision))
    }

    fn mark(&self) -> Result<Instant> {
        Ok(Instant::now())
    }

    fn between(&self, start: &Instant, end: &Instant) -> Result<Duration> {
        Ok(end.duration_since(*start))
    }

    fn synchronize(&self) -> Result {
        Ok(())
    }

    fn matrix(&self, parts: &[ElementsView<'_>], inputs: usize) -> Result<PackedMatrix> {
        Ok(self.pack(parts, inputs, false))
    }

    fn pair(
        &self,
        gate: ElementsView<'_>,
        up: ElementsView<'_>,
        inputs: usize,
    ) -> Result<PackedMatrix> {
        Ok(self.pack(&[gate, up], inputs, true))
    }

    fn vector(&self, values: &[f32]) -> Result<Vec<f32>> {
        Ok(values.to_vec())
    }

    fn embedding(&self, rows: RowReader, _vocab: usize, _hidden: usize) -> Result<RowReader> {
        Ok(rows)
    }

    fn activations(&self, precision: Precision, pass: Pass) -> Activations {
        Activations::new(precision, pass)
    }

    fn rows_at_least(&self, rows: &mut Aligned<f32>, len: usize) -> Result {
        rows.at_least(len);
        Ok(())
    }

    fn sums_at_least(&self, sums: &mut Aligned<f32>, len: usize) -> Result {
        sums.at_least(len);
        Ok(())
    }

    fn copy_rows(&self, rows: Part<'_, Aligned<f32>>) -> Result<Aligned<f32>> {
        let mut copy = Aligned::default();
        copy.at_least(rows.len).copy_from_slice(floats(rows));
        Ok(copy)
    }

    fn read_rows(&self, rows: Part<'_, Aligned<f32>>, to: &mut [f32]) -> Result {
        to.copy_from_slice(floats(rows));
        Ok(())
    }

    fn tasks(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        self.for_each(count, task);
    }

    fn put_rows(&self, rows: Part<'_, Aligned<f32>>, to: PartMut<'_, Aligned<f32>>) -> Result {
        floats_mut(to).copy_from_slice(floats(rows));
        Ok(())
    }

    fn put_sums(&self, sums: Part<'_, Aligned<f32>>, to: PartMut<'_, Aligned<f32>>) -> Result {
        self.put_rows(sums, to)
    }

    fn read(&self, sums: Part<'_, Aligned<f32>>, to: &mut [f32]) -> Result {
        to.copy_from_slice(floats(sums));
        Ok(())
    }

    fn kv(&self, precision: KvPrecision, shape: HeadShape, capacity: usize) -> Result<Kv> {
        match precision {
            KvPrecision::F32 => Ok(Kv::floats(Precision::F32, capacity)),
            KvPrecision::Bf16 => Ok(Kv::floats(Precision::Bf16, capacity)),
            KvPrecision::Int8 => Ok(Kv::int8(shape.head_dim, capacity)),
            KvPrecision::Fp8 => Err(CpuError::NoFp8.into()),
        }
    }

    fn append(&self, cached: [&mut Kv; 2], new: [Part<'_, Aligned<f32>>; 2]) -> Result {
        for (cached, new) in cached.into_iter().zip(new) {
            self.append(cached, floats(new));
        }
        Ok(())
    }

    fn extend(&self, kv: &mut Kv, other: Part<'_, Kv>) -> Result {
        kv.extend_from(cached(other));
        Ok(())
    }

    fn kv_bytes(&self, kv: Part<'_, Kv>) -> Result<KvBytes> {
        Ok(cached(kv).to_bytes())
    }

    fn extend_bytes(&self, kv: &mut Kv, stored: &KvBytes) -> Result {
        kv.extend_bytes(stored);
        Ok(())
    }

    fn truncate(&self, kv: &mut Kv, len: usize) {
        kv.truncate(len);
    }

    fn advance(&self, _kv: &mut Kv, _len: usize) -> bool {
        false // nothing is recorded
    }

    fn set_ids(&self, ids: &mut Ids, tokens: &[u32], positions: &[u32]) -> Result {
        *ids = Ids { tokens: tokens.to_vec(), positions: positions.to_vec() };
        Ok(())
    }

    fn embed(&self, table: &RowReader, ids: &Ids, x: PartMut<'_, Aligned<f32>>) -> Result {
        let Some(hidden) = x.len.checked_div(ids.tokens.len()) else { return Ok(()) };
        self.fill_rows(floats_mut(x), hidden, |t, row| table(ids.tokens[t] as usize, row));
        Ok(())
    }

    fn angles(&self, frequencies: &Vec<f32>, ids: &Ids, out: PartMut<'_, Aligned<f32>>) -> Result {
        self.fill_angles(frequencies, &ids.positions, floats_mut(out));
        Ok(())
    }

    fn flags(&self, flags: &[bool]) -> Result<Vec<bool>> {
        Ok(flags.to_vec())
    }

    fn kept(&self, kept: KeptKeys) -> Result<KeptKeys> {
        Ok(kept)
    }

    fn listed(&self, positions: &[u32]) -> Result<Vec<u32>> {
        Ok(positions.to_vec())
    }

    fn choose_all(&self, choices: &mut [Choice<'_, Self>]) -> Result<Vec<Option<u32>>> {
        let mut tokens = vec![None; choices.len()];
        self.fill_each(&mut tokens, |i| {
            let Choice { logits, sampling, seen, uniform } = &choices[i];
            let seen = seen.as_deref().map(Vec::as_slice);
            choose(floats(*logits), sampling, seen, *uniform)
        });
        for (Choice { seen, .. }, token) in choices.iter_mut().zip(&tokens) {
            if let (Some(seen), Some(token)) = (seen, token) {
                seen[*token as usize] = true;
            }
        }
        Ok(tokens)
    }

    fn record<E: From<TensorError>>(
        &self,
        _step: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<Option<Infallible>, E> {
        Ok(None)
    }

    fn can_replay(&self, recording: &Infallible, _later: u32) -> bool {
        match *recording {}
    }

    fn replay(&self, recording: &mut Infallible, _later: u32) -> Result {
        match *recording {}
    }

    fn rms_norm(
        &self,
        x: Part<'_, Aligned<f32>>,
        weight: &Vec<f32>,
        eps: f32,
        out: &mut Activations,
    ) -> Result {
        self.rms_norm_rows(floats(x), weight, eps, out);
        Ok(())
    }

    fn linear(
        &self,
        x: &Activations,
        w: &PackedMatrix,
        bias: Option<&Vec<f32>>,
        y: PartMut<'_, Aligned<f32>>,
    ) -> Result {
        self.linear(x, w, bias.map(Vec::as_slice), floats_mut(y));
        Ok(())
    }

    fn linear_sums(
        &self,
        x: &Activations,
        w: &PackedMatrix,
        y: PartMut<'_, Aligned<f32>>,
    ) -> Result {
        self.linear(x, w, None, floats_mut(y));
        Ok(())
    }

    fn linear_add(
        &self,
        x: &Activations,
        w: &PackedMatrix,
        bias: Option<&Vec<f32>>,
        y: PartMut<'_, Aligned<f32>>,
    ) -> Result {
        self.linear_add(x, w, bias.map(Vec::as_slice), floats_mut(y));
        Ok(())
    }

    fn linear_add_rows(
        &self,
        x: Part<'_, Aligned<f32>>,
        scratch: &mut Activations,
        w: &PackedMatrix,
        bias: Option<&Vec<f32>>,
        y: PartMut<'_, Aligned<f32>>,
    ) -> Result {
        self.take_rows(floats(x), w.inputs(), scratch);
        self.linear_add(scratch, w, bias.map(Vec::as_slice), floats_mut(y));
        Ok(())
    }

    fn linear_gated(
        &self,
        x: &Activations,
        w: &PackedMatrix,
        bias: Option<&Vec<f32>>,
        out: &mut Activations,
    ) -> Result {
        self.linear_gated(x, w, bias.map(Vec::as_slice), out);
        Ok(())
    }

    fn slab(
        &self,
        x: &Activations,
        w: Slab<'_, PackedMatrix>,
        bias: Option<&Vec<f32>>,
        y: PartMut<'_, Aligned<f32>>,
        stride: usize,
    ) -> Result {
        self.slab(x, &w, bias.map(Vec::as_slice), floats_mut(y), stride);
        Ok(())
    }

    fn slab_sums(
        &self,
        x: &Activations,
        w: Slab<'_, PackedMatrix>,
        bias: Option<&Vec<f32>>,
        y: PartMut<'_, Aligned<f32>>,
        stride: usize,
    ) -> Result {
        self.slab(x, &w, bias.map(Vec::as_slice), floats_mut(y), stride);
        Ok(())
    }

    fn slab_sums_rows(
        &self,
        x: Part<'_, Aligned<f32>>,
        scratch: &mut Activations,
        w: Slab<'_, PackedMatrix>,
        bias: Option<&Vec<f32>>,
        y: PartMut<'_, Aligned<f32>>,
    ) -> Result {
        self.take_columns(floats(x), w.of.inputs(), w.inputs.clone(), scratch);
        let outputs = w.outputs.len();
        self.slab(scratch, &w, bias.map(Vec::as_slice), floats_mut(y), outputs);
        Ok(())
    }

    fn slab_gated(
        &self,
        x: &Activations,
        w: Slab<'_, PackedMatrix>,
        bias: Option<&Vec<f32>>,
        out: &mut Activations,
    ) -> Result {
        self.slab_gated(x, &w, bias.map(Vec::as_slice), out);
        Ok(())
    }

    fn split_and_rotate(
        &self,
        qkv: Part<'_, Aligned<f32>>,
        shape: HeadShape,
        rotation: Rotation<'_, Self>,
        out: SplitQkv<'_, Self>,
    ) -> Result {
        let norms = rotation.norms.map(|(q, k, eps)| (q.as_slice(), k.as_slice(), eps));
        let rotation = ops::Rotation { norms, angles: floats(rotation.angles) };
        let (q, k, v) = (floats_mut(out.q), floats_mut(out.k), floats_mut(out.v));
        self.split_and_rotate(floats(qkv), shape, rotation, ops::SplitQkv { q, k, v });
        Ok(())
    }

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

    fn attend_tiles(
        &self,
        q: Part<'_, Aligned<f32>>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        mask: &TileMask,
        out: PartMut<'_, Aligned<f32>>,
        lse: PartMut<'_, Aligned<f32>>,
    ) -> Result {
        let segments = kv_segments(sequence.segments);
        let sequence = kv_sequence(sequence, &segments);
        self.attend_tiles(floats(q), shape, &sequence, mask, floats_mut(out), floats_mut(lse));
        Ok(())
    }

    fn lines(
        &self,
        q: Part<'_, Aligned<f32>>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        lse: Part<'_, Aligned<f32>>,
        vertical: PartMut<'_, Aligned<f32>>,
        slash: PartMut<'_, Aligned<f32>>,
    ) -> Result {
        let segments = kv_segments(sequence.segments);
        let sequence = kv_sequence(sequence, &segments);
        let (vertical, slash) = (floats_mut(vertical), floats_mut(slash));
        self.lines(floats(q), shape, &sequence, floats(lse), vertical, slash);
        Ok(())
    }

    fn tile_mass(
        &self,
        q: Part<'_, Aligned<f32>>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        grain: Grain,
        sums: PartMut<'_, Aligned<f32>>,
    ) -> Result {
        let segments = kv_segments(sequence.segments);
        let sequence = kv_sequence(sequence, &segments);
        self.tile_mass(floats(q), shape, &sequence, grain, floats_mut(sums));
        Ok(())
    }

    fn heaviest(
        &self,
        weights: Part<'_, Aligned<f32>>,
        heads: usize,
        key_tiles: usize,
        own: &[Range<u32>],
        share: f32,
    ) -> Result<Vec<u32>> {
        Ok(self.heaviest(floats(weights), heads, key_tiles, own, share))
    }

    fn moments(
        &self,
        q: Part<'_, Aligned<f32>>,
        shape: HeadShape,
        start: usize,
        frequencies: &[f32],
    ) -> Result<Vec<f32>> {
        Ok(self.moments_of(floats(q), shape, start, frequencies))
    }

    fn expected_scores(
        &self,
        keys: Part<'_, Kv>,
        shape: HeadShape,
        queries: &[f32],
    ) -> Result<Vec<f32>> {
        Ok(self.expected_of(&numbers(keys, shape), shape, queries))
    }

    fn norms(&self, kv: Part<'_, Kv>, shape: HeadShape) -> Result<Vec<f32>> {
        Ok(self.norms_of(&numbers(kv, shape), shape))
    }

    fn add_rows(
        &self,
        rows: Part<'_, Aligned<f32>>,
        sums: PartMut<'_, Aligned<f32>>,
        first: bool,
    ) -> Result {
        let sums = floats_mut(sums);
        if first {
            sums.fill(0.0);
        }
        for row in floats(rows).chunks_exact(sums.len().max(1)) {
            (self.kernels.add_scaled)(sums, 1.0, row);
        }
        Ok(())
    }

    fn gather(&self, kv: Part<'_, Kv>, shape: HeadShape, chosen: &[u32]) -> Result<Kv> {
        let (kv, width) = (cached(kv), shape.kv_width());
        let mut gathered = kv.none_like(chosen.len() * width);
        for token in chosen {
            let start = *token as usize * width;
            gathered.extend_from(kv.slice(start..start + width));
        }
        Ok(gathered)
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
            Backend::merge(
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
        Backend::merge_all(&cpu, count, all, all_lse, to).unwrap();
        let error = |row: usize| {
            let row = row * dim..(row + 1) * dim;
            let pairs = out[row.clone()].iter().zip(&expected[row]);
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        assert!((0..rows - 1).all(|row| error(row) < 1e-5), "{out:?} {expected:?}");
        assert!(out[(rows - 1) * dim..].iter().all(|x| *x == 0.0), "{out:?}");
    }

    #[test]
    fn tokens_are_chosen_for_all_rows_at_once() {
        let cpu = Cpu::new(2, None).unwrap();
        let mut logits = Aligned::default();
        logits.at_least(15).copy_from_slice(&[
            1.0,
            3.0,
            2.0,
            3.0,
            -1.0, //
            0.0,
            0.0,
            5.0,
            f32::NAN,
            0.0, //
            4.0,
            3.0,
            2.0,
            1.0,
            0.0,
        ]);
        let row = |r: usize| Part::new(&logits, r * 5..(r + 1) * 5);
        let (largest, drawn) =
            (Sampling::default(), Sampling { temperature: 1.0, ..Sampling::default() });
        let penalized = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        let mut seen = cpu.flags(&[true, false, false, false, false]).unwrap();
        let mut choices = [
            Choice { logits: row(0), sampling: &largest, seen: None, uniform: 0 },
            Choice { logits: row(1), sampling: &drawn, seen: None, uniform: 0 },
            Choice { logits: row(2), sampling: &penalized, seen: Some(&mut seen), uniform: 0 },
            Choice { logits: row(2), sampling: &drawn, seen: None, uniform: (1 << 53) - 1 },
        ];
        let tokens = cpu.choose_all(&mut choices).unwrap();
        assert_eq!(tokens, [Some(1), None, Some(1), Some(4)]);
        assert_eq!(seen, [true, true, false, false, false]);
        assert_eq!(cpu.largest(row(0)).unwrap(), Some(1));
        assert!(cpu.choose_all(&mut []).unwrap().is_empty());
    }

    #[test]
    fn chosen_tokens_are_gathered_in_their_order() {
        let cpu = Cpu::new(1, None).unwrap();
        let shape = HeadShape { heads: 2, kv_heads: 1, head_dim: 2 };
        let numbers: Vec<f32> = (0..12).map(|i| i as f32).collect();
        for precision in [KvPrecision::F32, KvPrecision::Bf16, KvPrecision::Int8] {
            let stored = |numbers: &[f32]| {
                let mut kv = Backend::kv(&cpu, precision, shape, numbers.len()).unwrap();
                cpu.append(&mut kv, numbers);
                kv
            };
            let kv = stored(&numbers);
            // Tokens of a part, one of them twice.
            let chosen = cpu.gather(Part::new(&kv, 2..12), shape, &[4, 0, 0]).unwrap();
            assert_eq!(chosen, stored(&[10.0, 11.0, 2.0, 3.0, 2.0, 3.0]), "{precision}");
        }
    }
}
