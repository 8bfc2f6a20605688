//! The tile product on AMX (Sapphire Rapids and later): eight registers of 1 KiB, one instruction
//! for 16 x 16 x 32 multiply-adds. The intrinsics are not stable in Rust; the instructions are
//! written in assembly (Intel SDM volume 1, chapter 18; volume 2, TDPBF16PS).
//!
//! No value stays in a tile register from one block of assembly to the next: each begins with zeros
//! or a load, ends with its stores, and says which registers it changed. Between `begin` and `end`
//! only their configuration holds, a mode of the thread that compiled code neither reads nor sets.

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
    // of a valid configuration. Zeroes all tile registers.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) config,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, readonly));
    }
}

fn end() {
    // SAFETY: gives the tile registers back: a context switch need not save them.
    unsafe {
        asm!("tilerelease",
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, nomem));
    }
}

/// See [`TileKernels::peak`]: four products at a time, as many as a block has.
fn peak(rounds: usize) -> u64 {
    begin();
    // SAFETY: touches tile registers only, which `begin` configured; zeros are multiplied.
    unsafe {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
            "test {left}, {left}",
            "jz 3f",
            "2:",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "dec {left}",
            "jnz 2b",
            "3:",
            left = inout(reg) rounds => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, nomem)
        );
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
        let (a, a_stride) = (a.data.as_ptr().cast(), 2 * a.stride);
        // SAFETY: `check` saw that two strips and all panels have `depth` tiles; c has 32 rows of
        // 32 at this panel and the registers are configured, by the contract.
        unsafe {
            let c = c.add(panel * BLOCK);
            if accumulate {
                add_block(a, a_stride, b.as_ptr().cast(), depth, c, ldc);
            } else {
                set_block(a, a_stride, b.as_ptr().cast(), depth, c, ldc);
            }
        }
    }
}

/// Defines a function that computes one block of 32 x 32 in tile registers 0 to 3 (top left, top
/// right, bottom left, bottom right), which `$start` fills first. Per step, two tiles of either
/// side are loaded and multiplied four ways.
macro_rules! block {
    ($(#[$doc:meta])* $name:ident: $($start:literal),*) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// The registers are configured; `a` points at two strips of `depth` tiles, `a_stride`
        /// bytes apart, `b` at a panel of `depth` steps, `c` at 32 rows of 32 floats, `ldc` apart.
        #[inline]
        unsafe fn $name(
            a: *const u8,
            a_stride: usize,
            b: *const u8,
            depth: usize,
            c: *mut f32,
            ldc: usize,
        ) {
            const PANEL_BYTES: usize = 2 * PANEL_STEP;
            // SAFETY: every load is one of `depth` tiles, whose rows are 64 bytes apart, or a
            // quarter of the block; the stores are its four quarters.
            unsafe {
                asm!(
                    $($start,)*
                    "test {left}, {left}",
                    "jz 3f",
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
                    "3:",
                    "tilestored [{c} + {ldc}], tmm0",
                    "tilestored [{c} + {ldc} + 64], tmm1",
                    "tilestored [{below} + {ldc}], tmm2",
                    "tilestored [{below} + {ldc} + 64], tmm3",
                    top = inout(reg) a => _,
                    bottom = inout(reg) a.add(a_stride) => _,
                    b = inout(reg) b => _,
                    left = inout(reg) depth => _,
                    row = in(reg) 64usize,
                    c = in(reg) c,
                    below = in(reg) c.add(STRIP * ldc),
                    ldc = in(reg) 4 * ldc,
                    panel = const PANEL_BYTES,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack)
                );
            }
        }
    };
}

block!(
    /// `c = a · b`
    set_block: "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3"
);
block!(
    /// `c += a · b`
    add_block:
        "tileloadd tmm0, [{c} + {ldc}]",
        "tileloadd tmm1, [{c} + {ldc} + 64]",
        "tileloadd tmm2, [{below} + {ldc}]",
        "tileloadd tmm3, [{below} + {ldc} + 64]"
);
