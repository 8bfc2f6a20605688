//! A few rows times one panel of weights: the linear layers of decoding. See `rows_panel` in
//! [`portable`](super::portable).
//!
//! Several rows share what is read of a panel and widened. The sums of each row are computed by the
//! same instructions in the same order whatever the number of rows, so that a sequence's next token
//! does not depend on who else is served: two chains of additions per column, over the even and
//! over the odd inputs. Two chains are as many as leave registers for several rows, and as many as
//! one row needs: the processor widens weights no faster.

#![allow(unsafe_code)]

/// bf16 ahead of those in use that are fetched. Weights are read in the order of memory, which the
/// processor foresees only to the end of a page of 4 KiB.
pub(super) const AHEAD: usize = 4096;

/// The one of `functions`, for one row, two and so on, that takes `n` rows.
pub(super) fn of_rows<F: Copy, const MOST: usize>(n: usize, functions: [F; MOST]) -> F {
    assert!((1..=MOST).contains(&n), "{n} rows at a time: at most {MOST}");
    functions[n - 1]
}

macro_rules! row {
    ($features:literal, $lanes:literal, $most:literal, [$($rows:literal),*], $zero:ident,
     $load:ident, $store:ident, $set1:ident, $fma:ident, $add:ident) => {
        /// Rows that share what is read of a panel: their sums fill the registers.
        const ROWS: usize = $most;

        /// An element of a panel.
        trait Weight: Copy {
            /// One of two registers that a row of a panel fills.
            ///
            /// # Safety
            /// `row` has [`PANEL`] elements; the processor has the features of this module.
            unsafe fn half(row: *const Self, half: usize) -> Register;

            /// Where column `i` of register `half` belongs.
            fn column(half: usize, i: usize) -> usize;
        }

        impl Weight for bf16 {
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn half(row: *const Self, half: usize) -> Register {
                // SAFETY: by the trait's contract.
                unsafe { widen_half(row, half) }
            }

            fn column(half: usize, i: usize) -> usize {
                2 * i + half
            }
        }

        impl Weight for f32 {
            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn half(row: *const Self, half: usize) -> Register {
                // SAFETY: by the trait's contract.
                unsafe { $load(row.add(half * $lanes)) }
            }

            fn column(half: usize, i: usize) -> usize {
                half * $lanes + i
            }
        }

        fn rows_bf16(x: &[f32], inputs: usize, panel: &[bf16], out: &mut [f32], stride: usize) {
            rows_panel(x, inputs, panel, out, stride);
        }

        fn rows_f32(x: &[f32], inputs: usize, panel: &[f32], out: &mut [f32], stride: usize) {
            rows_panel(x, inputs, panel, out, stride);
        }

        fn rows_panel<W: Weight>(
            x: &[f32],
            inputs: usize,
            panel: &[W],
            out: &mut [f32],
            stride: usize,
        ) {
            const { assert!(PANEL == 2 * $lanes) };
            assert!(panel.len() >= inputs * PANEL, "panel too short");
            let rows = x.chunks(ROWS * inputs).zip(out.chunks_mut(ROWS * stride));
            for (x, out) in rows {
                let count = x.len() / inputs;
                assert!(x.len() == count * inputs && out.len() >= (count - 1) * stride + PANEL);
                // SAFETY: `count` rows of x and of out, and a row of the panel for each input
                // (asserted); the features are present because `Kernels::of` handed this table out.
                unsafe {
                    super::super::row::of_rows(count, [$(some_rows::<W, $rows>),*])(
                        x, inputs, panel.as_ptr(), out, stride,
                    );
                }
            }
        }

        /// # Safety
        /// `x` is `[R, inputs]`, `panel` has [`PANEL`] elements for each input, `out` has R rows of
        /// as many, `stride` apart.
        #[target_feature(enable = $features)]
        unsafe fn some_rows<W: Weight, const R: usize>(
            x: &[f32],
            inputs: usize,
            panel: *const W,
            out: &mut [f32],
            stride: usize,
        ) {
            let mut sums = [[[$zero(); 2]; 2]; R];
            let x = x.as_ptr();
            for k in (0..inputs - inputs % 2).step_by(2) {
                for chain in 0..2 {
                    let row = panel.wrapping_add((k + chain) * PANEL);
                    prefetch_weights(row);
                    for half in 0..2 {
                        // SAFETY: row k + chain of the panel, and that element of R rows of x.
                        unsafe {
                            let wide = W::half(row, half);
                            for (r, sums) in sums.iter_mut().enumerate() {
                                let x = $set1(*x.add(r * inputs + k + chain));
                                sums[chain][half] = $fma(x, wide, sums[chain][half]);
                            }
                        }
                    }
                }
            }
            if inputs % 2 == 1 {
                let row = panel.wrapping_add((inputs - 1) * PANEL);
                for half in 0..2 {
                    // SAFETY: the last row of the panel and the last element of R rows of x.
                    unsafe {
                        let wide = W::half(row, half);
                        for (r, sums) in sums.iter_mut().enumerate() {
                            let x = $set1(*x.add((r + 1) * inputs - 1));
                            sums[0][half] = $fma(x, wide, sums[0][half]);
                        }
                    }
                }
            }
            for (r, [even, odd]) in sums.into_iter().enumerate() {
                let out = &mut out[r * stride..][..PANEL];
                for half in 0..2 {
                    let mut total = [0.0f32; $lanes];
                    // SAFETY: a register of floats.
                    unsafe { $store(total.as_mut_ptr(), $add(even[half], odd[half])) };
                    for (i, total) in total.into_iter().enumerate() {
                        out[W::column(half, i)] = total;
                    }
                }
            }
        }

        /// Asks for what is read of a panel some time after `row`, a hint for any address.
        #[inline]
        #[target_feature(enable = $features)]
        fn prefetch_weights<W>(row: *const W) {
            let bytes = super::super::row::AHEAD * size_of::<bf16>();
            _mm_prefetch::<_MM_HINT_T0>(row.cast::<i8>().wrapping_add(bytes));
        }
    };
}

pub(super) use row;
