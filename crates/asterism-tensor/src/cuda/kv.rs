//! Cached keys and values on the device.

use super::allocation::Allocation;
use super::kernels::FEW_ROWS;
use super::rows::RowKernels;
use super::{Buffer, CudaError, Device, Element, Piece, Stream, View, ViewMut};
use crate::{HeadShape, KvBytes, KvPrecision, Memory, Part};
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

/// Some cached keys (or values), as they are stored.
#[derive(Clone, Copy)]
pub(super) enum KvView<'a> {
    /// `[tokens, kv_heads, head_dim]`
    Bf16(View<'a, bf16>),
    /// e4m3 codes `[tokens, kv_heads, head_dim]` and scales `[tokens, kv_heads]`
    Fp8(View<'a, u8>, View<'a, f32>),
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
            KvPrecision::F32 => return Err(super::error::only_bf16()),
            KvPrecision::Int8 => return Err(super::error::no_int8()),
        };
        Ok(Self { shape, stored, len: 0 })
    }

    /// `len` elements that `stream` will fill, by way of [`Self::pieces`].
    ///
    /// # Errors
    /// If there is no memory for them, or keys cannot be kept in `precision` on a GPU.
    pub fn to_fill(
        stream: &Stream,
        precision: KvPrecision,
        shape: HeadShape,
        len: usize,
    ) -> Result<Self, CudaError> {
        let stored = match precision {
            KvPrecision::Bf16 => Stored::Bf16(stream.uninit(len)?),
            KvPrecision::Fp8 => {
                Stored::Fp8(stream.uninit(len)?, stream.uninit(len / shape.head_dim)?)
            }
            KvPrecision::F32 => return Err(super::error::only_bf16()),
            KvPrecision::Int8 => return Err(super::error::no_int8()),
        };
        Ok(Self { shape, stored, len })
    }

    /// The memory of its elements, and of their scales if they have any.
    ///
    /// # Errors
    /// Never for elements that are there.
    pub fn pieces(&self) -> Result<Vec<Piece>, CudaError> {
        Ok(match Self::view(Part::new(self, 0..self.len))? {
            KvView::Bf16(all) => vec![all.piece()],
            KvView::Fp8(codes, scales) => vec![codes.piece(), scales.piece()],
        })
    }

    /// Appends new keys and values.
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
                let keys_to = (key_codes.view_mut(), key_scales.view_mut());
                let values_to = (value_codes.view_mut(), value_scales.view_mut());
                let offset = keys.len / shape.kv_width();
                kernels.append_fp8([k, v], shape, [keys_to, values_to], offset)?;
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

    /// A copy of a part as it is stored, on the host. Waits.
    pub(super) fn bytes_of(part: Part<'_, Self>) -> Result<KvBytes, CudaError> {
        let bytes = match Self::view(part)? {
            KvView::Bf16(all) => KvBytes { elements: read(all)?, scales: Vec::new() },
            KvView::Fp8(codes, scales) => KvBytes { elements: read(codes)?, scales: read(scales)? },
        };
        Ok(bytes)
    }

    /// Appends what [`Self::bytes_of`] gave of a cache of the same precision. Waits.
    ///
    /// # Panics
    /// If these are not whole elements, or not as many scales as belong to them.
    pub(super) fn extend_bytes(&mut self, stored: &KvBytes) -> Result<(), CudaError> {
        let (start, dim) = (self.len, self.shape.head_dim);
        let KvBytes { elements, scales } = stored;
        let count = match self.stored {
            Stored::Bf16(_) => elements.len() / size_of::<bf16>(),
            Stored::Fp8(..) => elements.len(),
        };
        self.make_room(count)?;
        let rows = |count: usize| match self.stored {
            Stored::Bf16(_) => 0,
            Stored::Fp8(..) => count / dim,
        };
        assert_eq!(scales.len(), rows(count) * size_of::<f32>(), "scales of other keys");
        let to = start..start + count;
        match &mut self.stored {
            Stored::Bf16(all) => write(all.slice_mut(to)?, elements)?,
            Stored::Fp8(codes, all_scales) => {
                write(all_scales.slice_mut(to.start / dim..to.end / dim)?, scales)?;
                write(codes.slice_mut(to)?, elements)?;
            }
        }
        self.len += count;
        Ok(())
    }

    /// The `chosen` tokens of a part of a cache whose tokens have the heads of `shape`, in that
    /// order. Waits.
    ///
    /// # Panics
    /// If a chosen token is not one of them.
    pub(super) fn gather(
        kernels: &RowKernels,
        part: Part<'_, Self>,
        shape: HeadShape,
        chosen: &[u32],
    ) -> Result<Self, CudaError> {
        let (width, heads) = (shape.kv_width(), shape.kv_heads);
        let tokens = part.len / width;
        let outside = chosen.iter().find(|token| **token as usize >= tokens);
        assert!(outside.is_none(), "token {outside:?} of {tokens} chosen");
        let view = Self::view(part)?;
        let device = view.device();
        let on_device = Buffer::from_slice(device, chosen)?;
        let index = (chosen, on_device.view());
        let stored = match view {
            KvView::Bf16(all) => {
                let mut to = Buffer::uninit(device, chosen.len() * width)?;
                kernels.gather(all, index, to.view_mut(), width)?;
                Stored::Bf16(to)
            }
            KvView::Fp8(codes, scales) => {
                let mut to = Buffer::uninit(device, chosen.len() * width)?;
                let mut to_scales = Buffer::uninit(device, chosen.len() * heads)?;
                kernels.gather(codes, index, to.view_mut(), width)?;
                kernels.gather(scales, index, to_scales.view_mut(), heads)?;
                Stored::Fp8(to, to_scales)
            }
        };
        Ok(Self { shape, stored, len: chosen.len() * width })
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
    /// keys in 8 bits that must be unpacked for attention are unpacked up to those there now.
    pub(super) fn advance(&mut self, more: usize) -> bool {
        let room = match &self.stored {
            Stored::Bf16(all) => all.len(),
            Stored::Fp8(codes, _) if self.shape.group() <= FEW_ROWS => codes.len(),
            Stored::Fp8(..) => 0,
        };
        let has_room = self.len + more <= room;
        if has_room {
            self.len += more;
        }
        has_room
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// A part as it is stored.
    pub(super) fn view(part: Part<'_, Self>) -> Result<KvView<'_>, CudaError> {
        let (range, dim) = (part.range(), part.of.shape.head_dim);
        match &part.of.stored {
            Stored::Bf16(all) => Ok(KvView::Bf16(all.slice(range)?)),
            Stored::Fp8(codes, scales) => {
                let rows = range.start / dim..range.end / dim;
                Ok(KvView::Fp8(codes.slice(range)?, scales.slice(rows)?))
            }
        }
    }
}

/// The bytes of elements on the device. Waits.
fn read<T: Element>(view: View<'_, T>) -> Result<Vec<u8>, CudaError> {
    let mut bytes = vec![0; view.len() * size_of::<T>()];
    match bytemuck::try_cast_slice_mut(&mut bytes) {
        Ok(elements) => view.read(elements)?,
        // They came to lie where no element could.
        Err(_) => bytes.copy_from_slice(bytemuck::cast_slice(&view.to_vec()?)),
    }
    Ok(bytes)
}

/// Copies the bytes of as many elements to the device. Waits.
fn write<T: Element>(mut to: ViewMut<'_, T>, bytes: &[u8]) -> Result<(), CudaError> {
    match bytemuck::try_cast_slice(bytes) {
        Ok(elements) => to.write(elements),
        Err(_) => to.write(&bytemuck::pod_collect_to_vec(bytes)),
    }
}

impl<'a> KvView<'a> {
    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Bf16(all) => all.len(),
            Self::Fp8(codes, _) => codes.len(),
        }
    }

    /// The device they are on.
    pub(super) fn device(&self) -> &'a Arc<Device> {
        match self {
            Self::Bf16(all) => all.device(),
            Self::Fp8(codes, _) => codes.device(),
        }
    }

    /// The memory that they are in.
    pub(super) fn memory(&self) -> Vec<&'a Arc<Allocation>> {
        match self {
            Self::Bf16(all) => vec![all.memory],
            Self::Fp8(codes, scales) => vec![codes.memory, scales.memory],
        }
    }

    /// How many more elements lie behind them in that memory.
    pub(super) fn behind(&self) -> usize {
        match self {
            Self::Bf16(all) => all.behind(),
            Self::Fp8(codes, scales) if !scales.is_empty() => {
                codes.behind().min(scales.behind() * (codes.len() / scales.len()))
            }
            Self::Fp8(..) => 0,
        }
    }

    /// Addresses of the elements and of their scales, 0 for none.
    pub(super) fn pointers(&self) -> (u64, u64) {
        match self {
            Self::Bf16(all) => (all.pointer, 0),
            Self::Fp8(codes, scales) => (codes.pointer, scales.pointer),
        }
    }

    /// The same as bf16; `unpacked` holds what had to be made for that.
    pub(super) fn bf16<'b>(
        self,
        kernels: &RowKernels,
        shape: HeadShape,
        unpacked: &'b mut Option<Buffer<bf16>>,
    ) -> Result<View<'b, bf16>, CudaError>
    where
        'a: 'b,
    {
        match self {
            Self::Bf16(all) => Ok(all),
            Self::Fp8(codes, scales) => {
                let buffer = unpacked.insert(Buffer::uninit(codes.device(), codes.len())?);
                kernels.unpack_fp8(codes, scales, shape, buffer.view_mut())?;
                Ok(buffer.view())
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
