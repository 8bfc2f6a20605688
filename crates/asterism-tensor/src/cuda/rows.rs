//! Launches of the kernels that work row by row: what of a decoder layer is neither a matrix
//! product nor attention.

#![allow(unsafe_code)]

use super::kernels::{
    APPEND_THREADS, CHOICE_THREADS, CHOICES, MERGE_THREADS, PUT_THREADS, PUT_WORDS, ROWS,
};
use super::view::{same_device, same_length};
use super::{Argument, Buffer, CudaError, Device, Element, Function, Module, View, ViewMut};
use crate::{HeadShape, Sampling};
use half::bf16;
use std::ffi::{CStr, c_void};
use std::sync::Arc;

/// The loaded kernels.
pub(super) struct RowKernels {
    device: Arc<Device>,
    embed: Function,
    angles: Function,
    rms_norm: Function,
    split_rotate: Function,
    silu_mul: Function,
    add_bias_bf16: Function,
    add_bias_f32: Function,
    merge: Function,
    merge_all: Function,
    argmax: Function,
    sample: Function,
    add_rows: Function,
    gather: Function,
    append: Function,
    append_fp8: Function,
    unpack_fp8: Function,
    /// For [`Flash`](super::flash::Flash).
    pub(super) combine: Function,
    pub(super) put: Put,
}

/// A token to be chosen.
pub(super) struct RowChoice<'a> {
    pub(super) logits: View<'a, f32>,
    pub(super) sampling: &'a Sampling,
    /// A flag for each token at least.
    pub(super) seen: Option<ViewMut<'a, u8>>,
    pub(super) uniform: u64,
}

/// `struct Row` of the kernels.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct RawChoice {
    /// Addresses; of the flags, 0 if there are none.
    logits: u64,
    seen: u64,
    uniform: u64,
    vocab: i32,
    top_k: i32,
    penalty: f32,
    temperature: f32,
    top_p: f32,
    min_p: f32,
}

/// `struct Rows` of the kernels.
#[repr(C)]
struct Choices([RawChoice; CHOICES]);

// SAFETY: laid out as the kernels declare it.
unsafe impl Argument for Choices {
    fn address(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

impl RowChoice<'_> {
    fn raw(&mut self) -> Result<RawChoice, CudaError> {
        let (vocab, sampling) = (self.logits.len(), self.sampling);
        if let Some(seen) = &self.seen
            && seen.len() < vocab
        {
            same_length("the tokens seen", vocab, seen.len())?;
        }
        Ok(RawChoice {
            logits: self.logits.pointer,
            seen: self.seen.as_ref().map_or(0, |seen| seen.pointer),
            uniform: self.uniform,
            vocab: int("the number of logits", vocab)?,
            top_k: sampling.top_k.min(vocab) as i32,
            penalty: sampling.repetition_penalty,
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
        })
    }
}

/// Writes tables without waiting, also in a step that is recorded.
#[derive(Clone)]
pub(super) struct Put(Function);

/// `struct Words` of the kernel.
#[repr(C)]
struct Words([u32; PUT_WORDS]);

// SAFETY: laid out as the kernel declares it.
unsafe impl Argument for Words {
    fn address(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

impl Put {
    /// `to = words`, of which there are as many.
    pub(super) fn put(&self, to: ViewMut<'_, u32>, words: &[u32]) -> Result<(), CudaError> {
        same_length("the table", words.len(), to.len())?;
        let mut rest = to;
        for part in words.chunks(PUT_WORDS) {
            let mut all = Words([0; PUT_WORDS]);
            all.0[..part.len()].copy_from_slice(part);
            let (now, later) = rest.split_at(part.len())?;
            rest = later;
            let count = part.len() as i32;
            let blocks = part.len().div_ceil(PUT_THREADS as usize) as u32;
            // SAFETY: the kernel's parameters, in its order; it writes `count` words, as many as
            // `now` has.
            unsafe {
                self.0.launch([blocks, 1, 1], [PUT_THREADS, 1, 1], 0, &[&now, &all, &count])?;
            }
        }
        Ok(())
    }
}

/// Norm weights of the heads of q and k, and their epsilon.
pub(super) type HeadNorms<'a> = (View<'a, f32>, View<'a, f32>, f32);

impl RowKernels {
    pub(super) fn compile(device: &Arc<Device>) -> Result<Self, CudaError> {
        let module = Module::compile(device, ROWS.name, &ROWS.text(), &[])?;
        let function = |name: &CStr| module.function(name);
        Ok(Self {
            device: Arc::clone(device),
            embed: function(c"embed")?,
            angles: function(c"angles")?,
            rms_norm: function(c"rms_norm")?,
            split_rotate: function(c"split_rotate")?,
            silu_mul: function(c"silu_mul")?,
            add_bias_bf16: function(c"add_bias_bf16")?,
            add_bias_f32: function(c"add_bias_f32")?,
            merge: function(c"merge")?,
            merge_all: function(c"merge_all")?,
            argmax: function(c"argmax")?,
            sample: function(c"sample")?,
            add_rows: function(c"add_rows")?,
            gather: function(c"gather")?,
            append: function(c"append")?,
            append_fp8: function(c"append_fp8")?,
            unpack_fp8: function(c"unpack_fp8")?,
            combine: function(c"combine")?,
            put: Put(function(c"put")?),
        })
    }

    /// One block of threads per row, a thread for about `work` elements.
    fn per_row(
        &self,
        kernel: &Function,
        rows: usize,
        work: usize,
        arguments: &[&dyn Argument],
    ) -> Result<(), CudaError> {
        let rows = int("the number of rows", rows)?;
        let threads = work.next_multiple_of(32).clamp(32, 512) as u32;
        // SAFETY: each caller passes what the kernel of its name declares, with lengths checked.
        unsafe { kernel.launch([rows as u32, 1, 1], [threads, 1, 1], 0, arguments) }
    }

    /// `x[t] = table[tokens[t]]`; of a token that is not below the table's height, the last row.
    pub(super) fn embed(
        &self,
        table: View<'_, bf16>,
        tokens: View<'_, u32>,
        hidden: usize,
        x: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        same_length("x", tokens.len() * hidden, x.len())?;
        same_device("x", &self.device, x.device())?;
        let (width, vocab) = (hidden as i32, (table.len() / hidden) as u32);
        if vocab == 0 {
            return Err(CudaError::Length { what: "the table", expected: hidden, found: 0 });
        }
        let arguments: [&dyn Argument; 5] = [&table, &tokens, &x, &width, &vocab];
        self.per_row(&self.embed, tokens.len(), hidden / 4, &arguments)
    }

    /// Cosines, then sines, of every position's angles.
    pub(super) fn angles(
        &self,
        frequencies: View<'_, f32>,
        positions: View<'_, u32>,
        out: ViewMut<'_, f32>,
    ) -> Result<(), CudaError> {
        let dim = 2 * frequencies.len();
        same_length("angles", positions.len() * dim, out.len())?;
        let rows = positions.len();
        let arguments: [&dyn Argument; 4] = [&frequencies, &positions, &out, &(dim as i32)];
        self.per_row(&self.angles, rows, dim / 2, &arguments)
    }

    /// `out[r] = x[r] / rms(x[r]) * weight`.
    pub(super) fn rms_norm(
        &self,
        x: View<'_, f32>,
        weight: View<'_, f32>,
        eps: f32,
        out: ViewMut<'_, bf16>,
    ) -> Result<(), CudaError> {
        same_length("out", x.len(), out.len())?;
        let (width, rows) = (weight.len() as i32, x.len() / weight.len());
        let arguments: [&dyn Argument; 5] = [&x, &weight, &eps, &out, &width];
        self.per_row(&self.rms_norm, rows, weight.len() / 4, &arguments)
    }

    /// Takes rows of q, k and v apart, normalises heads if `norms` are given, and rotates.
    pub(super) fn split_rotate(
        &self,
        qkv: View<'_, bf16>,
        shape: HeadShape,
        norms: Option<HeadNorms<'_>>,
        angles: View<'_, f32>,
        [q, k, v]: [ViewMut<'_, bf16>; 3],
    ) -> Result<(), CudaError> {
        let tokens = qkv.len() / shape.qkv_width();
        same_length("q", tokens * shape.q_width(), q.len())?;
        same_length("k", tokens * shape.kv_width(), k.len())?;
        same_length("v", tokens * shape.kv_width(), v.len())?;
        same_length("angles", tokens * shape.head_dim, angles.len())?;
        let sizes = [shape.heads as i32, shape.kv_heads as i32, shape.head_dim as i32];
        let (none, eps) = (0u64, norms.map_or(0.0, |(_, _, eps)| eps));
        let (q_norm, k_norm): (&dyn Argument, &dyn Argument) = match &norms {
            Some((q, k, _)) => (q, k),
            None => (&none, &none),
        };
        let arguments: [&dyn Argument; 11] =
            [&qkv, &angles, q_norm, k_norm, &eps, &q, &k, &v, &sizes[0], &sizes[1], &sizes[2]];
        self.per_row(&self.split_rotate, tokens, 256, &arguments)
    }

    /// `out = silu(gate) * up` for rows of `[gate, up]`.
    pub(super) fn silu_mul(
        &self,
        gate_up: View<'_, bf16>,
        width: usize,
        out: ViewMut<'_, bf16>,
    ) -> Result<(), CudaError> {
        same_length("gate and up", 2 * out.len(), gate_up.len())?;
        let rows = out.len() / width;
        self.per_row(&self.silu_mul, rows, width / 8, &[&gate_up, &out, &(width as i32)])
    }

    /// `y[r] += bias`.
    pub(super) fn add_bias_bf16(
        &self,
        y: ViewMut<'_, bf16>,
        bias: View<'_, f32>,
    ) -> Result<(), CudaError> {
        let (width, rows) = (bias.len(), y.len() / bias.len());
        self.per_row(&self.add_bias_bf16, rows, width / 4, &[&y, &bias, &(width as i32)])
    }

    /// `y[r] += bias`.
    pub(super) fn add_bias_f32(
        &self,
        y: ViewMut<'_, f32>,
        bias: View<'_, f32>,
    ) -> Result<(), CudaError> {
        let (width, rows) = (bias.len(), y.len() / bias.len());
        self.per_row(&self.add_bias_f32, rows, width / 4, &[&y, &bias, &(width as i32)])
    }

    /// Copies new keys and values behind the first `offset` elements of their caches; when a
    /// recorded step is replayed, as much later as it is.
    pub(super) fn append(
        &self,
        [k, v]: [View<'_, bf16>; 2],
        [keys, values]: [ViewMut<'_, bf16>; 2],
        offset: usize,
    ) -> Result<(), CudaError> {
        same_length("v", k.len(), v.len())?;
        let (elements, room) = (k.len(), keys.len().min(values.len()));
        if offset + elements > room {
            return Err(CudaError::Range { range: offset..offset + elements, len: room });
        }
        self.device.limit_later((room - offset - elements).checked_div(elements).unwrap_or(0));
        let (count, offset) = (int("the number of appended elements", elements)?, offset as i64);
        // A token is as long as what is appended: only steps of one token are recorded.
        let later = self.device.later();
        let arguments: [&dyn Argument; 8] =
            [&k, &v, &keys, &values, &count, &offset, &later, &count];
        let blocks = elements.div_ceil(APPEND_THREADS as usize * 8) as u32;
        // SAFETY: the kernel's parameters, in its order; both caches have room, and where a step is
        // recorded, for as much more as the limit lets it be later.
        unsafe { self.append.launch([blocks, 2, 1], [APPEND_THREADS, 1, 1], 0, &arguments) }
    }

    /// As [`RowKernels::append`], rounded to e4m3 with a scale per token and head: `caches` are
    /// codes `[room, kv_heads, head_dim]` and scales `[room, kv_heads]`, behind whose first
    /// `offset` tokens the new ones go.
    pub(super) fn append_fp8(
        &self,
        [k, v]: [View<'_, bf16>; 2],
        shape: HeadShape,
        caches: [(ViewMut<'_, u8>, ViewMut<'_, f32>); 2],
        offset: usize,
    ) -> Result<(), CudaError> {
        same_length("v", k.len(), v.len())?;
        let tokens = k.len() / shape.kv_width();
        for (codes, scales) in &caches {
            for (room, each) in [(codes.len(), shape.kv_width()), (scales.len(), shape.kv_heads)] {
                let range = offset * each..(offset + tokens) * each;
                if range.end > room {
                    return Err(CudaError::Range { range, len: room });
                }
                self.device.limit_later((room - range.end) / each);
            }
        }
        let [(key_codes, key_scales), (value_codes, value_scales)] = &caches;
        let (heads, dim) = (shape.kv_heads as i32, shape.head_dim as i32);
        int("the number of appended tokens", tokens)?;
        let (offset, later) = (offset as i64, self.device.later());
        let arguments: [&dyn Argument; 10] = [
            &k,
            &v,
            key_codes,
            key_scales,
            value_codes,
            value_scales,
            &offset,
            &later,
            &heads,
            &dim,
        ];
        let threads = (shape.kv_width() / 8).next_multiple_of(32).clamp(32, 256) as u32;
        // SAFETY: the kernel's parameters, in its order; the caches have room, and where a step is
        // recorded, for as much more as the limit lets it be later.
        unsafe { self.append_fp8.launch([tokens as u32, 2, 1], [threads, 1, 1], 0, &arguments) }
    }

    /// The keys that [`RowKernels::append_fp8`] rounded.
    pub(super) fn unpack_fp8(
        &self,
        codes: View<'_, u8>,
        scales: View<'_, f32>,
        shape: HeadShape,
        out: ViewMut<'_, bf16>,
    ) -> Result<(), CudaError> {
        same_length("out", codes.len(), out.len())?;
        same_length("the scales", codes.len() / shape.head_dim, scales.len())?;
        let (heads, dim) = (shape.kv_heads as i32, shape.head_dim as i32);
        let arguments: [&dyn Argument; 5] = [&codes, &scales, &out, &heads, &dim];
        self.per_row(&self.unpack_fp8, codes.len() / shape.kv_width(), 256, &arguments)
    }

    /// The token that each of `choices` takes; `None` if one of its logits is not finite. Waits.
    pub(super) fn choose(
        &self,
        choices: &mut [RowChoice<'_>],
    ) -> Result<Vec<Option<u32>>, CudaError> {
        self.device.not_recording("the choice of a token")?;
        // The likeliest of all rows is found many times faster by its own kernel.
        let largest = choices.iter().all(|choice| choice.sampling.is_largest());
        let kernel = if largest { &self.argmax } else { &self.sample };
        let result = Buffer::<u32>::uninit(&self.device, 2 * choices.len())?;
        for (turn, choices) in choices.chunks_mut(CHOICES).enumerate() {
            let mut rows = Choices([RawChoice::default(); CHOICES]);
            for (raw, choice) in rows.0.iter_mut().zip(choices.iter_mut()) {
                *raw = choice.raw()?;
            }
            let first = 2 * turn * CHOICES;
            let result = result.slice(first..first + 2 * choices.len())?;
            let grid = [choices.len() as u32, 1, 1];
            // SAFETY: the kernel's parameters, in its order: a block for each row, whose logits and
            // flags are as many as it says, and two numbers of the result.
            unsafe { kernel.launch(grid, [CHOICE_THREADS, 1, 1], 0, &[&rows, &result])? };
        }
        let result = result.to_vec()?;
        Ok(result.chunks_exact(2).map(|row| (row[1] == 1).then_some(row[0])).collect())
    }

    /// Adds the rows of `rows [n, width]` up into `sums [width]`, which begin at what they are, or
    /// at 0 if it is the `first` time.
    pub(super) fn add_rows(
        &self,
        rows: View<'_, f32>,
        sums: ViewMut<'_, f32>,
        first: bool,
    ) -> Result<(), CudaError> {
        let (width, count) = (sums.len(), rows.len() / sums.len().max(1));
        same_length("the rows to add up", count * width, rows.len())?;
        let (count, first) = (int("the number of rows", count)?, i32::from(first));
        let width = width as i64;
        let blocks = int("the number of blocks", sums.len().div_ceil(256))? as u32;
        let arguments: [&dyn Argument; 5] = [&rows, &sums, &count, &width, &first];
        // SAFETY: the kernel's parameters, in its order; a thread for each of `width` sums.
        unsafe { self.add_rows.launch([blocks, 1, 1], [256, 1, 1], 0, &arguments) }
    }

    /// `to` = the `chosen` rows of `from`, whose rows have `width` elements.
    pub(super) fn gather<T: Element>(
        &self,
        from: View<'_, T>,
        chosen: (&[u32], View<'_, u32>),
        to: ViewMut<'_, T>,
        width: usize,
    ) -> Result<(), CudaError> {
        let (chosen, on_device) = chosen;
        let rows = from.len() / width.max(1);
        if let Some(row) = chosen.iter().find(|row| **row as usize >= rows) {
            return Err(CudaError::Range { range: *row as usize..*row as usize + 1, len: rows });
        }
        same_length("the chosen rows", chosen.len(), on_device.len())?;
        same_length("what is gathered", chosen.len() * width, to.len())?;
        let bytes = int("the bytes of a row", width * size_of::<T>())?;
        let arguments: [&dyn Argument; 4] = [&from, &on_device, &to, &bytes];
        self.per_row(&self.gather, chosen.len(), bytes as usize / 16, &arguments)
    }

    /// Merges the partial attention `(part, part_lse)` into `(out, lse)`.
    pub(super) fn merge(
        &self,
        out: ViewMut<'_, bf16>,
        lse: ViewMut<'_, f32>,
        part: View<'_, bf16>,
        part_lse: View<'_, f32>,
    ) -> Result<(), CudaError> {
        same_length("part", out.len(), part.len())?;
        same_length("its lse", lse.len(), part_lse.len())?;
        if lse.is_empty() {
            return Ok(());
        }
        let rows = int("the number of rows", lse.len())?;
        let dim = (out.len() / lse.len()) as i32;
        let arguments: [&dyn Argument; 6] = [&out, &lse, &part, &part_lse, &rows, &dim];
        let blocks = (rows as u32).div_ceil(MERGE_THREADS / 32);
        // SAFETY: as above; a warp per row, those beyond the last do nothing.
        unsafe { self.merge.launch([blocks, 1, 1], [MERGE_THREADS, 1, 1], 0, &arguments) }
    }

    /// `out [rows, head_dim]` = the partial attentions `parts [count, rows, head_dim]`, whose
    /// log-sum-exps are `lse [count, rows]`, merged.
    pub(super) fn merge_all(
        &self,
        count: usize,
        parts: View<'_, bf16>,
        lse: View<'_, f32>,
        out: ViewMut<'_, bf16>,
    ) -> Result<(), CudaError> {
        same_length("the parts", count * out.len(), parts.len())?;
        let rows = lse.len() / count.max(1);
        same_length("their lse", count * rows, lse.len())?;
        if rows == 0 {
            return Ok(());
        }
        let dim = out.len() / rows;
        same_length("out", rows * dim, out.len())?;
        let counts =
            [int("the number of parts", count)?, int("the number of rows", rows)?, dim as i32];
        let arguments: [&dyn Argument; 6] =
            [&out, &parts, &lse, &counts[0], &counts[1], &counts[2]];
        let threads = (dim as u32).next_multiple_of(32).min(1024);
        // SAFETY: the kernel's parameters, in its order; a block per row.
        unsafe { self.merge_all.launch([counts[1] as u32, 1, 1], [threads, 1, 1], 0, &arguments) }
    }
}

/// `count` as the kernels take it.
pub(super) fn int(what: &'static str, count: usize) -> Result<i32, CudaError> {
    i32::try_from(count).map_err(|_| CudaError::TooMany { what, found: count })
}

#[cfg(test)]
mod tests {
    use super::int;

    #[test]
    fn counts_beyond_32_bits_are_refused_by_name() {
        assert_eq!(int("rows", i32::MAX as usize).unwrap(), i32::MAX);
        // What a ring's shard of two million tokens appends at once.
        let error = int("the number of appended elements", 1 << 31).unwrap_err().to_string();
        assert!(error.contains("appended elements is 2147483648"), "{error}");
    }
}
