//! Faulty weight files: each is refused, with a message that names the file and
//! says what to do.

#![allow(clippy::unwrap_used)]

use asterism::model::{Checkpoint, DType, ModelError};
use asterism::tensor::Bytes;
use proptest::prelude::*;

/// A safetensors file with the given header and data.
fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(data);
    file
}

/// A file with one 2x3 tensor of the given type and element size.
fn one_tensor(name: &str, dtype: &str, element: usize) -> Vec<u8> {
    let bytes = 6 * element;
    let header = format!(
        r#"{{"__metadata__":{{"format":"pt"}},"{name}":{{"dtype":"{dtype}","shape":[2,3],"data_offsets":[0,{bytes}]}}}}"#
    );
    let data: Vec<u8> = (0..bytes).map(|byte| byte as u8).collect();
    safetensors(&header, &data)
}

fn open(files: &[(&str, &[u8])], index: Option<&str>) -> Result<Checkpoint, ModelError> {
    let files = files
        .iter()
        .map(|(name, bytes)| ((*name).to_owned(), Bytes::from(bytes.to_vec())))
        .collect();
    Checkpoint::open(files, index.map(str::as_bytes))
}

/// The message of the error and of all its causes.
fn message<T: std::fmt::Debug>(result: Result<T, ModelError>) -> String {
    let error = result.unwrap_err();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[track_caller]
fn assert_says<T: std::fmt::Debug>(result: Result<T, ModelError>, phrases: &[&str]) {
    let text = message(result);
    for phrase in phrases {
        assert!(text.contains(phrase), "{phrase:?} is not in: {text}");
    }
}

#[test]
fn a_sound_file_is_read() {
    let checkpoint = open(&[("w.safetensors", &one_tensor("a", "BF16", 2))], None).unwrap();
    assert!(checkpoint.contains("a") && !checkpoint.contains("b"));
    assert_eq!(checkpoint.bytes(), 12);
    let tensor = checkpoint.tensor("a", &[2, 3]).unwrap();
    assert_eq!((tensor.dtype, tensor.shape.as_slice()), (DType::Bf16, &[2, 3][..]));
    assert_eq!(tensor.data, (0..12).collect::<Vec<u8>>());
    assert_eq!(tensor.to_f32().len(), 6);
}

#[test]
fn a_checkpoint_without_files_is_refused() {
    assert_says(open(&[], None), &["no weight files", "at least one safetensors"]);
}

#[test]
fn an_empty_file_is_refused() {
    assert_says(open(&[("w.safetensors", b"")], None), &["w.safetensors", "is empty"]);
}

#[test]
fn a_file_cut_anywhere_is_refused_with_its_length() {
    let whole = one_tensor("a", "F32", 4);
    for length in 1..whole.len() {
        let result = open(&[("w.safetensors", &whole[..length])], None);
        assert_says(result, &["w.safetensors: cut short", &format!("{length} bytes"), "fetch it"]);
    }
}

#[test]
fn stray_bytes_after_the_tensors_are_refused() {
    let mut file = one_tensor("a", "F32", 4);
    file.extend([0; 5]);
    let result = open(&[("w.safetensors", &file)], None);
    assert_says(result, &["w.safetensors", "5 stray bytes after the last tensor"]);
}

#[test]
fn a_git_lfs_pointer_is_recognised() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 5000000000\n";
    assert_says(open(&[("w.safetensors", pointer)], None), &["git lfs pull"]);
}

#[test]
fn files_of_other_formats_are_refused() {
    let gguf = b"GGUF\x03\0\0\0\x23\x01\0\0\0\0\0\0";
    assert_says(
        open(&[("w.safetensors", gguf)], None),
        &["not a safetensors file", "announce a header of"],
    );
    for header in ["", "[]", "{", "nonsense", "\u{0}\u{0}"] {
        let result = open(&[("w.safetensors", &safetensors(header, b""))], None);
        assert_says(result, &["w.safetensors: the safetensors header is corrupt"]);
    }
}

#[test]
fn byte_ranges_that_do_not_fit_their_tensors_are_refused() {
    let cases = [
        // A range that is not the shape's size, one that runs backwards, one after a gap.
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,8]}}"#,
    ];
    for header in cases {
        let result = open(&[("w.safetensors", &safetensors(header, &[0; 8]))], None);
        assert_says(
            result,
            &["w.safetensors: the safetensors header is corrupt", "fetch the file again"],
        );
    }
}

/// Eight tensors with consistent ranges that end just below 2^64: adding the header's length
/// overflows.
#[test]
fn byte_ranges_near_the_last_address_are_refused() {
    let step = (1u64 << 61) - 1;
    let tensors: Vec<String> = (0..8)
        .map(|n| {
            let (start, end) = (n * step, (n + 1) * step);
            format!(r#""t{n}":{{"dtype":"U8","shape":[{step}],"data_offsets":[{start},{end}]}}"#)
        })
        .collect();
    let file = safetensors(&format!("{{{}}}", tensors.join(",")), b"");
    let result = open(&[("w.safetensors", &file)], None);
    assert_says(result, &["w.safetensors", "byte ranges overflow"]);
}

#[test]
fn a_missing_tensor_is_named_with_the_files_searched() {
    let (first, second) = (one_tensor("a", "F32", 4), one_tensor("b", "F32", 4));
    let files: [(&str, &[u8]); 2] = [("1.safetensors", &first), ("2.safetensors", &second)];
    let checkpoint = open(&files, None).unwrap();
    assert_says(
        checkpoint.tensor("model.norm.weight", &[3]),
        &["`model.norm.weight`", "1.safetensors, 2.safetensors", "config.json"],
    );
}

#[test]
fn a_long_file_list_is_shortened() {
    let contents: Vec<Vec<u8>> = (0..20).map(|n| one_tensor(&format!("t{n}"), "F32", 4)).collect();
    let names: Vec<String> = (0..20).map(|n| format!("{n}.safetensors")).collect();
    let files: Vec<(&str, &[u8])> =
        names.iter().zip(&contents).map(|(name, file)| (name.as_str(), file.as_slice())).collect();
    let text = message(open(&files, None).unwrap().tensor("x", &[]));
    assert!(text.contains("and 12 more") && !text.contains("8.safetensors"), "{text}");
}

#[test]
fn a_tensor_of_another_shape_is_refused_with_both_shapes() {
    let checkpoint = open(&[("w.safetensors", &one_tensor("a", "F16", 2))], None).unwrap();
    for shape in [&[3, 2][..], &[6], &[2, 3, 1], &[]] {
        let result = checkpoint.tensor("a", shape);
        assert_says(
            result,
            &["w.safetensors", "`a`", "shape [2, 3]", &format!("implies {shape:?}")],
        );
    }
}

#[test]
fn a_type_that_is_no_float_of_ours_is_refused_when_asked_for() {
    for (dtype, size) in [("I8", 1), ("F8_E4M3", 1), ("I64", 8), ("F64", 8)] {
        // Tensors that nobody asks for may have any type; asking is the error.
        let checkpoint = open(&[("w.safetensors", &one_tensor("a", dtype, size))], None).unwrap();
        let result = checkpoint.tensor("a", &[2, 3]);
        assert_says(result, &["w.safetensors", "`a`", dtype, "BF16, F16 and F32"]);
    }
}

#[test]
fn a_tensor_in_two_files_is_refused_with_both_names() {
    let file = one_tensor("a", "F32", 4);
    let result = open(&[("1.safetensors", &file), ("2.safetensors", &file)], None);
    assert_says(result, &["`a`", "both in 1.safetensors and in 2.safetensors"]);
}

#[test]
fn the_index_must_agree_with_the_files() {
    let (first, second) = (one_tensor("a", "F32", 4), one_tensor("b", "F32", 4));
    let files: [(&str, &[u8]); 2] = [("1.safetensors", &first), ("2.safetensors", &second)];
    let with = |index: &str| open(&files, Some(index));

    let sound = r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#;
    assert_eq!(with(sound).unwrap().bytes(), 48);
    assert_says(
        with(r#"{"weight_map": {"a": "1.safetensors", "c": "3.safetensors"}}"#),
        &["model.safetensors.index.json", "names 3.safetensors", "`c`", "missing"],
    );
    assert_says(
        with(r#"{"weight_map": {"c": "1.safetensors"}}"#),
        &["tensor `c` in 1.safetensors", "no file does"],
    );
    assert_says(
        with(r#"{"weight_map": {"a": "2.safetensors"}}"#),
        &["tensor `a` in 2.safetensors", "it is in 1.safetensors"],
    );
    assert_says(with("nonsense"), &["model.safetensors.index.json: is not valid JSON"]);
}

/// Whatever opens must also be readable to the last byte.
fn read_everything(checkpoint: &Checkpoint, name: &str, shape: &[usize]) {
    if let Ok(tensor) = checkpoint.tensor(name, shape) {
        let elements: usize = shape.iter().product();
        assert_eq!(tensor.data.len(), elements * tensor.dtype.size());
        assert_eq!(tensor.to_f32().len(), elements);
        assert_eq!(tensor.to_bf16().len(), elements);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_the_reader(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        index in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let files = vec![("w.safetensors".to_owned(), Bytes::from(bytes))];
        let _ = Checkpoint::open(files, Some(&index));
    }

    #[test]
    fn what_opens_is_readable_to_the_last_byte(
        header in r#"\{("[ab]":\{"dtype":"(BF16|F32|U8|F4)","shape":\[[0-9]{0,20}(,[0-9]{1,2})?\],"data_offsets":\[[0-9]{1,2},[0-9]{1,20}\]\},?){0,3}\}"#,
        data in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        if let Ok(checkpoint) = open(&[("w.safetensors", &safetensors(&header, &data))], None) {
            for shape in [&[0][..], &[1], &[2], &[4], &[1, 1], &[2, 2]] {
                read_everything(&checkpoint, "a", shape);
                read_everything(&checkpoint, "b", shape);
            }
        }
    }

    #[test]
    fn a_flipped_bit_never_panics_the_reader(position in 0usize..1000, bit in 0u8..8) {
        let mut file = one_tensor("a", "F32", 4);
        let length = file.len();
        file[position % length] ^= 1 << bit;
        if let Ok(checkpoint) = open(&[("w.safetensors", &file)], None) {
            read_everything(&checkpoint, "a", &[2, 3]);
        }
    }
}
