//! The precision that keys and values are cached in.

use super::{HeadShape, Precision};
use std::str::FromStr;

/// How a cached key or value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvPrecision {
    /// 32-bit IEEE float.
    F32,
    /// bfloat16.
    Bf16,
    /// 8-bit float (e4m3: 4 bits of exponent, 3 of mantissa) with an f32 scale per token and head.
    /// GPUs only: half of bf16's memory.
    Fp8,
    /// Whole numbers from -127 to 127 with an f32 scale per token and head, the largest size of an
    /// element divided by 127. CPUs only: half of bf16's memory.
    Int8,
}

impl KvPrecision {
    /// Bytes of the keys (or values) of one token in one layer.
    #[must_use]
    pub fn row_bytes(self, shape: HeadShape) -> usize {
        match self {
            Self::F32 => 4 * shape.kv_width(),
            Self::Bf16 => 2 * shape.kv_width(),
            Self::Fp8 | Self::Int8 => shape.kv_width() + size_of::<f32>() * shape.kv_heads,
        }
    }

    /// Whether every head of a token has a scale.
    #[must_use]
    pub fn has_scales(self) -> bool {
        matches!(self, Self::Fp8 | Self::Int8)
    }
}

/// Cached keys (or values) as they are stored, in the machine's memory. Numbers are little-endian.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KvBytes {
    /// `[tokens, kv_heads, head_dim]` in the precision they are cached in.
    pub elements: Vec<u8>,
    /// f32 `[tokens, kv_heads]` in fp8 and int8; nothing otherwise.
    pub scales: Vec<u8>,
}

impl KvBytes {
    /// The numbers they stand for, `[tokens, kv_heads, head_dim]`, where they were cached in
    /// `precision`.
    ///
    /// # Panics
    /// If they are not whole elements, or in 8 bits not as many scales as belong to them.
    #[must_use]
    pub fn to_f32(&self, precision: KvPrecision, head_dim: usize) -> Vec<f32> {
        let floats = |bytes: &[u8]| -> Vec<f32> {
            let (all, rest) = bytes.as_chunks::<4>();
            assert!(rest.is_empty(), "{} bytes are not whole elements", bytes.len());
            all.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        };
        match precision {
            KvPrecision::F32 => floats(&self.elements),
            KvPrecision::Bf16 => {
                let (all, rest) = self.elements.as_chunks::<2>();
                assert!(rest.is_empty(), "{} bytes are not whole elements", self.elements.len());
                all.iter().map(|bytes| half::bf16::from_le_bytes(*bytes).to_f32()).collect()
            }
            KvPrecision::Fp8 | KvPrecision::Int8 => {
                let scales = floats(&self.scales);
                assert_eq!(scales.len() * head_dim, self.elements.len(), "scales of other keys");
                let number = |code: u8| match precision {
                    KvPrecision::Fp8 => e4m3(code),
                    _ => f32::from(code.cast_signed()),
                };
                let code = |(at, code): (usize, &u8)| number(*code) * scales[at / head_dim];
                self.elements.iter().enumerate().map(code).collect()
            }
        }
    }
}

/// The number of an e4m3 code: sign, 4 bits of exponent (bias 7), 3 of mantissa.
fn e4m3(code: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f32::from(code & 7));
    let size = match exponent {
        0 => mantissa / 8.0 * 2f32.powi(-6),
        15 if code & 7 == 7 => f32::NAN,
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    };
    if code & 0x80 == 0 { size } else { -size }
}

#[cfg(not(target_endian = "little"))]
compile_error!("cached keys are read and written as they lie in memory: little-endian");

impl From<Precision> for KvPrecision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

impl std::fmt::Display for KvPrecision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
            Self::Int8 => "int8",
        })
    }
}

/// A precision of another name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown precision {0:?}: expected bf16, f32, fp8 or int8")]
pub struct UnknownKvPrecision(String);

impl FromStr for KvPrecision {
    type Err = UnknownKvPrecision;

    fn from_str(text: &str) -> Result<Self, UnknownKvPrecision> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "fp8" => Ok(Self::Fp8),
            "int8" => Ok(Self::Int8),
            other => Err(UnknownKvPrecision(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_the_numbers_they_stand_for() {
        let f32s = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let bytes = KvBytes { elements: f32s, scales: Vec::new() };
        assert_eq!(bytes.to_f32(KvPrecision::F32, 2), [1.5, -2.0]);
        let bf16s =
            [1.5f32, -2.0].iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect();
        let bytes = KvBytes { elements: bf16s, scales: Vec::new() };
        assert_eq!(bytes.to_f32(KvPrecision::Bf16, 1), [1.5, -2.0]);
        let scales = [2.0f32, 0.5].iter().flat_map(|x| x.to_le_bytes()).collect();
        let bytes = KvBytes { elements: vec![0x38, 0xbc, 0x7e, 0x01], scales };
        assert_eq!(bytes.to_f32(KvPrecision::Fp8, 2), [2.0, -3.0, 224.0, 0.5 / 512.0]);
        let codes = KvBytes { elements: vec![127, 0x81, 0, 0xff], ..bytes };
        assert_eq!(codes.to_f32(KvPrecision::Int8, 2), [254.0, -254.0, 0.0, -0.5]);
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan());
    }

    #[test]
    fn names_and_sizes() {
        let shape = HeadShape { heads: 32, kv_heads: 8, head_dim: 128 };
        for (name, bytes) in [("f32", 4096), ("bf16", 2048), ("fp8", 1056), ("int8", 1056)] {
            let precision: KvPrecision = name.parse().unwrap();
            assert_eq!((precision.to_string().as_str(), precision.row_bytes(shape)), (name, bytes));
        }
        assert!("int4".parse::<KvPrecision>().unwrap_err().to_string().contains("int8"));
    }
}
