//! Launches of our own attention kernels, for heads of one size.

#![allow(unsafe_code)]

use super::attention::{Keys, Queries};
use super::device::Properties;
use super::kernels::{AttentionTile, FEW_ROWS, Room};
use super::kv::KvView;
use super::view::{same_device, same_length};
use super::{Argument, Buffer, CudaError, Device, Function, Module, ViewMut};
use cudarc::driver::sys::CUdeviceptr;
use half::bf16;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

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
    /// Of their scales, or 0.
    key_scales: u64,
    value_scales: u64,
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
    /// For few over keys in 8 bits, compiled when first needed.
    small_fp8: Mutex<Option<Arc<Tiled>>>,
    head_dim: usize,
    combine: Function,
}

pub(crate) fn no_heads_of(head_dim: usize) -> CudaError {
    let what = format!("attention with heads of {head_dim} elements: compute on the CPU");
    CudaError::Unsupported { what }
}

impl Tiled {
    fn compile(
        device: &Arc<Device>,
        head_dim: usize,
        choose: fn(usize, Room) -> Option<AttentionTile>,
    ) -> Result<Self, CudaError> {
        let Properties { capability, shared_memory, .. } = *device.properties();
        let tile = choose(head_dim, Room { capability, shared_memory })
            .ok_or_else(|| no_heads_of(head_dim))?;
        let options: Vec<&str> = tile.options.iter().map(String::as_str).collect();
        let module = Module::compile(device, tile.source.name, &tile.source.text(), &options)?;
        Ok(Self { tile, kernel: module.function(c"attend")? })
    }
}

impl Flash {
    pub(super) fn compile(
        device: &Arc<Device>,
        combine: Function,
        head_dim: usize,
    ) -> Result<Self, CudaError> {
        Ok(Self {
            device: Arc::clone(device),
            large: Tiled::compile(device, head_dim, AttentionTile::large)?,
            small: Tiled::compile(device, head_dim, AttentionTile::small)?,
            small_fp8: Mutex::default(),
            head_dim,
            combine,
        })
    }

    fn small_fp8(&self) -> Result<Arc<Tiled>, CudaError> {
        let mut compiled = self.small_fp8.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tiled) = &*compiled {
            return Ok(Arc::clone(tiled));
        }
        let tiled = Tiled::compile(&self.device, self.head_dim, AttentionTile::small_fp8)?;
        Ok(Arc::clone(compiled.insert(Arc::new(tiled))))
    }

    /// Attention of `queries` over `keys`, all in bf16 or, for few rows, all in fp8; each key seen
    /// by the queries that do not stand before it.
    pub(super) fn attend(
        &self,
        queries: Queries<'_>,
        keys: &[Keys<KvView<'_>>],
        out: ViewMut<'_, bf16>,
        lse: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        if self.device.is_recording() {
            let width = queries.shape.kv_width();
            for view in keys.iter().flat_map(|k| [&k.keys, &k.values]) {
                self.device.keep(view.memory());
            }
            // What grows is the last.
            for view in keys.last().iter().flat_map(|k| [&k.keys, &k.values]) {
                self.device.limit_later(view.behind() / width);
            }
            // Positions are numbered in 32 bits.
            self.device.limit_later(i32::MAX as usize - queries.start - queries.tokens);
        }
        // SAFETY: nothing is later; or a step is recorded, which keeps the memory of the keys and
        // is replayed for no more tokens than there is room for behind the last of them.
        unsafe { self.attend_later(queries, keys, self.device.later(), out, lse) }
    }

    /// As [`Self::attend`], as many tokens later as the number at the address `later` says (0:
    /// none): the queries' start is that much further on, and the last of `keys` goes on for as
    /// many tokens behind its views. The number is read when the kernel runs: a recorded launch
    /// serves later tokens, too. What it was recorded with decides into how many parts keys are
    /// split.
    ///
    /// # Safety
    /// `later` is 0 or the address of a u32 of this device, and behind the views of the last of
    /// `keys` there are as many more tokens, whenever the kernel runs.
    pub(super) unsafe fn attend_later(
        &self,
        queries: Queries<'_>,
        keys: &[Keys<KvView<'_>>],
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
            let ((at_keys, key_scales), (at_values, value_scales)) =
                (keys.keys.pointers(), keys.values.pointers());
            *raw = RawSegment {
                keys: at_keys,
                values: at_values,
                key_scales,
                value_scales,
                tokens: keys.tokens as i32,
                start: keys.start as i32,
            };
        }
        let rows = tokens * shape.group();
        let coded = |view: &KvView<'_>| matches!(view, KvView::Fp8(..));
        let coded = keys.iter().flat_map(|k| [&k.keys, &k.values]).filter(|v| coded(v)).count();
        let small_fp8;
        let tiled = match (rows <= FEW_ROWS, coded) {
            (true, 0) => &self.small,
            (false, 0) => &self.large,
            (true, n) if n == 2 * keys.len() => {
                small_fp8 = self.small_fp8()?;
                &small_fp8
            }
            _ => {
                let what = "attention of many queries, or over caches of two precisions, in fp8";
                return Err(CudaError::Unsupported { what: what.into() });
            }
        };
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
