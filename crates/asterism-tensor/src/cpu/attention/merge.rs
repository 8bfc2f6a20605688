//! Two partial results into one.

use crate::cpu::Cpu;

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
        let dim = a.len() / a_lse.len();
        let rows = a.chunks_exact_mut(dim).zip(b.chunks_exact(dim));
        for ((a, b), (a_lse, b_lse)) in rows.zip(a_lse.iter_mut().zip(b_lse)) {
            if *b_lse == f32::NEG_INFINITY {
                continue;
            }
            let top = a_lse.max(*b_lse);
            let (wa, wb) = ((*a_lse - top).exp(), (b_lse - top).exp());
            (self.kernels.scale)(a, wa / (wa + wb));
            (self.kernels.add_scaled)(a, wb / (wa + wb), b);
            *a_lse = top + (wa + wb).ln();
        }
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
