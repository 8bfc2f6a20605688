//! Attention over some tiles of keys, and the estimates that choose them.

#![allow(unsafe_code)]

use super::flash::no_heads_of;
use super::kernels::{
    AttentionTile, COARSE, COARSE_THREADS, LINES, LinesTile, Room, Source, WEIGH_THREADS,
};
use super::kv::Kv;
use super::launch::{Launch, Rows};
use super::module::or_null;
use super::queries::{Keys, Places};
use super::rows::int;
use super::view::same_length;
use super::{Argument, Buffer, Cuda, CudaError, Device, Function, Module, View, ViewMut};
use crate::{Grain, HeadShape, MASK_TILE, Segment, Sequence, TileMask};
use half::bf16;
use std::ffi::c_void;
use std::ops::Range;
use std::sync::Arc;

/// Elements of coarse scores that are there at a time: 256 MiB.
const MOST_SCORES: usize = 64 << 20;

/// Coarse rows of one product, and what their number of keys is rounded up to, so that few pairs of
/// lengths occur.
const COARSE_ROWS: usize = 2048;

/// Segments of keys of one sequence.
const MOST_RUNS: usize = 8;

/// The kernels for heads of one size.
pub(super) struct SparseKernels {
    tile: AttentionTile,
    attend: Function,
    lines_tile: LinesTile,
    lines: Function,
    slash: Function,
    regroup: Function,
    pool: Function,
    weigh: Function,
    heaviest: Function,
}

/// `struct Mask` of the kernels.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct RawMask {
    /// Addresses.
    lists: [u64; 4],
    heads: i32,
    query_tiles: i32,
}

/// `struct Run` of the kernels.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct RawRun {
    first: i32,
    count: i32,
    start: i32,
    first_tile: i32,
}

/// `struct Runs` of the kernels.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct RawRuns {
    run: [RawRun; MOST_RUNS],
    count: i32,
    step: i32,
    per_tile: i32,
    tiles: i32,
}

// SAFETY: laid out as the kernels declare it.
unsafe impl Argument for RawMask {
    fn address(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

// SAFETY: laid out as the kernels declare it.
unsafe impl Argument for RawRuns {
    fn address(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
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
    fn compile(device: &Arc<Device>, head_dim: usize) -> Result<Self, CudaError> {
        let super::Properties { capability, shared_memory, .. } = *device.properties();
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
    fn gather_rows(
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
    pub(super) fn naive(device: &Arc<Device>, head_dim: usize) -> Result<Function, CudaError> {
        let options = [format!("-DHEAD_DIM={head_dim}"), "-DSPARSE".to_owned()];
        let module = compile(device, super::kernels::ATTENTION_SPARSE_NAIVE, &options)?;
        module.function(c"attend_naive")
    }
}

/// Keys and values in bf16; `unpacked` holds what had to be made for that.
fn keys_of<'a>(
    cuda: &Cuda,
    shape: HeadShape,
    segments: &[Segment<'a, Cuda>],
    unpacked: &'a mut Vec<[Option<Buffer<bf16>>; 2]>,
) -> Result<Vec<Keys<'a, View<'a, bf16>>>, CudaError> {
    unpacked.resize_with(segments.len(), Default::default);
    let mut keys = Vec::with_capacity(segments.len());
    for (segment, [of_keys, of_values]) in segments.iter().zip(unpacked) {
        assert!(segment.hidden.is_none(), "keys are hidden by the mask here");
        assert!(segment.kept.is_none(), "heads have the keys of all tokens while they are encoded");
        keys.push(Keys {
            keys: Kv::view(segment.keys)?.bf16(&cuda.rows, shape, of_keys)?,
            values: Kv::view(segment.values)?.bf16(&cuda.rows, shape, of_values)?,
            tokens: segment.tokens,
            start: segment.start,
            hidden: None,
            kept: None,
        });
    }
    Ok(keys)
}

/// Which grid of scores is asked for, and its buffers for one head.
struct Grid {
    runs: RawRuns,
    stride: usize,
    /// Elements of a coarse row.
    depth: usize,
    /// Coarse keys, rounded up.
    keys: usize,
    /// `[keys, depth]`
    of_keys: Buffer<bf16>,
    /// `[coarse rows, depth]`
    of_rows: Buffer<bf16>,
    /// Coarse rows of a product: whole tiles.
    step: usize,
}

impl Cuda {
    fn sparse_kernels(&self, head_dim: usize) -> Result<Arc<SparseKernels>, CudaError> {
        self.sparse.of(head_dim, || SparseKernels::compile(&self.device, head_dim))
    }

    /// See [`SparseAttention::attend_tiles`](crate::SparseAttention::attend_tiles).
    pub(super) fn attend_listed(
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
    pub(super) fn launch_tiles(
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

    /// See [`SparseAttention::lines`](crate::SparseAttention::lines).
    pub(super) fn weigh_lines(
        &self,
        q: View<'_, bf16>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        lse: View<'_, f32>,
        vertical: ViewMut<'_, f32>,
        slash: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let kernels = self.sparse_kernels(shape.head_dim)?;
        let LinesTile { keys: size, rows: most, threads, shared, .. } = kernels.lines_tile;
        let Sequence { rows, positions, segments } = sequence;
        let all: usize = segments.iter().map(|segment| segment.tokens).sum();
        let (tokens, places) = (rows.len(), Places::of(*positions, rows.len())?);
        if tokens > most || places.listed.is_some() {
            let what = format!("weights by key of {tokens} rows, or of rows at listed positions");
            return Err(CudaError::Unsupported { what });
        }
        assert!(tokens <= all, "{tokens} rows of {all} keys");
        same_length("vertical", shape.heads * all, vertical.len())?;
        same_length("slash", shape.heads * all, slash.len())?;
        let q = q.slice(rows.start * shape.q_width()..rows.end * shape.q_width())?;
        let lse = lse.slice(rows.start * shape.heads..rows.end * shape.heads)?;
        let [heads, kv_heads, most, size_] =
            [shape.heads, shape.kv_heads, most, size].map(|n| n as i32);
        let (tokens, start) = (tokens as i32, int("a position", places.first)?);
        let (scale, mut first, mut is_first) = (shape.scale(), 0i64, 1i32);
        let all = all as i64;
        for segment in segments.iter().filter(|segment| segment.tokens > 0) {
            let mut unpacked = None;
            let keys = Kv::view(segment.keys)?.bf16(&self.rows, shape, &mut unpacked)?;
            let tiles = segment.tokens.div_ceil(size);
            let bands = shape.heads * tiles * (size + most as usize);
            let bands = Buffer::<f32>::uninit(&self.device, bands)?;
            let bands = bands.view();
            let count = int("the number of keys", segment.tokens)?;
            let key_start = int("the position of a segment", segment.start)?;
            let arguments: [&dyn Argument; 14] = [
                &q, &lse, &keys, &vertical, &bands, &tokens, &start, &heads, &kv_heads, &scale,
                &count, &key_start, &first, &all,
            ];
            let grid = [tiles as u32, heads as u32, 1];
            // SAFETY: the kernel's parameters, in its order; it writes an element of each head's
            // row of `vertical` for each key of the segment, and `bands` for each of its tiles.
            unsafe { kernels.lines.launch(grid, [threads, 1, 1], shared, &arguments)? };
            let tiles = tiles as i32;
            let arguments: [&dyn Argument; 9] =
                [&bands, &slash, &tiles, &size_, &most, &tokens, &first, &all, &is_first];
            let grid = [(all as usize).div_ceil(COARSE_THREADS as usize) as u32, heads as u32, 1];
            // SAFETY: as above; a thread for each element of `slash`.
            unsafe { kernels.slash.launch(grid, [COARSE_THREADS, 1, 1], 0, &arguments)? };
            first += segment.tokens as i64;
            is_first = 0;
        }
        Ok(())
    }

    /// See [`SparseAttention::tile_mass`](crate::SparseAttention::tile_mass).
    pub(super) fn weigh_tiles(
        &self,
        q: View<'_, bf16>,
        shape: HeadShape,
        sequence: &Sequence<'_, Self>,
        grain: Grain,
        mut sums: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let kernels = self.sparse_kernels(shape.head_dim)?;
        let Sequence { rows, positions, segments } = sequence;
        let (tokens, places) = (rows.len(), Places::of(*positions, rows.len())?);
        if segments.len() > MOST_RUNS || places.listed.is_some() {
            let what = "weights of tiles over so many segments, or of rows at listed positions";
            return Err(CudaError::Unsupported { what: what.into() });
        }
        let mut grid = self.grid(shape, tokens, segments, grain)?;
        let of_head = tokens.div_ceil(MASK_TILE) * grid.runs.tiles as usize;
        same_length("sums", shape.heads * of_head, sums.len())?;
        let q = q.slice(rows.start * shape.q_width()..rows.end * shape.q_width())?;
        let mut unpacked = Vec::new();
        let keys = keys_of(self, shape, segments, &mut unpacked)?;
        let start = int("a position", places.first)?;
        for kv_head in 0..shape.kv_heads {
            for (keys, run) in keys.iter().zip(grid.runs.run) {
                let (first, count) = (run.first as usize, run.count as usize);
                let range = first * grid.depth..(first + count) * grid.depth;
                let rows = (keys.keys, keys.tokens, shape.kv_heads, kv_head);
                let to = grid.of_keys.slice_mut(range)?;
                kernels.gather_rows(shape.head_dim, grain, rows, to, false)?;
            }
            for head in kv_head * shape.group()..(kv_head + 1) * shape.group() {
                let rows = (q, tokens, shape.heads, head);
                let to = grid.of_rows.view_mut();
                kernels.gather_rows(shape.head_dim, grain, rows, to, true)?;
                let own = sums.reborrow().slice(head * of_head..(head + 1) * of_head)?;
                self.weigh_head(&kernels, &grid, shape, (tokens, start), own)?;
            }
        }
        Ok(())
    }

    /// See [`SparseAttention::heaviest`](crate::SparseAttention::heaviest).
    pub(super) fn heaviest_tiles(
        &self,
        weights: View<'_, f32>,
        heads: usize,
        key_tiles: usize,
        own: &[Range<u32>],
        share: f32,
    ) -> Result<Vec<u32>, CudaError> {
        assert_eq!(weights.len(), heads * own.len() * key_tiles, "weights of tiles");
        let (words, query_tiles) = (key_tiles.div_ceil(32), own.len());
        let rows = int("the number of rows", heads * query_tiles)?;
        let ends: Vec<u32> = own.iter().flat_map(|own| [own.start, own.end]).collect();
        let ends = Buffer::from_slice(&self.device, &ends)?;
        let bits = Buffer::<u32>::uninit(&self.device, heads * query_tiles * words)?;
        let (ends, bits) = (ends.view(), bits.view());
        let [tiles, query_tiles] = [key_tiles, query_tiles].map(|n| n as i32);
        let arguments: [&dyn Argument; 6] = [&weights, &ends, &bits, &tiles, &query_tiles, &share];
        let (grid, shared) = ([rows as u32, 1, 1], (key_tiles * size_of::<f32>()) as u32);
        // It is the same for heads of any size: those that exist were used for the weights.
        let kernels = match self.sparse.any() {
            Some(kernels) => kernels,
            None => self.sparse_kernels(64)?,
        };
        let kernel = &kernels.heaviest;
        // SAFETY: the kernel's parameters, in its order; a block writes the words of its row.
        unsafe { kernel.launch(grid, [COARSE_THREADS, 1, 1], shared, &arguments)? };
        bits.to_vec()
    }

    fn grid(
        &self,
        shape: HeadShape,
        tokens: usize,
        segments: &[Segment<'_, Self>],
        grain: Grain,
    ) -> Result<Grid, CudaError> {
        let stride = grain.stride();
        assert!(MASK_TILE.is_multiple_of(stride), "a stride of {stride}");
        let mut runs = RawRuns {
            step: stride as i32,
            per_tile: (MASK_TILE / stride) as i32,
            count: segments.len() as i32,
            ..RawRuns::default()
        };
        let (mut keys, mut tiles) = (0, 0);
        for (run, segment) in runs.run.iter_mut().zip(segments) {
            let count = segment.tokens.div_ceil(stride);
            *run = RawRun {
                first: int("the number of keys", keys)?,
                count: int("the number of keys", count)?,
                start: int("the position of a segment", segment.start)?,
                first_tile: int("the number of tiles", tiles)?,
            };
            keys += count;
            tiles += segment.tokens.div_ceil(MASK_TILE);
        }
        runs.tiles = int("the number of tiles", tiles)?;
        let depth = match grain {
            Grain::Antidiagonal { stride } => stride * shape.head_dim,
            Grain::Mean => shape.head_dim,
        };
        let keys = keys.next_multiple_of(COARSE_ROWS.min(keys.next_power_of_two().max(8)));
        let rows = tokens.div_ceil(stride);
        let per_tile = runs.per_tile as usize;
        let step = (MOST_SCORES / keys).min(COARSE_ROWS) / per_tile * per_tile;
        let step = step.max(per_tile).min(rows.next_multiple_of(per_tile));
        let mut of_keys = Buffer::uninit(&self.device, keys * depth)?;
        // What is behind the last key is multiplied, too, and its scores not looked at.
        of_keys.view_mut().fill_bytes(0)?;
        Ok(Grid {
            runs,
            stride,
            depth,
            keys,
            of_keys,
            of_rows: Buffer::uninit(&self.device, rows * depth)?,
            step,
        })
    }

    /// Products and softmax of one head, some coarse rows at a time, over the keys they see.
    fn weigh_head(
        &self,
        kernels: &SparseKernels,
        grid: &Grid,
        shape: HeadShape,
        (tokens, start): (usize, i32),
        sums: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let Grid { runs, depth, step, .. } = grid;
        let per_tile = runs.per_tile as usize;
        let rows = tokens.div_ceil(grid.stride);
        let grouped = depth / shape.head_dim;
        let scale = shape.scale() / grouped as f32;
        for first in (0..rows).step_by(*step) {
            let count = (*step).min(rows - first);
            // Coarse keys up to the last that these rows see, rounded up.
            let last = start as usize + ((first + count) * grid.stride).min(tokens) - 1;
            let seen = runs.run[..runs.count as usize].iter().map(|run| {
                let seen = (last + 1).saturating_sub(run.start as usize).div_ceil(grid.stride);
                if seen == 0 { 0 } else { run.first as usize + seen.min(run.count as usize) }
            });
            let seen = seen.max().unwrap_or(0).max(1);
            let keys = seen.next_multiple_of(COARSE_ROWS).min(grid.keys);
            let x = grid.of_rows.view().slice(first * depth..(first + count) * depth)?;
            let w = grid.of_keys.view().slice(0..keys * depth)?;
            let mut scores = Buffer::<f32>::uninit(&self.device, count * keys)?;
            self.gemm.f32(x, w, (count, *depth, keys), scores.view_mut())?;
            let scores = scores.view();
            let (count_, first_tile, tokens_) =
                (count as i32, (first / per_tile) as i32, tokens as i32);
            let stride = keys as i64;
            let arguments: [&dyn Argument; 9] =
                [&scores, &sums, runs, &count_, &stride, &scale, &first_tile, &tokens_, &start];
            let blocks = [count.div_ceil(per_tile) as u32, 1, 1];
            // SAFETY: the kernel's parameters, in its order; a block writes the row of `sums` of
            // its tile of queries.
            unsafe { kernels.weigh.launch(blocks, [WEIGH_THREADS, 1, 1], 0, &arguments)? };
        }
        Ok(())
    }
}
