//! Attention over a part of the keys.

use crate::tensor::{Cpu, HeadShape, KvSegment};

/// Normalised attention over some keys and the log-sum-exp of their scores: enough to merge it with
/// attention over other keys into attention over both.
#[derive(Debug, Clone, PartialEq)]
pub struct Partial {
    /// `[tokens, heads, head_dim]`
    pub out: Vec<f32>,
    /// `[tokens, heads]`; minus infinity where no key was seen
    pub lse: Vec<f32>,
}

impl Partial {
    /// Attention over no keys: merging it changes nothing.
    #[must_use]
    pub fn empty(tokens: usize, shape: HeadShape) -> Self {
        Self {
            out: vec![0.0; tokens * shape.q_width()],
            lse: vec![f32::NEG_INFINITY; tokens * shape.heads],
        }
    }

    /// Attention of `q [tokens, heads, head_dim]`, standing at `start..`, over `segments`.
    #[must_use]
    pub fn of(
        cpu: &Cpu,
        q: &[f32],
        start: usize,
        shape: HeadShape,
        segments: &[KvSegment<'_>],
    ) -> Self {
        let mut partial = Self::empty(q.len() / shape.q_width(), shape);
        cpu.attend(q, start, shape, segments, &mut partial.out, &mut partial.lse);
        partial
    }

    /// Makes this attention over the keys of both (paper, section 2.2: the distributed softmax).
    pub fn merge(&mut self, cpu: &Cpu, other: &Self) {
        cpu.merge(&mut self.out, &mut self.lse, &other.out, &other.lse);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHAPE: HeadShape = HeadShape { heads: 2, kv_heads: 1, head_dim: 3 };

    /// Rows with log-sum-exps far apart (e^600 overflows), some of them empty. The tolerance below is
    /// what a log-sum-exp of 300 loses to its last bit in f32.
    fn partial() -> impl Strategy<Value = Partial> {
        let lse = prop_oneof![
            4 => -5.0f32..5.0, 1 => Just(f32::NEG_INFINITY), 1 => Just(-300.0f32), 1 => Just(300.0f32)
        ];
        let rows = proptest::collection::vec((lse, proptest::array::uniform3(-9.0f32..9.0)), 4);
        rows.prop_map(|rows| {
            let mut partial = Partial::empty(2, SHAPE);
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
        result.merge(&cpu, b);
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
            let empty = Partial::empty(2, SHAPE);
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
