//! Attention over some tiles of keys, and the estimates that choose them: against the CPU's, and
//! against the naive twin.

use super::both::{Both, all, all_mut, all_of, on_both};
use super::{halves, poisoned, random};
use crate::cuda::sparse::kernels::SparseKernels;
use crate::cuda::{Cuda, Grown, Kv};
use crate::{
    Attention, Buffers, Caching, Cpu, Grain, HeadShape, KvPrecision, MASK_TILE, Memory, Part,
    Positions, Processor, Segment, Sequence, SparseAttention, TileMask,
};
use half::bf16;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::Rng;

/// Keys and values on both sides, in segments of so many tokens at such a position.
struct Keys {
    kept: Vec<[(Kv, crate::Kv); 2]>,
    places: Vec<(usize, usize)>,
}

impl Keys {
    fn new(
        both: &Both,
        random: &mut Xoshiro256PlusPlus,
        shape: HeadShape,
        places: &[(usize, usize)],
    ) -> Self {
        let of_segment = |(tokens, _): &(usize, usize)| {
            let len = tokens * shape.kv_width();
            let mut gpu = [0, 1].map(|_| both.gpu.kv(KvPrecision::Bf16, shape, len).unwrap());
            let mut cpu = [0, 1].map(|_| both.cpu.kv(KvPrecision::F32, shape, len).unwrap());
            let new = [2.0, 1.0].map(|scale| both.rows(&halves(random, len, scale)));
            let [keys, values] = &mut gpu;
            let [k, v] = &new;
            Caching::append(&both.gpu, [keys, values], [all(&k.0), all(&v.0)]).unwrap();
            let [keys, values] = &mut cpu;
            Caching::append(&both.cpu, [keys, values], [all(&k.1), all(&v.1)]).unwrap();
            let ([gk, gv], [ck, cv]) = (gpu, cpu);
            [(gk, ck), (gv, cv)]
        };
        Self { kept: places.iter().map(of_segment).collect(), places: places.to_vec() }
    }

    fn gpu(&self, shape: HeadShape) -> Vec<Segment<'_, Cuda>> {
        let all = self.kept.iter().zip(&self.places);
        all.map(|([(keys, _), (values, _)], (tokens, start))| {
            let range = 0..tokens * shape.kv_width();
            let (keys, values) = (Part::new(keys, range.clone()), Part::new(values, range));
            Segment { keys, values, tokens: *tokens, start: *start, hidden: None, kept: None }
        })
        .collect()
    }

    fn cpu(&self, shape: HeadShape) -> Vec<Segment<'_, Cpu>> {
        let all = self.kept.iter().zip(&self.places);
        all.map(|([(_, keys), (_, values)], (tokens, start))| {
            let range = 0..tokens * shape.kv_width();
            let (keys, values) = (Part::new(keys, range.clone()), Part::new(values, range));
            Segment { keys, values, tokens: *tokens, start: *start, hidden: None, kept: None }
        })
        .collect()
    }
}

const SHAPES: [HeadShape; 4] = [
    HeadShape { heads: 8, kv_heads: 2, head_dim: 128 },
    HeadShape { heads: 4, kv_heads: 4, head_dim: 64 },
    HeadShape { heads: 6, kv_heads: 1, head_dim: 80 },
    HeadShape { heads: 3, kv_heads: 1, head_dim: 256 },
];

/// Segments, and rows at the end of the last.
const CASES: [(&[(usize, usize)], usize); 4] = [
    (&[(1024, 0)], 1024),
    (&[(200, 0), (900, 5000)], 900),
    (&[(77, 0)], 77),
    (&[(256, 0), (1000, 300)], 333),
];

fn random_mask(
    random: &mut Xoshiro256PlusPlus,
    heads: usize,
    places: &[(usize, usize)],
    rows: usize,
) -> TileMask {
    let key_tiles = TileMask::key_tiles_of(places.iter().map(|(tokens, _)| *tokens));
    let mut below = |n: usize| random.next_u32() as usize % n;
    let mask = TileMask::new(heads, rows.div_ceil(MASK_TILE), key_tiles, |_, _, list| {
        list.extend((0..key_tiles as u32).filter(|_| below(3) == 0));
    });
    let columns = (0..heads)
        .map(|_| {
            let slots = (0..200).map(|_| below(key_tiles * MASK_TILE) as u32);
            slots.collect()
        })
        .collect();
    mask.with_columns(columns)
}

#[test]
fn random_masks_are_those_of_the_cpu_and_of_the_naive_twin() {
    let Some(both) = Both::open() else { return };
    let mut random = random();
    for shape in SHAPES {
        let naive = SparseKernels::naive(&both.gpu.device, shape.head_dim).unwrap();
        for (places, tokens) in CASES {
            for heads in [1, shape.heads] {
                let keys = Keys::new(&both, &mut random, shape, places);
                let q = both.rows(&halves(&mut random, (tokens + 1) * shape.q_width(), 1.0));
                let (last, start) = places.last().unwrap();
                let (rows, first) = (1..tokens + 1, start + last - tokens);
                let positions = Positions::From(first);
                let mask = random_mask(&mut random, heads, places, tokens);
                let mut out = both.no_rows(q.1.len());
                let mut lse = both.no_sums(q.1.len() / shape.head_dim);
                let (gpu, cpu) = (keys.gpu(shape), keys.cpu(shape));
                let sequence = Sequence { rows: rows.clone(), positions, segments: &gpu };
                let to = (all_mut(&mut out.0), all_mut(&mut lse.0));
                both.gpu.attend_tiles(all(&q.0), shape, &sequence, &mask, to.0, to.1).unwrap();
                let positions = Positions::From(first);
                let sequence_cpu = Sequence { rows, positions, segments: &cpu };
                let to = (all_mut(&mut out.1), all_mut(&mut lse.1));
                SparseAttention::attend_tiles(
                    &both.cpu,
                    all(&q.1),
                    shape,
                    &sequence_cpu,
                    &mask,
                    to.0,
                    to.1,
                )
                .unwrap();
                let found: Vec<f32> = all_of(&out.0).into_iter().map(bf16::to_f32).collect();
                let what = format!("{shape:?}, {places:?}, {tokens}, {heads}");
                let width = shape.q_width();
                let own = |x: &[f32], width: usize| x[width..].to_vec();
                near(&own(&found, width), &own(&out.1, width), 0.02, &what);
                near(&own(&all_of(&lse.0), shape.heads), &own(&lse.1, shape.heads), 0.02, &what);
                let mut by_twin = poisoned::<bf16>(&both.gpu.device, q.1.len());
                let mut twin_lse = poisoned::<f32>(&both.gpu.device, q.1.len() / shape.head_dim);
                let launch = ([(tokens * shape.heads) as u32, 1, 1], 32, 0);
                let views = (by_twin.view_mut(), twin_lse.view_mut());
                let q = crate::cuda::memory::view(all(&q.0)).unwrap();
                both.gpu
                    .launch_tiles(&naive, launch, 1, (q, shape), &sequence, &mask, views)
                    .unwrap();
                let twin: Vec<f32> =
                    by_twin.view().to_vec().unwrap().into_iter().map(bf16::to_f32).collect();
                near(&own(&found, width), &own(&twin, width), 0.02, &what);
            }
        }
    }
}

fn near(found: &[f32], expected: &[f32], most: f32, what: &str) {
    assert_eq!(found.len(), expected.len());
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!(a == b || (a - b).abs() < most, "{what}: {at}: {a} and {b}");
    }
}

#[test]
fn lines_and_weights_of_tiles_are_those_of_the_cpu() {
    let Some(both) = Both::open() else { return };
    let mut random = random();
    for shape in SHAPES {
        for (places, tokens) in CASES {
            let keys = Keys::new(&both, &mut random, shape, places);
            let (last, start) = places.last().unwrap();
            let what = format!("{shape:?}, {places:?}, {tokens}");
            let count: usize = places.iter().map(|(tokens, _)| tokens).sum();
            let (gpu, cpu) = (keys.gpu(shape), keys.cpu(shape));
            let q = both.rows(&halves(&mut random, tokens * shape.q_width(), 1.0));
            let key_tiles = TileMask::key_tiles_of(places.iter().map(|(tokens, _)| *tokens));
            for grain in [
                Grain::Mean,
                Grain::Antidiagonal { stride: 1 },
                Grain::Antidiagonal { stride: 8 },
                Grain::Antidiagonal { stride: 16 },
            ] {
                let size = shape.heads * tokens.div_ceil(MASK_TILE) * key_tiles;
                let mut sums = both.no_sums(size);
                let sequence = |segments| {
                    let positions = Positions::From(start + last - tokens);
                    Sequence::<Cuda> { rows: 0..tokens, positions, segments }
                };
                let to = all_mut(&mut sums.0);
                both.gpu.tile_mass(all(&q.0), shape, &sequence(&gpu), grain, to).unwrap();
                let positions = Positions::From(start + last - tokens);
                let own = Sequence { rows: 0..tokens, positions, segments: &cpu };
                let to = all_mut(&mut sums.1);
                SparseAttention::tile_mass(&both.cpu, all(&q.1), shape, &own, grain, to).unwrap();
                both.check_sums(&sums, 0.02, &format!("{what}, {grain:?}"));
                // The same weights on both sides.
                let same = both.sums(&all_of(&sums.0));
                let last = key_tiles as u32 - tokens.div_ceil(MASK_TILE) as u32;
                let own: Vec<_> = (0..tokens.div_ceil(MASK_TILE) as u32)
                    .map(|tile| last + tile..last + tile + 1)
                    .collect();
                let found =
                    both.gpu.heaviest(all(&same.0), shape.heads, key_tiles, &own, 0.7).unwrap();
                let expected = both.cpu.heaviest(&same.1, shape.heads, key_tiles, &own, 0.7);
                let pairs = || found.iter().zip(&expected).map(|(a, b)| (a ^ b).count_ones());
                // Sums in another order may decide about the last tile of a row.
                let (rows, wrong) = (shape.heads * own.len(), pairs().sum::<u32>() as usize);
                assert!(
                    found.len() == expected.len() && wrong * 20 <= rows + 20,
                    "{what}: {wrong}"
                );
            }
            let few = tokens.min(100);
            let first = tokens - few;
            let mut out = both.no_rows(few * shape.q_width());
            let mut lse = both.no_sums(few * shape.heads);
            let mut vertical = both.no_sums(shape.heads * count);
            let mut slash = both.no_sums(shape.heads * count);
            on_both!(both, |backend, side| {
                let segments = &side!((&gpu, &cpu))[..];
                let positions = Positions::From(start + last - few);
                let sequence = Sequence { rows: 0..few, positions, segments };
                let q = all(&side!(q)).slice(first * shape.q_width()..tokens * shape.q_width());
                let of = std::slice::from_ref(&sequence);
                let (to, to_lse) = (all_mut(&mut side!(out)), all_mut(&mut side!(lse)));
                Attention::attend(backend, q, shape, of, to, to_lse).unwrap();
                let to = (all_mut(&mut side!(vertical)), all_mut(&mut side!(slash)));
                SparseAttention::lines(backend, q, shape, &sequence, all(&side!(lse)), to.0, to.1)
                    .unwrap();
            });
            both.check_sums(&vertical, 0.02, &format!("{what}, vertical"));
            both.check_sums(&slash, 0.02, &format!("{what}, slash"));
        }
    }
}

/// `cargo test --release -p asterism-tensor --features cuda --lib -- --ignored --nocapture
/// rates_of_sparse_attention`
#[test]
#[ignore = "a measurement"]
fn rates_of_sparse_attention() {
    let Some(both) = Both::open() else { return };
    let (gpu, mut random) = (&both.gpu, random());
    let shape = HeadShape { heads: 32, kv_heads: 8, head_dim: 128 };
    for tokens in [32 << 10, 128 << 10] {
        let new = halves(&mut random, tokens * shape.kv_width(), 1.0);
        let rows = |x: &[bf16]| {
            let mut rows = Grown::default();
            rows.first(&gpu.device, x.len()).unwrap().write(x).unwrap();
            rows
        };
        let (k, q) = (rows(&new), rows(&halves(&mut random, tokens * shape.q_width(), 1.0)));
        let mut kept = [0, 1].map(|_| gpu.kv(KvPrecision::Bf16, shape, new.len()).unwrap());
        let [keys, values] = &mut kept;
        Caching::append(gpu, [keys, values], [all(&k), all(&k)]).unwrap();
        let range = 0..new.len();
        let (keys, values) = (Part::new(&kept[0], range.clone()), Part::new(&kept[1], range));
        let segments = [Segment { keys, values, tokens, start: 0, hidden: None, kept: None }];
        let positions = Positions::From(0);
        let sequence = Sequence { rows: 0..tokens, positions, segments: &segments };
        let (mut out, mut lse) = (Grown::default(), Grown::default());
        gpu.rows_at_least(&mut out, q.len()).unwrap();
        gpu.sums_at_least(&mut lse, tokens * shape.heads).unwrap();
        let tiles = tokens / MASK_TILE;
        let all_tiles = (tiles * (tiles + 1) / 2 * shape.heads) as f64;
        let pairs = (MASK_TILE * MASK_TILE * 4 * shape.head_dim) as f64;
        for (heads, every) in [(1, 1), (1, 8), (shape.heads, 8), (shape.heads, 32)] {
            let mask = TileMask::new(heads, tiles, tiles, |_, query, list| {
                let own = query as u32;
                list.push(own);
                list.extend((0..own).filter(|_| random.next_u32() % every == 0));
            });
            let time = super::median(&gpu.device, 5, || {
                let to = (all_mut(&mut out), all_mut(&mut lse));
                gpu.attend_tiles(all(&q), shape, &sequence, &mask, to.0, to.1).unwrap();
            });
            let rate = mask.computed(shape.heads) as f64 * pairs / time.as_secs_f64() / 1e12;
            let density = mask.computed(shape.heads) as f64 / all_tiles;
            println!(
                "{tokens}: mask of {heads} heads, density {density:.3}: {time:?}, {rate:.0} TFLOP/s of computed tiles"
            );
        }
        let dense = super::median(&gpu.device, 3, || {
            for start in (0..tokens).step_by(gpu.chunk_tokens()) {
                let count = gpu.chunk_tokens().min(tokens - start);
                let end = start + count;
                let range = 0..end * shape.kv_width();
                let (keys, values) =
                    (Part::new(&kept[0], range.clone()), Part::new(&kept[1], range));
                let segments =
                    [Segment { keys, values, tokens: end, start: 0, hidden: None, kept: None }];
                let positions = Positions::From(start);
                let sequence = Sequence { rows: 0..count, positions, segments: &segments };
                let width = shape.q_width();
                let q = all(&q).slice(start * width..end * width);
                let out = all_mut(&mut out);
                let out = crate::PartMut::new(out.of, start * width..end * width);
                let lse = crate::PartMut::new(&mut lse, 0..count * shape.heads);
                Attention::attend(gpu, q, shape, &[sequence], out, lse).unwrap();
            }
        });
        let rate = all_tiles * pairs / dense.as_secs_f64() / 1e12;
        println!("{tokens}: dense, cuDNN where it is: {dense:?}, {rate:.0} TFLOP/s");
        let mut sums = Grown::default();
        gpu.sums_at_least(&mut sums, shape.heads * tiles * tiles).unwrap();
        for grain in
            [Grain::Mean, Grain::Antidiagonal { stride: 8 }, Grain::Antidiagonal { stride: 16 }]
        {
            let time = super::median(&gpu.device, 3, || {
                gpu.tile_mass(all(&q), shape, &sequence, grain, all_mut(&mut sums)).unwrap();
            });
            let share = time.as_secs_f64() / dense.as_secs_f64();
            println!("{tokens}: {grain:?}: {time:?}, {share:.3} of dense");
        }
    }
}
