//! Two partial results into one.

#![allow(unsafe_code)]

use crate::cpu::Cpu;
use crate::cpu::shared::SharedMut;

/// Elements of the output that a task merges at least: enough to be worth another thread.
const TASK: usize = 8 * 1024;

impl Cpu {
    /// Merges the partial attention `(b, b_lse)` into `(a, a_lse)`: the result is attention over
    /// the keys of both (Star Attention's equation for phase 2). `a` and `b` are
    /// `[rows, head_dim]`, normalised; the log-sum-exps are `[rows]`. Works with the difference to
    /// the larger of the two, so nothing overflows; a part that saw no key (minus infinity)
    /// changes nothing.
    pub fn merge(&self, a: &mut [f32], a_lse: &mut [f32], b: &[f32], b_lse: &[f32]) {
        assert_eq!(a.len(), b.len(), "partial outputs of different shapes");
        assert_eq!(a_lse.len(), b_lse.len(), "log-sum-exps of different shapes");
        if a_lse.is_empty() {
            return;
        }
        let (rows, dim) = (a_lse.len(), a.len() / a_lse.len());
        let (a, a_lse) = (SharedMut::new(a), SharedMut::new(a_lse));
        let per_task = (TASK / dim.max(1)).max(1);
        self.for_each(rows.div_ceil(per_task), |task| {
            for r in task * per_task..((task + 1) * per_task).min(rows) {
                // SAFETY: row r of both is this task's alone.
                let (a, a_lse) = unsafe { (a.slice(r * dim, dim), a_lse.slice(r, 1)) };
                self.merge_row(a, &mut a_lse[0], &b[r * dim..][..dim], b_lse[r]);
            }
        });
    }

    /// One row.
    pub(super) fn merge_row(&self, a: &mut [f32], a_lse: &mut f32, b: &[f32], b_lse: f32) {
        if b_lse == f32::NEG_INFINITY {
            return;
        }
        let top = a_lse.max(b_lse);
        let (wa, wb) = ((*a_lse - top).exp(), (b_lse - top).exp());
        (self.kernels.scale)(a, wa / (wa + wb));
        (self.kernels.add_scaled)(a, wb / (wa + wb), b);
        *a_lse = top + (wa + wb).ln();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 4 rows of 3 elements.
    #[derive(Debug, Clone, PartialEq)]
    struct Partial {
        out: Vec<f32>,
        lse: Vec<f32>,
    }

    fn empty() -> Partial {
        Partial { out: vec![0.0; 12], lse: vec![f32::NEG_INFINITY; 4] }
    }

    /// Rows with log-sum-exps far apart (e^600 overflows), some of them empty. The tolerance below
    /// is what a log-sum-exp of 300 loses to its last bit in f32.
    fn partial() -> impl Strategy<Value = Partial> {
        let lse = prop_oneof![
            4 => -5.0f32..5.0, 1 => Just(f32::NEG_INFINITY), 1 => Just(-300.0f32), 1 => Just(300.0f32)
        ];
        let rows = proptest::collection::vec((lse, proptest::array::uniform3(-9.0f32..9.0)), 4);
        rows.prop_map(|rows| {
            let mut partial = empty();
            for (r, (lse, out)) in rows.into_iter().enumerate() {
                if lse > f32::NEG_INFINITY {
                    partial.lse[r] = lse;
                    partial.out[r * 3..][..3].copy_from_slice(&out);
                }
            }
            partial
        })
    }

    fn merged(a: &Partial, b: &Partial) -> Partial {
        let cpu = Cpu::new(1, None).unwrap();
        let mut result = a.clone();
        cpu.merge(&mut result.out, &mut result.lse, &b.out, &b.lse);
        result
    }

    fn assert_same(a: &Partial, b: &Partial) {
        let close = |x: f32, y: f32| x == y || (x - y).abs() <= 2e-4 * (1.0 + y.abs());
        for (x, y) in a.out.iter().zip(&b.out).chain(a.lse.iter().zip(&b.lse)) {
            assert!(close(*x, *y), "{x} instead of {y}");
        }
    }

    #[test]
    fn rows_are_merged_alike_by_any_number_of_threads() {
        // 3,000 rows of 20: several tasks, the last one shorter.
        let values = |salt: usize| -> Vec<f32> {
            (0..60_000).map(|i| ((i * 37 + salt) % 101) as f32 / 50.0 - 1.0).collect()
        };
        let run = |threads| {
            let cpu = Cpu::new(threads, None).unwrap();
            let (mut a, b) = (values(0), values(5));
            let (mut a_lse, b_lse) = (values(9)[..3000].to_vec(), &values(13)[..3000]);
            cpu.merge(&mut a, &mut a_lse, &b, b_lse);
            (a, a_lse)
        };
        assert_eq!(run(1), run(3));
        let lse = run(1).1[2999];
        let (a, b) = (f64::from(values(9)[2999]), f64::from(values(13)[2999]));
        assert!((f64::from(lse) - (a.exp() + b.exp()).ln()).abs() < 1e-5);
    }

    proptest! {
        #[test]
        fn the_empty_part_is_the_identity(a in partial()) {
            let empty = empty();
            assert_same(&merged(&a, &empty), &a);
            assert_same(&merged(&empty, &a), &a);
        }

        #[test]
        fn merging_commutes_and_associates(a in partial(), b in partial(), c in partial()) {
            assert_same(&merged(&a, &b), &merged(&b, &a));
            assert_same(&merged(&merged(&a, &b), &c), &merged(&a, &merged(&b, &c)));
        }

        #[test]
        fn large_gaps_neither_overflow_nor_lose_the_larger(a in partial(), gap in 200.0f32..3e4) {
            let mut lower = a.clone();
            for lse in &mut lower.lse {
                *lse -= gap;
            }
            lower.out.iter_mut().for_each(|v| *v = 7.0);
            assert_same(&merged(&a, &lower), &a);
        }
    }
}
