//! The tile product on AMX (Sapphire Rapids and later): eight registers of 1 KiB, one instruction
//! for 16 x 16 x 32 multiply-adds. The intrinsics are not stable in Rust; the instructions are
//! written in assembly (Intel SDM volume 1, chapter 18; volume 2, TDPBF16PS).

#![allow(unsafe_code)]

use super::{BLOCK, PANEL_STEP, Panels, STEP, STRIP, Strips, TileKernels, avx512bf16};
use std::arch::asm;
use std::arch::x86_64::__cpuid_count;

pub(in super::super) const KERNELS: TileKernels = avx512bf16::table(begin, end, peak, multiply);

/// Whether processor and operating system let this process use the tile registers. Asks Linux for
/// the permission, which holds for all threads.
pub(in super::super) fn available() -> bool {
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    let wanted = AMX_BF16 | AMX_TILE;
    if __cpuid_count(7, 0).edx & wanted != wanted {
        return false;
    }
    // SAFETY: this system call takes two integers and touches no memory of ours. A kernel that does
    // not know it (or has not enabled the state in XCR0) returns an error.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// What `ldtilecfg` reads: palette 1, all eight tiles 16 rows of 64 bytes.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

const CONFIG: TileConfig = TileConfig {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

fn begin() {
    let config = &CONFIG;
    // SAFETY: the table is handed out only where the permission was given; the operand is 64 bytes
    // of a valid configuration.
    unsafe { asm!("ldtilecfg [{}]", in(reg) config, options(nostack, readonly)) };
}

fn end() {
    // SAFETY: gives the tile registers back: a context switch need not save them.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// See [`TileKernels::peak`]: four products at a time, as many as a block has.
fn peak(rounds: usize) -> u64 {
    begin();
    for _ in 0..rounds {
        // SAFETY: touches tile registers only, which `begin` configured (and zeroed).
        unsafe {
            asm!(
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                options(nostack, nomem)
            );
        }
    }
    end();
    (rounds * 4 * 2 * STRIP * STRIP * STEP) as u64
}

/// See [`super::portable::multiply`].
///
/// # Safety
/// See [`MultiplyTiles`](super::MultiplyTiles); `begin` was called on this thread.
unsafe fn multiply(
    a: Strips<'_>,
    b: Panels<'_>,
    depth: usize,
    c: *mut f32,
    ldc: usize,
    accumulate: bool,
) {
    avx512bf16::check(a, b, depth, ldc);
    for panel in 0..b.count {
        let b = &b.data[panel * b.stride..];
        // SAFETY: `check` saw that two strips and all panels have `depth` tiles; c has 32 rows of
        // 32 at this panel and the registers are configured, by the contract.
        unsafe {
            let c = c.add(panel * BLOCK);
            if accumulate {
                load(c, ldc);
            } else {
                zero();
            }
            steps(a.data.as_ptr().cast(), a.stride * 2, b.as_ptr().cast(), depth);
            store(c, ldc);
        }
    }
}

/// Registers 0 to 3 hold the block: top left, top right, bottom left, bottom right.
///
/// # Safety
/// The registers are configured.
#[inline]
unsafe fn zero() {
    // SAFETY: touches tile registers only.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            options(nostack, nomem)
        );
    }
}

/// # Safety
/// The registers are configured; `c` points at 32 rows of 32, `ldc` apart.
#[inline]
unsafe fn load(c: *const f32, ldc: usize) {
    // SAFETY: reads the four quarters of the block.
    unsafe {
        asm!(
            "tileloadd tmm0, [{top} + {row}]",
            "tileloadd tmm1, [{top} + {row} + 64]",
            "tileloadd tmm2, [{bottom} + {row}]",
            "tileloadd tmm3, [{bottom} + {row} + 64]",
            top = in(reg) c,
            bottom = in(reg) c.add(STRIP * ldc),
            row = in(reg) 4 * ldc,
            options(nostack, readonly)
        );
    }
}

/// # Safety
/// As [`load`].
#[inline]
unsafe fn store(c: *mut f32, ldc: usize) {
    // SAFETY: writes the four quarters of the block.
    unsafe {
        asm!(
            "tilestored [{top} + {row}], tmm0",
            "tilestored [{top} + {row} + 64], tmm1",
            "tilestored [{bottom} + {row}], tmm2",
            "tilestored [{bottom} + {row} + 64], tmm3",
            top = in(reg) c,
            bottom = in(reg) c.add(STRIP * ldc),
            row = in(reg) 4 * ldc,
            options(nostack)
        );
    }
}

/// Adds `depth` steps: per step two tiles of either side are loaded and multiplied four ways.
///
/// # Safety
/// The registers are configured; `a` points at two strips of `depth` tiles, `a_stride` bytes apart,
/// `b` at a panel of `depth` steps.
#[inline]
unsafe fn steps(a: *const u8, a_stride: usize, b: *const u8, depth: usize) {
    if depth == 0 {
        return;
    }
    const PANEL_BYTES: usize = 2 * PANEL_STEP;
    // SAFETY: every load is one of `depth` tiles; a tile's rows are 64 bytes apart.
    unsafe {
        asm!(
            "2:",
            "tileloadd tmm4, [{top} + {row}]",
            "tileloadd tmm6, [{b} + {row}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {row} + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{bottom} + {row}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {top}, 1024",
            "add {bottom}, 1024",
            "add {b}, {panel}",
            "dec {left}",
            "jnz 2b",
            top = inout(reg) a => _,
            bottom = inout(reg) a.add(a_stride) => _,
            b = inout(reg) b => _,
            left = inout(reg) depth => _,
            row = in(reg) 64usize,
            panel = const PANEL_BYTES,
            options(nostack, readonly)
        );
    }
}
