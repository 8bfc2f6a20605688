//! Keys and values put into caches, and taken out of them.

#![allow(unsafe_code)]

use super::{RowKernels, int};
use crate::HeadShape;
use crate::cuda::kernels::APPEND_THREADS;
use crate::cuda::view::same_length;
use crate::cuda::{Argument, CudaError, Element, View, ViewMut};
use half::bf16;

impl RowKernels {
    /// Copies new keys and values behind the first `offset` elements of their caches; when a
    /// recorded step is replayed, as much later as it is.
    pub(in crate::cuda) fn append(
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
    pub(in crate::cuda) fn append_fp8(
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
    pub(in crate::cuda) fn unpack_fp8(
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

    /// `to` = the `chosen` rows of `from`, whose rows have `width` elements.
    pub(in crate::cuda) fn gather<T: Element>(
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
}
