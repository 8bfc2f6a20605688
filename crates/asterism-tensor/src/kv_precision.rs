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
}

impl KvPrecision {
    /// Bytes of the keys (or values) of one token in one layer.
    #[must_use]
    pub fn row_bytes(self, shape: HeadShape) -> usize {
        match self {
            Self::F32 => 4 * shape.kv_width(),
            Self::Bf16 => 2 * shape.kv_width(),
            Self::Fp8 => shape.kv_width() + 4 * shape.kv_heads,
        }
    }
}

/// Cached keys (or values) as they are stored, in the machine's memory. Numbers are little-endian.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KvBytes {
    /// `[tokens, kv_heads, head_dim]` in the precision they are cached in.
    pub elements: Vec<u8>,
    /// f32 `[tokens, kv_heads]` in fp8; nothing otherwise.
    pub scales: Vec<u8>,
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
        })
    }
}

/// A precision of another name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown precision {0:?}: expected bf16, f32 or fp8")]
pub struct UnknownKvPrecision(String);

impl FromStr for KvPrecision {
    type Err = UnknownKvPrecision;

    fn from_str(text: &str) -> Result<Self, UnknownKvPrecision> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "fp8" => Ok(Self::Fp8),
            other => Err(UnknownKvPrecision(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sizes() {
        let shape = HeadShape { heads: 32, kv_heads: 8, head_dim: 128 };
        for (name, bytes) in [("f32", 4096), ("bf16", 2048), ("fp8", 1056)] {
            let precision: KvPrecision = name.parse().unwrap();
            assert_eq!((precision.to_string().as_str(), precision.row_bytes(shape)), (name, bytes));
        }
        assert!("int8".parse::<KvPrecision>().unwrap_err().to_string().contains("fp8"));
    }
}
