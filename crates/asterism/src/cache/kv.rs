//! Keys and values of one host, for all layers, in the order they were computed.

use crate::plan::Span;
use crate::tensor::{
    Backend, HeadShape, KeptKeys, KvBytes, KvPrecision, Memory, Part, Segment, TensorError,
};

/// One layer: `[tokens, kv_heads, head_dim]` each, or what is kept of them, `[rows, head_dim]`.
struct LayerKv<B: Backend> {
    keys: B::Kv,
    values: B::Kv,
    kept: Option<B::Kept>,
}

/// Keys and values of a layer as they are stored, in the machine's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerBytes {
    /// Keys, then values.
    pub kv: [KvBytes; 2],
    /// Which they are, if not all.
    pub kept: Option<KeptKeys>,
}

/// Keys and values of the positions in `spans`, in that order, for every layer.
///
/// A forward pass first says which positions it adds ([`KvStore::open`]), then every layer appends
/// its own keys; a layer that has not reached the new positions yet shows only the older ones.
pub struct KvStore<B: Backend> {
    shape: HeadShape,
    layers: Vec<LayerKv<B>>,
    spans: Vec<Span>,
}

impl<B: Backend> KvStore<B> {
    /// An empty store with room for `capacity` tokens.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn new(
        backend: &B,
        layers: usize,
        shape: HeadShape,
        precision: KvPrecision,
        capacity: usize,
    ) -> Result<Self, TensorError> {
        let size = capacity * shape.kv_width();
        let kv = || backend.kv(precision, shape, size);
        let layers = (0..layers)
            .map(|_| Ok(LayerKv { keys: kv()?, values: kv()?, kept: None }))
            .collect::<Result<_, TensorError>>()?;
        Ok(Self { shape, layers, spans: Vec::new() })
    }

    /// Layers of the model that it keeps.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Tokens the store holds (or will, once all layers have appended).
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.spans.iter().map(|s| s.len).sum()
    }

    /// Bytes of all stored keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let table = |layer: &LayerKv<B>| layer.kept.as_ref().map_or(0, |k| k.as_ref().bytes());
        self.layers.iter().map(|l| l.keys.bytes() + l.values.bytes() + table(l)).sum()
    }

    /// Announces that the next tokens stand at `span`. Adjacent spans grow together.
    pub fn open(&mut self, span: Span) {
        match self.spans.last_mut() {
            Some(last) if last.end() == span.start => last.len += span.len,
            _ => self.spans.push(span),
        }
    }

    /// Appends `[tokens, kv_heads, head_dim]` to one layer, rounded to the store's precision.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn append(
        &mut self,
        backend: &B,
        layer: usize,
        keys: Part<'_, B::Rows>,
        values: Part<'_, B::Rows>,
    ) -> Result<(), TensorError> {
        let LayerKv { keys: all_keys, values: all_values, .. } = &mut self.layers[layer];
        backend.append([all_keys, all_values], [keys, values])
    }

    /// Makes room for the keys of one more token, at `position`, in every layer: a replayed step
    /// fills it. False, and nothing done, if a layer has no room.
    pub fn advance(&mut self, backend: &B, position: usize) -> bool {
        let (width, tokens) = (self.shape.kv_width(), self.tokens());
        let mut kvs = self.layers.iter_mut().flat_map(|layer| [&mut layer.keys, &mut layer.values]);
        let has_room = kvs.all(|kv| backend.advance(kv, width));
        drop(kvs);
        if has_room {
            self.open(Span { start: position, len: 1 });
        } else {
            self.truncate(backend, tokens);
        }
        has_room
    }

    /// Appends keys and values that were already rounded, by another host.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn extend(
        &mut self,
        backend: &B,
        layer: usize,
        keys: &B::Kv,
        values: &B::Kv,
    ) -> Result<(), TensorError> {
        backend.extend(&mut self.layers[layer].keys, Part::new(keys, 0..keys.len()))?;
        backend.extend(&mut self.layers[layer].values, Part::new(values, 0..values.len()))
    }

    /// Appends parts of the keys and values of another store of the same precision.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn extend_parts(
        &mut self,
        backend: &B,
        layer: usize,
        [keys, values]: [Part<'_, B::Kv>; 2],
    ) -> Result<(), TensorError> {
        backend.extend(&mut self.layers[layer].keys, keys)?;
        backend.extend(&mut self.layers[layer].values, values)
    }

    /// Appends keys and values of one layer as [`KvStore::layer_bytes`] gave them, of the same
    /// precision.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn extend_bytes(
        &mut self,
        backend: &B,
        layer: usize,
        [keys, values]: &[KvBytes; 2],
    ) -> Result<(), TensorError> {
        let LayerKv { keys: all_keys, values: all_values, .. } = &mut self.layers[layer];
        backend.extend_bytes(all_keys, keys)?;
        backend.extend_bytes(all_values, values)
    }

    /// Fills the layer of a store without any with keys and values as [`KvStore::layer_bytes`] gave
    /// them, of which some are `kept`.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn put_kept(
        &mut self,
        backend: &B,
        layer: usize,
        precision: KvPrecision,
        [keys, values]: &[KvBytes; 2],
        kept: KeptKeys,
    ) -> Result<(), TensorError> {
        let (one, rows) = (self.one_head(), kept.rows());
        let filled = |bytes: &KvBytes| {
            let mut kv = backend.kv(precision, one, rows * one.head_dim)?;
            backend.extend_bytes(&mut kv, bytes)?;
            Ok::<_, TensorError>(kv)
        };
        let (keys, values) = (filled(keys)?, filled(values)?);
        self.layers[layer] = LayerKv { keys, values, kept: Some(backend.kept(kept)?) };
        Ok(())
    }

    /// Gives up all keys and values of `layer` but those that are `kept`, and their memory. The
    /// store has one run of positions, all of whose tokens the layer has.
    ///
    /// # Errors
    /// If there is no memory for what is kept.
    ///
    /// # Panics
    /// If `kept` is about other tokens.
    pub fn press(&mut self, backend: &B, layer: usize, kept: KeptKeys) -> Result<(), TensorError> {
        assert_eq!(self.spans.len(), 1, "keys in several runs of positions are pressed");
        assert_eq!(kept.tokens(), self.layer_tokens(layer), "keys of other tokens are kept");
        let (one, rows) = (self.one_head(), kept.rows_of_all());
        let LayerKv { keys, values, .. } = &self.layers[layer];
        let gather = |kv: &B::Kv| backend.gather(Part::new(kv, 0..kv.len()), one, &rows);
        let (keys, values) = (gather(keys)?, gather(values)?);
        self.layers[layer] = LayerKv { keys, values, kept: Some(backend.kept(kept)?) };
        Ok(())
    }

    /// The shape of what is kept: rows of one head after the other.
    fn one_head(&self) -> HeadShape {
        HeadShape { heads: 1, kv_heads: 1, ..self.shape }
    }

    /// A copy of all keys and values of `layer`, in storage order, in the machine's memory, and
    /// which they are, if not all.
    ///
    /// # Errors
    /// If the processor failed since it was last waited for.
    pub fn layer_bytes(&self, backend: &B, layer: usize) -> Result<LayerBytes, TensorError> {
        let LayerKv { keys, values, kept } = &self.layers[layer];
        let bytes = |kv: &B::Kv| backend.kv_bytes(Part::new(kv, 0..kv.len()));
        let kept = kept.as_ref().map(|kept| kept.as_ref().clone());
        Ok(LayerBytes { kv: [bytes(keys)?, bytes(values)?], kept })
    }

    /// Tokens that `layer` has appended so far.
    #[must_use]
    pub fn layer_tokens(&self, layer: usize) -> usize {
        let LayerKv { keys, kept, .. } = &self.layers[layer];
        let of_kept = kept.as_ref().map(|kept| kept.as_ref().tokens());
        of_kept.unwrap_or(keys.len() / self.shape.kv_width())
    }

    /// How many keys of all heads a layer keeps; `None` if it has not given up any.
    #[must_use]
    pub fn kept_rows(&self) -> Option<usize> {
        let kept = self.layers.first()?.kept.as_ref()?;
        Some(kept.as_ref().rows())
    }

    /// Everything `layer` has, as one segment per run of consecutive positions.
    #[must_use]
    pub fn segments(&self, layer: usize) -> Vec<Segment<'_, B>> {
        let mut offset = 0;
        let mut segments = Vec::with_capacity(self.spans.len());
        for span in &self.spans {
            let tokens = span.len.min(self.layer_tokens(layer) - offset);
            if tokens > 0 {
                segments.push(self.segment_at(layer, offset, tokens, span.start));
            }
            offset += tokens;
        }
        segments
    }

    /// The part of `range` that `layer` has, if it has given up none of its keys. `range` must lie
    /// within one run of positions.
    #[must_use]
    pub fn segment(&self, layer: usize, range: Span) -> Option<Segment<'_, B>> {
        if self.layers[layer].kept.is_some() {
            return None;
        }
        let mut offset = 0;
        for span in &self.spans {
            if span.start <= range.start && range.end() <= span.end() {
                let first = offset + range.start - span.start;
                let have = self.layer_tokens(layer).saturating_sub(first).min(range.len);
                return (have > 0).then(|| self.segment_at(layer, first, have, range.start));
            }
            offset += span.len;
        }
        None
    }

    /// A copy of all keys and values of `layer`, in storage order: what a host sends round a ring.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn layer_kv(
        &self,
        backend: &B,
        layer: usize,
        precision: KvPrecision,
    ) -> Result<(B::Kv, B::Kv), TensorError> {
        let copy = |kv: &B::Kv| {
            let mut copy = backend.kv(precision, self.shape, kv.len())?;
            backend.extend(&mut copy, Part::new(kv, 0..kv.len()))?;
            Ok::<_, TensorError>(copy)
        };
        let LayerKv { keys, values, .. } = &self.layers[layer];
        Ok((copy(keys)?, copy(values)?))
    }

    fn segment_at(
        &self,
        layer: usize,
        offset: usize,
        tokens: usize,
        start: usize,
    ) -> Segment<'_, B> {
        let width = self.shape.kv_width();
        let LayerKv { keys, values, kept } = &self.layers[layer];
        let range = match kept {
            Some(_) => 0..keys.len(),
            None => offset * width..(offset + tokens) * width,
        };
        Segment {
            keys: Part::new(keys, range.clone()),
            values: Part::new(values, range),
            tokens,
            start,
            hidden: None,
            kept: kept.as_ref(),
        }
    }

    /// Forgets everything but the first `tokens` tokens.
    pub fn truncate(&mut self, backend: &B, tokens: usize) {
        let mut left = tokens;
        self.spans.retain_mut(|span| {
            span.len = span.len.min(left);
            left -= span.len;
            span.len > 0
        });
        for layer in &mut self.layers {
            backend.truncate(&mut layer.keys, tokens * self.shape.kv_width());
            backend.truncate(&mut layer.values, tokens * self.shape.kv_width());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Aligned, Buffers, Caching, Cpu};

    fn store(cpu: &Cpu) -> KvStore<Cpu> {
        let shape = HeadShape { heads: 2, kv_heads: 1, head_dim: 2 };
        KvStore::new(cpu, 2, shape, KvPrecision::F32, 4).unwrap()
    }

    /// The numbers from 0 to `len`.
    fn rows(len: usize) -> Aligned<f32> {
        let mut rows = Aligned::default();
        rows.at_least(len).iter_mut().enumerate().for_each(|(i, x)| *x = i as f32);
        rows
    }

    /// Keys in f32.
    fn numbers(cpu: &Cpu, keys: Part<'_, <Cpu as Buffers>::Kv>) -> Vec<f32> {
        cpu.kv_bytes(keys).unwrap().to_f32(KvPrecision::F32, 2)
    }

    fn starts(store: &KvStore<Cpu>, layer: usize) -> Vec<(usize, usize)> {
        store.segments(layer).iter().map(|s| (s.start, s.tokens)).collect()
    }

    #[test]
    fn a_layer_shows_only_what_it_appended() {
        let cpu = Cpu::new(1, None).unwrap();
        let mut store = store(&cpu);
        store.open(Span::new(0..2));
        store.open(Span::new(2..3));
        store.open(Span::new(8..10));
        let kv = rows(10);
        let all = Part::new(&kv, 0..10);
        store.append(&cpu, 0, all, all).unwrap();
        store.append(&cpu, 1, all.slice(0..4), all.slice(0..4)).unwrap();
        assert_eq!(starts(&store, 0), [(0, 3), (8, 2)]);
        assert_eq!(starts(&store, 1), [(0, 2)]);
        assert_eq!(store.tokens(), 5);
        let part = store.segment(0, Span::new(9..10)).unwrap();
        assert_eq!((part.start, part.tokens), (9, 1));
        assert_eq!(numbers(&cpu, part.keys), [8.0, 9.0]);
        assert!(store.segment(1, Span::new(8..10)).is_none());
        assert!(store.segment(0, Span::new(2..9)).is_none());
    }

    #[test]
    fn a_pressed_layer_has_what_is_kept_and_no_more_memory() {
        let cpu = Cpu::new(1, None).unwrap();
        let shape = HeadShape { heads: 2, kv_heads: 2, head_dim: 2 };
        let mut store = KvStore::new(&cpu, 2, shape, KvPrecision::F32, 3).unwrap();
        store.open(Span::new(5..8));
        let kv = rows(12);
        for layer in 0..2 {
            store.append(&cpu, layer, Part::new(&kv, 0..12), Part::new(&kv, 0..12)).unwrap();
        }
        let kept = KeptKeys::new(3, &[vec![0, 2], vec![1]]).unwrap();
        store.press(&cpu, 0, kept.clone()).unwrap();
        assert_eq!((starts(&store, 0), starts(&store, 1)), (vec![(5, 3)], vec![(5, 3)]));
        let segments = store.segments(0);
        assert_eq!(numbers(&cpu, segments[0].keys), [0.0, 1.0, 8.0, 9.0, 6.0, 7.0]);
        assert_eq!(segments[0].kept, Some(&kept));
        assert!(store.segment(0, Span::new(5..6)).is_none());
        assert!(store.segment(1, Span::new(5..6)).is_some());
        assert_eq!((store.kept_rows(), store.tokens()), (Some(3), 3));
        // Of one layer half of the elements, and a table of six numbers.
        assert_eq!(store.bytes(), (6 + 12) * 2 * 4 + 6 * 4);
        let bytes = store.layer_bytes(&cpu, 0).unwrap();
        let mut again = KvStore::new(&cpu, 2, shape, KvPrecision::F32, 0).unwrap();
        again.open(Span::new(5..8));
        again.put_kept(&cpu, 0, KvPrecision::F32, &bytes.kv, kept).unwrap();
        assert_eq!(again.layer_bytes(&cpu, 0).unwrap(), bytes);
    }

    #[test]
    fn truncation_forgets_the_tail_everywhere() {
        let cpu = Cpu::new(1, None).unwrap();
        let mut store = store(&cpu);
        store.open(Span::new(0..2));
        store.open(Span::new(6..8));
        let kv = rows(8);
        for layer in 0..2 {
            store.append(&cpu, layer, Part::new(&kv, 0..8), Part::new(&kv, 0..8)).unwrap();
        }
        store.truncate(&cpu, 3);
        assert_eq!(starts(&store, 1), [(0, 2), (6, 1)]);
        assert_eq!(store.bytes(), 3 * 2 * 2 * 4 * 2);
        store.open(Span::new(7..8));
        assert_eq!(store.tokens(), 4);
        store.truncate(&cpu, 0);
        assert!(store.segments(0).is_empty());
    }
}
