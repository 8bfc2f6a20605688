//! Launches of our own attention kernels, for heads of one size.

#![allow(unsafe_code)]

use super::attention::{Keys, Queries};
use super::kernels::{AttentionTile, Room};
use super::view::{same_device, same_length};
use super::{Argument, Buffer, CudaError, Device, Function, Module, ViewMut};
use cudarc::driver::sys::CUdeviceptr;
use half::bf16;
use std::ffi::c_void;
use std::sync::Arc;

/// Segments of keys that one launch takes.
const SEGMENTS: usize = 8;

/// Keys that one part of a split has at least: fewer are not worth a merge.
const PART_KEYS: usize = 256;

/// `struct Segment` of the kernels.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct RawSegment {
    /// Addresses.
    keys: u64,
    values: u64,
    tokens: i32,
    start: i32,
}

/// `struct Segments` of the kernels.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct RawSegments {
    segment: [RawSegment; SEGMENTS],
    count: i32,
}

// SAFETY: laid out as the kernels declare it.
unsafe impl Argument for RawSegments {
    fn address(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

/// An instance of the kernel.
struct Tiled {
    tile: AttentionTile,
    kernel: Function,
}

/// Attention kernels for heads of one size.
pub(super) struct Flash {
    device: Arc<Device>,
    /// For many queries.
    large: Tiled,
    /// For few.
    small: Tiled,
    combine: Function,
}

impl Flash {
    pub(super) fn compile(
        device: &Arc<Device>,
        combine: Function,
        head_dim: usize,
    ) -> Result<Self, CudaError> {
        let load = |tile: Option<AttentionTile>| -> Result<Tiled, CudaError> {
            let tile = tile.ok_or_else(|| CudaError::Unsupported {
                what: format!("attention with heads of {head_dim} elements: use --device cpu"),
            })?;
            let options: Vec<&str> = tile.options.iter().map(String::as_str).collect();
            let module = Module::compile(device, tile.source.name, &tile.source.text(), &options)?;
            Ok(Tiled { tile, kernel: module.function(c"attend")? })
        };
        let properties = device.properties();
        let room =
            Room { capability: properties.capability, shared_memory: properties.shared_memory };
        let large = load(AttentionTile::large(head_dim, room))?;
        let small = load(AttentionTile::small(head_dim, room))?;
        Ok(Self { device: Arc::clone(device), large, small, combine })
    }

    /// Attention of `queries` over `keys`, each key seen by the queries that do not stand before it.
    pub(super) fn attend(
        &self,
        queries: Queries<'_>,
        keys: &[Keys<'_>],
        out: ViewMut<'_, bf16>,
        lse: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let later = self.device.later();
        // SAFETY: nothing is later; or a step is recorded, which is replayed only while caches have
        // room for the tokens that came meanwhile.
        unsafe { self.attend_later(queries, keys, later, out, lse) }
    }

    /// As [`Self::attend`], as many tokens later as the number at the address `later` says (0: none):
    /// the queries' start is that much further on, and the last of `keys` goes on for as many tokens
    /// behind its views. The number is read when the kernel runs: a recorded launch serves later
    /// tokens, too. What it was recorded with decides into how many parts keys are split.
    ///
    /// # Safety
    /// `later` is 0 or the address of a u32 of this device, and behind the views of the last of
    /// `keys` there are as many more tokens, whenever the kernel runs.
    pub(super) unsafe fn attend_later(
        &self,
        queries: Queries<'_>,
        keys: &[Keys<'_>],
        later: CUdeviceptr,
        mut out: ViewMut<'_, bf16>,
        mut lse: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let Queries { q, tokens, start, shape } = queries;
        same_length("q", tokens * shape.q_width(), q.len())?;
        same_length("out", q.len(), out.len())?;
        same_length("lse", tokens * shape.heads, lse.len())?;
        same_device("q", &self.device, q.device())?;
        if keys.len() > SEGMENTS {
            let what = format!("attention over {} runs of keys (at most {SEGMENTS})", keys.len());
            return Err(CudaError::Unsupported { what });
        }
        let mut segments = RawSegments { count: keys.len() as i32, ..RawSegments::default() };
        for (raw, keys) in segments.segment.iter_mut().zip(keys) {
            same_length("keys", keys.tokens * shape.kv_width(), keys.keys.len())?;
            same_length("values", keys.tokens * shape.kv_width(), keys.values.len())?;
            *raw = RawSegment {
                keys: keys.keys.pointer,
                values: keys.values.pointer,
                tokens: keys.tokens as i32,
                start: keys.start as i32,
            };
        }
        let rows = tokens * shape.group();
        let tiled = if rows <= self.small.tile.rows { &self.small } else { &self.large };
        let tiles = rows.div_ceil(tiled.tile.rows);
        let all_keys: usize = keys.iter().map(|k| k.tokens).sum();
        let parts = self.parts(tiles * shape.kv_heads, all_keys, tiled);
        let sizes = [start, tokens, shape.heads, shape.kv_heads, parts].map(|n| n as i32);
        let scale = shape.scale();
        // With one part nothing is written here.
        let (split_out, split_lse) =
            if parts > 1 { (parts * q.len(), parts * lse.len()) } else { (1, 1) };
        let part_out = Buffer::<f32>::uninit(&self.device, split_out)?;
        let part_lse = Buffer::<f32>::uninit(&self.device, split_lse)?;
        let (part_out, part_lse) = (part_out.view(), part_lse.view());
        let grid = [tiles as u32, shape.kv_heads as u32, parts as u32];
        let arguments: [&dyn Argument; 13] = [
            &q, &segments, &sizes[0], &sizes[1], &sizes[2], &sizes[3], &scale, &sizes[4],
            &part_out, &part_lse, &out, &lse, &later,
        ];
        let (threads, shared) = (tiled.tile.threads, tiled.tile.shared);
        // SAFETY: the kernel's parameters, in its order; lengths were checked above, and segments
        // were cut from views of their length. What lies behind them is the caller's promise.
        unsafe { tiled.kernel.launch(grid, [threads, 1, 1], shared, &arguments)? };
        if parts > 1 {
            let sizes = [parts, tokens * shape.heads, shape.head_dim].map(|n| n as i32);
            let (out, lse) = (out.reborrow(), lse.reborrow());
            let arguments: [&dyn Argument; 7] =
                [&part_out, &part_lse, &sizes[0], &out, &lse, &sizes[1], &sizes[2]];
            let grid = [(tokens * shape.heads) as u32, 1, 1];
            // SAFETY: as above; one block per row of `out`.
            unsafe {
                self.combine.launch(
                    grid,
                    [shape.head_dim.next_multiple_of(32) as u32, 1, 1],
                    0,
                    &arguments,
                )?
            };
        }
        Ok(())
    }

    /// Into how many parts keys are split so that `tasks` blocks of threads fill the GPU.
    fn parts(&self, tasks: usize, keys: usize, tiled: &Tiled) -> usize {
        let at_once = self.device.properties().multiprocessors as usize * tiled.tile.resident;
        (at_once / tasks.max(1)).min(keys / PART_KEYS).max(1)
    }
}
