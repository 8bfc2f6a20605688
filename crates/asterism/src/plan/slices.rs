//! How hosts divide the weights while they decode: each reads a slice of what all of them have, and
//! they exchange what comes out.

use crate::tensor::{GRAIN, LayerWidths};
use std::ops::Range;

/// Which part of each matrix of a layer, and of the vocabulary, each host multiplies; `None` where
/// all of them multiply with all of it.
///
/// To divide a matrix costs an exchange, which takes as long as reading some bytes of weights: it
/// is done where a host reads that much less. Shares are whole [grains](GRAIN), of outputs or of
/// inputs; they differ by one at most, and there may be none for a host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slices {
    /// Outputs of the projection to queries, keys and values: any, not whole heads, since hosts
    /// exchange them before they are rotated. Every host needs all queries, for its own keys.
    pub qkv: Option<Vec<Range<usize>>>,
    /// Inputs of the output projection; the partial sums are added up.
    pub output: Option<Vec<Range<usize>>>,
    /// Outputs of gate and up, which are the inputs of down; the partial sums are added up.
    pub mlp: Option<Vec<Range<usize>>>,
    /// Outputs of the vocabulary; the first host gets all logits.
    pub vocab: Option<Vec<Range<usize>>>,
}

/// What a token sends between hosts that divide the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlicedToken {
    /// Bytes, of all hosts together.
    pub bytes: u64,
    /// Of these, what the busiest link carries one way.
    pub busiest: u64,
    /// Exchanges in turn.
    pub exchanges: u64,
    /// Weights that the busiest host reads.
    pub weights: u64,
    /// Weights that there are.
    pub all: u64,
}

impl SlicedToken {
    /// The share of the weights that the busiest host reads.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.weights as f64 / self.all as f64
    }
}

impl Slices {
    /// The slices of `hosts` hosts whose weights take `element` bytes each, where an exchange takes
    /// as long as reading `worth` bytes.
    #[must_use]
    pub fn of(widths: LayerWidths, element: usize, hosts: usize, worth: u64) -> Self {
        let LayerWidths { hidden, intermediate, vocab, shape } = widths;
        let of = |width: usize, others: usize| {
            let shares = shares(width, hosts);
            let most = shares.iter().map(Range::len).max().unwrap_or(width);
            let saved = ((width - most) * others * element) as u64;
            (hosts > 1 && saved > worth).then_some(shares)
        };
        Self {
            qkv: of(shape.qkv_width(), hidden),
            output: of(shape.q_width(), hidden),
            mlp: of(intermediate, 3 * hidden),
            vocab: of(vocab, hidden),
        }
    }

    /// What a token of an answer sends on `hosts` hosts through `layers` layers of `widths`, whose
    /// rows have `element` bytes a number, attention included.
    #[must_use]
    pub fn token(
        &self,
        widths: LayerWidths,
        layers: usize,
        element: usize,
        hosts: usize,
    ) -> SlicedToken {
        let LayerWidths { hidden, intermediate, vocab, shape } = widths;
        let (count, others) = (hosts as u64, hosts.saturating_sub(1) as u64);
        let layers = layers as u64;
        // Outputs of attention with their log-sum-exps, and partial sums in f32, from each to all.
        let attention = (element * shape.q_width() + 4 * shape.heads) as u64;
        let sums = 4 * hidden as u64;
        let divided = [&self.output, &self.mlp].into_iter().flatten().count() as u64;
        let each = attention + divided * sums;
        let qkv = self.qkv.as_ref().map_or(0, |_| (element * shape.qkv_width()) as u64);
        let own = |shares: &Option<Vec<Range<usize>>>| {
            shares.as_ref().and_then(|shares| shares.first()).map_or(0, Range::len)
        };
        let logits = match &self.vocab {
            Some(_) => 4 * (vocab - own(&self.vocab)) as u64,
            None => 0,
        };
        let most = |shares: &Option<Vec<Range<usize>>>, width: usize| {
            let most = shares.as_ref().and_then(|shares| shares.iter().map(Range::len).max());
            most.unwrap_or(width) as u64
        };
        let per_layer = hidden as u64
            * (most(&self.qkv, shape.qkv_width())
                + most(&self.output, shape.q_width())
                + 3 * most(&self.mlp, intermediate));
        let all_of_layer = hidden * (shape.qkv_width() + shape.q_width() + 3 * intermediate);
        let in_turn = 1 + u64::from(self.qkv.is_some()) + divided;
        let largest = most(&self.qkv, 0) * element as u64;
        SlicedToken {
            bytes: layers * others * (count * each + qkv) + logits,
            // Into the first host: everybody's, and the logits; out of a host with most queries
            // where that is more.
            busiest: layers * others * (each + largest) + logits,
            exchanges: if others > 0 { layers * in_turn + u64::from(logits > 0) } else { 0 },
            weights: layers * per_layer + hidden as u64 * most(&self.vocab, vocab),
            all: layers * all_of_layer as u64 + (hidden * vocab) as u64,
        }
    }
}

/// `width` elements in whole grains for `hosts` hosts.
fn shares(width: usize, hosts: usize) -> Vec<Range<usize>> {
    let grains = width.div_ceil(GRAIN);
    let edge = |host: usize| (host * grains / hosts * GRAIN).min(width);
    (0..hosts).map(|host| edge(host)..edge(host + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::HeadShape;
    use proptest::prelude::*;

    /// Llama-3.1-8B.
    const WIDTHS: LayerWidths = LayerWidths {
        hidden: 4096,
        intermediate: 14_336,
        vocab: 128_256,
        shape: HeadShape { heads: 32, kv_heads: 8, head_dim: 128 },
    };

    #[test]
    fn a_matrix_is_divided_where_that_saves_more_than_an_exchange_takes() {
        let all = Slices::of(WIDTHS, 2, 2, 0);
        assert_eq!(all.mlp, Some(vec![0..7168, 7168..14_336]));
        assert_eq!(all.qkv, Some(vec![0..3072, 3072..6144]));
        let some = Slices::of(WIDTHS, 2, 2, 36_000_000);
        assert_eq!((&some.qkv, &some.output), (&None, &None));
        assert!(some.mlp == all.mlp && some.vocab == all.vocab);
        assert_eq!(Slices::of(WIDTHS, 2, 1, 0), Slices::default());
    }

    #[test]
    fn what_a_token_sends_is_counted() {
        let some = Slices { qkv: None, output: None, ..Slices::of(WIDTHS, 2, 2, 0) };
        let token = some.token(WIDTHS, 32, 2, 2);
        let logits = 4 * 64_128;
        assert_eq!(token.bytes, 32 * 2 * (8192 + 128 + 16_384) + logits);
        assert_eq!(token.busiest, 32 * (8192 + 128 + 16_384) + logits);
        assert_eq!(token.exchanges, 65);
        let layer = 4096 * (6144 + 4096 + 3 * 7168);
        assert_eq!(token.weights, 32 * layer + 4096 * 64_128);
        assert_eq!(Slices::default().token(WIDTHS, 32, 2, 2).exchanges, 32);
        assert_eq!(Slices::default().token(WIDTHS, 32, 2, 1).exchanges, 0);
    }

    proptest! {
        #[test]
        fn shares_cover_everything_once(width in 1usize..5000, hosts in 1usize..70) {
            let shares = shares(width, hosts);
            prop_assert_eq!(shares.len(), hosts);
            let mut end = 0;
            for share in &shares {
                prop_assert_eq!(share.start, end);
                prop_assert!(share.start % GRAIN == 0 || share.is_empty());
                end = share.end;
            }
            prop_assert_eq!(end, width);
            let most = shares.iter().map(Range::len).max().unwrap_or(0);
            prop_assert!(most <= width.div_ceil(GRAIN).div_ceil(hosts) * GRAIN);
        }
    }
}
