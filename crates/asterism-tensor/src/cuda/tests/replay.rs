//! What lets a captured step be replayed for later tokens: kernels that read how many from memory.

#![allow(unsafe_code)]

use half::bf16;

use super::super::flash::Flash;
use super::super::kernels::ROWS;
use super::super::kv::Kv;
use super::super::launch::Rows;
use super::super::module::or_null;
use super::super::queries::{Keys, Places};
use super::super::rows::RowKernels;
use super::super::{Argument, Buffer, Cuda, Grown, Module};
use super::both::{Both, all, all_mut, all_of};
use super::{device, halves, poisoned, random, relative_error};
use crate::{
    Attention, Buffers, Caching, HeadShape, KvPrecision, Part, Positions, Replaying, Segment,
    Sequence, TensorError,
};

#[test]
fn keys_and_values_are_appended_where_the_advance_says() {
    let Some(device) = device() else { return };
    let append = Module::compile(&device, "rows.cu", &ROWS.text(), &[])
        .unwrap()
        .function(c"append")
        .unwrap();
    let mut random = random();
    for (width, tokens, offset, advance) in [
        (1024, 1, 5 * 1024, Some(3)),
        (40, 2, 80, Some(2)),
        (37, 1, 11, Some(4)),
        (1024, 4, 0, None),
    ] {
        let elements = width * tokens;
        let (k, v) = (halves(&mut random, elements, 1.0), halves(&mut random, elements, 1.0));
        let (on_k, on_v) =
            (Buffer::from_slice(&device, &k).unwrap(), Buffer::from_slice(&device, &v).unwrap());
        let start = offset + advance.unwrap_or(0) as usize * width;
        let room = start + elements + 8;
        let (mut keys, mut values) = (poisoned::<bf16>(&device, room), poisoned(&device, room));
        let number = advance.map(|n: u32| Buffer::from_slice(&device, &[n]).unwrap());
        let number = number.as_ref().map(Buffer::view);
        let sizes = (elements as i32, offset as i64, width as i32);
        let (to_keys, to_values) = (keys.view_mut(), values.view_mut());
        let arguments: [&dyn Argument; 8] = [
            &on_k.view(),
            &on_v.view(),
            &to_keys,
            &to_values,
            &sizes.0,
            &sizes.1,
            or_null(&number),
            &sizes.2,
        ];
        let blocks = elements.div_ceil(256 * 8) as u32;
        // SAFETY: the kernel's parameters, in its order; there is room for `elements` at `start`.
        unsafe { append.launch([blocks, 2, 1], [256, 1, 1], 0, &arguments).unwrap() };
        for (new, cache) in [(k, keys), (v, values)] {
            let cache = cache.to_vec().unwrap();
            assert_eq!(cache[start..start + elements], new, "{width} wide");
            let around = cache[..start].iter().chain(&cache[start + elements..]);
            assert!(around.into_iter().all(|x| x.is_nan()), "{width} wide: wrote elsewhere");
        }
    }
}

#[test]
fn attention_later_is_that_over_more_keys() {
    let Some(device) = device() else { return };
    let rows = RowKernels::compile(&device).unwrap();
    let mut random = random();
    for head_dim in [64, 128] {
        let shape = HeadShape { heads: 8, kv_heads: 2, head_dim };
        let flash = Flash::compile(&device, &rows, head_dim).unwrap();
        // One token by the instance for few queries, hundreds by that for many.
        for (tokens, first, last, advance) in
            [(1, 200, 100, 7), (1, 4096, 64, 16), (1, 33, 1, 1), (300, 128, 300, 40)]
        {
            let kv = (first + last + advance) * shape.kv_width();
            let q = halves(&mut random, tokens * shape.q_width(), 2.0);
            let (k, v) = (halves(&mut random, kv, 2.0), halves(&mut random, kv, 1.0));
            let q = Buffer::from_slice(&device, &q).unwrap();
            let (k, v) = (
                Buffer::from_slice(&device, &k).unwrap(),
                Buffer::from_slice(&device, &v).unwrap(),
            );
            let run = |start: usize, tokens: usize| {
                let range = start * shape.kv_width()..(start + tokens) * shape.kv_width();
                let (keys, values) = (k.slice(range.clone()).unwrap(), v.slice(range).unwrap());
                Keys { keys, values, tokens, start, hidden: None, kept: None }.stored()
            };
            let attend = |last: usize, advance: Option<u32>| {
                let start = first + last - tokens;
                let mut out = poisoned::<bf16>(&device, q.len());
                let mut lse = poisoned::<f32>(&device, tokens * shape.heads);
                let number = advance.map(|n| Buffer::from_slice(&device, &[n]).unwrap());
                let number = number.as_ref().map_or(0, |number| number.view().pointer);
                let keys = [run(0, first), run(first, last)];
                let (to, to_lse) = (out.view_mut(), lse.view_mut());
                // SAFETY: the buffers hold all tokens, those of the advance, too.
                unsafe {
                    let places = Places::from(start, tokens);
                    let sequence = Rows { first: 0, tokens, places, keys: &keys };
                    flash.attend_later(q.view(), shape, &[sequence], number, to, to_lse).unwrap();
                }
                (out.to_vec().unwrap(), lse.to_vec().unwrap())
            };
            let (out, lse) = attend(last, Some(advance as u32));
            let (expected, logarithms) = attend(last + advance, None);
            let pairs = out.iter().zip(&expected).map(|(x, y)| (x.to_f64(), y.to_f64()));
            let error = relative_error(pairs);
            assert!(error < 3e-3, "{tokens} of {head_dim}: {error:e}");
            let pairs = lse.iter().zip(&logarithms).map(|(x, y)| (f64::from(*x), f64::from(*y)));
            let error = relative_error(pairs);
            assert!(error < 1e-5, "{tokens} of {head_dim}, logarithms: {error:e}");
        }
    }
}

/// A step as decoding has it: keys are appended to a cache and attended over.
#[test]
fn a_recording_outlives_its_buffers_and_refuses_what_there_is_no_room_for() {
    let Some(both) = Both::open() else { return };
    let gpu = &both.gpu;
    let shape = HeadShape { heads: 4, kv_heads: 2, head_dim: 64 };
    let width = shape.kv_width();
    let mut random = random();
    for precision in [KvPrecision::Bf16, KvPrecision::Fp8] {
        let q = both.rows(&halves(&mut random, shape.q_width(), 1.0)).0;
        let new = both.rows(&halves(&mut random, width, 1.0)).0;
        let mut out = both.no_rows(shape.q_width()).0;
        let mut lse = both.no_sums(shape.heads).0;
        let cache = || gpu.kv(precision, shape, 10 * width).unwrap();
        let (mut keys, mut values) = (cache(), cache());
        let mut step = || {
            [&mut keys, &mut values].into_iter().for_each(|kv| gpu.truncate(kv, 0));
            gpu.append([&mut keys, &mut values], [all(&new), all(&new)])?;
            let (keys, values) = (all(&keys), all(&values));
            let segments =
                [Segment { keys, values, tokens: 1, start: 0, hidden: None, kept: None }];
            let positions = Positions::From(0);
            let sequence = Sequence { rows: 0..1, positions, segments: &segments };
            let (out, lse) = (all_mut(&mut out), all_mut(&mut lse));
            gpu.attend(all(&q), shape, &[sequence], out, lse)
        };
        // The first loads the kernels, which cannot be recorded.
        step().unwrap();
        let mut recording = gpu.record(&mut step).unwrap().unwrap();
        // Ten tokens fit, and the first was recorded.
        gpu.replay(&mut recording, 9).unwrap();
        assert!(gpu.can_replay(&recording, 9) && !gpu.can_replay(&recording, 10));
        let refused = gpu.replay(&mut recording, 10).unwrap_err().to_string();
        assert!(refused.contains("10 tokens later") && refused.contains("room for 9"), "{refused}");
        let other = Cuda::open(0).unwrap();
        assert!(other.replay(&mut recording, 0).is_err());
        // What the step used goes on existing: nobody else is given that memory meanwhile.
        drop((q, new, out, lse, keys, values));
        let canaries: Vec<_> =
            (0..50).map(|_| poisoned::<u32>(gpu.device(), 10 * width / 2)).collect();
        (0..10).for_each(|later| gpu.replay(&mut recording, later).unwrap());
        for canary in canaries {
            assert!(canary.to_vec().unwrap().iter().all(|bits| *bits == u32::MAX));
        }
    }
}

#[test]
fn a_step_that_keeps_memory_or_waits_is_not_recorded() {
    let Some(both) = Both::open() else { return };
    let gpu = &both.gpu;
    let mut kept = None;
    let taken = gpu.record(|| {
        kept = Some(gpu.kv(
            KvPrecision::Bf16,
            HeadShape { heads: 1, kv_heads: 1, head_dim: 16 },
            64,
        )?);
        Ok::<_, TensorError>(())
    });
    assert!(taken.err().unwrap().to_string().contains("keeps memory"));
    let sums = both.sums(&[1.0, 2.0]).0;
    let waits = gpu.record(|| gpu.read(all(&sums), &mut [0.0; 2]));
    assert!(waits.err().unwrap().to_string().contains("recorded step"));
    // The device works on.
    let mut read = [0.0; 2];
    gpu.read(all(&sums), &mut read).unwrap();
    assert_eq!(read, [1.0, 2.0]);
}

/// A step that is replayed gives the bits of one that is not, as far as it says it can.
#[test]
fn replayed_attention_is_that_of_a_step_of_its_own() {
    let Some(both) = Both::open() else { return };
    let gpu = &both.gpu;
    let shape = HeadShape { heads: 8, kv_heads: 2, head_dim: 64 };
    let width = shape.kv_width();
    let mut random = random();
    // Keys that are split into more parts as they grow, and keys that are not.
    for before in [40, 500, 760, 1000, 30_000] {
        let room = before + 600;
        let (k, v) =
            (halves(&mut random, room * width, 1.0), halves(&mut random, room * width, 1.0));
        let q = both.rows(&halves(&mut random, shape.q_width(), 1.0)).0;
        let (k, v) = (both.rows(&k).0, both.rows(&v).0);
        let cache = || gpu.kv(KvPrecision::Bf16, shape, room * width).unwrap();
        let (mut keys, mut values) = (cache(), cache());
        gpu.append([&mut keys, &mut values], [all(&k), all(&v)]).unwrap();
        let attend = |tokens: usize, out: &mut Grown<bf16>, lse: &mut Grown<f32>| {
            let part = |kv| Part::new(kv, 0..tokens * width);
            let (keys, values) = (part(&keys), part(&values));
            let segments = [Segment { keys, values, tokens, start: 0, hidden: None, kept: None }];
            let positions = Positions::From(tokens - 1);
            let sequence = Sequence { rows: 0..1, positions, segments: &segments };
            gpu.attend(all(&q), shape, &[sequence], all_mut(out), all_mut(lse))
        };
        let buffers = || (both.no_rows(shape.q_width()).0, both.no_sums(shape.heads).0);
        let (mut out, mut lse) = buffers();
        attend(before, &mut out, &mut lse).unwrap();
        let recorded = gpu.record(|| attend(before, &mut out, &mut lse));
        let mut recording = recorded.unwrap().unwrap();
        let most = (0..=600).filter(|later| gpu.can_replay(&recording, *later)).count() as u32;
        assert!(most > 0 && (most > 500 || before < 4096), "{before}: {most}");
        for later in [0, most / 2, most - 1] {
            gpu.replay(&mut recording, later).unwrap();
            let (mut own, mut own_lse) = buffers();
            attend(before + later as usize, &mut own, &mut own_lse).unwrap();
            let bits =
                |out: &Grown<bf16>| all_of(out).iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&out), bits(&own), "{before} and {later} later");
            assert_eq!(all_of(&lse), all_of(&own_lse));
        }
    }
}

/// The first tokens of a cache.
fn segment(
    [keys, values]: &[Kv; 2],
    width: usize,
    tokens: usize,
    start: usize,
) -> Segment<'_, Cuda> {
    let [keys, values] = [keys, values].map(|kv| Part::new(kv, 0..tokens * width));
    Segment { keys, values, tokens, start, hidden: None, kept: None }
}

/// Of several sequences, whose last keys lie in pages of their own: with tables in device memory,
/// and split into different numbers of parts.
#[test]
fn replayed_attention_of_several_is_that_of_each() {
    let Some(both) = Both::open() else { return };
    let gpu = &both.gpu;
    let shape = HeadShape { heads: 8, kv_heads: 2, head_dim: 64 };
    let width = shape.kv_width();
    let mut random = random();
    let cache = |rows: &[bf16]| {
        let mut caches = [(); 2].map(|()| gpu.kv(KvPrecision::Bf16, shape, rows.len()).unwrap());
        let rows = both.rows(rows).0;
        let [keys, values] = &mut caches;
        gpu.append([keys, values], [all(&rows), all(&rows)]).unwrap();
        caches
    };
    for count in [2, 3, 5] {
        let shared = cache(&halves(&mut random, 5000 * width, 1.0));
        let mut page = || cache(&halves(&mut random, 256 * width, 1.0));
        let pages: Vec<_> = (0..count).map(|_| page()).collect();
        let q = both.rows(&halves(&mut random, count * shape.q_width(), 1.0)).0;
        let attend = |later: usize, out: &mut Grown<bf16>, lse: &mut Grown<f32>| {
            let segments: Vec<_> = (0..count)
                .map(|i| {
                    // The odd ones have the shared keys before their own.
                    let before = if i % 2 == 1 { 5000 } else { 0 };
                    let own = segment(&pages[i], width, 10 + 40 * i + later, before);
                    match before {
                        0 => vec![own],
                        _ => vec![segment(&shared, width, before, 0), own],
                    }
                })
                .collect();
            let sequences: Vec<_> = segments
                .iter()
                .enumerate()
                .map(|(i, segments)| {
                    let last = segments.iter().map(|s| s.tokens).sum::<usize>() - 1;
                    let positions = Positions::From(last);
                    Sequence { rows: i..i + 1, positions, segments }
                })
                .collect();
            gpu.attend(all(&q), shape, &sequences, all_mut(out), all_mut(lse))
        };
        let buffers =
            || (both.no_rows(count * shape.q_width()).0, both.no_sums(count * shape.heads).0);
        let (mut out, mut lse) = buffers();
        attend(0, &mut out, &mut lse).unwrap();
        let mut recording = gpu.record(|| attend(0, &mut out, &mut lse)).unwrap().unwrap();
        let most = (0..=256).filter(|later| gpu.can_replay(&recording, *later)).count() as u32;
        // The page of the last has room for so many more.
        assert!(most > 1 && most as usize <= 256 - 10 - 40 * (count - 1) + 1, "{count}: {most}");
        for later in [0, most / 2, most - 1] {
            gpu.replay(&mut recording, later).unwrap();
            let (mut own, mut own_lse) = buffers();
            attend(later as usize, &mut own, &mut own_lse).unwrap();
            let bits =
                |out: &Grown<bf16>| all_of(out).iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&out), bits(&own), "{count} sequences, {later} later");
            assert_eq!(all_of(&lse), all_of(&own_lse));
        }
    }
}
