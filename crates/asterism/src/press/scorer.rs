//! What goes along with a block's encoding and scores its keys in the end.

use super::compactor::{self, Columns};
use super::expected::{self, Moments};
use super::{plain, rotation, select, window};
use crate::attention::Partial;
use crate::cache::KvStore;
use crate::plan::{HeadBudget, Press, PressBy, Span};
use crate::tensor::{
    Backend, HeadShape, KeptKeys, KvPrecision, MassOver, Part, PartMut, Positions, Segment,
    Sequence, TensorError,
};
use std::sync::Arc;

/// Scores the keys of one block, for all layers.
pub struct Scorer<B: Backend> {
    press: Press,
    shape: HeadShape,
    precision: KvPrecision,
    /// `[head_dim / 2]`, radians per position
    frequencies: Arc<[f32]>,
    /// Positions of the block.
    span: Span,
    layers: Vec<Noted<B>>,
}

/// What is noted of a layer.
enum Noted<B: Backend> {
    Nothing,
    /// Queries of the block's last tokens, with their positions.
    Window(Vec<(Span, B::Rows)>),
    Moments(Moments),
    Columns(Columns),
    /// `[kv_heads, tokens]`: the most that a repetition looks at each key.
    Most(Vec<f32>),
}

impl<B: Backend> Scorer<B> {
    /// For the block at `span` in a model of `layers` layers. `frequencies` are those of its
    /// rotation, `[head_dim / 2]`, radians per position.
    #[must_use]
    pub fn new(
        press: Press,
        span: Span,
        layers: usize,
        (shape, precision): (HeadShape, KvPrecision),
        frequencies: Arc<[f32]>,
    ) -> Self {
        let noted = || match press.by {
            PressBy::SnapKv | PressBy::SnapKvSeen => Noted::Window(Vec::new()),
            PressBy::Expected => Noted::Moments(Moments::new(shape)),
            PressBy::Compactor => Noted::Columns(Columns::new(shape)),
            PressBy::Kvzip => Noted::Most(vec![0.0; shape.kv_heads * span.len]),
            PressBy::Streaming | PressBy::Knorm | PressBy::Random => Noted::Nothing,
        };
        let layers = (0..layers).map(|_| noted()).collect();
        Self { press, shape, precision, frequencies, span, layers }
    }

    /// The block's first tokens that take no part and are kept, and its last ones.
    fn ends(&self) -> (usize, usize) {
        let first = self.span.start == 0;
        match self.press.by {
            PressBy::Compactor => {
                let start = if first { compactor::ENDS.0.min(self.span.len) } else { 0 };
                (start, compactor::ENDS.1.min(self.span.len - start))
            }
            _ => (if first { Press::SINKS.min(self.span.len) } else { 0 }, 0),
        }
    }

    /// The tokens of `chunk` that take part: which of its rows.
    fn counted(&self, chunk: Span) -> Span {
        let (first, last) = self.ends();
        let start = chunk.start.max(self.span.start + first).min(chunk.end());
        let end = chunk.end().min(self.span.end() - last).max(start);
        Span { start, len: end - start }
    }

    /// The rows of `counted` tokens of a pass of `chunk`, in the program's memory.
    fn rows(
        backend: &B,
        rows: Part<'_, B::Rows>,
        (chunk, counted): (Span, Span),
        width: usize,
    ) -> Result<Vec<f32>, TensorError> {
        let from = counted.start - chunk.start;
        let mut read = vec![0.0; counted.len * width];
        backend.read_rows(rows.slice(from * width..(from + counted.len) * width), &mut read)?;
        Ok(read)
    }

    /// Sees the keys `[tokens, kv_heads, head_dim]` of the tokens `chunk`, before their queries.
    ///
    /// # Errors
    /// If the backend failed since it was last waited for.
    pub fn keys(
        &mut self,
        backend: &B,
        layer: usize,
        chunk: Span,
        keys: Part<'_, B::Rows>,
    ) -> Result<(), TensorError> {
        let counted = self.counted(chunk);
        if let Noted::Columns(columns) = &mut self.layers[layer] {
            let width = self.shape.kv_width();
            columns.add_keys(&Self::rows(backend, keys, (chunk, counted), width)?);
        }
        Ok(())
    }

    /// Sees the queries `q [tokens, heads, head_dim]` of the tokens `chunk`.
    ///
    /// # Errors
    /// If the backend failed since it was last waited for, or there is no memory.
    pub fn queries(
        &mut self,
        backend: &B,
        layer: usize,
        chunk: Span,
        q: Part<'_, B::Rows>,
    ) -> Result<(), TensorError> {
        let (counted, width) = (self.counted(chunk), self.shape.q_width());
        match &mut self.layers[layer] {
            Noted::Nothing | Noted::Most(_) => {}
            Noted::Window(window) => {
                let first = self.span.end() - window::window(self.span.len);
                let start = chunk.start.max(first);
                if start < chunk.end() {
                    let own = Span::new(start..chunk.end());
                    let from = (start - chunk.start) * width;
                    let rows = backend.copy_rows(q.slice(from..from + own.len * width))?;
                    window.push((own, rows));
                }
            }
            Noted::Moments(moments) => {
                let from = (counted.start - chunk.start) * width;
                let rows = q.slice(from..from + counted.len * width);
                moments.add(backend, rows, counted, &self.frequencies)?;
            }
            Noted::Columns(columns) => {
                columns.add_queries(backend, &Self::rows(backend, q, (chunk, counted), width)?);
            }
        }
        Ok(())
    }

    /// Sees the most that some tokens of a repetition look at the keys of `chunk`, `[kv_heads,
    /// chunk.len]`.
    pub fn repeated(&mut self, layer: usize, chunk: Span, most: &[f32]) {
        if let Noted::Most(all) = &mut self.layers[layer] {
            let first = chunk.start - self.span.start;
            for (all, most) in all.chunks_exact_mut(self.span.len).zip(most.chunks_exact(chunk.len))
            {
                let all = &mut all[first..first + chunk.len];
                all.iter_mut().zip(most).for_each(|(all, most)| *all = all.max(*most));
            }
        }
    }

    /// The tokens whose keys of `layer` are kept, `kept` of each head on average, from all keys and
    /// values of the block in `store` and what it was encoded behind, `before`. What was noted of
    /// the layer is given up.
    ///
    /// # Errors
    /// If the backend failed since it was last waited for, or there is no memory.
    pub fn choose(
        &mut self,
        backend: &B,
        layer: usize,
        before: Vec<Segment<'_, B>>,
        store: &KvStore<B>,
        kept: usize,
    ) -> Result<KeptKeys, TensorError> {
        let scores = self.scores(backend, layer, before, store)?;
        let first = self.ends().0;
        Ok(select::select(&scores, self.shape.kv_heads, kept, first, self.press.heads))
    }

    /// The scores of `layer`, `[kv_heads, tokens]`.
    fn scores(
        &mut self,
        backend: &B,
        layer: usize,
        before: Vec<Segment<'_, B>>,
        store: &KvStore<B>,
    ) -> Result<Vec<f32>, TensorError> {
        let (shape, tokens) = (self.shape, self.span.len);
        let noted = std::mem::replace(&mut self.layers[layer], Noted::Nothing);
        let all = store.segments(layer);
        let Some(Segment { keys, values, .. }) = all.first() else { return Ok(Vec::new()) };
        Ok(match noted {
            Noted::Most(most) => most,
            Noted::Window(window) => {
                let mass = self.window_mass(backend, layer, &window, before, store)?;
                window::snapkv(&mass, shape, window::window(tokens))
            }
            Noted::Moments(moments) => {
                let future = Span { start: self.span.end(), len: expected::FUTURE };
                let queries = moments.expected(future, &self.frequencies);
                let epsilon = match self.press.heads {
                    HeadBudget::Even => 0.0,
                    HeadBudget::Layer => expected::EPSILON,
                };
                let first = self.ends().0;
                expected::expected(backend, [*keys, *values], shape, &queries, first, epsilon)?
            }
            Noted::Columns(columns) => {
                let lengths = backend.norms(*values, shape)?;
                let keys = backend.kv_bytes(*keys)?;
                let mut keys = keys.to_f32(self.precision, shape.head_dim);
                let width = shape.kv_width();
                let (first, last) = self.ends();
                let own = first..tokens - last;
                for (token, position) in keys.chunks_exact_mut(width).zip(self.span.range()) {
                    rotation::unrotate(token, position, &self.frequencies);
                }
                let sketch = compactor::sketch(layer, shape.kv_heads, shape.head_dim);
                let keys = &keys[own.start * width..own.end * width];
                let leverage = compactor::leverage(backend, keys, shape, &sketch);
                let of_own = |head: &[f32]| head[own.clone()].to_vec();
                let lengths: Vec<f32> = lengths.chunks_exact(tokens).flat_map(of_own).collect();
                let columns = columns.finish(backend);
                let ratio = self.press.ratio() as f32;
                let scores =
                    compactor::compactor(&columns, &lengths, &leverage, shape.kv_heads, ratio);
                compactor::with_ends(&scores, shape.kv_heads, (first, last))
            }
            Noted::Nothing => match self.press.by {
                PressBy::Knorm => plain::knorm(backend.norms(*keys, shape)?),
                PressBy::Streaming => plain::streaming(tokens, shape.kv_heads),
                _ => plain::random(layer, shape.kv_heads, self.span),
            },
        })
    }

    /// Softmax weight that the block's last tokens give to each of its keys, among those and the
    /// keys `before` them, `[kv_heads, tokens]`.
    fn window_mass(
        &self,
        backend: &B,
        layer: usize,
        window: &[(Span, B::Rows)],
        before: Vec<Segment<'_, B>>,
        store: &KvStore<B>,
    ) -> Result<Vec<f32>, TensorError> {
        let shape = self.shape;
        let own = store.segments(layer);
        let mut all = before;
        all.extend(store.segments(layer));
        let mut mass = vec![0.0; shape.kv_heads * self.span.len];
        for (span, rows) in window {
            let q = Part::new(rows, 0..span.len * shape.q_width());
            let sequence = |segments| Sequence {
                rows: 0..span.len,
                positions: Positions::From(span.start),
                segments,
            };
            let Partial { lse, .. } = Partial::of(backend, q, shape, &[sequence(&all)])?;
            let lse = Part::new(&lse, 0..span.len * shape.heads);
            let mut sums = B::Sums::default();
            backend.sums_at_least(&mut sums, mass.len())?;
            let to = PartMut::new(&mut sums, 0..mass.len());
            backend.mass(q, shape, &sequence(&own), lse, MassOver::Sum, to)?;
            let mut read = vec![0.0; mass.len()];
            backend.read(Part::new(&sums, 0..mass.len()), &mut read)?;
            mass.iter_mut().zip(read).for_each(|(mass, more)| *mass += more);
        }
        Ok(mass)
    }
}
