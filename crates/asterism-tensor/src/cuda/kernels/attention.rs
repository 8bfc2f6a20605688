//! Which instance of the attention kernel a GPU runs.

use super::source::{
    ATTENTION, ATTENTION_HOPPER, ATTENTION_SPARSE, ATTENTION_SPARSE_HOPPER, Source,
};

/// Rows (tokens x heads of a group) up to which queries are few.
pub(in crate::cuda) const FEW_ROWS: usize = 16;

/// What decides which instance of the attention kernel a GPU runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cuda) struct Room {
    /// Compute capability: (9, 0) is Hopper.
    pub(in crate::cuda) capability: (u32, u32),
    /// The most bytes of shared memory of a block of threads. 99 KiB suffice for every head size.
    pub(in crate::cuda) shared_memory: usize,
}

/// An instance of the attention kernel `attend`, for heads of one size.
#[derive(Debug, Clone)]
pub(in crate::cuda) struct AttentionTile {
    pub(in crate::cuda) source: Source,
    /// The compiler's options: the macros that the source explains.
    pub(in crate::cuda) options: Vec<String>,
    /// Rows (tokens x heads of a group) of a block of threads.
    pub(in crate::cuda) rows: usize,
    /// Threads of a block.
    pub(in crate::cuda) threads: u32,
    /// Bytes of dynamic shared memory of a block.
    pub(in crate::cuda) shared: u32,
    /// Blocks of a multiprocessor at which keys are split into enough parts.
    pub(in crate::cuda) resident: usize,
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
    pub(in crate::cuda) fn large(head_dim: usize, room: Room) -> Option<Self> {
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
    pub(in crate::cuda) fn sparse(head_dim: usize, room: Room) -> Option<Self> {
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
    pub(in crate::cuda) fn small(head_dim: usize, room: Room) -> Option<Self> {
        // Bytes on their way are what counts: of (teams, stages), the most that there is room for.
        let choices: &[_] = if head_dim <= 128 { &[(4, 2)] } else { &[(4, 3), (2, 3), (2, 2)] };
        Self::few(head_dim, room, choices, Sizes { resident: 1, fp8: false, ..FEW })
    }

    /// The instance for few queries over keys in 8 bits.
    pub(in crate::cuda) fn small_fp8(head_dim: usize, room: Room) -> Option<Self> {
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
