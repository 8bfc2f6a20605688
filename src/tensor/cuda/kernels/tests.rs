//! Every kernel compiles, for the oldest GPU it is made for and for Hopper, without a warning and
//! without a register that had to go to memory. Needs NVRTC, but no GPU.

#![allow(unsafe_code)]

use super::super::libraries;
use super::{ATTENTION_NAIVE, AttentionTile, GEMV, GEMV_OPTIONS, ROWS, Room, Source};
use cudarc::nvrtc::result;
use std::ffi::CString;

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
    let mut all = vec![(ROWS, vec![]), gemv, naive];
    for head_dim in HEAD_DIMS {
        for tile in [AttentionTile::large(head_dim, room), AttentionTile::small(head_dim, room)] {
            let tile = tile.unwrap();
            all.push((tile.source, tile.options));
        }
    }
    all
}

/// The compiler's verdict and what it printed.
fn compile(source: Source, arch: &str, options: &[String]) -> (bool, String) {
    let mut all = vec![format!("--gpu-architecture={arch}"), "-std=c++17".into()];
    // Spilled registers are an error.
    all.extend(["warn-on-spills", "warning-as-error"].map(|o| format!("--ptxas-options=--{o}")));
    all.extend_from_slice(options);
    let text = CString::new(source.text()).unwrap();
    let program = result::create_program(&text, None).unwrap();
    // SAFETY: the program was just created and is destroyed once, after its last use; the log is
    // copied out and ends in a zero.
    unsafe {
        let compiled = result::compile_program(program, &all).is_ok();
        let log = result::get_program_log(program).unwrap();
        result::destroy_program(program).unwrap();
        let log: Vec<u8> = log.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
        (compiled, String::from_utf8_lossy(&log).trim().to_string())
    }
}

#[test]
fn every_kernel_compiles_without_warnings_and_spills() {
    if let Err(missing) = libraries::nvrtc() {
        println!("every_kernel_compiles_without_warnings_and_spills is skipped: {missing}");
        return;
    }
    for (arch, room) in ["sm_80", "sm_90a"].into_iter().zip(ROOMS) {
        for (source, options) in every(room) {
            let (compiled, log) = compile(source, arch, &options);
            let name = source.name;
            assert!(compiled && log.is_empty(), "{name} for {arch} with {options:?}:\n{log}");
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
            assert!(small.shared as usize <= room.shared_memory && small.rows == 16);
        }
        for head_dim in [0, 8, 72, 272] {
            assert!(AttentionTile::large(head_dim, room).is_none());
            assert!(AttentionTile::small(head_dim, room).is_none());
        }
        assert!(AttentionTile::large(128, Room { shared_memory: 1 << 10, ..room }).is_none());
    }
}
