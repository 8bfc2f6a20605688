//! The kernels of block-sparse attention and of its estimates, for heads of one size.

#![allow(unsafe_code)]

use crate::Grain;
use crate::cuda::flash::no_heads_of;
use crate::cuda::kernels::{AttentionTile, COARSE, COARSE_THREADS, LINES, LinesTile, Room, Source};
use crate::cuda::rows::int;
use crate::cuda::{Argument, CudaError, Device, Function, Module, View, ViewMut};
use half::bf16;
use std::sync::Arc;

/// The kernels for heads of one size.
pub(in crate::cuda) struct SparseKernels {
    pub(super) tile: AttentionTile,
    pub(super) attend: Function,
    pub(super) lines_tile: LinesTile,
    pub(super) lines: Function,
    pub(super) slash: Function,
    pub(super) regroup: Function,
    pub(super) pool: Function,
    pub(super) weigh: Function,
    pub(super) heaviest: Function,
}

fn compile(
    device: &Arc<Device>,
    source: Source,
    options: &[String],
) -> Result<Arc<Module>, CudaError> {
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    Module::compile(device, source.name, &source.text(), &options)
}

impl SparseKernels {
    /// Compiles them for heads of `head_dim` elements.
    pub(super) fn compile(device: &Arc<Device>, head_dim: usize) -> Result<Self, CudaError> {
        let crate::cuda::Properties { capability, shared_memory, .. } = *device.properties();
        let tile = AttentionTile::sparse(head_dim, Room { capability, shared_memory })
            .ok_or_else(|| no_heads_of(head_dim))?;
        let lines_tile = LinesTile::new(head_dim);
        let coarse = compile(device, COARSE, &[])?;
        Ok(Self {
            attend: compile(device, tile.source, &tile.options)?.function(c"attend")?,
            tile,
            lines: compile(device, LINES, &lines_tile.options)?.function(c"lines")?,
            lines_tile,
            slash: coarse.function(c"slash")?,
            regroup: coarse.function(c"regroup")?,
            pool: coarse.function(c"pool")?,
            weigh: coarse.function(c"weigh")?,
            heaviest: coarse.function(c"heaviest")?,
        })
    }

    /// The coarse rows, or keys, of a head: grouped, or their means.
    pub(super) fn gather_rows(
        &self,
        dim: usize,
        grain: Grain,
        (from, tokens, heads, head): (View<'_, bf16>, usize, usize, usize),
        to: ViewMut<'_, bf16>,
        reversed: bool,
    ) -> Result<(), CudaError> {
        let count = tokens.div_ceil(grain.stride());
        let [tokens, heads, head, dim, stride] =
            [tokens, heads, head, dim, grain.stride()].map(|n| n as i32);
        let reversed = i32::from(reversed);
        let blocks = [int("the number of rows", count)? as u32, 1, 1];
        let block = [COARSE_THREADS, 1, 1];
        match grain {
            Grain::Antidiagonal { .. } => {
                let arguments: [&dyn Argument; 8] =
                    [&from, &to, &tokens, &heads, &head, &dim, &stride, &reversed];
                // SAFETY: the kernel's parameters, in its order; `to` has a row for each block.
                unsafe { self.regroup.launch(blocks, block, 0, &arguments) }
            }
            Grain::Mean => {
                let arguments: [&dyn Argument; 7] =
                    [&from, &to, &tokens, &heads, &head, &dim, &stride];
                // SAFETY: as above.
                unsafe { self.pool.launch(blocks, block, 0, &arguments) }
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn naive(device: &Arc<Device>, head_dim: usize) -> Result<Function, CudaError> {
        let options = [format!("-DHEAD_DIM={head_dim}"), "-DSPARSE".to_owned()];
        let module = compile(device, crate::cuda::kernels::ATTENTION_SPARSE_NAIVE, &options)?;
        module.function(c"attend_naive")
    }
}
