//! What lets a captured step be replayed for later tokens: kernels that read how many from memory.

#![allow(unsafe_code)]

use half::bf16;

use super::super::attention::{Keys, Queries};
use super::super::flash::Flash;
use super::super::kernels::ROWS;
use super::super::module::or_null;
use super::super::rows::RowKernels;
use super::super::{Argument, Buffer, Module};
use super::{device, halves, poisoned, random, relative_error};
use crate::HeadShape;

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
    let combine = RowKernels::compile(&device).unwrap().combine;
    let mut random = random();
    for head_dim in [64, 128] {
        let shape = HeadShape { heads: 8, kv_heads: 2, head_dim };
        let flash = Flash::compile(&device, combine.clone(), head_dim).unwrap();
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
                Keys { keys, values, tokens, start }.stored()
            };
            let attend = |last: usize, advance: Option<u32>| {
                let start = first + last - tokens;
                let queries = Queries { q: q.view(), tokens, start, shape };
                let mut out = poisoned::<bf16>(&device, q.len());
                let mut lse = poisoned::<f32>(&device, tokens * shape.heads);
                let number = advance.map(|n| Buffer::from_slice(&device, &[n]).unwrap());
                let number = number.as_ref().map_or(0, |number| number.view().pointer);
                let keys = [run(0, first), run(first, last)];
                let (to, to_lse) = (out.view_mut(), lse.view_mut());
                // SAFETY: the buffers hold all tokens, those of the advance, too.
                unsafe { flash.attend_later(queries, &keys, number, to, to_lse).unwrap() };
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
