//! Attention over the tiles of keys that a mask lists.

#![allow(unsafe_code)]

use super::keys_of;
use crate::cuda::kernels::AttentionTile;
use crate::cuda::launch::{Launch, Rows};
use crate::cuda::module::or_null;
use crate::cuda::queries::{Keys, Places};
use crate::cuda::rows::int;
use crate::cuda::view::same_length;
use crate::cuda::{Argument, Buffer, Cuda, CudaError, Function, View, ViewMut};
use crate::{HeadShape, MASK_TILE, Sequence, TileMask};
use half::bf16;
use std::ffi::c_void;

/// `struct Mask` of the kernels.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct RawMask {
    /// Addresses.
    lists: [u64; 4],
    heads: i32,
    query_tiles: i32,
}

// SAFETY: laid out as the kernels declare it.
unsafe impl Argument for RawMask {
    fn address(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

impl Cuda {
    /// See [`SparseAttention::attend_tiles`](crate::SparseAttention::attend_tiles).
    pub(in crate::cuda) fn attend_listed(
        &self,
        q: View<'_, bf16>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        mask: &TileMask,
        out: ViewMut<'_, bf16>,
        lse: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let kernels = self.sparse_kernels(shape.head_dim)?;
        let AttentionTile { rows, threads, shared, .. } = kernels.tile;
        let tiles = sequence.rows.len().div_ceil(rows);
        let grid = [tiles as u32, shape.heads as u32, 1];
        let launch = (grid, threads, shared);
        self.launch_tiles(&kernels.attend, launch, tiles, (q, shape), sequence, mask, (out, lse))
    }

    /// Launches `kernel`, of `attend.cu`, its Hopper version or their twin.
    #[allow(clippy::too_many_arguments)]
    pub(in crate::cuda) fn launch_tiles(
        &self,
        kernel: &Function,
        (grid, threads, shared): ([u32; 3], u32, u32),
        tiles: usize,
        (q, shape): (View<'_, bf16>, HeadShape),
        sequence: &Sequence<'_, Self>,
        mask: &TileMask,
        (out, lse): (ViewMut<'_, bf16>, ViewMut<'_, f32>),
    ) -> Result<(), CudaError> {
        let Sequence { rows, positions, segments } = sequence;
        self.device.not_recording("attention over some tiles")?;
        same_length("out", q.len(), out.len())?;
        same_length("lse", q.len() / shape.head_dim, lse.len())?;
        if rows.end * shape.q_width() > q.len() {
            let range = rows.start * shape.q_width()..rows.end * shape.q_width();
            return Err(CudaError::Range { range, len: q.len() });
        }
        assert!([1, shape.heads].contains(&mask.heads()), "heads of the mask");
        assert_eq!(rows.len().div_ceil(MASK_TILE), mask.query_tiles(), "tiles of queries");
        let key_tiles = TileMask::key_tiles_of(segments.iter().map(|segment| segment.tokens));
        assert_eq!(key_tiles, mask.key_tiles(), "tiles of keys");
        if rows.is_empty() {
            return Ok(());
        }
        let mut unpacked = Vec::new();
        let keys = keys_of(self, shape, segments, &mut unpacked)?;
        let keys: Vec<_> = keys.iter().map(Keys::stored).collect();
        let (first, tokens) = (rows.start, rows.len());
        let places = Places::of(*positions, tokens)?;
        if places.listed.is_some() {
            let what = "attention over some tiles, of rows at listed positions".into();
            return Err(CudaError::Unsupported { what });
        }
        let mut launch = Launch::new(shape);
        launch.add(&Rows { first, tokens, places, keys: &keys }, tiles, 1)?;
        let tables = launch.tables(&self.device, &self.rows.put)?;
        let (of_sequences, of_segments) = tables.pointers();
        let lists = mask.lists();
        let mut buffers = Vec::with_capacity(lists.len());
        for list in lists {
            buffers
                .push(Buffer::from_slice(&self.device, if list.is_empty() { &[0] } else { list })?);
        }
        let mut addresses = [0; 4];
        for (address, buffer) in addresses.iter_mut().zip(&buffers) {
            *address = buffer.view().pointer;
        }
        let raw = RawMask {
            lists: addresses,
            heads: int("the heads of a mask", mask.heads())?,
            query_tiles: int("the tiles of a mask", mask.query_tiles())?,
        };
        let (heads, kv_heads) = (shape.heads as i32, shape.kv_heads as i32);
        let (scale, count, none) = (shape.scale(), 1i32, None::<View<'_, f32>>);
        let arguments: [&dyn Argument; 13] = [
            &q,
            &launch.few,
            &of_sequences,
            &count,
            &of_segments,
            &heads,
            &kv_heads,
            &scale,
            or_null(&none),
            or_null(&none),
            &out,
            &lse,
            &raw,
        ];
        // SAFETY: the kernel's parameters, in its order; rows are inside q, out and lse, keys are
        // as many as is said, and tiles and columns are of these keys, as the mask's constructor
        // saw.
        unsafe { kernel.launch(grid, [threads, 1, 1], shared, &arguments) }
    }
}
