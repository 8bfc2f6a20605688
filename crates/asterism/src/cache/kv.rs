//! Keys and values of one host, for all layers, in the order they were computed.

use crate::plan::Span;
use crate::tensor::{Backend, HeadShape, KvBytes, KvPrecision, Memory, Part, Segment, TensorError};

/// One layer: `[tokens, kv_heads, head_dim]` each.
struct LayerKv<B: Backend> {
    keys: B::Kv,
    values: B::Kv,
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
            .map(|_| Ok(LayerKv { keys: kv()?, values: kv()? }))
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
        self.layers.iter().map(|l| l.keys.bytes() + l.values.bytes()).sum()
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
        let LayerKv { keys: all_keys, values: all_values } = &mut self.layers[layer];
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
        let LayerKv { keys: all_keys, values: all_values } = &mut self.layers[layer];
        backend.extend_bytes(all_keys, keys)?;
        backend.extend_bytes(all_values, values)
    }

    /// A copy of all keys and values of `layer`, in storage order, in the machine's memory.
    ///
    /// # Errors
    /// If the processor failed since it was last waited for.
    pub fn layer_bytes(&self, backend: &B, layer: usize) -> Result<[KvBytes; 2], TensorError> {
        let LayerKv { keys, values } = &self.layers[layer];
        let bytes = |kv: &B::Kv| backend.kv_bytes(Part::new(kv, 0..kv.len()));
        Ok([bytes(keys)?, bytes(values)?])
    }

    /// Tokens that `layer` has appended so far.
    #[must_use]
    pub fn layer_tokens(&self, layer: usize) -> usize {
        self.layers[layer].keys.len() / self.shape.kv_width()
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

    /// The part of `range` that `layer` has. `range` must lie within one run of positions.
    #[must_use]
    pub fn segment(&self, layer: usize, range: Span) -> Option<Segment<'_, B>> {
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
        let LayerKv { keys, values } = &self.layers[layer];
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
        let range = offset * width..(offset + tokens) * width;
        let LayerKv { keys, values } = &self.layers[layer];
        Segment {
            keys: Part::new(keys, range.clone()),
            values: Part::new(values, range),
            tokens,
            start,
            hidden: None,
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
    use crate::tensor::{Aligned, Cpu};

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
        let keys = part.keys.of.view(part.keys.range()).to_elements();
        assert_eq!(keys.view(0..2).f32().unwrap(), [8.0, 9.0]);
        assert_eq!(keys.len(), 2);
        assert!(store.segment(1, Span::new(8..10)).is_none());
        assert!(store.segment(0, Span::new(2..9)).is_none());
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
