//! The tile kernels for AVX-512 with BF16 instructions (Zen 4, Cooper Lake, Sapphire Rapids). The
//! AMX table takes all of them but the product.

#![allow(unsafe_code)]

use super::super::row::{AHEAD, of_rows};
use super::{
    BLOCK, MultiplyTiles, PANEL_STEP, Panels, STEP, STRIP, SoftmaxRows, Strips, TILE, TileKernels,
    portable,
};
use half::bf16;
use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEG_INF, _MM_HINT_T0, _mm_prefetch,
    _mm512_add_ps, _mm512_and_si512, _mm512_castsi512_ps, _mm512_cmpeq_ps_mask,
    _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mask_blend_ps, _mm512_mask_loadu_ps, _mm512_max_ps, _mm512_reduce_add_ps,
    _mm512_reduce_max_ps, _mm512_reduce_ps, _mm512_scalef_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_slli_epi32,
    _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::hint::black_box;
use std::mem::transmute;

pub(in super::super) const KERNELS: TileKernels = table(|| (), || (), peak, multiply);

/// The kernels of this module around another product.
pub(super) const fn table(
    begin: fn(),
    end: fn(),
    peak: fn(usize) -> u64,
    multiply: MultiplyTiles,
) -> TileKernels {
    TileKernels { begin, end, peak, multiply, rows, narrow, pack_keys, pack_values, softmax }
}

/// Checks the bounds of `multiply` once: everything below it works with pointers.
///
/// # Panics
/// If an operand is shorter than the product reads, or rows of c overlap.
pub(super) fn check(a: Strips<'_>, b: Panels<'_>, depth: usize, ldc: usize) {
    assert!(a.data.len() >= a.stride + depth * TILE, "a too short");
    if b.count > 0 {
        assert!(b.data.len() >= (b.count - 1) * b.stride + depth * PANEL_STEP, "b too short");
        assert!(ldc >= b.count * BLOCK, "rows of c overlap");
    }
}

/// See [`TileKernels::peak`].
fn peak(rounds: usize) -> u64 {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    fn with_features(rounds: usize) {
        let x = black_box(_mm512_set1_epi32(0x3c00_3c00));
        // SAFETY: both are 512 bits of plain data.
        let x: __m512bh = unsafe { transmute(x) };
        let mut sums = [_mm512_setzero_ps(); 2 * ROWS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, x, x);
            }
        }
        black_box(sums);
    }
    // SAFETY: the features are present because `Kernels::of` handed this table out.
    unsafe { with_features(rounds) };
    (rounds * 2 * ROWS * 2 * STEP) as u64
}

/// Rows of one pass: 8 x 2 accumulators, two registers of b, a by broadcast from memory.
const ROWS: usize = 8;

/// See [`portable::multiply`].
///
/// # Safety
/// See [`MultiplyTiles`].
unsafe fn multiply(
    a: Strips<'_>,
    b: Panels<'_>,
    depth: usize,
    c: *mut f32,
    ldc: usize,
    accumulate: bool,
) {
    check(a, b, depth, ldc);
    for panel in 0..b.count {
        for row in (0..BLOCK).step_by(ROWS) {
            let a = &a.data[row / STRIP * a.stride + row % STRIP * STEP..];
            let b = &b.data[panel * b.stride..];
            // SAFETY: `check` saw that two strips and all panels have `depth` tiles, c has 32 rows
            // by the contract; the features are present because `Kernels::of` handed this table
            // out.
            unsafe {
                let c = c.add(row * ldc + panel * BLOCK);
                eight_rows(a.as_ptr(), b.as_ptr(), depth, c, ldc, accumulate);
            }
        }
    }
}

/// Eight rows times one panel.
///
/// # Safety
/// `a` points at a row of a strip that has seven more behind it and `depth` tiles, `b` at a panel
/// of `depth` steps, and `c` at eight rows of 32, `ldc` apart.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn eight_rows(
    a: *const bf16,
    b: *const bf16,
    depth: usize,
    c: *mut f32,
    ldc: usize,
    accumulate: bool,
) {
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    for step in 0..depth {
        for pair in 0..STEP / 2 {
            // SAFETY: step and pair are within the tiles that the contract promises; a pair is one
            // aligned or unaligned 32-bit load.
            unsafe {
                let b = b.add(step * PANEL_STEP + pair * STEP);
                let low: __m512bh = transmute(_mm512_loadu_si512(b.cast()));
                let high: __m512bh = transmute(_mm512_loadu_si512(b.add(TILE).cast()));
                let a = a.add(step * TILE + pair * 2);
                for (r, sum) in sums.iter_mut().enumerate() {
                    let pair = a.add(r * STEP).cast::<i32>().read_unaligned();
                    let x: __m512bh = transmute(_mm512_set1_epi32(pair));
                    sum[0] = _mm512_dpbf16_ps(sum[0], x, low);
                    sum[1] = _mm512_dpbf16_ps(sum[1], x, high);
                }
            }
        }
    }
    for (r, sum) in sums.iter().enumerate() {
        for (half, sum) in sum.iter().enumerate() {
            // SAFETY: row r of eight, within its 32 columns.
            unsafe {
                let c = c.add(r * ldc + half * STRIP);
                let before = if accumulate { _mm512_loadu_ps(c) } else { _mm512_setzero_ps() };
                _mm512_storeu_ps(c, _mm512_add_ps(before, *sum));
            }
        }
    }
}

/// Rows that share what is read of a panel in decoding: their sums fill the registers.
const FEW: usize = 6;

/// See [`portable::rows`].
fn rows(x: &[f32], inputs: usize, panel: &[bf16], out: &mut [f32], stride: usize) {
    if !inputs.is_multiple_of(STEP) {
        return portable::rows(x, inputs, panel, out, stride);
    }
    assert!(panel.len() >= inputs / STEP * PANEL_STEP, "panel too short");
    for (x, out) in x.chunks(FEW * inputs).zip(out.chunks_mut(FEW * stride)) {
        let count = x.len() / inputs;
        assert!(x.len() == count * inputs && out.len() >= (count - 1) * stride + BLOCK);
        let some_rows = of_rows(
            count,
            [
                some_rows::<1>,
                some_rows::<2>,
                some_rows::<3>,
                some_rows::<4>,
                some_rows::<5>,
                some_rows::<6>,
            ],
        );
        // SAFETY: `count` rows of x and of out, and a step of the panel for every 32 inputs
        // (asserted); the features are present because `Kernels::of` handed this table out.
        unsafe { some_rows(x, inputs, panel.as_ptr(), out.as_mut_ptr(), stride) };
    }
}

/// As in [`row`](super::super::row), sums of even and of odd inputs; their order does not depend on
/// the number of rows.
///
/// # Safety
/// `x` is `[R, inputs]`, `panel` has a step for every 32 inputs, `out` has R rows of 32, `stride`
/// apart.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn some_rows<const R: usize>(
    x: &[f32],
    inputs: usize,
    panel: *const bf16,
    out: *mut f32,
    stride: usize,
) {
    let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    let x = x.as_ptr();
    // Per row and half of the panel, sums over even and over odd inputs.
    let mut sums = [[[_mm512_setzero_ps(); 2]; 2]; R];
    for step in 0..inputs / STEP {
        for pair in 0..STRIP {
            for half in 0..2 {
                let at = step * PANEL_STEP + half * TILE + pair * STEP;
                _mm_prefetch::<_MM_HINT_T0>(panel.wrapping_add(at + AHEAD).cast());
                // SAFETY: the pair is within the steps of the panel.
                let w = unsafe { _mm512_loadu_si512(panel.add(at).cast()) };
                let even = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(w));
                let odd = _mm512_castsi512_ps(_mm512_and_si512(w, upper));
                for (r, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: two elements of row r.
                    let x = unsafe { x.add(r * inputs + step * STEP + 2 * pair) };
                    // SAFETY: as above.
                    let x = unsafe { [_mm512_set1_ps(*x), _mm512_set1_ps(*x.add(1))] };
                    sums[half][0] = _mm512_fmadd_ps(x[0], even, sums[half][0]);
                    sums[half][1] = _mm512_fmadd_ps(x[1], odd, sums[half][1]);
                }
            }
        }
    }
    for (r, halves) in sums.into_iter().enumerate() {
        for (half, [even, odd]) in halves.into_iter().enumerate() {
            // SAFETY: row r of out has two halves of 16.
            unsafe {
                _mm512_storeu_ps(out.add(r * stride + half * STRIP), _mm512_add_ps(even, odd));
            }
        }
    }
}

/// See [`portable::narrow`].
fn narrow(row: &[f32], out: &mut [bf16]) {
    let whole = row.len() / STEP;
    if whole > 0 {
        assert!(out.len() >= (whole - 1) * TILE + STEP, "out too short");
    }
    // SAFETY: the row has `whole` runs of 32 and out has a place for each (checked); the features
    // are present because `Kernels::of` handed this table out.
    unsafe { narrow_whole(row.as_ptr(), out.as_mut_ptr(), whole) };
    if row.len() > whole * STEP {
        portable::narrow(&row[whole * STEP..], &mut out[whole * TILE..]);
    }
}

/// # Safety
/// `row` has `steps * 32` elements, `out` 32 at every multiple of a tile.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn narrow_whole(row: *const f32, out: *mut bf16, steps: usize) {
    for step in 0..steps {
        // SAFETY: by this function's contract.
        unsafe {
            let low = _mm512_loadu_ps(row.add(step * STEP));
            let high = _mm512_loadu_ps(row.add(step * STEP + STRIP));
            store_pair(low, high, out.add(step * TILE));
        }
    }
}

/// Rounds 32 floats to bf16.
///
/// # Safety
/// `out` has 32 elements.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn store_pair(low: __m512, high: __m512, out: *mut bf16) {
    // SAFETY: both are 512 bits of plain data; the store is within out by the contract.
    unsafe {
        let pair: __m512i = transmute(_mm512_cvtne2ps_pbh(high, low));
        _mm512_storeu_si512(out.cast(), pair);
    }
}

/// See [`portable::pack_keys`].
fn pack_keys(keys: &[bf16], stride: usize, count: usize, dim: usize, panel: &mut [bf16]) {
    if count < BLOCK || !dim.is_multiple_of(STEP) {
        return portable::pack_keys(keys, stride, count, dim, panel);
    }
    assert!(keys.len() >= (BLOCK - 1) * stride + dim, "keys too short");
    assert!(panel.len() >= dim / STEP * PANEL_STEP, "panel too short");
    for step in 0..dim / STEP {
        for half in 0..2 {
            // SAFETY: 16 keys with 32 elements each at this step, and a whole tile of the panel
            // (checked above); the features are present because `Kernels::of` handed this out.
            unsafe {
                transpose(
                    keys.as_ptr().add(half * STRIP * stride + step * STEP),
                    stride,
                    panel.as_mut_ptr().add(step * PANEL_STEP + half * TILE),
                );
            }
        }
    }
}

/// Transposes 16 rows of 16 pairs.
///
/// # Safety
/// `rows` has 16 rows of 32 elements, `stride` apart; `out` has 512 elements.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn transpose(rows: *const bf16, stride: usize, out: *mut bf16) {
    // SAFETY: row r < 16 has 32 elements.
    let r: [__m512i; 16] =
        std::array::from_fn(|i| unsafe { _mm512_loadu_si512(rows.add(i * stride).cast()) });
    // Pairs of rows, then fours: after this u[4 g + c] holds, in lane l, elements 4 l + c of rows
    // 4 g .. 4 g + 4.
    let mut t = [r[0]; 16];
    for i in (0..16).step_by(2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    let mut u = [r[0]; 16];
    for i in (0..16).step_by(4) {
        u[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        u[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        u[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        u[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    // A 4 x 4 transpose of lanes gathers one element of all 16 rows.
    for c in 0..4 {
        let low = _mm512_shuffle_i32x4::<0x88>(u[c], u[c + 4]);
        let low_odd = _mm512_shuffle_i32x4::<0xdd>(u[c], u[c + 4]);
        let high = _mm512_shuffle_i32x4::<0x88>(u[c + 8], u[c + 12]);
        let high_odd = _mm512_shuffle_i32x4::<0xdd>(u[c + 8], u[c + 12]);
        let columns = [
            _mm512_shuffle_i32x4::<0x88>(low, high),
            _mm512_shuffle_i32x4::<0x88>(low_odd, high_odd),
            _mm512_shuffle_i32x4::<0xdd>(low, high),
            _mm512_shuffle_i32x4::<0xdd>(low_odd, high_odd),
        ];
        for (lane, column) in columns.into_iter().enumerate() {
            // SAFETY: row 4 lane + c of 16.
            unsafe { _mm512_storeu_si512(out.add((4 * lane + c) * STEP).cast(), column) };
        }
    }
}

/// See [`portable::pack_values`]: the compiler vectorises the interleaving of whole rows.
fn pack_values(
    values: &[bf16],
    stride: usize,
    count: usize,
    dim: usize,
    out: &mut [bf16],
    panel_stride: usize,
) {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn interleave(values: &[bf16], stride: usize, dim: usize, out: &mut [bf16], panel: usize) {
        for pair in 0..BLOCK / 2 {
            let even = &values[2 * pair * stride..][..dim];
            let odd = &values[(2 * pair + 1) * stride..][..dim];
            let runs = even.chunks_exact(STRIP).zip(odd.chunks_exact(STRIP));
            for (part, (even, odd)) in runs.enumerate() {
                let tile = part / 2 * panel + part % 2 * TILE;
                let out = &mut out[tile + pair * STEP..][..STEP];
                for i in 0..STRIP {
                    out[2 * i] = even[i];
                    out[2 * i + 1] = odd[i];
                }
            }
        }
    }
    if count < BLOCK || !dim.is_multiple_of(BLOCK) {
        return portable::pack_values(values, stride, count, dim, out, panel_stride);
    }
    // SAFETY: the features are present because `Kernels::of` handed this table out.
    unsafe { interleave(values, stride, dim, out, panel_stride) }
}

/// 2^x to 8e-5 relative (a twentieth of what rounding to bf16 costs), x <= 0: a polynomial on
/// [0, 1) fitted for the least relative error, times a power of two.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn exp2(x: __m512) -> __m512 {
    const FLOOR: i32 = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
    let r = _mm512_reduce_ps::<FLOOR>(x);
    let p = _mm512_set1_ps(0.078_024_52);
    let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.226_067_16));
    let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.695_833_56));
    let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.999_925_2));
    _mm512_scalef_ps(p, x)
}

/// See [`portable::softmax`].
fn softmax(rows: SoftmaxRows<'_>) {
    let most = rows.visible.iter().copied().max().unwrap_or(0);
    assert!(most <= rows.depth * STEP, "more visible than written");
    assert!(rows.weights.len() >= 2 * rows.depth * TILE, "weights too short");
    // SAFETY: weights has a run of 32 in each of `depth` tiles of every row (checked); the features
    // are present because `Kernels::of` handed this table out.
    unsafe { softmax_rows(rows) }
}

/// # Safety
/// `weights` has two strips of `depth` tiles, and no row sees more than `32 * depth` scores.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn softmax_rows(rows: SoftmaxRows<'_>) {
    let SoftmaxRows { scores, stride, visible, depth, .. } = rows;
    let (max, sum) = (&mut rows.max[..BLOCK], &mut rows.sum[..BLOCK]);
    let (mut shift, mut sums) = ([0.0; BLOCK], [0.0; BLOCK]);
    for r in 0..BLOCK {
        let weights = &mut rows.weights[r / STRIP * depth * TILE + r % STRIP * STEP..];
        if visible[r] == 0 {
            for step in 0..depth {
                weights[step * TILE..][..STEP].fill(bf16::ZERO);
            }
            continue;
        }
        let scores = &scores[r * stride..][..visible[r]];
        // SAFETY: this row of weights has a run of 32 in each of `depth` tiles.
        let new = unsafe { softmax_row(scores, max[r], weights.as_mut_ptr(), depth, &mut sums[r]) };
        // Of a row that has seen nothing yet, the factor is 2^-inf = 0.
        shift[r] = max[r] - new;
        max[r] = new;
    }
    rescale(&shift, &sums, sum, rows.factors);
}

/// `factors = 2^shift`, `sum = sum * factors + sums`, for 32 rows at once. All slices have 32
/// elements.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn rescale(shift: &[f32; BLOCK], sums: &[f32; BLOCK], sum: &mut [f32], factors: &mut [f32; BLOCK]) {
    for half in 0..2 {
        let at = half * STRIP;
        // SAFETY: 16 elements from `at` on exist in every slice; sum is checked by slicing.
        unsafe {
            let total = sum[at..at + STRIP].as_mut_ptr();
            let x = _mm512_loadu_ps(shift.as_ptr().add(at));
            // Exactly 1 where the maximum stayed, so that outputs need not be touched.
            let stays = _mm512_cmpeq_ps_mask(x, _mm512_setzero_ps());
            let factor = _mm512_mask_blend_ps(stays, exp2(x), _mm512_set1_ps(1.0));
            _mm512_storeu_ps(factors.as_mut_ptr().add(at), factor);
            let new = _mm512_loadu_ps(sums.as_ptr().add(at));
            _mm512_storeu_ps(total, _mm512_fmadd_ps(_mm512_loadu_ps(total), factor, new));
        }
    }
}

/// Returns the new maximum of a row and leaves the sum of its weights in `sum`.
///
/// # Safety
/// `weights` has 32 elements at each of `depth` multiples of a tile, `scores.len() <= 32 * depth`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn softmax_row(
    scores: &[f32],
    before: f32,
    weights: *mut bf16,
    depth: usize,
    sum: &mut f32,
) -> f32 {
    let whole = scores.len() / STEP;
    let lowest = _mm512_set1_ps(f32::NEG_INFINITY);
    // The scores behind the last whole step, minus infinity where there are none.
    let mask = (1u32 << (scores.len() % STEP)) - 1;
    // SAFETY: only scores that exist are read.
    let rest = unsafe {
        let rest = scores.as_ptr().add(whole * STEP);
        [
            _mm512_mask_loadu_ps(lowest, mask as u16, rest),
            _mm512_mask_loadu_ps(lowest, (mask >> STRIP) as u16, rest.wrapping_add(STRIP)),
        ]
    };
    let mut top = [_mm512_max_ps(_mm512_set1_ps(before), rest[0]), rest[1]];
    for step in scores.chunks_exact(STEP) {
        // SAFETY: 32 scores.
        unsafe {
            top[0] = _mm512_max_ps(top[0], _mm512_loadu_ps(step.as_ptr()));
            top[1] = _mm512_max_ps(top[1], _mm512_loadu_ps(step.as_ptr().add(STRIP)));
        }
    }
    let max = _mm512_reduce_max_ps(_mm512_max_ps(top[0], top[1]));
    let shift = _mm512_set1_ps(max);
    let mut sums = [_mm512_setzero_ps(); 2];
    for (step, scores) in scores.chunks_exact(STEP).enumerate() {
        // SAFETY: 32 scores; step < depth, by this function's contract.
        unsafe {
            let low = exp2(_mm512_sub_ps(_mm512_loadu_ps(scores.as_ptr()), shift));
            let high = exp2(_mm512_sub_ps(_mm512_loadu_ps(scores.as_ptr().add(STRIP)), shift));
            sums = [_mm512_add_ps(sums[0], low), _mm512_add_ps(sums[1], high)];
            store_pair(low, high, weights.add(step * TILE));
        }
    }
    if whole < depth {
        // 2^-inf is 0: what is not there weighs nothing.
        let low = exp2(_mm512_sub_ps(rest[0], shift));
        let high = exp2(_mm512_sub_ps(rest[1], shift));
        sums = [_mm512_add_ps(sums[0], low), _mm512_add_ps(sums[1], high)];
        // SAFETY: whole < depth.
        unsafe { store_pair(low, high, weights.add(whole * TILE)) };
        for step in whole + 1..depth {
            // SAFETY: step < depth.
            unsafe { _mm512_storeu_si512(weights.add(step * TILE).cast(), _mm512_setzero_si512()) };
        }
    }
    *sum = _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]));
    max
}
