//! Softmax weight per key, for heads of one size.

#![allow(unsafe_code)]

use super::kernels::{MASS, MassTile};
use super::module::or_null;
use super::queries::{Keys, Queries};
use super::rows::int;
use super::view::same_length;
use super::{Argument, CudaError, Device, Function, Module, View, ViewMut};
use crate::{HeadShape, MassOver};
use half::bf16;
use std::sync::Arc;

/// The kernel.
pub(super) struct Mass {
    kernel: Function,
    tile: MassTile,
}

impl Mass {
    /// For heads of `head_dim` elements, a multiple of 16 up to 256.
    pub(super) fn compile(device: &Arc<Device>, head_dim: usize) -> Result<Self, CudaError> {
        Self::of(device, MASS, MassTile::new(head_dim))
    }

    pub(super) fn of(
        device: &Arc<Device>,
        source: super::kernels::Source,
        tile: MassTile,
    ) -> Result<Self, CudaError> {
        let options: Vec<&str> = tile.options.iter().map(String::as_str).collect();
        let module = Module::compile(device, source.name, &source.text(), &options)?;
        Ok(Self { kernel: module.function(c"mass")?, tile })
    }

    /// Softmax weights of the keys of a segment, `over` the rows of `queries`, whose log-sum-exps
    /// are `lse`: the elements from `first` on of each row of `sums [kv_heads, keys]`.
    pub(super) fn run(
        &self,
        queries: Queries<'_>,
        lse: View<'_, f32>,
        segment: &Keys<'_, View<'_, bf16>>,
        over: MassOver,
        sums: &mut ViewMut<'_, f32>,
        first: usize,
    ) -> Result<(), CudaError> {
        let Queries { q, tokens, places, shape } = queries;
        let HeadShape { heads, kv_heads, .. } = shape;
        same_length("q", tokens * shape.q_width(), q.len())?;
        same_length("lse", tokens * heads, lse.len())?;
        let elements = match segment.kept {
            Some(kept) => kept.indices.len() * shape.head_dim,
            None => segment.tokens * shape.kv_width(),
        };
        same_length("keys", elements, segment.keys.len())?;
        same_length("the elements of a head", self.tile.head_dim, shape.head_dim)?;
        if let Some(hidden) = segment.hidden {
            same_length("the flags of hidden keys", segment.tokens, hidden.len())?;
        }
        let stride = sums.len() / kv_heads;
        same_length("sums", kv_heads * stride, sums.len())?;
        if first + segment.tokens > stride {
            return Err(CudaError::Range { range: first..first + segment.tokens, len: stride });
        }
        let sizes = [heads, kv_heads].map(|n| n as i32);
        let tokens = int("the number of rows", tokens)?;
        let start = int("a position", places.first)?;
        let most = segment.kept.map_or(segment.tokens, |kept| kept.most);
        if most == 0 {
            return Ok(());
        }
        let count = int("the number of keys", most)?;
        let (offsets, indices) =
            (segment.kept.map(|kept| kept.offsets), segment.kept.map(|kept| kept.indices));
        let largest = i32::from(over == MassOver::Max);
        let key_start = int("the position of a segment", segment.start)?;
        let (scale, stride) = (shape.scale(), stride as i64);
        let end = sums.len();
        let to = sums.reborrow().slice(first..end)?;
        let arguments: [&dyn Argument; 17] = [
            &q,
            or_null(&places.listed),
            &lse,
            &segment.keys,
            or_null(&segment.hidden),
            &to,
            &tokens,
            &start,
            &sizes[0],
            &sizes[1],
            &scale,
            &count,
            &key_start,
            &stride,
            or_null(&offsets),
            or_null(&indices),
            &largest,
        ];
        let MassTile { keys, threads, shared, .. } = self.tile;
        let grid = [most.div_ceil(keys) as u32, kv_heads as u32, 1];
        // SAFETY: the kernel's parameters, in its order; its blocks write an element of each row of
        // `sums` for each key.
        unsafe { self.kernel.launch(grid, [threads, 1, 1], shared, &arguments) }
    }
}
