//! Attention of few queries, over keys in bf16 and in 8 bits.

use half::bf16;

use super::super::Buffer;
use super::super::flash::Flash;
use super::super::kv::{Kv, KvView};
use super::super::queries::{Keys, Places, Queries};
use super::super::rows::RowKernels;
use super::{device, halves, poisoned, random, relative_error};
use crate::{HeadShape, KvPrecision, Part};

#[test]
fn keys_in_8_bits_are_appended_and_attended_later() {
    let Some(device) = device() else { return };
    let rows = RowKernels::compile(&device).unwrap();
    let mut random = random();
    for (heads, kv_heads, head_dim) in [(8, 2, 64), (8, 1, 128), (4, 4, 80), (16, 1, 256)] {
        let shape = HeadShape { heads, kv_heads, head_dim };
        let flash = Flash::compile(&device, &rows, head_dim).unwrap();
        for tokens in [1, 37, 700, 5003] {
            let make = |precision| {
                let room = tokens / 2 * shape.kv_width();
                Kv::with_capacity(&device, precision, shape, room).unwrap()
            };
            let new = [2.0, 1.0].map(|scale| {
                let new = halves(&mut random, tokens * shape.kv_width(), scale);
                Buffer::from_slice(&device, &new).unwrap()
            });
            // At once, and unpacked again; the second half in a second step, beyond the room.
            let (mut keys, mut values) = (make(KvPrecision::Fp8), make(KvPrecision::Fp8));
            for range in [0..tokens / 2, tokens / 2..tokens] {
                let range = range.start * shape.kv_width()..range.end * shape.kv_width();
                if range.is_empty() {
                    continue;
                }
                let [k, v] = [&new[0], &new[1]].map(|new| new.slice(range.clone()).unwrap());
                Kv::append(&rows, [&mut keys, &mut values], [k, v]).unwrap();
            }
            let all = |kv| Kv::view(Part::new(kv, 0..tokens * shape.kv_width())).unwrap();
            let (mut wide_keys, mut wide_values) = (None, None);
            let wide = Keys {
                keys: all(&keys).bf16(&rows, shape, &mut wide_keys).unwrap(),
                values: all(&values).bf16(&rows, shape, &mut wide_values).unwrap(),
                tokens,
                start: 0,
                hidden: None,
                kept: None,
            };
            for (unpacked, new) in [(wide.keys, &new[0]), (wide.values, &new[1])] {
                let (unpacked, new) = (unpacked.to_vec().unwrap(), new.to_vec().unwrap());
                let pairs = unpacked.iter().zip(&new).map(|(x, y)| (x.to_f64(), y.to_f64()));
                let error = relative_error(pairs);
                assert!(error < 0.04, "{shape:?}, {tokens}: rounding to 8 bits costs {error:e}");
            }
            let narrow = Keys {
                keys: all(&keys),
                values: all(&values),
                tokens,
                start: 0,
                hidden: None,
                kept: None,
            };
            let q = halves(&mut random, shape.q_width(), 1.0);
            let q = Buffer::from_slice(&device, &q).unwrap();
            let queries =
                Queries { q: q.view(), tokens: 1, places: Places::from(tokens - 1, 1), shape };
            let attend = |keys: Keys<'_, KvView<'_>>| {
                let mut out = poisoned::<bf16>(&device, q.len());
                let mut lse = poisoned::<f32>(&device, shape.heads);
                flash.attend(queries, &[keys], out.view_mut(), lse.view_mut()).unwrap();
                (out.to_vec().unwrap(), lse.to_vec().unwrap())
            };
            let ((out, lse), (expected, logarithms)) = (attend(narrow), attend(wide.stored()));
            let pairs = out.iter().zip(&expected).map(|(x, y)| (x.to_f64(), y.to_f64()));
            let error = relative_error(pairs);
            // The twin rounds what it unpacked to bf16.
            assert!(error < 1e-2, "{shape:?}, {tokens}: {error:e}");
            // Of a logarithm, the absolute error is the relative one of the sum. It may be near 0
            // itself.
            let mut pairs = lse.iter().zip(&logarithms);
            let are_close = pairs.all(|(x, y)| (x - y).abs() < 6e-3);
            assert!(are_close, "{shape:?}, {tokens}: {lse:?}, expected {logarithms:?}");
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn times_of_attention_of_few_queries() {
    let Some(device) = device() else { return };
    let rows = RowKernels::compile(&device).unwrap();
    let mut random = random();
    let shape = HeadShape { heads: 32, kv_heads: 8, head_dim: 128 };
    let flash = Flash::compile(&device, &rows, shape.head_dim).unwrap();
    for keys in [8192, 32_768, 131_072] {
        let new = halves(&mut random, keys * shape.kv_width(), 1.0);
        let new = Buffer::from_slice(&device, &new).unwrap();
        for precision in [KvPrecision::Bf16, KvPrecision::Fp8] {
            let make = || Kv::with_capacity(&device, precision, shape, new.len()).unwrap();
            let (mut k, mut v) = (make(), make());
            Kv::append(&rows, [&mut k, &mut v], [new.view(), new.view()]).unwrap();
            let all = |kv| Kv::view(Part::new(kv, 0..new.len())).unwrap();
            let run = [Keys {
                keys: all(&k),
                values: all(&v),
                tokens: keys,
                start: 0,
                hidden: None,
                kept: None,
            }];
            for tokens in [1, 4, 64] {
                if tokens > 4 && precision == KvPrecision::Fp8 {
                    continue;
                }
                let q = Buffer::zeros(&device, tokens * shape.q_width()).unwrap();
                let queries = Queries {
                    q: q.view(),
                    tokens,
                    places: Places::from(keys - tokens, tokens),
                    shape,
                };
                let mut out = Buffer::<bf16>::uninit(&device, q.len()).unwrap();
                let mut lse = Buffer::<f32>::uninit(&device, tokens * shape.heads).unwrap();
                let time = super::median(&device, 20, || {
                    flash.attend(queries, &run, out.view_mut(), lse.view_mut()).unwrap();
                });
                let bytes = 2 * keys * precision.row_bytes(shape);
                let speed = bytes as f64 / time.as_secs_f64() / 1e12;
                println!("{tokens:3} over {keys:6} {precision:?}: {time:?}, {speed:.2} TB/s");
            }
        }
    }
}
