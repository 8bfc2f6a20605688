//! One tensor of a checkpoint, as it lies in its file.
//!
//! Receives the raw little-endian bytes of a row-major tensor, at whatever alignment the file
//! gives them; gives the elements as `f32` or `bf16`.

use std::fmt;

use crate::model::ModelError;
use crate::tensor::{Aligned, Elements, Precision};
use half::{bf16, f16};

/// Element types of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DType {
    /// bfloat16: 8 bits of exponent, 7 of mantissa.
    Bf16,
    /// IEEE half precision: 5 bits of exponent, 10 of mantissa.
    F16,
    /// IEEE single precision.
    F32,
}

impl DType {
    /// Bytes per element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// A borrowed tensor. From a [`Checkpoint`](super::Checkpoint), `data` holds exactly the elements
/// of `shape`.
#[derive(Clone, PartialEq)]
pub struct TensorView<'a> {
    /// Element type.
    pub dtype: DType,
    /// Extents, slowest first. Projections are `[out, in]`.
    pub shape: Vec<usize>,
    /// Elements, little-endian, row-major, not necessarily aligned.
    pub data: &'a [u8],
}

impl TensorView<'_> {
    /// Refuses a matrix of one value. Zeros are what projections back into the residual stream hold
    /// in layers that were added to do nothing.
    pub(in crate::model) fn check_varied(&self, name: &str) -> Result<(), ModelError> {
        let size = self.dtype.size();
        let Some((first, rest)) = self.data.split_at_checked(size) else { return Ok(()) };
        if rest.is_empty() || rest.chunks_exact(size).any(|element| element != first) {
            return Ok(());
        }
        let first = TensorView { dtype: self.dtype, shape: vec![1], data: first };
        let value = first.to_f32().first().copied().unwrap_or_default();
        let adds_nothing = ["o_proj.weight", "down_proj.weight"].iter().any(|e| name.ends_with(e));
        if value == 0.0 && adds_nothing {
            return Ok(());
        }
        Err(ModelError::ConstantTensor { tensor: name.to_owned(), value })
    }

    /// The elements as `f32`, exactly: every value of the three types is an `f32`.
    #[must_use]
    pub fn to_f32(&self) -> Vec<f32> {
        self.floats()
    }

    /// The elements in `precision`: see [`TensorView::to_f32`] and [`TensorView::to_bf16`].
    #[must_use]
    pub fn to_elements(&self, precision: Precision) -> Elements {
        match precision {
            Precision::F32 => Elements::F32(self.floats()),
            Precision::Bf16 => Elements::Bf16(self.to_bf16()),
        }
    }

    fn floats<C: FromIterator<f32>>(&self) -> C {
        match self.dtype {
            DType::Bf16 => self.convert(|bytes| bf16::from_le_bytes(bytes).to_f32()),
            DType::F16 => self.convert(|bytes| f16::from_le_bytes(bytes).to_f32()),
            DType::F32 => self.convert(f32::from_le_bytes),
        }
    }

    /// Writes row `index` of a matrix `[rows, out.len()]`, exactly.
    pub fn row_to_f32(&self, index: usize, out: &mut [f32]) {
        let bytes = out.len() * self.dtype.size();
        let row = &self.data[index * bytes..][..bytes];
        match self.dtype {
            DType::Bf16 => convert_row(row, out, |b| bf16::from_le_bytes(b).to_f32()),
            DType::F16 => convert_row(row, out, |b| f16::from_le_bytes(b).to_f32()),
            DType::F32 => convert_row(row, out, f32::from_le_bytes),
        }
    }

    /// The elements as `bf16`: copied, or rounded to the nearest, ties to even. Of `F16`, 3 bits
    /// of mantissa are lost, of `F32` 16; values beyond the largest `bf16` become infinite.
    #[must_use]
    pub fn to_bf16(&self) -> Aligned<bf16> {
        match self.dtype {
            DType::Bf16 => self.convert(bf16::from_le_bytes),
            DType::F16 => self.convert(|bytes| bf16::from_f32(f16::from_le_bytes(bytes).to_f32())),
            DType::F32 => self.convert(|bytes| bf16::from_f32(f32::from_le_bytes(bytes))),
        }
    }

    fn convert<const N: usize, T, C>(&self, element: impl Fn([u8; N]) -> T) -> C
    where
        C: FromIterator<T>,
    {
        let (elements, _) = self.data.as_chunks::<N>();
        elements.iter().map(|bytes| element(*bytes)).collect()
    }
}

fn convert_row<const N: usize>(row: &[u8], out: &mut [f32], element: impl Fn([u8; N]) -> f32) {
    for (out, bytes) in out.iter_mut().zip(row.as_chunks::<N>().0) {
        *out = element(*bytes);
    }
}

/// Type, shape and size: the data may be gigabytes.
impl fmt::Debug for TensorView<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TensorView")
            .field("dtype", &self.dtype)
            .field("shape", &self.shape)
            .field("bytes", &self.data.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(dtype: DType, data: &[u8]) -> TensorView<'_> {
        TensorView { dtype, shape: vec![data.len() / dtype.size()], data }
    }

    #[test]
    fn elements_may_lie_at_odd_addresses() {
        let values = [1.5f32, -0.0, f32::MAX, 3.0e-39];
        let mut padded = vec![0u8];
        padded.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        assert_eq!(view(DType::F32, &padded[1..]).to_f32(), values);
    }

    #[test]
    fn bf16_is_copied_bit_for_bit() {
        let bits = [0x3f80u16, 0x7f80, 0x0001, 0x8000];
        let data: Vec<u8> = bits.iter().flat_map(|value| value.to_le_bytes()).collect();
        let copied = view(DType::Bf16, &data).to_bf16();
        assert_eq!(copied.map_bits(), bits);
    }

    #[test]
    fn f16_is_converted_by_value() {
        // 1.0, the largest half, the smallest subnormal half: the two types share no bit pattern.
        let data: Vec<u8> =
            [0x3c00u16, 0x7bff, 0x0001].iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor = view(DType::F16, &data);
        assert_eq!(tensor.to_f32(), [1.0, 65504.0, 2.0f32.powi(-24)]);
        assert_eq!(tensor.to_bf16().map_bits(), [0x3f80, 0x4780, 0x3380]);
    }

    #[test]
    fn rows_are_cut_at_their_own_size() {
        let data: Vec<u8> = (0..6u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
        let tensor = TensorView { dtype: DType::F32, shape: vec![3, 2], data: &data };
        let mut row = [9.0; 2];
        tensor.row_to_f32(2, &mut row);
        assert_eq!(row, [4.0, 5.0]);
    }

    #[test]
    fn f32_is_rounded_to_the_nearest_even_bf16() {
        // Just above half a unit of the last place of bf16, and exactly half of it (ties to even).
        let data: Vec<u8> = [0x3f80_8001u32, 0x3f80_8000, 0x3f81_8000]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let rounded = view(DType::F32, &data).to_bf16();
        assert_eq!(rounded.map_bits(), [0x3f81, 0x3f80, 0x3f82]);
    }

    trait Bits {
        fn map_bits(&self) -> Vec<u16>;
    }

    impl Bits for Aligned<bf16> {
        fn map_bits(&self) -> Vec<u16> {
            self.iter().map(|value| value.to_bits()).collect()
        }
    }
}
