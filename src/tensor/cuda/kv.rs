//! Cached keys and values on the device.

use super::rows::RowKernels;
use super::{Buffer, CudaError, Device, Element, View, ViewMut};
use crate::tensor::{HeadShape, KvPrecision, Memory, Part};
use half::bf16;
use std::sync::Arc;

/// Cached keys or values; room that is not enough grows by an eighth.
pub struct Kv {
    shape: HeadShape,
    stored: Stored,
    /// Elements that are there.
    len: usize,
}

enum Stored {
    /// `[room, kv_heads, head_dim]`
    Bf16(Buffer<bf16>),
    /// e4m3 codes `[room, kv_heads, head_dim]` and scales `[room, kv_heads]`
    Fp8(Buffer<u8>, Buffer<f32>),
}

/// Some keys as they are, or as bf16 that was made of them.
pub(super) enum Bf16Keys<'a> {
    Stored(View<'a, bf16>),
    Unpacked(Buffer<bf16>),
}

impl Bf16Keys<'_> {
    pub(super) fn view(&self) -> View<'_, bf16> {
        match self {
            Self::Stored(view) => *view,
            Self::Unpacked(buffer) => buffer.view(),
        }
    }
}

impl Memory for Kv {
    fn len(&self) -> usize {
        self.len
    }

    fn bytes(&self) -> usize {
        let precision = match &self.stored {
            Stored::Bf16(_) => KvPrecision::Bf16,
            Stored::Fp8(..) => KvPrecision::Fp8,
        };
        self.len / self.shape.kv_width() * precision.row_bytes(self.shape)
    }
}

impl Kv {
    pub(super) fn with_capacity(
        device: &Arc<Device>,
        precision: KvPrecision,
        shape: HeadShape,
        capacity: usize,
    ) -> Result<Self, CudaError> {
        let stored = match precision {
            KvPrecision::Bf16 => Stored::Bf16(Buffer::uninit(device, capacity)?),
            KvPrecision::Fp8 => Stored::Fp8(
                Buffer::uninit(device, capacity)?,
                Buffer::uninit(device, capacity / shape.head_dim)?,
            ),
            KvPrecision::F32 => return Err(super::weights::only_bf16()),
        };
        Ok(Self { shape, stored, len: 0 })
    }

    /// Appends new keys and values: one launch in bf16, one each in fp8.
    pub(super) fn append(
        kernels: &RowKernels,
        [keys, values]: [&mut Self; 2],
        [k, v]: [View<'_, bf16>; 2],
    ) -> Result<(), CudaError> {
        let shape = keys.shape;
        for (cache, new) in [(&mut *keys, k), (&mut *values, v)] {
            cache.make_room(new.len())?;
        }
        match (&mut keys.stored, &mut values.stored) {
            (Stored::Bf16(keys_buffer), Stored::Bf16(values_buffer)) => {
                let to = [keys_buffer.view_mut(), values_buffer.view_mut()];
                kernels.append([k, v], to, keys.len)?;
            }
            (Stored::Fp8(key_codes, key_scales), Stored::Fp8(value_codes, value_scales)) => {
                let (start, end, dim) = (keys.len, keys.len + k.len(), shape.head_dim);
                for (new, codes, scales) in
                    [(k, key_codes, key_scales), (v, value_codes, value_scales)]
                {
                    let codes = codes.slice_mut(start..end)?;
                    let scales = scales.slice_mut(start / dim..end / dim)?;
                    kernels.pack_fp8(new, shape, codes, scales)?;
                }
            }
            _ => {
                let what = "keys and values in different precisions".into();
                return Err(CudaError::Unsupported { what });
            }
        }
        keys.len += k.len();
        values.len += v.len();
        Ok(())
    }

    /// Appends a part of another cache of the same precision.
    pub(super) fn extend(&mut self, part: Part<'_, Self>) -> Result<(), CudaError> {
        self.make_room(part.len)?;
        let (from, to) = (part.range(), self.len..self.len + part.len);
        let dim = self.shape.head_dim;
        match (&mut self.stored, &part.of.stored) {
            (Stored::Bf16(all), Stored::Bf16(new)) => {
                all.slice_mut(to)?.copy_from(new.slice(from)?)?;
            }
            (Stored::Fp8(codes, scales), Stored::Fp8(new_codes, new_scales)) => {
                let rows = |range: &std::ops::Range<usize>| range.start / dim..range.end / dim;
                scales.slice_mut(rows(&to))?.copy_from(new_scales.slice(rows(&from))?)?;
                codes.slice_mut(to)?.copy_from(new_codes.slice(from)?)?;
            }
            _ => {
                let what = "caches of two precisions in one session".into();
                return Err(CudaError::Unsupported { what });
            }
        }
        self.len += part.len;
        Ok(())
    }

    /// Makes room for `more` elements.
    fn make_room(&mut self, more: usize) -> Result<(), CudaError> {
        let (len, dim) = (self.len, self.shape.head_dim);
        match &mut self.stored {
            Stored::Bf16(all) => grow(all, len, more),
            Stored::Fp8(codes, scales) => {
                grow(codes, len, more)?;
                grow(scales, len / dim, more / dim)
            }
        }
    }

    /// Counts `more` elements as there, if there is room for them and a replayed step can fill it:
    /// packing fp8 is not made to be replayed.
    pub(super) fn advance(&mut self, more: usize) -> bool {
        let has_room = matches!(&self.stored, Stored::Bf16(all) if self.len + more <= all.len());
        if has_room {
            self.len += more;
        }
        has_room
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// A part as bf16.
    pub(super) fn bf16<'a>(
        kernels: &RowKernels,
        part: Part<'a, Self>,
    ) -> Result<Bf16Keys<'a>, CudaError> {
        let (range, shape) = (part.range(), part.of.shape);
        match &part.of.stored {
            Stored::Bf16(all) => Ok(Bf16Keys::Stored(all.slice(range)?)),
            Stored::Fp8(codes, scales) => {
                let rows = range.start / shape.head_dim..range.end / shape.head_dim;
                let mut unpacked = Buffer::uninit(codes.device(), range.len())?;
                let (codes, scales) = (codes.slice(range)?, scales.slice(rows)?);
                kernels.unpack_fp8(codes, scales, shape, unpacked.view_mut())?;
                Ok(Bf16Keys::Unpacked(unpacked))
            }
        }
    }
}

/// Gives `buffer`, of which `len` elements count, room for `more`.
fn grow<T: Element>(buffer: &mut Buffer<T>, len: usize, more: usize) -> Result<(), CudaError> {
    if len + more > buffer.len() {
        // An eighth more: twice as much of the keys of a long context would not fit.
        let room = (len + more).max(buffer.len() + buffer.len() / 8);
        let mut larger = Buffer::uninit(buffer.device(), room)?;
        let mut kept: ViewMut<'_, T> = larger.slice_mut(0..len)?;
        kept.copy_from(buffer.slice(0..len)?)?;
        *buffer = larger;
    }
    Ok(())
}
