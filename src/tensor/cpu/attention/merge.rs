//! Two partial results into one.

use crate::tensor::cpu::Cpu;

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
