//! Keys and values of one host, for all layers.

use crate::plan::Span;
use crate::tensor::{Cpu, Elements, ElementsView, HeadShape, KvSegment, Precision};

/// One layer: `[tokens, kv_heads, head_dim]` each.
#[derive(Debug, Clone)]
struct LayerKv {
    keys: Elements,
    values: Elements,
}

/// Keys and values of the positions in `spans`, in that order, for every layer.
///
/// A forward pass first says which positions it adds ([`KvStore::open`]), then every layer appends
/// its own keys; a layer that has not reached the new positions yet shows only the older ones.
#[derive(Debug, Clone)]
pub struct KvStore {
    shape: HeadShape,
    layers: Vec<LayerKv>,
    spans: Vec<Span>,
}

impl KvStore {
    /// An empty store with room for `capacity` tokens.
    #[must_use]
    pub fn new(layers: usize, shape: HeadShape, precision: Precision, capacity: usize) -> Self {
        let size = capacity * shape.kv_width();
        let layer = || LayerKv {
            keys: Elements::with_capacity(precision, size),
            values: Elements::with_capacity(precision, size),
        };
        Self { shape, layers: (0..layers).map(|_| layer()).collect(), spans: Vec::new() }
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
    pub fn append(&mut self, cpu: &Cpu, layer: usize, keys: &[f32], values: &[f32]) {
        cpu.append(&mut self.layers[layer].keys, keys);
        cpu.append(&mut self.layers[layer].values, values);
    }

    /// Appends keys and values that were already rounded, by another host.
    pub fn append_elements(
        &mut self,
        layer: usize,
        keys: ElementsView<'_>,
        values: ElementsView<'_>,
    ) {
        self.layers[layer].keys.extend_from(keys);
        self.layers[layer].values.extend_from(values);
    }

    /// Tokens that `layer` has appended so far.
    #[must_use]
    pub fn layer_tokens(&self, layer: usize) -> usize {
        self.layers[layer].keys.len() / self.shape.kv_width()
    }

    /// Everything `layer` has, as one segment per run of consecutive positions.
    #[must_use]
    pub fn segments(&self, layer: usize) -> Vec<KvSegment<'_>> {
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
    pub fn segment(&self, layer: usize, range: Span) -> Option<KvSegment<'_>> {
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
    #[must_use]
    pub fn layer_elements(&self, layer: usize) -> (Elements, Elements) {
        let LayerKv { keys, values } = &self.layers[layer];
        (keys.clone(), values.clone())
    }

    fn segment_at(
        &self,
        layer: usize,
        offset: usize,
        tokens: usize,
        start: usize,
    ) -> KvSegment<'_> {
        let width = self.shape.kv_width();
        let range = offset * width..(offset + tokens) * width;
        let LayerKv { keys, values } = &self.layers[layer];
        KvSegment { keys: keys.view(range.clone()), values: values.view(range), tokens, start }
    }

    /// Forgets everything but the first `tokens` tokens.
    pub fn truncate(&mut self, tokens: usize) {
        let mut left = tokens;
        self.spans.retain_mut(|span| {
            span.len = span.len.min(left);
            left -= span.len;
            span.len > 0
        });
        for layer in &mut self.layers {
            layer.keys.truncate(tokens * self.shape.kv_width());
            layer.values.truncate(tokens * self.shape.kv_width());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> KvStore {
        let shape = HeadShape { heads: 2, kv_heads: 1, head_dim: 2 };
        KvStore::new(2, shape, Precision::F32, 4)
    }

    fn starts(store: &KvStore, layer: usize) -> Vec<(usize, usize)> {
        store.segments(layer).iter().map(|s| (s.start, s.tokens)).collect()
    }

    #[test]
    fn a_layer_shows_only_what_it_appended() {
        let mut store = store();
        store.open(Span::new(0..2));
        store.open(Span::new(2..3));
        store.open(Span::new(8..10));
        let kv: Vec<f32> = (0..10).map(|i| i as f32).collect();
        let cpu = Cpu::new(1, None).unwrap();
        store.append(&cpu, 0, &kv, &kv);
        store.append(&cpu, 1, &kv[..4], &kv[..4]);
        assert_eq!(starts(&store, 0), [(0, 3), (8, 2)]);
        assert_eq!(starts(&store, 1), [(0, 2)]);
        assert_eq!(store.tokens(), 5);
        let part = store.segment(0, Span::new(9..10)).unwrap();
        assert_eq!((part.start, part.tokens), (9, 1));
        assert_eq!(part.keys.to_elements(), Elements::F32(vec![8.0, 9.0]));
        assert!(store.segment(1, Span::new(8..10)).is_none());
        assert!(store.segment(0, Span::new(2..9)).is_none());
    }

    #[test]
    fn truncation_forgets_the_tail_everywhere() {
        let mut store = store();
        store.open(Span::new(0..2));
        store.open(Span::new(6..8));
        let cpu = Cpu::new(1, None).unwrap();
        for layer in 0..2 {
            store.append(&cpu, layer, &[1.0; 8], &[1.0; 8]);
        }
        store.truncate(3);
        assert_eq!(starts(&store, 1), [(0, 2), (6, 1)]);
        assert_eq!(store.bytes(), 3 * 2 * 2 * 4 * 2);
        store.open(Span::new(7..8));
        assert_eq!(store.tokens(), 4);
        store.truncate(0);
        assert!(store.segments(0).is_empty());
    }
}
