//! How kernels other than attention are compiled and launched.

/// The compiler's options for `gemv.cu`.
pub(in crate::cuda) const GEMV_OPTIONS: [&str; 2] = ["-DWARPS=16", "-DRESIDENT=2"];

/// Threads of a block of it: `WARPS`, of 32.
pub(in crate::cuda) const GEMV_THREADS: u32 = 512;

/// Blocks of it that a multiprocessor holds: `RESIDENT`. Of the instance for 16 rows, one.
pub(in crate::cuda) const GEMV_RESIDENT: u32 = 2;

/// 32-bit words that a launch of `put` writes at most: they and the other arguments fit the 4 KiB
/// that all drivers pass.
pub(in crate::cuda) const PUT_WORDS: usize = 960;

/// Threads of a block of `put`.
pub(in crate::cuda) const PUT_THREADS: u32 = 256;

/// Threads of a block of `append`.
pub(in crate::cuda) const APPEND_THREADS: u32 = 128;

/// Rows of a launch of `argmax` or `sample` at most: they fit the 4 KiB of arguments.
pub(in crate::cuda) const CHOICES: usize = 64;

/// Threads of a block of `argmax`, and of `sample`.
pub(in crate::cuda) const CHOICE_THREADS: u32 = 1024;

/// Threads of a block of `merge`: a warp or less per row.
pub(in crate::cuda) const MERGE_THREADS: u32 = 256;

/// Threads of a block of `coarse.cu`.
pub(in crate::cuda) const COARSE_THREADS: u32 = 256;

/// Threads of a block of its `weigh`.
pub(in crate::cuda) const WEIGH_THREADS: u32 = 512;

/// How `statistics` is compiled and launched, for heads of one size.
#[derive(Debug, Clone)]
pub(in crate::cuda) struct StatisticsTile {
    pub(in crate::cuda) option: String,
    /// Products of a side of a block's tile.
    pub(in crate::cuda) side: usize,
    /// Threads of a side of that block.
    pub(in crate::cuda) threads: u32,
    /// Keys of a block, with four threads each.
    pub(in crate::cuda) keys: usize,
}

impl StatisticsTile {
    /// Vectors whose lengths a block computes.
    pub(in crate::cuda) const WARPS: usize = 8;

    /// For heads of `head_dim` elements, a multiple of 16 up to 256.
    pub(in crate::cuda) fn new(head_dim: usize) -> Option<Self> {
        (head_dim.is_multiple_of(16) && (16..=256).contains(&head_dim)).then(|| Self {
            option: format!("-DHEAD_DIM={head_dim}"),
            side: 64,
            threads: 16,
            keys: if head_dim <= 128 { 64 } else { 32 },
        })
    }
}

/// How `lines` is compiled and launched, for heads of one size.
#[derive(Debug, Clone)]
pub(in crate::cuda) struct LinesTile {
    pub(in crate::cuda) options: Vec<String>,
    /// Keys of a block of threads.
    pub(in crate::cuda) keys: usize,
    /// Rows at most.
    pub(in crate::cuda) rows: usize,
    pub(in crate::cuda) threads: u32,
    /// Bytes of dynamic shared memory of a block.
    pub(in crate::cuda) shared: u32,
}

impl LinesTile {
    pub(in crate::cuda) fn new(head_dim: usize) -> Self {
        let (keys, rows, warps) = (64, 128, 4);
        let options = [("HEAD_DIM", head_dim), ("KEYS", keys), ("ROWS", rows), ("WARPS", warps)];
        let shared = keys * (head_dim + 8) * 2 + rows * (keys + 1) * 4;
        Self {
            options: options.map(|(name, value)| format!("-D{name}={value}")).to_vec(),
            keys,
            rows,
            threads: 32 * warps as u32,
            shared: shared as u32,
        }
    }
}

/// How `mass` is compiled and launched, for heads of one size.
#[derive(Debug, Clone)]
pub(in crate::cuda) struct MassTile {
    pub(in crate::cuda) head_dim: usize,
    /// The compiler's options.
    pub(in crate::cuda) options: Vec<String>,
    /// Keys of a block of threads.
    pub(in crate::cuda) keys: usize,
    /// Threads of a block.
    pub(in crate::cuda) threads: u32,
    /// Bytes of dynamic shared memory of a block.
    pub(in crate::cuda) shared: u32,
}

impl MassTile {
    /// Of `mass.cu`.
    pub(in crate::cuda) fn new(head_dim: usize) -> Self {
        let (keys, warps) = (64, 4);
        let options = [("HEAD_DIM", head_dim), ("KEYS", keys), ("WARPS", warps)];
        Self {
            head_dim,
            options: options.map(|(name, value)| format!("-D{name}={value}")).to_vec(),
            keys,
            threads: 32 * warps as u32,
            shared: (keys * (head_dim + 8) * 2) as u32,
        }
    }

    /// Of `mass_naive.cu`.
    #[cfg(test)]
    pub(in crate::cuda) fn naive(head_dim: usize) -> Self {
        let options = vec![format!("-DHEAD_DIM={head_dim}")];
        Self { head_dim, options, keys: 4, threads: 128, shared: 0 }
    }
}
