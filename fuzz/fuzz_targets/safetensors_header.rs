//! A weight file, and an index that may name its tensors.

#![no_main]

use asterism::model::Checkpoint;
use asterism::tensor::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Behind a true length, so that mutations reach the header's JSON; and as they are.
    let header = data.split(|byte| *byte == 0).next().unwrap_or_default();
    let mut framed = (header.len() as u64).to_le_bytes().to_vec();
    framed.extend(data);
    for file in [framed, data.to_vec()] {
        let length = file.len() as u64;
        if let Ok(checkpoint) = Checkpoint::open(vec![("w".into(), Bytes::from(file))], None) {
            assert!(checkpoint.bytes() <= length, "tensors reach beyond their file");
            let _ = checkpoint.tensor("a", &[1]).map(|tensor| tensor.to_f32());
        }
    }
    let _ =
        Checkpoint::open(vec![("w".into(), b"\x02\0\0\0\0\0\0\0{}".to_vec().into())], Some(data));
});
