//! The CUDA C++ sources of our own kernels, and the sizes they are compiled with. NVRTC compiles them
//! when a GPU is opened; nothing of them is compiled before.
//!
//! * `common.cuh`: bf16, reductions; in front of every source
//! * `rows.cu`: what of a layer is neither product nor attention
//! * `attend.cu`: attention on tensor cores; `attend_naive.cu`: its readable twin
//! * `merge.cu`: partial attentions into one

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
    parts: &[include_str!("common.cuh"), include_str!("rows.cu"), include_str!("merge.cu")],
};

/// Attention; its macros are [`AttentionTile`]'s.
pub(super) const ATTENTION: Source = Source {
    name: "attend.cu",
    parts: &[include_str!("common.cuh"), include_str!("attend.cuh"), include_str!("attend.cu")],
};

/// Threads of a block of `merge`: a warp per row.
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
    /// The instance for many queries, for heads of `head_dim` elements: a multiple of 16 up to 256.
    pub(super) fn large(head_dim: usize) -> Option<Self> {
        let keys = if matches!(head_dim, 96 | 112 | 129..) { 32 } else { 64 };
        let blocks = if head_dim <= 128 { 2 } else { 1 };
        let resident = if head_dim <= 160 { 2 } else { 1 };
        let tile = Self { head_dim, warps: 4, blocks, teams: 1, keys, stages: 2, resident };
        tile.check()
    }

    /// The instance for few queries.
    pub(super) fn small(head_dim: usize) -> Option<Self> {
        let (stages, resident) =
            (if head_dim <= 192 { 3 } else { 2 }, if head_dim <= 128 { 2 } else { 1 });
        Self { head_dim, warps: 1, blocks: 1, teams: 4, keys: 16, stages, resident }.check()
    }

    fn check(self) -> Option<Self> {
        let fits = self.head_dim > 0 && self.head_dim.is_multiple_of(16) && self.head_dim <= 256;
        fits.then_some(self)
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
