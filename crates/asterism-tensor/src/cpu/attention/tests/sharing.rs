//! Sequences that share keys.

use super::*;

/// Sequences of few rows, some of which share keys: their segments, and how many tokens ask. Five
/// have a whole context, three of them with keys of their own behind it; two have its first segment
/// and keys of their own; of the others, one has that segment with hidden keys, one elsewhere, one
/// has only its own keys, one none.
fn sharing<'a>(
    shape: HeadShape,
    context: &'a Paged,
    flags: &'a [bool],
    tails: &'a [Paged],
) -> Vec<(Vec<KvSegment<'a>>, usize)> {
    let whole = context.segments(shape);
    let hidden = KvSegment { hidden: Some(flags), ..whole[0] };
    let tail = |i: usize, start: usize| {
        tails[i].segments(shape).into_iter().map(move |s| KvSegment { start: start + s.start, ..s })
    };
    let behind = |before: &[KvSegment<'a>], i: usize| {
        let start = before.last().map_or(0, |last| last.start + last.tokens);
        before.iter().copied().chain(tail(i, start)).collect::<Vec<_>>()
    };
    vec![
        (behind(&whole, 0), 1),
        (behind(&whole, 1), 1),
        (behind(&whole[..1], 2), 1),
        (behind(&whole, 3), 3),
        (whole.clone(), 1),
        (tail(4, 7).collect(), 1),
        (behind(&whole[..1], 5), 2),
        (whole.clone(), 1),
        // The same memory, but keys of it are hidden, or it stands elsewhere.
        (behind(&[hidden], 6), 1),
        (behind(&[KvSegment { start: 9, ..whole[0] }], 6), 1),
        (Vec::new(), 1),
    ]
}

#[test]
fn sequences_that_share_keys_get_the_bits_that_each_gets_alone() {
    let mut seed = 23;
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        for (precision, head_dim, threads) in [
            (Precision::Bf16, 64, 1),
            (Precision::Bf16, 64, 3),
            (Precision::Bf16, 20, 2),
            (Precision::F32, 64, 2),
            (Precision::F32, 20, 1),
        ] {
            let shape = HeadShape { heads: 6, kv_heads: 2, head_dim };
            let cpu = Cpu::new(threads, Some(isa)).unwrap();
            // A first segment of 1,000 keys and others; tails of some pages, of a key, of none.
            let mut paged = |tokens, page| Paged::new(&mut seed, shape, precision, tokens, page);
            let context = paged(2700, 1000);
            let tails = [1, 300, 40, 700, 513, 0, 260].map(|tokens| paged(tokens, 256));
            let flags: Vec<bool> = (0..1000).map(|i| i % 3 == 1 || i < 300).collect();
            let all = sharing(shape, &context, &flags, &tails);
            let width = shape.q_width();
            let row = |i: usize| all[..i].iter().map(|(_, tokens)| tokens).sum::<usize>();
            let q = random(&mut seed, row(all.len()) * width);
            let run = |chosen: &[usize]| {
                let sequence = |&i: &usize| {
                    let (segments, tokens) = &all[i];
                    let end = segments.last().map_or(5, |last| last.start + last.tokens);
                    // The last of several tokens sees all keys.
                    let positions = RowPositions::From(end.saturating_sub(*tokens));
                    KvSequence { rows: row(i)..row(i + 1), positions, segments }
                };
                let sequences: Vec<_> = chosen.iter().map(sequence).collect();
                let (mut out, mut lse) =
                    (vec![f32::NAN; q.len()], vec![f32::NAN; q.len() / head_dim]);
                cpu.attend(&q, shape, &sequences, &mut out, &mut lse);
                let bits = |s: &KvSequence<'_>| {
                    let out = &out[s.rows.start * width..s.rows.end * width];
                    let lse = &lse[s.rows.start * shape.heads..s.rows.end * shape.heads];
                    assert!(!out.iter().chain(lse).any(|x| x.is_nan()), "{isa}: not all filled");
                    out.iter().chain(lse).map(|x| x.to_bits()).collect::<Vec<u32>>()
                };
                sequences.iter().map(bits).collect::<Vec<_>>()
            };
            let alone: Vec<_> = (0..all.len()).map(|i| run(&[i]).remove(0)).collect();
            let everyone: Vec<usize> = (0..all.len()).collect();
            for chosen in [&everyone[..], &[0, 1, 3], &[0, 4, 7], &[2, 6], &[4, 5, 7, 8, 9]] {
                for (found, i) in run(chosen).into_iter().zip(chosen) {
                    let who = format!("{isa}, {precision:?}, {threads} threads");
                    assert!(found == alone[*i], "{who}: sequence {i} of {chosen:?}");
                }
            }
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn times_of_sequences_behind_one_context() {
    let shapes = [(6, 2, 64), (32, 8, 128)];
    let isas = [Isa::Avx512, Isa::Avx2].into_iter().filter(|isa| isa.available());
    for (isa, (heads, kv_heads, head_dim)) in isas.flat_map(|isa| shapes.map(|s| (isa, s))) {
        let shape = HeadShape { heads, kv_heads, head_dim };
        let (mut seed, tokens, most) = (5, 4096, 32);
        let cpu = Cpu::new(2, Some(isa)).unwrap();
        let context = Paged::new(&mut seed, shape, Precision::Bf16, tokens, tokens);
        let tail = |i: usize| Paged::new(&mut seed, shape, Precision::Bf16, 10 + 3 * i, 256);
        let tails: Vec<_> = (0..most).map(tail).collect();
        let segments: Vec<Vec<_>> = tails
            .iter()
            .map(|tail| {
                let own = tail.segments(shape).into_iter();
                let own = own.map(|s| KvSegment { start: tokens + s.start, ..s });
                context.segments(shape).into_iter().chain(own).collect()
            })
            .collect();
        let q = random(&mut seed, most * shape.q_width());
        let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; most * heads]);
        let counts = [1, 2, 4, 8, 16, 32];
        let mut times = vec![Vec::new(); counts.len()];
        for _ in 0..if head_dim == 64 { 60 } else { 15 } {
            for (count, times) in counts.iter().zip(&mut times) {
                let one = |i: usize| {
                    let positions = RowPositions::From(tokens + tails[i].tokens - 1);
                    KvSequence { rows: i..i + 1, positions, segments: &segments[i] }
                };
                let sequences: Vec<_> = (0..*count).map(one).collect();
                let start = std::time::Instant::now();
                cpu.attend(&q, shape, &sequences, &mut out, &mut lse);
                times.push(start.elapsed());
            }
        }
        for (count, times) in counts.iter().zip(&mut times) {
            times.sort();
            let keys = (count * heads * tokens) as f64;
            let rate =
                |time: std::time::Duration| 4e-9 * keys * head_dim as f64 / time.as_secs_f64();
            let (median, least) = (times[times.len() / 2], times[0]);
            println!("{isa}: {count} sequences, {heads} heads of {head_dim}: {median:?}");
            println!("  {:.1} GFLOP/s, {:.1} in {least:?}", rate(median), rate(least));
        }
    }
}
