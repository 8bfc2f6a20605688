//! The patterns on real arithmetic: what they must equal.

use super::*;
use crate::tensor::{Aligned, Attention, Caching, Cpu, KvPrecision};
use proptest::prelude::*;

/// A small generator, so that a seed gives a case again.
pub(super) struct Random(pub(super) u64);

impl Random {
    /// From -1 to 1.
    pub(super) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// Weights as attention has them: most of them small.
    pub(super) fn weights(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| (4.0 * self.next()).exp() / len as f32).collect()
    }

    fn rows(&mut self, len: usize, scale: f32) -> Aligned<f32> {
        let mut rows = Aligned::default();
        rows.at_least(len).iter_mut().for_each(|x| *x = scale * self.next());
        rows
    }
}

/// Random weights of `keys` keys and distances.
pub(super) fn random_lines(heads: usize, keys: usize, seed: u64) -> Lines {
    let mut random = Random(seed);
    let (vertical, slash) = (random.weights(heads * keys), random.weights(heads * keys));
    Lines { heads, keys, vertical, slash }
}

const SHAPE: HeadShape = HeadShape { heads: 4, kv_heads: 2, head_dim: 32 };

/// Calls `check` with a block of `rows` queries behind an anchor, on a CPU.
fn with_block(anchor: usize, rows: usize, seed: u64, check: impl Fn(&Block<'_, Cpu>)) {
    let (cpu, mut random) = (Cpu::new(2, None).unwrap(), Random(seed));
    let q = random.rows(rows * SHAPE.q_width(), 2.0);
    let mut kv = |tokens: usize| {
        let len = tokens * SHAPE.kv_width();
        let (k, v) = (random.rows(len, 2.0), random.rows(len, 1.0));
        let mut kept = [0, 1].map(|_| Caching::kv(&cpu, KvPrecision::F32, SHAPE, len).unwrap());
        let [keys, values] = &mut kept;
        let new = [Part::new(&k, 0..len), Part::new(&v, 0..len)];
        Caching::append(&cpu, [keys, values], new).unwrap();
        kept
    };
    let (before, own) = (kv(anchor), kv(rows));
    let part = |tokens: usize| 0..tokens * SHAPE.kv_width();
    let mut segments = Vec::new();
    if anchor > 0 {
        let (keys, values) =
            (Part::new(&before[0], part(anchor)), Part::new(&before[1], part(anchor)));
        segments.push(Segment { keys, values, tokens: anchor, start: 0, hidden: None, kept: None });
    }
    let (keys, values) = (Part::new(&own[0], part(rows)), Part::new(&own[1], part(rows)));
    let start = anchor + 1000;
    segments.push(Segment { keys, values, tokens: rows, start, hidden: None, kept: None });
    let q = Part::new(&q, 0..rows * SHAPE.q_width());
    check(&Block { backend: &cpu, shape: SHAPE, q, start, segments: &segments });
}

impl Block<'_, Cpu> {
    /// Outputs and log-sum-exps by a pattern, and what it kept.
    fn by(&self, sparse: Sparse) -> (Vec<f32>, Vec<f32>, Sparsity) {
        let (mut out, mut lse) = (Aligned::default(), Aligned::default());
        let (len, rows) = (self.q.len, self.rows() * SHAPE.heads);
        out.at_least(len).fill(f32::NAN);
        lse.at_least(rows).fill(f32::NAN);
        let mut found = Sparsity::default();
        let to = (PartMut::new(&mut out, 0..len), PartMut::new(&mut lse, 0..rows));
        self.attend(sparse, to.0, to.1, &mut found).unwrap();
        (out.to_vec(), lse.to_vec(), found)
    }

    fn dense(&self) -> (Vec<f32>, Vec<f32>) {
        let (mut out, mut lse) = (Aligned::default(), Aligned::default());
        let (len, rows) = (self.q.len, self.rows() * SHAPE.heads);
        out.at_least(len).fill(f32::NAN);
        lse.at_least(rows).fill(f32::NAN);
        let to = (PartMut::new(&mut out, 0..len), PartMut::new(&mut lse, 0..rows));
        Attention::attend(self.backend, self.q, SHAPE, &[self.last(self.rows())], to.0, to.1)
            .unwrap();
        (out.to_vec(), lse.to_vec())
    }
}

fn near(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn settings_that_leave_nothing_out_are_dense_attention(
        anchor in 0usize..300, rows in 1usize..700, seed in any::<u64>(),
    ) {
        let keys = anchor + rows;
        let share = |s| Share::of(s).unwrap();
        with_block(anchor, rows, seed, |block| {
            let (out, lse) = block.dense();
            for sparse in [
                Sparse::Streaming { sink: 0, window: keys },
                Sparse::Streaming { sink: keys, window: 1 },
                Sparse::Minference { vertical: keys, slash: 0 },
                Sparse::Minference { vertical: 0, slash: keys },
                Sparse::Flexprefill { gamma: Share::ALL, tau: share(0), min: 0 },
                Sparse::Flexprefill { gamma: share(100), tau: share(1000), min: keys },
                Sparse::Xattention { stride: 8, tau: Share::ALL },
                Sparse::Blocks { block: 128, anchor: 0, previous: keys.div_ceil(128) },
                Sparse::Blocks { block: keys.next_multiple_of(128), anchor: 128, previous: 0 },
            ] {
                let (found, found_lse, sparsity) = block.by(sparse);
                assert!(near(&found, &out) && near(&found_lse, &lse), "{sparse}");
                assert_eq!(sparsity.density(), 1.0, "{sparse}");
                assert!((sparsity.kept_mass() - 1.0).abs() < 1e-4, "{sparse}: {sparsity:?}");
            }
        });
    }

    #[test]
    fn a_stride_of_one_keeps_at_least_its_share_of_the_weight(
        anchor in 0usize..300, rows in 300usize..900, tau in 1000u16..9900, seed in any::<u64>(),
    ) {
        let tau = Share::of(tau).unwrap();
        with_block(anchor, rows, seed, |block| {
            let layout = Layout::new(block.segments.iter().map(|s| s.tokens), rows);
            let sums = block.tile_mass(&layout, rows, Grain::Antidiagonal { stride: 1 }).unwrap();
            let (own, tiles) = (xattention::own(&layout), layout.key_tiles());
            let share = tau.get() as f32;
            let bits = block.backend.heaviest(&sums, SHAPE.heads, tiles, &own, share);
            let mask = xattention::mask(&layout, SHAPE.heads, &bits);
            let (_, dense) = block.dense();
            let (_, kept, _) = block.by(Sparse::Xattention { stride: 1, tau });
            for head in 0..SHAPE.heads {
                for tile in 0..layout.query_tiles() {
                    let first = tile * MASK_TILE;
                    let own = first..(first + MASK_TILE).min(rows);
                    let count = own.len() as f64;
                    // The log-sum-exps say the same as the sums of tiles.
                    let by_lse: f64 = own
                        .map(|row| row * SHAPE.heads + head)
                        .map(|at| f64::from(kept[at] - dense[at]).exp())
                        .sum();
                    let row = (head * layout.query_tiles() + tile) * layout.key_tiles();
                    let by_sums: f64 = mask
                        .tiles(head, tile)
                        .iter()
                        .map(|key| f64::from(sums[row + *key as usize]))
                        .sum();
                    assert!((by_lse - by_sums).abs() < 1e-3 * count, "{by_lse} and {by_sums}");
                    assert!(by_lse >= (tau.get() - 1e-3) * count);
                }
            }
        });
    }

    #[test]
    fn patterns_leave_out_what_they_say(anchor in 0usize..300, seed in any::<u64>()) {
        with_block(anchor, 2000, seed, |block| {
            for sparse in [
                Sparse::Streaming { sink: 64, window: 200 },
                Sparse::Minference { vertical: 40, slash: 60 },
                Sparse::Flexprefill { gamma: Share::of(3000).unwrap(), tau: Share::of(0).unwrap(), min: 128 },
                Sparse::Xattention { stride: 8, tau: Share::of(4000).unwrap() },
                Sparse::Blocks { block: 256, anchor: 128, previous: 1 },
            ] {
                let (out, _, sparsity) = block.by(sparse);
                assert!(out.iter().all(|x| x.is_finite()), "{sparse}");
                assert!(sparsity.density() < 0.9, "{sparse}: {sparsity:?}");
                let kept = sparsity.kept_mass();
                assert!((0.01..1.0).contains(&kept), "{sparse}: {kept}");
            }
        });
    }
}
