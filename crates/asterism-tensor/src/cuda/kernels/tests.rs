//! Every kernel compiles, for the oldest GPU it is made for and for Hopper, without a warning and
//! without a register that had to go to memory. Needs NVRTC, but no GPU.

use super::super::module::compile_with_log;
use super::super::{CudaError, libraries};
use super::{
    ATTENTION_NAIVE, ATTENTION_SPARSE_NAIVE, AttentionTile, COARSE, FEW_ROWS, GEMV, GEMV_OPTIONS,
    LINES, LinesTile, MASS, MASS_NAIVE, MassTile, ROWS, Room, STATISTICS, Source, StatisticsTile,
};

/// The least shared memory of GPUs from capability 8 on, and Hopper's.
const ROOMS: [Room; 2] = [
    Room { capability: (8, 0), shared_memory: 99 << 10 },
    Room { capability: (9, 0), shared_memory: 227 << 10 },
];

/// Head sizes of models, and those where a different size of tile begins.
const HEAD_DIMS: [usize; 8] = [16, 64, 80, 96, 128, 144, 192, 256];

/// What is compiled for a GPU.
fn every(room: Room) -> Vec<(Source, Vec<String>)> {
    let naive = (ATTENTION_NAIVE, vec!["-DHEAD_DIM=80".into()]);
    let gemv = (GEMV, GEMV_OPTIONS.map(String::from).to_vec());
    let sparse = vec!["-DHEAD_DIM=80".into(), "-DSPARSE".into()];
    let sparse = (ATTENTION_SPARSE_NAIVE, sparse);
    let mut all = vec![(ROWS, vec![]), (COARSE, vec![]), gemv, naive, sparse];
    for head_dim in HEAD_DIMS {
        all.push((MASS, MassTile::new(head_dim).options));
        all.push((MASS_NAIVE, MassTile::naive(head_dim).options));
        all.push((LINES, LinesTile::new(head_dim).options));
        all.push((STATISTICS, vec![StatisticsTile::new(head_dim).unwrap().option]));
        for choose in [
            AttentionTile::large,
            AttentionTile::small,
            AttentionTile::small_fp8,
            AttentionTile::sparse,
        ] {
            let tile = choose(head_dim, room).unwrap();
            all.push((tile.source, tile.options));
        }
    }
    all
}

/// Compiles with spilled registers as errors.
fn compile(source: Source, arch: &str, options: &[String]) -> Result<String, CudaError> {
    let strict = ["warn-on-spills", "warning-as-error"].map(|o| format!("--ptxas-options=--{o}"));
    let options: Vec<&str> = strict.iter().chain(options).map(String::as_str).collect();
    compile_with_log(source.name, &source.text(), arch, &options).map(|(_, log)| log)
}

#[test]
fn every_kernel_compiles_without_warnings_and_spills() {
    if let Err(missing) = libraries::nvrtc() {
        println!("every_kernel_compiles_without_warnings_and_spills is skipped: {missing}");
        return;
    }
    for (arch, room) in ["sm_80", "sm_90a"].into_iter().zip(ROOMS) {
        for (source, options) in every(room) {
            let log = compile(source, arch, &options);
            let name = source.name;
            assert!(
                matches!(&log, Ok(log) if log.is_empty()),
                "{name} for {arch} with {options:?}: {log:?}"
            );
        }
    }
}

#[test]
fn tiles_fit_their_room_for_every_head_size() {
    for room in ROOMS {
        for head_dim in (16..=256).step_by(16) {
            let large = AttentionTile::large(head_dim, room).unwrap();
            let small = AttentionTile::small(head_dim, room).unwrap();
            assert!(large.shared as usize <= room.shared_memory && large.rows >= 64);
            assert!(small.shared as usize <= room.shared_memory && small.rows == FEW_ROWS);
            let sparse = AttentionTile::sparse(head_dim, room).unwrap();
            assert!(sparse.shared as usize <= room.shared_memory && 128 % sparse.rows == 0);
            assert!(LinesTile::new(head_dim).shared as usize <= room.shared_memory);
            let small = AttentionTile::small_fp8(head_dim, room).unwrap();
            assert!(small.shared as usize <= room.shared_memory && small.rows == FEW_ROWS);
        }
        for head_dim in [0, 8, 72, 272] {
            assert!(AttentionTile::large(head_dim, room).is_none());
            assert!(AttentionTile::small(head_dim, room).is_none());
        }
        assert!(AttentionTile::large(128, Room { shared_memory: 1 << 10, ..room }).is_none());
    }
}
