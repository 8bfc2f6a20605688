//! Attention of a block over some of its keys only: patterns of which ones, chosen layer by layer
//! from the queries and keys themselves, by training-free methods as published.
//!
//! A block passes through a layer as a whole, so that a pattern is chosen from all of its queries
//! and keys, as the papers have it; nothing is chosen chunk by chunk. Estimates and attention are
//! operations of the backend ([`SparseAttention`](crate::tensor::SparseAttention)); what lies
//! between them is a pure function of small arrays.
//!
//! * [`blocks`]: first keys and nearest blocks
//! * [`streaming`]: first and nearest keys
//! * [`minference`]: keys and distances of most weight
//! * [`flexprefill`]: as many of these as hold a share of it, or tiles by their means
//! * [`xattention`]: tiles by sums along antidiagonals

mod blocks;
mod choose;
mod flexprefill;
mod layout;
mod minference;
mod sparsity;
mod streaming;
mod xattention;

#[cfg(test)]
mod tests;

pub use sparsity::Sparsity;

use crate::plan::{Share, Sparse};
use crate::tensor::{
    Backend, Grain, HeadShape, MASK_TILE, Part, PartMut, Positions, Segment, Sequence, TensorError,
    TileMask,
};
use layout::Layout;

/// The queries of a block, which are the last of its keys.
#[derive(Clone, Copy)]
pub(super) struct Block<'a, B: Backend> {
    /// Compute backend.
    pub(super) backend: &'a B,
    /// Heads of the model.
    pub(super) shape: HeadShape,
    /// `[rows, heads, head_dim]`
    pub(super) q: Part<'a, B::Rows>,
    /// Position of the first query.
    pub(super) start: usize,
    /// The keys and values, those of the queries last.
    pub(super) segments: &'a [Segment<'a, B>],
}

/// Softmax weights of the last rows of a block: by key, and by distance.
struct Lines {
    heads: usize,
    keys: usize,
    /// `[heads, keys]`
    vertical: Vec<f32>,
    /// `[heads, keys]`
    slash: Vec<f32>,
}

impl Lines {
    fn vertical(&self, head: usize) -> &[f32] {
        &self.vertical[head * self.keys..][..self.keys]
    }

    fn slash(&self, head: usize) -> &[f32] {
        &self.slash[head * self.keys..][..self.keys]
    }
}

/// The mask that leaves nothing out.
fn all(layout: &Layout) -> TileMask {
    TileMask::new(1, layout.query_tiles(), layout.key_tiles(), |_, tile, list| {
        list.extend(layout.causal(tile));
    })
}

impl<B: Backend> Block<'_, B> {
    /// Fills `out [rows, heads, head_dim]` with attention over the keys that `sparse` keeps, and
    /// `lse [rows, heads]`; adds what it kept to `found`.
    ///
    /// # Errors
    /// If the backend fails.
    pub(super) fn attend(
        &self,
        sparse: Sparse,
        out: PartMut<'_, B::Rows>,
        mut lse: PartMut<'_, B::Sums>,
        found: &mut Sparsity,
    ) -> Result<(), TensorError> {
        let rows = self.rows();
        let layout = Layout::new(self.segments.iter().map(|segment| segment.tokens), rows);
        let mask = self.mask(sparse, &layout)?;
        let (backend, shape) = (self.backend, self.shape);
        backend.attend_tiles(self.q, shape, &self.last(rows), &mask, out, lse.reborrow())?;
        self.note(&layout, &mask, lse.as_part(), found)
    }

    fn rows(&self) -> usize {
        self.q.len / self.shape.q_width()
    }

    /// The last `rows` queries and all keys.
    fn last(&self, rows: usize) -> Sequence<'_, B> {
        let first = self.rows() - rows;
        let positions = Positions::From(self.start + first);
        Sequence { rows: first..first + rows, positions, segments: self.segments }
    }

    fn mask(&self, sparse: Sparse, layout: &Layout) -> Result<TileMask, TensorError> {
        let heads = self.shape.heads;
        Ok(match sparse {
            Sparse::Streaming { sink, window } => streaming::mask(layout, sink, window),
            Sparse::Blocks { block, anchor, previous } => {
                blocks::mask(layout, block, anchor, previous)
            }
            Sparse::Minference { vertical, slash } => {
                let lines = self.lines(minference::ROWS)?;
                minference::mask(layout, &lines, vertical, slash)
            }
            Sparse::Flexprefill { gamma, tau, min } => {
                let settings = flexprefill::Settings::new(gamma, min);
                if settings.is_dense(layout) {
                    return Ok(all(layout));
                }
                let lines = self.lines(flexprefill::ROWS)?;
                let last = flexprefill::ROWS.min(self.rows());
                let foretold = self.tile_mass(layout, last, Grain::Mean)?;
                let aware = flexprefill::aware(layout, &lines, &foretold, tau);
                // Of the whole map only the heads that go by it are read.
                let mut map = Vec::new();
                if aware.contains(&true) {
                    let (sums, len) = self.weigh(layout, self.rows(), Grain::Mean)?;
                    let size = len / heads;
                    map.resize(len, 0.0);
                    for head in (0..heads).filter(|head| aware[*head]) {
                        let own = head * size..(head + 1) * size;
                        self.backend.read(Part::new(&sums, own.clone()), &mut map[own])?;
                    }
                }
                flexprefill::mask(layout, &lines, &aware, &map, settings)
            }
            Sparse::Xattention { stride, tau } => {
                if tau >= Share::ALL {
                    return Ok(all(layout));
                }
                let sums = self.weigh(layout, self.rows(), Grain::Antidiagonal { stride })?;
                let sums = Part::new(&sums.0, 0..sums.1);
                let (tiles, own) = (layout.key_tiles(), xattention::own(layout));
                let bits = self.backend.heaviest(sums, heads, tiles, &own, tau.get() as f32)?;
                xattention::mask(layout, heads, &bits)
            }
        })
    }

    /// Weights of the last `rows` queries, or of all if there are fewer.
    fn lines(&self, rows: usize) -> Result<Lines, TensorError> {
        let (backend, shape) = (self.backend, self.shape);
        let rows = rows.min(self.rows());
        let first = self.rows() - rows;
        let q = self.q.slice(first * shape.q_width()..self.rows() * shape.q_width());
        let sequence = Sequence { rows: 0..rows, ..self.last(rows) };
        let (mut out, mut lse) = (B::Rows::default(), B::Sums::default());
        backend.rows_at_least(&mut out, q.len)?;
        backend.sums_at_least(&mut lse, rows * shape.heads)?;
        let (to, all) = (PartMut::new(&mut out, 0..q.len), 0..rows * shape.heads);
        let of = std::slice::from_ref(&sequence);
        backend.attend(q, shape, of, to, PartMut::new(&mut lse, all.clone()))?;
        let keys: usize = self.segments.iter().map(|segment| segment.tokens).sum();
        let (mut vertical, mut slash) = (B::Sums::default(), B::Sums::default());
        let size = shape.heads * keys;
        backend.sums_at_least(&mut vertical, size)?;
        backend.sums_at_least(&mut slash, size)?;
        let to = (PartMut::new(&mut vertical, 0..size), PartMut::new(&mut slash, 0..size));
        backend.lines(q, shape, &sequence, Part::new(&lse, all), to.0, to.1)?;
        let mut lines =
            Lines { heads: shape.heads, keys, vertical: vec![0.0; size], slash: vec![0.0; size] };
        backend.read(Part::new(&vertical, 0..size), &mut lines.vertical)?;
        backend.read(Part::new(&slash, 0..size), &mut lines.slash)?;
        Ok(lines)
    }

    /// Estimated weights `[heads, query tiles, key tiles]` of the last `rows` queries, read.
    fn tile_mass(
        &self,
        layout: &Layout,
        rows: usize,
        grain: Grain,
    ) -> Result<Vec<f32>, TensorError> {
        let (sums, size) = self.weigh(layout, rows, grain)?;
        let mut read = vec![0.0; size];
        self.backend.read(Part::new(&sums, 0..size), &mut read)?;
        Ok(read)
    }

    /// The same where they are computed, and how many there are.
    fn weigh(
        &self,
        layout: &Layout,
        rows: usize,
        grain: Grain,
    ) -> Result<(B::Sums, usize), TensorError> {
        let backend = self.backend;
        let tiles = rows.div_ceil(MASK_TILE) * layout.key_tiles();
        let size = self.shape.heads * tiles;
        let mut sums = B::Sums::default();
        backend.sums_at_least(&mut sums, size)?;
        let to = PartMut::new(&mut sums, 0..size);
        backend.tile_mass(self.q, self.shape, &self.last(rows), grain, to)?;
        Ok((sums, size))
    }
}
