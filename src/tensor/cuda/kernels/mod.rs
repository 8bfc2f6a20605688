//! The CUDA C++ sources of our own kernels, and the sizes they are compiled with. NVRTC compiles them
//! when a GPU is opened; nothing of them is compiled before. They include no header: NVRTC alone is
//! enough.
//!
//! * `common.cuh`: bf16, reductions; in front of every source
//! * `rows.cu`: what of a layer is neither product nor attention
//! * `attend.cu`: attention on tensor cores; `attend_naive.cu`: its readable twin
//! * `merge.cu`: partial attentions into one
//! * `argmax.cu`: the greedy choice of a token
//! * `fp8.cu`: keys and values in 8 bits

/// A source that is compiled as one module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    /// What messages call it.
    pub(super) name: &'static str,
    parts: &'static [&'static str],
}

impl Source {
    /// The text.
    pub(super) fn text(self) -> String {
        self.parts.concat()
    }
}

/// Row by row; merges.
pub(super) const ROWS: Source = Source {
    name: "rows.cu",
    parts: &[
        include_str!("common.cuh"),
        include_str!("rows.cu"),
        include_str!("merge.cu"),
        include_str!("argmax.cu"),
        include_str!("fp8.cu"),
    ],
};

/// Attention; its macros are [`AttentionTile`]'s.
pub(super) const ATTENTION: Source = Source {
    name: "attend.cu",
    parts: &[include_str!("common.cuh"), include_str!("attend.cuh"), include_str!("attend.cu")],
};

/// The twin of [`ATTENTION`]; its macro is `HEAD_DIM`.
#[cfg(test)]
pub(super) const ATTENTION_NAIVE: Source = Source {
    name: "attend_naive.cu",
    parts: &[
        include_str!("common.cuh"),
        include_str!("attend.cuh"),
        include_str!("attend_naive.cu"),
    ],
};

/// Threads of a block of `merge`: a warp or less per row.
pub(super) const MERGE_THREADS: u32 = 256;

/// Sizes of one instance of the attention kernel: what its macros of the same names mean is said in
/// `attend.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AttentionTile {
    head_dim: usize,
    warps: usize,
    blocks: usize,
    teams: usize,
    keys: usize,
    stages: usize,
    /// Blocks that a multiprocessor holds at once.
    pub(super) resident: usize,
}

impl AttentionTile {
    /// The instance for many queries, for heads of `head_dim` elements (a multiple of 16 up to 256),
    /// where a block may have `shared_memory` bytes (99 KiB suffice).
    pub(super) fn large(head_dim: usize, shared_memory: usize) -> Option<Self> {
        // 32 rows per warp use every fragment of keys twice; larger heads leave registers for 16.
        // More keys at a time are better, as long as registers hold their scores.
        let (blocks, most_keys) = match head_dim {
            ..=80 | 128 => (2, 64),
            ..=127 => (2, 48),
            _ => (1, 32),
        };
        let tile =
            |keys| Self { head_dim, warps: 4, blocks, teams: 1, keys, stages: 2, resident: 2 };
        (1..=most_keys / 16).rev().find_map(|n| tile(n * 16).check(shared_memory))
    }

    /// The instance for few queries.
    pub(super) fn small(head_dim: usize, shared_memory: usize) -> Option<Self> {
        // Bytes on their way are what counts: of (teams, stages), the most that there is room for.
        let tile = |(teams, stages, resident)| Self {
            head_dim,
            warps: 1,
            blocks: 1,
            teams,
            keys: 16,
            stages,
            resident,
        };
        let sizes: &[_] =
            if head_dim <= 128 { &[(4, 2, 3)] } else { &[(4, 3, 1), (2, 3, 1), (2, 2, 1)] };
        sizes.iter().find_map(|&size| tile(size).check(shared_memory))
    }

    fn check(self, shared_memory: usize) -> Option<Self> {
        let computed = (16..=256).contains(&self.head_dim) && self.head_dim.is_multiple_of(16);
        (computed && self.shared() as usize <= shared_memory).then_some(self)
    }

    /// The compiler's options.
    pub(super) fn options(self) -> Vec<String> {
        [
            ("HEAD_DIM", self.head_dim),
            ("WARPS", self.warps),
            ("BLOCKS", self.blocks),
            ("TEAMS", self.teams),
            ("KEYS", self.keys),
            ("STAGES", self.stages),
            ("RESIDENT", self.resident),
        ]
        .iter()
        .map(|(name, value)| format!("-D{name}={value}"))
        .collect()
    }

    /// Rows (tokens x heads of a group) of one block of threads.
    pub(super) fn rows(self) -> usize {
        self.warps * self.blocks * 16
    }

    /// Threads of a block.
    pub(super) fn threads(self) -> u32 {
        (self.warps * self.teams * 32) as u32
    }

    /// Bytes of shared memory of a block.
    pub(super) fn shared(self) -> u32 {
        let rows = self.rows() + self.teams * self.stages * 2 * self.keys;
        (rows * (self.head_dim + 8) * 2) as u32
    }
}

#[cfg(test)]
mod tests;
