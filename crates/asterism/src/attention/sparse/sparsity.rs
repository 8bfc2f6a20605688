//! What a sparse pattern kept: of the tiles, and of the weight.

use super::{Block, Layout};
use crate::tensor::{Backend, Part, PartMut, Positions, Sequence, TensorError, TileMask};
use serde::{Deserialize, Serialize};

/// Rows of a block and layer in which the kept weight is measured.
const SAMPLED: usize = 8;

/// How much of dense attention was computed, and how much of its weight that holds: sums over
/// heads, layers and blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Sparsity {
    /// Tiles of 128 queries by 128 keys that were computed.
    pub computed: u64,
    /// Those that dense attention would have computed.
    pub causal: u64,
    /// Softmax weight that sampled rows kept, of the weight 1 that each has over all keys it could
    /// see.
    pub kept: f64,
    /// How many rows these are.
    pub rows: u64,
}

impl Sparsity {
    /// The share of tiles that was computed; 1 if there were none to compute.
    #[must_use]
    pub fn density(self) -> f64 {
        if self.causal == 0 { 1.0 } else { self.computed as f64 / self.causal as f64 }
    }

    /// The share of weight that was kept, the mean over the sampled rows; 1 if there are none.
    #[must_use]
    pub fn kept_mass(self) -> f64 {
        if self.rows == 0 { 1.0 } else { self.kept / self.rows as f64 }
    }
}

impl std::ops::Add for Sparsity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            computed: self.computed + other.computed,
            causal: self.causal + other.causal,
            kept: self.kept + other.kept,
            rows: self.rows + other.rows,
        }
    }
}

impl<B: Backend> Block<'_, B> {
    /// Adds what `mask` keeps to `found`. Of some rows, spread evenly, the last among them, the
    /// weight is measured against attention over all keys; `lse [rows, heads]` is that over those
    /// kept.
    pub(super) fn note(
        &self,
        layout: &Layout,
        mask: &TileMask,
        lse: Part<'_, B::Sums>,
        found: &mut Sparsity,
    ) -> Result<(), TensorError> {
        let (backend, shape, rows) = (self.backend, self.shape, self.rows());
        found.computed += mask.computed(shape.heads);
        found.causal += layout.causal_tiles() * shape.heads as u64;
        let count = SAMPLED.min(rows);
        let sampled: Vec<usize> = (1..=count).map(|i| i * rows / count - 1).collect();
        let (mut q, mut out) = (B::Rows::default(), B::Rows::default());
        let mut all = B::Sums::default();
        let (width, heads) = (shape.q_width(), shape.heads);
        backend.rows_at_least(&mut q, count * width)?;
        backend.rows_at_least(&mut out, count * width)?;
        backend.sums_at_least(&mut all, count * heads)?;
        let (mut kept, mut dense) = (vec![0.0; count * heads], vec![0.0; count * heads]);
        for (i, row) in sampled.iter().enumerate() {
            let to = PartMut::new(&mut q, i * width..(i + 1) * width);
            backend.put_rows(self.q.slice(row * width..(row + 1) * width), to)?;
            let from = lse.slice(row * heads..(row + 1) * heads);
            backend.read(from, &mut kept[i * heads..(i + 1) * heads])?;
        }
        let listed: Vec<u32> = sampled.iter().map(|row| (self.start + row) as u32).collect();
        let listed = backend.listed(&listed)?;
        let positions = Positions::Listed(&listed);
        let sequence = Sequence { rows: 0..count, positions, segments: self.segments };
        let (to, to_lse) = (0..count * width, 0..count * heads);
        let (to, to_lse) = (PartMut::new(&mut out, to), PartMut::new(&mut all, to_lse));
        backend.attend(Part::new(&q, 0..count * width), shape, &[sequence], to, to_lse)?;
        backend.read(Part::new(&all, 0..count * heads), &mut dense)?;
        found.rows += (count * heads) as u64;
        let share = |(kept, dense): (&f32, &f32)| f64::from(kept - dense).exp().min(1.0);
        found.kept += kept.iter().zip(&dense).map(share).sum::<f64>();
        Ok(())
    }
}
