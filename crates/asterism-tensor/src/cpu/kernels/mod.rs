//! Inner loops, one table of functions per instruction set.
//!
//! `portable` holds the readable version of every kernel; `x86` compiles the same bodies again
//! for AVX2 and AVX-512 (the compiler vectorises them) and replaces the matrix tile, which decides
//! the speed, by hand-written instructions. All tables have the same signatures, and the tests
//! compare each with the portable one on fresh random inputs.
//!
//! These kernels compute in f32. Where the processor multiplies bf16, `tiles` holds a second set
//! for weights and keys in bf16.

#[cfg(target_arch = "x86_64")]
mod few;
#[cfg(target_arch = "x86_64")]
mod few8;
#[cfg(target_arch = "x86_64")]
mod many;
pub(super) mod portable;
#[cfg(target_arch = "x86_64")]
mod row;
pub(super) mod tiles;
#[cfg(target_arch = "x86_64")]
mod unpack;
#[cfg(target_arch = "x86_64")]
mod x86;

use half::bf16;
#[cfg(target_arch = "x86_64")]
use portable::FEW;
use tiles::TileKernels;

/// An instruction set we have kernels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// AMX with BF16: a matrix unit; AVX-512 for the rest.
    Amx,
    /// AVX-512 with BF16 dot products.
    Avx512Bf16,
    /// AVX-512 F/BW/DQ/VL: 32 registers of 16 floats.
    Avx512,
    /// AVX2 and FMA: 16 registers of 8 floats.
    Avx2,
    /// Plain Rust.
    Portable,
    /// Plain Rust over the bf16 tiles that a matrix unit takes: the slow reference for
    /// [`Isa::Amx`].
    Tiles,
}

impl Isa {
    /// Every instruction set, best first.
    pub const ALL: [Self; 6] =
        [Self::Amx, Self::Avx512Bf16, Self::Avx512, Self::Avx2, Self::Portable, Self::Tiles];

    /// Whether this machine has it.
    #[must_use]
    pub fn available(self) -> bool {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => Self::Avx512Bf16.available() && tiles::amx::available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => Self::Avx512.available() && is_x86_feature_detected!("avx512bf16"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("fma")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Self::Portable | Self::Tiles => true,
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// The best instruction set of this machine.
    #[must_use]
    pub fn best() -> Self {
        Self::ALL.into_iter().find(|isa| isa.available()).unwrap_or(Self::Portable)
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Amx => "amx",
            Self::Avx512Bf16 => "avx512bf16",
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
            Self::Tiles => "tiles",
        })
    }
}

impl std::str::FromStr for Isa {
    type Err = super::CpuError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|isa| isa.to_string() == s)
            .ok_or_else(|| super::CpuError::UnknownIsa(s.to_owned()))
    }
}

/// `(a, lda, rows, k, b, c, ldc, accumulate)`: see [`portable::multiply`].
pub(crate) type Multiply = fn(&[f32], usize, usize, usize, &[f32], &mut [f32], usize, bool);

/// `(rows, inputs, panel, out, elements between rows of out)`: a few rows times one panel. What a
/// row's products are does not depend on the others, to the last bit: see `portable::rows_panel`.
pub(crate) type RowsTimesPanel<T> = fn(&[f32], usize, &[T], &mut [f32], usize);

/// The kernels of one instruction set.
pub(crate) struct Kernels {
    pub(crate) isa: Isa,
    /// The kernels for bf16 weights and keys, if they are not widened to f32.
    pub(crate) tiles: Option<TileKernels>,
    /// Columns of one packed panel of a matrix: what one tile covers.
    pub(crate) panel: usize,
    /// Multiplies and adds for so many rounds, in registers; returns the operations done.
    pub(crate) peak: fn(usize) -> u64,
    /// One panel of a matrix product.
    pub(crate) multiply: Multiply,
    /// bf16 to f32.
    pub(crate) widen: fn(&[bf16], &mut [f32]),
    /// f32 to bf16, to the nearest, ties to even.
    pub(crate) narrow: fn(&[f32], &mut [bf16]),
    /// A few rows times one f32 panel.
    pub(crate) rows_f32: RowsTimesPanel<f32>,
    /// A few rows times one bf16 panel.
    pub(crate) rows_bf16: RowsTimesPanel<bf16>,
    /// `(scores, largest so far)` to weights; returns the largest and their sum: see
    /// `portable::softmax_row`.
    pub(crate) softmax_row: fn(&mut [f32], f32) -> (f32, f32),
    /// `x *= factor`.
    pub(crate) scale: fn(&mut [f32], f32),
    /// `gate = silu(gate) * up`.
    pub(crate) silu_mul: fn(&mut [f32], &[f32]),
    /// `out = x / rms(x) * weight`.
    pub(crate) rms_norm: fn(&[f32], &[f32], f32, &mut [f32]),
    /// Rotates one head.
    pub(crate) rotate: fn(&mut [f32], &[f32], &[f32]),
    /// `out += factor * x`.
    pub(crate) add_scaled: fn(&mut [f32], f32, &[f32]),
    /// Scores of few query rows against f32 keys.
    pub(crate) score_f32: Few<f32>,
    /// Scores of few query rows against bf16 keys.
    pub(crate) score_bf16: Few<bf16>,
    /// Weighted sums of f32 values for few rows.
    pub(crate) weigh_f32: Few<f32>,
    /// Weighted sums of bf16 values for few rows.
    pub(crate) weigh_bf16: Few<bf16>,
    /// Scores of few query rows against keys in 8 bits.
    pub(crate) score_int8: Few<u8>,
    /// Weighted sums of values in 8 bits for few rows.
    pub(crate) weigh_int8: Few<u8>,
    /// Keys of one head as panels of columns.
    pub(crate) unpack_keys: UnpackKeys<bf16>,
    /// Values of one head as panels.
    pub(crate) unpack_values: UnpackValues<bf16>,
    /// The same of keys in f32.
    pub(crate) copy_keys: UnpackKeys<f32>,
    /// The same of values in f32.
    pub(crate) copy_values: UnpackValues<f32>,
    /// `(heads, dim, out)`: heads in 8 bits: see `portable::encode_int8`.
    pub(crate) encode_int8: fn(&[f32], usize, &mut [u8]),
    /// `(heads, stride, count, dim, out)`: see `portable::decode_int8`.
    pub(crate) decode_int8: fn(&[u8], usize, usize, usize, &mut [f32]),
}

/// `(keys, stride, count, dim, panels out)`: see `portable::unpack_keys`.
pub(crate) type UnpackKeys<T> = fn(&[T], usize, usize, usize, &mut [f32]);

/// `(values, stride, count, dim, panels out, elements between panels)`: see
/// `portable::unpack_values`.
pub(crate) type UnpackValues<T> = fn(&[T], usize, usize, usize, &mut [f32], usize);

/// A few rows of queries per KV head over keys or values of some tokens.
#[derive(Clone, Copy)]
pub(crate) struct FewRows {
    pub(crate) kv_heads: usize,
    /// Rows per KV head: queries times the heads of a group.
    pub(crate) rows: usize,
    /// Elements of a head.
    pub(crate) dim: usize,
}

impl FewRows {
    /// Elements of the keys, or of the values, of one token.
    pub(crate) fn kv_width(self) -> usize {
        self.kv_heads * self.dim
    }
}

/// `(shape, rows in, keys or values, rows out)`: see `portable::score` and `weigh`.
pub(crate) type Few<T> = fn(FewRows, &[f32], &[T], &mut [f32]);

/// Asks for `data` to be brought into the second-level cache, without waiting for it.
pub(crate) fn fetch(data: &[bf16]) {
    #[cfg(target_arch = "x86_64")]
    x86::fetch(data);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = data;
}

/// The portable kernels with bf16 tiles.
const TILES: Kernels =
    Kernels { isa: Isa::Tiles, tiles: Some(tiles::portable::KERNELS), ..portable::KERNELS };

impl Kernels {
    /// The kernels of `isa`, or `None` if this machine cannot run them.
    pub(crate) fn of(isa: Isa) -> Option<&'static Self> {
        if !isa.available() {
            return None;
        }
        match isa {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Isa::Amx => Some(&x86::AMX),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => Some(&x86::AVX512_BF16),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Some(&x86::avx512::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Some(&x86::avx2::KERNELS),
            Isa::Portable => Some(&portable::KERNELS),
            Isa::Tiles => Some(&TILES),
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
