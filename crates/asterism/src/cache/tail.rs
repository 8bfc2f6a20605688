//! The keys of one question and its answer.

use super::KvStore;
use crate::plan::Span;
use crate::tensor::{Backend, HeadShape, KvPrecision, Part, Segment, TensorError};

/// Tokens of a page.
pub const PAGE: usize = 256;

/// Keys and values of a question and its answer, in pages of [`PAGE`] tokens: a tail grows by a
/// page without copying what it has, and what was recorded of a page stays where it was.
///
/// As with [`KvStore`], a forward pass first says which positions it adds, then every layer appends
/// its own keys.
pub struct Tail<B: Backend> {
    layers: usize,
    shape: HeadShape,
    precision: KvPrecision,
    /// Tokens of a page.
    page: usize,
    pages: Vec<KvStore<B>>,
    /// What the forward pass adds: which page gets how many tokens.
    opened: Vec<(usize, usize)>,
}

impl<B: Backend> Tail<B> {
    /// An empty tail in pages of `page` tokens.
    #[must_use]
    pub fn new(layers: usize, shape: HeadShape, precision: KvPrecision, page: usize) -> Self {
        Self { layers, shape, precision, page, pages: Vec::new(), opened: Vec::new() }
    }

    /// Tokens whose keys the tail has (or will have, once all layers have appended).
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.pages.iter().map(KvStore::tokens).sum()
    }

    /// Announces that the next tokens stand at `span`, and makes pages for them.
    ///
    /// # Errors
    /// If there is no memory for a page.
    pub fn open(&mut self, backend: &B, span: Span) -> Result<(), TensorError> {
        self.opened.clear();
        let mut next = span.start;
        while next < span.end() {
            if self.room() == 0 {
                let (layers, shape, precision) = (self.layers, self.shape, self.precision);
                self.pages.push(KvStore::new(backend, layers, shape, precision, self.page)?);
            }
            let len = self.room().min(span.end() - next);
            let index = self.pages.len() - 1;
            self.pages[index].open(Span { start: next, len });
            self.opened.push((index, len));
            next += len;
        }
        Ok(())
    }

    /// Appends the keys and values `[tokens, kv_heads, head_dim]` of the tokens announced last.
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
        let mut offset = 0;
        for (page, len) in &self.opened {
            let range = offset..offset + len * self.shape.kv_width();
            offset = range.end;
            let (keys, values) = (keys.slice(range.clone()), values.slice(range));
            self.pages[*page].append(backend, layer, keys, values)?;
        }
        Ok(())
    }

    /// Everything `layer` has, one segment per page and run of positions.
    #[must_use]
    pub fn segments(&self, layer: usize) -> Vec<Segment<'_, B>> {
        self.pages.iter().flat_map(|page| page.segments(layer)).collect()
    }

    /// Makes room for the keys of one more token, at `position`, as a replayed step fills it.
    /// False, and nothing done, at the end of a page: the next one lies elsewhere.
    pub fn advance(&mut self, backend: &B, position: usize) -> bool {
        self.room() > 0 && self.pages.last_mut().is_some_and(|page| page.advance(backend, position))
    }

    /// Takes back the last token, which [`Tail::advance`] made room for.
    pub fn retreat(&mut self, backend: &B) {
        if let Some(page) = self.pages.last_mut() {
            page.truncate(backend, page.tokens().saturating_sub(1));
        }
    }

    /// Tokens that the last page has room for.
    #[must_use]
    pub fn room(&self) -> usize {
        self.pages.last().map_or(0, |page| self.page - page.tokens())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Aligned, Caching, Cpu};

    #[test]
    fn pages_fill_one_after_the_other_and_keep_all_positions() {
        let cpu = Cpu::new(1, None).unwrap();
        let shape = HeadShape { heads: 1, kv_heads: 1, head_dim: 2 };
        let mut tail = Tail::new(2, shape, KvPrecision::F32, 4);
        let mut position = 100;
        for len in [1, 6, 2, 1] {
            tail.open(&cpu, Span { start: position, len }).unwrap();
            let mut rows = Aligned::default();
            rows.at_least(2 * len).iter_mut().enumerate().for_each(|(i, x)| {
                *x = (2 * position + i) as f32;
            });
            for layer in 0..2 {
                let rows = Part::new(&rows, 0..2 * len);
                tail.append(&cpu, layer, rows, rows).unwrap();
            }
            position += len;
        }
        let segments = tail.segments(1);
        let spans: Vec<_> = segments.iter().map(|s| (s.start, s.tokens)).collect();
        assert_eq!(spans, [(100, 4), (104, 4), (108, 2)]);
        let keys: Vec<f32> = segments
            .iter()
            .flat_map(|s| cpu.kv_bytes(s.keys).unwrap().to_f32(KvPrecision::F32, 2))
            .collect();
        assert_eq!(keys, (200..220).map(|x| x as f32).collect::<Vec<_>>());
        tail.retreat(&cpu);
        assert_eq!(tail.tokens(), 9);
    }
}
