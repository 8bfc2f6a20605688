//! Scores of many rows over bf16 keys: sequences that decode behind one context. To the last bit
//! what [`few`](super::few) gives each row.
//!
//! There a register holds elements of one key, and adding up what its lanes have summed takes
//! longer than the products. Here keys are transposed, which many rows make worth it: a register
//! holds one element of many keys, what was a lane is a sum of its own, and these are added in the
//! order in which lanes are.

/// Rows of a KV head from which keys are worth transposing.
pub(super) const MANY_ROWS: usize = 24;

macro_rules! many {
    ($features:literal, $lanes:literal, $most:literal, $score:expr, $zero:ident, $load:ident,
     $store:ident, $set1:ident, $fma:ident, $add:ident) => {
        /// As `score_bf16`, for heads of a multiple of [`PAIRS`] elements, at most [`MOST_DIM`].
        fn score_many(shape: FewRows, q: &[f32], keys: &[bf16], scores: &mut [f32]) {
            const { assert!(PANEL == 2 * $lanes) };
            let (dim, stride) = (shape.dim, shape.kv_width());
            let width = keys.len() / stride;
            assert!(q.len() >= shape.kv_heads * shape.rows * dim, "q too short");
            assert!(scores.len() >= shape.kv_heads * shape.rows * width, "scores too short");
            // [dim, PANEL]
            let mut panel = [0.0f32; PANEL * MOST_DIM];
            let panel = &mut panel[..PANEL * dim];
            for first in (0..width).step_by(PANEL) {
                let count = PANEL.min(width - first);
                for head in 0..shape.kv_heads {
                    let keys = &keys[first * stride + head * dim..];
                    unpack_keys(keys, stride, count, dim, panel);
                    for row in (0..shape.rows).step_by($most) {
                        let (rows, row) = ($most.min(shape.rows - row), head * shape.rows + row);
                        let q = &q[row * dim..][..rows * dim];
                        let scores = &mut scores[row * width + first..];
                        // SAFETY: `rows` rows of q, a whole panel, and of `scores` as many rows of
                        // `count` from here on, `width` apart (asserted); the features are present
                        // because `Kernels::of` handed this table out.
                        unsafe {
                            of_rows::<_, $most>(rows, $score)(
                                q,
                                panel,
                                scores.as_mut_ptr(),
                                width,
                                count,
                            );
                        }
                    }
                }
            }
        }

        /// Scores of R rows with the first `count` keys of a panel.
        ///
        /// # Safety
        /// `q` is `[R, dim]`, `panel` `[dim, PANEL]`; `scores` has R rows of `count`, `width`
        /// apart.
        #[target_feature(enable = $features)]
        unsafe fn score_panel<const R: usize>(
            q: &[f32],
            panel: &[f32],
            scores: *mut f32,
            width: usize,
            count: usize,
        ) {
            for (from, half) in [(0, 0), ($lanes, 1)] {
                if from >= count {
                    break;
                }
                // SAFETY: by this function's contract.
                let totals = unsafe { score_half::<R>(q, &panel[half * $lanes..]) };
                for (r, total) in totals.into_iter().enumerate() {
                    // SAFETY: a register of floats is stored where there are as many, and else by
                    // way of a place of its own.
                    unsafe {
                        let to = scores.add(r * width + from);
                        if count - from >= $lanes {
                            $store(to, total);
                        } else {
                            let mut some = [0.0f32; $lanes];
                            $store(some.as_mut_ptr(), total);
                            to.copy_from_nonoverlapping(some.as_ptr(), count - from);
                        }
                    }
                }
            }
        }

        /// Scores of R rows with the keys of a register.
        ///
        /// # Safety
        /// `q` is `[R, dim]`, `dim` a multiple of [`PAIRS`]; of `panel`, a register can be read
        /// every [`PANEL`] elements, `dim` times.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn score_half<const R: usize>(q: &[f32], panel: &[f32]) -> [Register; R] {
            let dim = q.len() / R;
            // What `score_keys` sums in lane `lane`.
            let lane = |lane: usize| {
                let mut sums = [$zero(); R];
                for half in 0..2 {
                    for chunk in (0..dim).step_by(PAIRS) {
                        let at = chunk + 2 * lane + half;
                        // SAFETY: by this function's contract.
                        unsafe {
                            let keys = $load(panel.as_ptr().add(at * PANEL));
                            for (r, sum) in sums.iter_mut().enumerate() {
                                let q = $set1(*q.as_ptr().add(r * dim + at));
                                *sum = $fma(q, keys, *sum);
                            }
                        }
                    }
                }
                sums
            };
            let add = |a: [Register; R], b: [Register; R]| {
                std::array::from_fn::<_, R, _>(|r| $add(a[r], b[r]))
            };
            // Lanes as they are added there: those of both halves of a long register, and then
            // neighbours.
            let both = |j: usize| if $lanes == 16 { add(lane(j), lane(j + 8)) } else { lane(j) };
            let two = |j: usize| add(both(j), both(j + 1));
            let four = |j: usize| add(two(j), two(j + 2));
            add(four(0), four(4))
        }
    };
}

pub(super) use many;
