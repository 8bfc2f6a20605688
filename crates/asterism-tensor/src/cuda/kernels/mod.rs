//! The CUDA C++ sources of our own kernels, and the sizes they are compiled with. NVRTC compiles
//! them when a GPU is opened; nothing of them is compiled before. They include no header: NVRTC
//! alone is enough.
//!
//! * `common.cuh`: bf16, reductions; in front of every source
//! * `rows.cu`: what of a layer is neither product nor attention
//! * `attend.cu`: attention on tensor cores; `attend_hopper.cu`: with Hopper's; `attend_naive.cu`:
//!   their readable twin; `sequences.cuh`, `attend.cuh`, `copies.cuh`, `tiles.cuh`, `mma.cuh`:
//!   what they share
//! * `gemv.cu`: products of few rows
//! * `mask.cuh`: both for some tiles of keys; `attend_tiles_naive.cu`: the readable twin of that
//! * `lines.cu`, `coarse.cu`: what the choice of these tiles takes
//! * `mass.cu`: softmax weight per key; `mass_naive.cu`: its readable twin
//! * `statistics.cu`: what queries and keys are like
//! * `gather.cu`: chosen keys
//! * `put.cu`: tables from the host
//! * `append.cu`: keys and values of a new token
//! * `merge.cu`: partial attentions into one
//! * `argmax.cu`: the greedy choice of a token
//! * `sample.cu`: its random choice
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

/// Row by row; merges; appends.
pub(super) const ROWS: Source = Source {
    name: "rows.cu",
    parts: &[
        include_str!("common.cuh"),
        include_str!("sequences.cuh"),
        include_str!("rows.cu"),
        include_str!("merge.cu"),
        include_str!("put.cu"),
        include_str!("gather.cu"),
        include_str!("argmax.cu"),
        include_str!("sample.cu"),
        include_str!("append.cu"),
        include_str!("fp8.cu"),
    ],
};

/// Products of few rows.
pub(super) const GEMV: Source =
    Source { name: "gemv.cu", parts: &[include_str!("common.cuh"), include_str!("gemv.cu")] };

/// The compiler's options for it.
pub(super) const GEMV_OPTIONS: [&str; 2] = ["-DWARPS=16", "-DRESIDENT=2"];

/// Threads of a block of it: `WARPS`, of 32.
pub(super) const GEMV_THREADS: u32 = 512;

/// Blocks of it that a multiprocessor holds: `RESIDENT`. Of the instance for 16 rows, one.
pub(super) const GEMV_RESIDENT: u32 = 2;

const ATTENTION: Source = Source {
    name: "attend.cu",
    parts: &[
        include_str!("common.cuh"),
        include_str!("sequences.cuh"),
        include_str!("attend.cuh"),
        include_str!("copies.cuh"),
        include_str!("tiles.cuh"),
        include_str!("mma.cuh"),
        include_str!("attend.cu"),
    ],
};

const ATTENTION_HOPPER: Source = Source {
    name: "attend_hopper.cu",
    parts: &[
        include_str!("common.cuh"),
        include_str!("sequences.cuh"),
        include_str!("attend.cuh"),
        include_str!("copies.cuh"),
        include_str!("tiles.cuh"),
        include_str!("attend_hopper.cu"),
    ],
};

/// Both over some tiles of keys, with the macro `SPARSE`.
const ATTENTION_SPARSE: Source = Source {
    name: "attend.cu, sparse",
    parts: &[
        include_str!("common.cuh"),
        include_str!("sequences.cuh"),
        include_str!("mask.cuh"),
        include_str!("attend.cuh"),
        include_str!("copies.cuh"),
        include_str!("tiles.cuh"),
        include_str!("mma.cuh"),
        include_str!("attend.cu"),
    ],
};

const ATTENTION_SPARSE_HOPPER: Source = Source {
    name: "attend_hopper.cu, sparse",
    parts: &[
        include_str!("common.cuh"),
        include_str!("sequences.cuh"),
        include_str!("mask.cuh"),
        include_str!("attend.cuh"),
        include_str!("copies.cuh"),
        include_str!("tiles.cuh"),
        include_str!("attend_hopper.cu"),
    ],
};

/// The twin of block-sparse attention; its macros are `HEAD_DIM`, of any size, and `SPARSE`.
#[cfg(test)]
pub(super) const ATTENTION_SPARSE_NAIVE: Source = Source {
    name: "attend_tiles_naive.cu",
    parts: &[
        include_str!("common.cuh"),
        include_str!("sequences.cuh"),
        include_str!("mask.cuh"),
        include_str!("attend.cuh"),
        include_str!("attend_tiles_naive.cu"),
    ],
};

/// Softmax weight per key and distance.
pub(super) const LINES: Source = Source {
    name: "lines.cu",
    parts: &[
        include_str!("common.cuh"),
        include_str!("copies.cuh"),
        include_str!("mma.cuh"),
        include_str!("lines.cu"),
    ],
};

/// Weights of tiles, beside the products.
pub(super) const COARSE: Source =
    Source { name: "coarse.cu", parts: &[include_str!("common.cuh"), include_str!("coarse.cu")] };

/// What queries and keys are like.
pub(super) const STATISTICS: Source = Source {
    name: "statistics.cu",
    parts: &[include_str!("common.cuh"), include_str!("statistics.cu")],
};

/// How `statistics` is compiled and launched, for heads of one size.
#[derive(Debug, Clone)]
pub(super) struct StatisticsTile {
    pub(super) option: String,
    /// Products of a side of a block's tile.
    pub(super) side: usize,
    /// Threads of a side of that block.
    pub(super) threads: u32,
    /// Keys of a block, with four threads each.
    pub(super) keys: usize,
}

impl StatisticsTile {
    /// Vectors whose lengths a block computes.
    pub(super) const WARPS: usize = 8;

    /// For heads of `head_dim` elements, a multiple of 16 up to 256.
    pub(super) fn new(head_dim: usize) -> Option<Self> {
        (head_dim.is_multiple_of(16) && (16..=256).contains(&head_dim)).then(|| Self {
            option: format!("-DHEAD_DIM={head_dim}"),
            side: 64,
            threads: 16,
            keys: if head_dim <= 128 { 64 } else { 32 },
        })
    }
}

/// Threads of a block of `coarse.cu`.
pub(super) const COARSE_THREADS: u32 = 256;

/// Threads of a block of its `weigh`.
pub(super) const WEIGH_THREADS: u32 = 512;

/// How `lines` is compiled and launched, for heads of one size.
#[derive(Debug, Clone)]
pub(super) struct LinesTile {
    pub(super) options: Vec<String>,
    /// Keys of a block of threads.
    pub(super) keys: usize,
    /// Rows at most.
    pub(super) rows: usize,
    pub(super) threads: u32,
    /// Bytes of dynamic shared memory of a block.
    pub(super) shared: u32,
}

impl LinesTile {
    pub(super) fn new(head_dim: usize) -> Self {
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

/// The twin of both; its macro is `HEAD_DIM`, of any size.
#[cfg(test)]
pub(super) const ATTENTION_NAIVE: Source = Source {
    name: "attend_naive.cu",
    parts: &[
        include_str!("common.cuh"),
        include_str!("sequences.cuh"),
        include_str!("attend.cuh"),
        include_str!("attend_naive.cu"),
    ],
};

/// Softmax weight per key.
pub(super) const MASS: Source = Source {
    name: "mass.cu",
    parts: &[
        include_str!("common.cuh"),
        include_str!("sequences.cuh"),
        include_str!("attend.cuh"),
        include_str!("copies.cuh"),
        include_str!("tiles.cuh"),
        include_str!("mma.cuh"),
        include_str!("mass.cu"),
    ],
};

/// Its twin.
#[cfg(test)]
pub(super) const MASS_NAIVE: Source = Source {
    name: "mass_naive.cu",
    parts: &[include_str!("common.cuh"), include_str!("mass_naive.cu")],
};

/// How `mass` is compiled and launched, for heads of one size.
#[derive(Debug, Clone)]
pub(super) struct MassTile {
    pub(super) head_dim: usize,
    /// The compiler's options.
    pub(super) options: Vec<String>,
    /// Keys of a block of threads.
    pub(super) keys: usize,
    /// Threads of a block.
    pub(super) threads: u32,
    /// Bytes of dynamic shared memory of a block.
    pub(super) shared: u32,
}

impl MassTile {
    /// Of `mass.cu`.
    pub(super) fn new(head_dim: usize) -> Self {
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
    pub(super) fn naive(head_dim: usize) -> Self {
        let options = vec![format!("-DHEAD_DIM={head_dim}")];
        Self { head_dim, options, keys: 4, threads: 128, shared: 0 }
    }
}

/// 32-bit words that a launch of `put` writes at most: they and the other arguments fit the 4 KiB
/// that all drivers pass.
pub(super) const PUT_WORDS: usize = 960;

/// Threads of a block of `put`.
pub(super) const PUT_THREADS: u32 = 256;

/// Threads of a block of `append`.
pub(super) const APPEND_THREADS: u32 = 128;

/// Rows of a launch of `argmax` or `sample` at most: they fit the 4 KiB of arguments.
pub(super) const CHOICES: usize = 64;

/// Threads of a block of `argmax`, and of `sample`.
pub(super) const CHOICE_THREADS: u32 = 1024;

/// Threads of a block of `merge`: a warp or less per row.
pub(super) const MERGE_THREADS: u32 = 256;

/// Rows (tokens x heads of a group) up to which queries are few.
pub(super) const FEW_ROWS: usize = 16;

/// What decides which instance of the attention kernel a GPU runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// Compute capability: (9, 0) is Hopper.
    pub(super) capability: (u32, u32),
    /// The most bytes of shared memory of a block of threads. 99 KiB suffice for every head size.
    pub(super) shared_memory: usize,
}

/// An instance of the attention kernel `attend`, for heads of one size.
#[derive(Debug, Clone)]
pub(super) struct AttentionTile {
    pub(super) source: Source,
    /// The compiler's options: the macros that the source explains.
    pub(super) options: Vec<String>,
    /// Rows (tokens x heads of a group) of a block of threads.
    pub(super) rows: usize,
    /// Threads of a block.
    pub(super) threads: u32,
    /// Bytes of dynamic shared memory of a block.
    pub(super) shared: u32,
    /// Blocks of a multiprocessor at which keys are split into enough parts.
    pub(super) resident: usize,
}

/// Macros of `attend.cu`.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    warps: usize,
    blocks: usize,
    teams: usize,
    keys: usize,
    stages: usize,
    resident: usize,
    fp8: bool,
}

/// What instances for few queries have in common: a warp per team, [`FEW_ROWS`] rows.
const FEW: Sizes =
    Sizes { warps: 1, blocks: 1, teams: 1, keys: 16, stages: 1, resident: 1, fp8: false };

impl AttentionTile {
    /// The instance for many queries, for heads of `head_dim` elements: a multiple of 16 up to 256.
    pub(super) fn large(head_dim: usize, room: Room) -> Option<Self> {
        let hopper = Self::hopper(head_dim);
        if room.capability == (9, 0) && matches!(head_dim, 64 | 128) && hopper.fits(room) {
            return Some(hopper);
        }
        // 32 rows per warp use every fragment of keys twice; larger heads leave registers for 16.
        // More keys at a time are better, as long as registers hold their scores.
        let (blocks, most_keys) = match head_dim {
            ..=80 | 128 => (2, 64),
            ..=127 => (2, 48),
            _ => (1, 32),
        };
        let sizes =
            |keys| Sizes { warps: 4, blocks, teams: 1, keys, stages: 2, resident: 2, fp8: false };
        (1..=most_keys / 16).rev().find_map(|n| Self::of(head_dim, sizes(n * 16), room))
    }

    /// The instance for the rows of a head over some tiles of keys.
    pub(super) fn sparse(head_dim: usize, room: Room) -> Option<Self> {
        let mut tile = Self::large(head_dim, room)?;
        if tile.source.name == ATTENTION_HOPPER.name {
            tile.source = ATTENTION_SPARSE_HOPPER;
        } else {
            // Pieces of a tile of keys are equal.
            let (blocks, most_keys) = match head_dim {
                ..=80 | 128 => (2, 64),
                _ => (1, 32),
            };
            let sizes = |keys| Sizes {
                warps: 4,
                blocks,
                teams: 1,
                keys,
                stages: 2,
                resident: 2,
                fp8: false,
            };
            let keys = [64, 32, 16].into_iter().filter(|keys| *keys <= most_keys);
            tile = keys.into_iter().find_map(|keys| Self::of(head_dim, sizes(keys), room))?;
            tile.source = ATTENTION_SPARSE;
        }
        tile.options.push("-DSPARSE".to_owned());
        Some(tile)
    }

    /// The instance for few queries.
    pub(super) fn small(head_dim: usize, room: Room) -> Option<Self> {
        // Bytes on their way are what counts: of (teams, stages), the most that there is room for.
        let choices: &[_] = if head_dim <= 128 { &[(4, 2)] } else { &[(4, 3), (2, 3), (2, 2)] };
        Self::few(head_dim, room, choices, Sizes { resident: 1, fp8: false, ..FEW })
    }

    /// The instance for few queries over keys in 8 bits.
    pub(super) fn small_fp8(head_dim: usize, room: Room) -> Option<Self> {
        // Widening keeps the arithmetic busy: several blocks take turns with it and with waiting.
        let (choices, resident): (&[_], _) =
            if head_dim <= 128 { (&[(4, 2)], 3) } else { (&[(2, 3), (2, 2)], 1) };
        Self::few(head_dim, room, choices, Sizes { resident, fp8: true, ..FEW })
    }

    /// The first of `choices` (teams and stages) that there is room for.
    fn few(head_dim: usize, room: Room, choices: &[(usize, usize)], sizes: Sizes) -> Option<Self> {
        let of = |&(teams, stages)| Self::of(head_dim, Sizes { teams, stages, ..sizes }, room);
        choices.iter().find_map(of)
    }

    fn of(head_dim: usize, sizes: Sizes, room: Room) -> Option<Self> {
        if !(16..=256).contains(&head_dim) || !head_dim.is_multiple_of(16) {
            return None;
        }
        let Sizes { warps, blocks, teams, keys, stages, resident, fp8 } = sizes;
        let macros = [
            ("HEAD_DIM", head_dim),
            ("WARPS", warps),
            ("BLOCKS", blocks),
            ("TEAMS", teams),
            ("KEYS", keys),
            ("STAGES", stages),
            ("RESIDENT", resident),
        ];
        let mut options: Vec<String> =
            macros.iter().map(|(name, value)| format!("-D{name}={value}")).collect();
        options.extend(fp8.then(|| "-DFP8".into()));
        let rows = warps * blocks * 16;
        // Bytes: of a row in bf16, of keys and values in a tile, and a team's room.
        let row = (head_dim + 8) * 2;
        let tile = 2 * keys * row;
        let room_of_team =
            if fp8 { tile + stages * 2 * keys * (head_dim + 4) } else { stages * tile };
        let tile = Self {
            source: ATTENTION,
            options,
            rows,
            threads: (warps * teams * 32) as u32,
            shared: (rows * (row + 4) + teams * room_of_team) as u32,
            resident,
        };
        Some(tile).filter(|tile| tile.fits(room))
    }

    fn hopper(head_dim: usize) -> Self {
        let (rows, keys) = (128, 128);
        Self {
            source: ATTENTION_HOPPER,
            options: vec![format!("-DHEAD_DIM={head_dim}"), format!("-DKEYS={keys}")],
            rows,
            threads: 384,
            shared: ((rows + 4 * keys) * head_dim * 2 + 1024) as u32,
            resident: 1,
        }
    }

    fn fits(&self, room: Room) -> bool {
        self.shared as usize <= room.shared_memory
    }
}

#[cfg(test)]
mod tests;
