//! One row times one panel of bf16 weights: the linear layers of decoding. See `row_panel` in
//! [`portable`](super::portable).

#![allow(unsafe_code)]

/// bf16 ahead of those in use that are fetched. Weights are read in the order of memory, which the
/// processor foresees only to the end of a page of 4 KiB.
pub(super) const AHEAD: usize = 4096;

macro_rules! row {
    ($features:literal, $lanes:literal, $zero:ident, $store:ident, $set1:ident, $fma:ident,
     $add:ident) => {
        fn row_bf16(x: &[f32], panel: &[bf16], out: &mut [f32]) {
            assert!(panel.len() >= x.len() * PANEL, "panel too short");
            assert_eq!(out.len(), PANEL, "out is one panel wide");
            // SAFETY: the panel has PANEL elements for each of x (asserted); the features are
            // present because `Kernels::of` handed this table out.
            let [even, odd] = unsafe { row_sums(x, panel.as_ptr()) };
            for i in 0..$lanes {
                (out[2 * i], out[2 * i + 1]) = (even[i], odd[i]);
            }
        }

        /// Sums of the even and of the odd columns.
        ///
        /// # Safety
        /// `panel` has [`PANEL`] elements, as many as [`PAIRS`], for each of `x`.
        #[target_feature(enable = $features)]
        unsafe fn row_sums(x: &[f32], panel: *const bf16) -> [[f32; $lanes]; 2] {
            const { assert!(PANEL == PAIRS) };
            // Four rows at a time, so that eight chains of additions run at once.
            let mut sums = [[$zero(); 2]; 4];
            let (fours, rest) = x.as_chunks::<4>();
            let mut row = panel;
            for four in fours {
                for (i, x) in four.iter().enumerate() {
                    prefetch(row.wrapping_add(super::super::row::AHEAD), i * PANEL);
                    let x = $set1(*x);
                    for half in 0..2 {
                        // SAFETY: row i of the next four.
                        let wide = unsafe { widen_half(row.wrapping_add(i * PANEL), half) };
                        sums[i][half] = $fma(x, wide, sums[i][half]);
                    }
                }
                row = row.wrapping_add(4 * PANEL);
            }
            for (i, x) in rest.iter().enumerate() {
                for half in 0..2 {
                    // SAFETY: one of the last rows.
                    let wide = unsafe { widen_half(row.wrapping_add(i * PANEL), half) };
                    sums[i][half] = $fma($set1(*x), wide, sums[i][half]);
                }
            }
            std::array::from_fn(|half| {
                let [a, b, c, d] = sums.map(|sums| sums[half]);
                let mut total = [0.0f32; $lanes];
                // SAFETY: a register of floats.
                unsafe { $store(total.as_mut_ptr(), $add($add(a, b), $add(c, d))) };
                total
            })
        }
    };
}

pub(super) use row;
