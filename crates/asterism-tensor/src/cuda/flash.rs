//! Launches of our own attention kernels, for heads of one size.

#![allow(unsafe_code)]

use super::device::Properties;
use super::kernels::{AttentionTile, FEW_ROWS, Room};
use super::kv::KvView;
use super::launch::{Launch, Rows};
use super::mass::Mass;
#[cfg(test)]
use super::queries::{Keys, Queries};
use super::rows::{Put, RowKernels, int};
use super::view::{same_device, same_length};
use super::{Argument, Buffer, CudaError, Device, Function, Module, View, ViewMut};
use crate::HeadShape;
use cudarc::driver::sys::CUdeviceptr;
use half::bf16;
use std::sync::{Arc, Mutex, PoisonError};

/// Keys that one part of a split has at least: fewer are not worth a merge.
const PART_KEYS: usize = 256;

/// An instance of the kernel.
struct Tiled {
    tile: AttentionTile,
    kernel: Function,
}

/// Attention kernels for heads of one size.
pub(super) struct Flash {
    device: Arc<Device>,
    /// For many queries.
    large: Arc<Tiled>,
    /// For few.
    small: Arc<Tiled>,
    /// For few over keys in 8 bits, compiled when first needed.
    small_fp8: Mutex<Option<Arc<Tiled>>>,
    /// Compiled when first needed.
    mass: Mutex<Option<Arc<Mass>>>,
    head_dim: usize,
    combine: Function,
    put: Put,
}

/// Which instance of the kernel a sequence takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Many rows over keys in bf16.
    Many,
    /// Few.
    Few,
    /// Few over keys in 8 bits.
    FewFp8,
}

impl Kind {
    fn of(sequence: &Rows<'_>, shape: HeadShape) -> Result<Self, CudaError> {
        let views = || sequence.keys.iter().flat_map(|k| [&k.keys, &k.values]);
        let coded = views().filter(|view| matches!(view, KvView::Fp8(..))).count();
        match (sequence.tokens * shape.group() <= FEW_ROWS, coded) {
            (true, 0) => Ok(Self::Few),
            (false, 0) => Ok(Self::Many),
            (true, n) if n == views().count() => Ok(Self::FewFp8),
            _ => {
                let what = "attention of many queries, or over caches of two precisions, in fp8";
                Err(CudaError::Unsupported { what: what.into() })
            }
        }
    }
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
        rows: &RowKernels,
        head_dim: usize,
    ) -> Result<Self, CudaError> {
        Ok(Self {
            device: Arc::clone(device),
            large: Arc::new(Tiled::compile(device, head_dim, AttentionTile::large)?),
            small: Arc::new(Tiled::compile(device, head_dim, AttentionTile::small)?),
            small_fp8: Mutex::default(),
            mass: Mutex::default(),
            head_dim,
            combine: rows.combine.clone(),
            put: rows.put.clone(),
        })
    }

    /// Softmax weight per key.
    pub(super) fn mass(&self) -> Result<Arc<Mass>, CudaError> {
        let mut compiled = self.mass.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mass) = &*compiled {
            return Ok(Arc::clone(mass));
        }
        let mass = Mass::compile(&self.device, self.head_dim)?;
        Ok(Arc::clone(compiled.insert(Arc::new(mass))))
    }

    fn small_fp8(&self) -> Result<Arc<Tiled>, CudaError> {
        let mut compiled = self.small_fp8.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tiled) = &*compiled {
            return Ok(Arc::clone(tiled));
        }
        let tiled = Tiled::compile(&self.device, self.head_dim, AttentionTile::small_fp8)?;
        Ok(Arc::clone(compiled.insert(Arc::new(tiled))))
    }

    /// Attention of one sequence, all of whose rows `queries` has.
    #[cfg(test)]
    pub(super) fn attend(
        &self,
        queries: Queries<'_>,
        keys: &[Keys<'_, KvView<'_>>],
        out: ViewMut<'_, bf16>,
        lse: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let Queries { q, tokens, places, shape } = queries;
        self.attend_all(q, shape, &[Rows { first: 0, tokens, places, keys }], out, lse)
    }

    /// Attention of the rows of `sequences`, which `q` has among others, each over its own keys: in
    /// bf16 or, for few rows, in fp8. A key is seen by the queries that do not stand before it.
    pub(super) fn attend_all(
        &self,
        q: View<'_, bf16>,
        shape: HeadShape,
        sequences: &[Rows<'_>],
        out: ViewMut<'_, bf16>,
        lse: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        if self.device.is_recording() {
            for sequence in sequences {
                self.record(sequence, shape)?;
            }
        }
        // SAFETY: nothing is later; or a step is recorded, which keeps the memory of the keys and
        // is replayed for no more tokens than there is room for behind the last of them.
        unsafe { self.attend_later(q, shape, sequences, self.device.later(), out, lse) }
    }

    /// What a recording must know of a sequence: the memory it uses, and for how many more tokens
    /// it does what would be done without it.
    fn record(&self, sequence: &Rows<'_>, shape: HeadShape) -> Result<(), CudaError> {
        let Rows { places, keys, .. } = *sequence;
        for keys in keys {
            self.device.keep(keys.keys.memory().into_iter().chain(keys.values.memory()));
            self.device.keep(keys.hidden.map(|hidden| hidden.memory));
            let tables = keys.kept.map(|kept| [kept.offsets.memory, kept.indices.memory]);
            self.device.keep(tables.into_iter().flatten());
        }
        self.device.keep(places.listed.map(|listed| listed.memory));
        // What grows is the last.
        if let Some(last) = keys.last().filter(|last| last.kept.is_none()) {
            for view in [&last.keys, &last.values] {
                self.device.limit_later(view.behind() / shape.kv_width());
            }
            if let Some(hidden) = last.hidden {
                self.device.limit_later(hidden.behind());
            }
        }
        // Positions are numbered in 32 bits.
        self.device.limit_later((i32::MAX as usize).saturating_sub(places.end));
        // The number of parts is the recorded one: it must be that of the longer keys, too.
        let kind = Kind::of(sequence, shape)?;
        let (count, most) = (sequence.keys(), self.most_parts(sequence, shape, kind)?);
        if count / PART_KEYS < most {
            self.device.limit_later(PART_KEYS - 1 - count % PART_KEYS);
        }
        Ok(())
    }

    /// As [`Self::attend_all`], as many tokens later as the number at the address `later` says (0:
    /// none): the queries' starts are that much further on, and the last keys of each sequence go
    /// on for as many tokens behind their views. The number is read when the kernel runs: a
    /// recorded launch serves later tokens, too. What it was recorded with decides into how many
    /// parts keys are split.
    ///
    /// # Safety
    /// `later` is 0 or the address of a u32 of this device, and behind the views of the last keys
    /// of each sequence there are as many more tokens, whenever the kernel runs.
    pub(super) unsafe fn attend_later(
        &self,
        q: View<'_, bf16>,
        shape: HeadShape,
        sequences: &[Rows<'_>],
        later: CUdeviceptr,
        mut out: ViewMut<'_, bf16>,
        mut lse: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        same_length("out", q.len(), out.len())?;
        same_length("lse", q.len() / shape.head_dim, lse.len())?;
        same_device("q", &self.device, q.device())?;
        for kind in [Kind::Many, Kind::Few, Kind::FewFp8] {
            let mut launch = Launch::new(shape);
            for sequence in sequences.iter().filter(|sequence| sequence.tokens > 0) {
                if Kind::of(sequence, shape)? == kind {
                    let end = (sequence.first + sequence.tokens) * shape.q_width();
                    if end > q.len() {
                        let range = sequence.first * shape.q_width()..end;
                        return Err(CudaError::Range { range, len: q.len() });
                    }
                    let (tiles, parts) = self.cut(sequence, shape, kind)?;
                    launch.add(sequence, tiles, parts)?;
                }
            }
            if !launch.is_empty() {
                let (out, lse) = (out.reborrow(), lse.reborrow());
                // SAFETY: `add` saw that segments are cut from views of their length, and rows are
                // inside q; the rest is the caller's promise.
                unsafe { self.launch(&mut launch, kind, q, later, out, lse)? };
            }
        }
        Ok(())
    }

    /// # Safety
    /// The rows of `launch` are inside `q`, `out` and `lse`, its segments are there, and `later` is
    /// as for [`Self::attend_later`].
    unsafe fn launch(
        &self,
        launch: &mut Launch,
        kind: Kind,
        q: View<'_, bf16>,
        later: CUdeviceptr,
        out: ViewMut<'_, bf16>,
        lse: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let HeadShape { heads, kv_heads, head_dim } = launch.shape;
        let tables = launch.tables(&self.device, &self.put)?;
        let count = int("the number of sequences", launch.sequences.len())?;
        let sizes = [heads, kv_heads, head_dim].map(|n| n as i32);
        let scale = launch.shape.scale();
        // Where nothing is split nothing is written here.
        let rows = launch.part_rows.max(1);
        let part_out = Buffer::<f32>::uninit(&self.device, rows * head_dim)?;
        let part_lse = Buffer::<f32>::uninit(&self.device, rows)?;
        let (part_out, part_lse) = (part_out.view(), part_lse.view());
        let (of_sequences, of_segments) = tables.pointers();
        let tiled = self.tiled(kind)?;
        let grid = [launch.tiles as u32, kv_heads as u32, launch.most_parts as u32];
        let arguments: [&dyn Argument; 13] = [
            &q,
            &launch.few,
            &of_sequences,
            &count,
            &of_segments,
            &sizes[0],
            &sizes[1],
            &scale,
            &part_out,
            &part_lse,
            &out,
            &lse,
            &later,
        ];
        let (threads, shared) = (tiled.tile.threads, tiled.tile.shared);
        // SAFETY: the kernel's parameters, in its order; the rest is the caller's promise.
        unsafe { tiled.kernel.launch(grid, [threads, 1, 1], shared, &arguments)? };
        if launch.split_rows > 0 {
            let arguments: [&dyn Argument; 9] = [
                &part_out,
                &part_lse,
                &launch.few.sequence,
                &of_sequences,
                &count,
                &out,
                &lse,
                &sizes[0],
                &sizes[2],
            ];
            let threads = head_dim.next_multiple_of(32) as u32;
            let grid = [int("the number of split rows", launch.split_rows)? as u32, 1, 1];
            // SAFETY: as above; a block for each row that is split.
            unsafe { self.combine.launch(grid, [threads, 1, 1], 0, &arguments)? }
        }
        Ok(())
    }

    fn tiled(&self, kind: Kind) -> Result<Arc<Tiled>, CudaError> {
        match kind {
            Kind::Many => Ok(Arc::clone(&self.large)),
            Kind::Few => Ok(Arc::clone(&self.small)),
            Kind::FewFp8 => self.small_fp8(),
        }
    }

    /// Tiles of rows of a sequence, and into how many parts its keys are split so that it would
    /// fill the GPU alone: what else is in a launch must not change its result.
    fn cut(
        &self,
        sequence: &Rows<'_>,
        shape: HeadShape,
        kind: Kind,
    ) -> Result<(usize, usize), CudaError> {
        let rows = self.tiled(kind)?.tile.rows;
        let tiles = (sequence.tokens * shape.group()).div_ceil(rows);
        let most = self.most_parts(sequence, shape, kind)?;
        Ok((tiles, most.min(sequence.keys() / PART_KEYS).max(1)))
    }

    fn most_parts(
        &self,
        sequence: &Rows<'_>,
        shape: HeadShape,
        kind: Kind,
    ) -> Result<usize, CudaError> {
        let tile = &self.tiled(kind)?.tile;
        let tiles = (sequence.tokens * shape.group()).div_ceil(tile.rows);
        let at_once = self.device.properties().multiprocessors as usize * tile.resident;
        Ok(at_once / (tiles * shape.kv_heads).max(1))
    }
}
