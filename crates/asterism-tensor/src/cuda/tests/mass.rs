//! Softmax weight per key, and attention of rows that stand anywhere over keys some of which are
//! hidden: what revisiting a context takes.

use half::bf16;

use super::super::flash::Flash;
use super::super::kernels::{MASS_NAIVE, MassTile};
use super::super::mass::Mass;
use super::super::queries::{Kept, Keys, Listed, Places, Queries};
use super::super::rows::RowKernels;
use super::super::{Buffer, Cuda, View};
use super::{device, halves, numbers, poisoned, random};
use crate::{HeadShape, KeptKeys, MassOver, Positions};

#[test]
fn weights_are_those_of_the_naive_twin() {
    let Some(device) = device() else { return };
    let rows = RowKernels::compile(&device).unwrap();
    let mut random = random();
    for (heads, kv_heads, head_dim) in [(8, 2, 128), (4, 4, 16), (6, 1, 80), (14, 2, 256)] {
        let shape = HeadShape { heads, kv_heads, head_dim };
        let flash = Flash::compile(&device, &rows, head_dim).unwrap();
        let naive = Mass::of(&device, MASS_NAIVE, MassTile::naive(head_dim)).unwrap();
        for (tokens, count, is_listed) in [(1, 63, false), (64, 5000, true), (37, 130, false)] {
            let q = halves(&mut random, tokens * shape.q_width(), 1.0);
            let k = halves(&mut random, count * shape.kv_width(), 1.0);
            let (q, k) = (
                Buffer::from_slice(&device, &q).unwrap(),
                Buffer::from_slice(&device, &k).unwrap(),
            );
            let flags: Vec<u8> =
                numbers(&mut random, count, 1.0).iter().map(|x| u8::from(*x < -0.4)).collect();
            let flags = Buffer::from_slice(&device, &flags).unwrap();
            let listed: Vec<u32> = (0..tokens).map(|row| (row * 100) as u32).collect();
            let listed = Listed::new(&device, &listed).unwrap();
            let places = match is_listed {
                true => Places::of(Positions::<Cuda>::Listed(&listed), tokens).unwrap(),
                false => Places::from(count - tokens / 2, tokens),
            };
            let queries = Queries { q: q.view(), tokens, places, shape };
            let hidden = is_listed.then(|| flags.view());
            let keys = Keys {
                keys: k.view(),
                values: k.view(),
                tokens: count,
                start: 0,
                hidden,
                kept: None,
            };
            let mut out = poisoned::<bf16>(&device, q.len());
            let mut lse = poisoned::<f32>(&device, tokens * heads);
            flash.attend(queries, &[keys.stored()], out.view_mut(), lse.view_mut()).unwrap();
            let run = |mass: &Mass, keys: &Keys<'_, View<'_, bf16>>, over| {
                // Behind the keys of another segment.
                let mut sums = poisoned::<f32>(&device, kv_heads * (count + 7));
                mass.run(queries, lse.view(), keys, over, &mut sums.view_mut(), 7).unwrap();
                sums.to_vec().unwrap()
            };
            let tiles = flash.mass().unwrap();
            for over in [MassOver::Sum, MassOver::Max] {
                let (found, expected) = (run(&tiles, &keys, over), run(&naive, &keys, over));
                for (at, (a, b)) in found.iter().zip(&expected).enumerate() {
                    let other = at % (count + 7) < 7;
                    let close = (a - b).abs() <= 1e-3 * (1.0 + b.abs());
                    assert!(other == a.is_nan() && (other || close), "{shape:?}, {at}: {a}, {b}");
                }
                // Every head has its own choice of the tokens, one none.
                let of =
                    |head: u32| (0..count as u32).filter(|t| (t * 7 + head) % 5 < head).collect();
                let chosen: Vec<Vec<u32>> = (0..kv_heads as u32).map(of).collect();
                let chosen = Kept::new(&device, KeptKeys::new(count, &chosen).unwrap()).unwrap();
                let rows = AsRef::<KeptKeys>::as_ref(&chosen).rows() * shape.head_dim;
                let some = k.view().slice(0..rows).unwrap();
                let some = Keys { keys: some, values: some, kept: Some(chosen.view()), ..keys };
                let (found, expected) = (run(&tiles, &some, over), run(&naive, &some, over));
                for (at, (a, b)) in found.iter().zip(&expected).enumerate() {
                    let close = (a - b).abs() <= 1e-3 * (1.0 + b.abs());
                    assert!(a.is_nan() && b.is_nan() || close, "{shape:?}, {at}: {a} and {b}");
                }
            }
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn times_of_revisiting() {
    let Some(device) = device() else { return };
    let rows = RowKernels::compile(&device).unwrap();
    let mut random = random();
    let shape = HeadShape { heads: 32, kv_heads: 8, head_dim: 128 };
    let flash = Flash::compile(&device, &rows, shape.head_dim).unwrap();
    let count = 131_072;
    let new = halves(&mut random, count * shape.kv_width(), 1.0);
    let k = Buffer::from_slice(&device, &new).unwrap();
    for chosen in [2048, 4096] {
        // Neighbourhoods of ten tokens, evenly spread.
        let step = count / (chosen / 10);
        let listed: Vec<u32> =
            (0..chosen).map(|i| (i / 10 * step).min(count - 10) as u32 + i as u32 % 10).collect();
        let mut flags = vec![0u8; count];
        listed.iter().for_each(|at| flags[*at as usize] = 1);
        let flags = Buffer::from_slice(&device, &flags).unwrap();
        let listed = Listed::new(&device, &listed).unwrap();
        let q = halves(&mut random, chosen * shape.q_width(), 1.0);
        let q = Buffer::from_slice(&device, &q).unwrap();
        let mut out = Buffer::<bf16>::uninit(&device, q.len()).unwrap();
        let mut lse = Buffer::<f32>::uninit(&device, chosen * shape.heads).unwrap();
        for is_hidden in [false, true] {
            let hidden = is_hidden.then(|| flags.view());
            let keys = Keys {
                keys: k.view(),
                values: k.view(),
                tokens: count,
                start: 0,
                hidden,
                kept: None,
            };
            let places = Places::of(Positions::<Cuda>::Listed(&listed), chosen).unwrap();
            let queries = Queries { q: q.view(), tokens: chosen, places, shape };
            let time = super::median(&device, 5, || {
                flash.attend(queries, &[keys.stored()], out.view_mut(), lse.view_mut()).unwrap();
            });
            let operations = 4 * shape.q_width() * chosen * count / 2;
            let rate = operations as f64 / time.as_secs_f64() / 1e12;
            println!("{chosen} rows, hidden {is_hidden}: {time:?}, {rate:.0} TFLOP/s");
        }
    }
    let q = halves(&mut random, 64 * shape.q_width(), 1.0);
    let q = Buffer::from_slice(&device, &q).unwrap();
    let lse = Buffer::from_slice(&device, &vec![12.0f32; 64 * shape.heads]).unwrap();
    let mut sums = Buffer::<f32>::uninit(&device, shape.kv_heads * count).unwrap();
    let mut all = Buffer::<f32>::uninit(&device, count).unwrap();
    let keys = Keys {
        keys: k.view(),
        values: k.view(),
        tokens: count,
        start: 0,
        hidden: None,
        kept: None,
    };
    let queries = Queries { q: q.view(), tokens: 64, places: Places::from(count, 64), shape };
    let mass = flash.mass().unwrap();
    let time = super::median(&device, 5, || {
        mass.run(queries, lse.view(), &keys, MassOver::Sum, &mut sums.view_mut(), 0).unwrap();
    });
    println!("weights of {count} keys, 64 tokens: {time:?}");
    let time =
        super::median(&device, 5, || rows.add_rows(sums.view(), all.view_mut(), true).unwrap());
    println!("added up over heads: {time:?}");
}
