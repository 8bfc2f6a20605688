//! What `tokenizer.json` declares, looked at before the library reads it.
//!
//! Receives the file; returns the few fields that are needed here, or what about it would make the
//! library panic, or take time or memory without end. Sizes are limited far beyond what published
//! tokenizers have.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::Value;

use crate::distinct::DistinctThroughout;

/// Sequences within sequences, at most; published tokenizers have one or two.
const DEPTH: usize = 8;
/// Steps of one section.
const STEPS: usize = 64;
/// Bytes that one step puts in a place.
const CONTENT: usize = 256;
/// Characters that one step takes away at an end, or looks at as one word.
const COUNT: u64 = 1000;

/// The parts of `tokenizer.json` that are read here and not by the library.
#[derive(Deserialize)]
pub(super) struct Declared {
    #[serde(default)]
    pub(super) added_tokens: Vec<DeclaredToken>,
    pub(super) model: DeclaredModel,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    decoder: Value,
}

#[derive(Deserialize)]
pub(super) struct DeclaredToken {
    pub(super) id: u32,
    pub(super) content: String,
    #[serde(default)]
    pub(super) special: bool,
}

#[derive(Deserialize)]
pub(super) struct DeclaredModel {
    /// BPE, WordPiece and WordLevel name their unknown token.
    pub(super) unk_token: Option<String>,
    /// Unigram numbers it.
    pub(super) unk_id: Option<u32>,
    /// Of WordPiece, whose work is the square of it.
    max_input_chars_per_word: Option<u64>,
}

impl Declared {
    /// Reads and checks the file.
    pub(super) fn read(json: &[u8]) -> Result<Self, String> {
        // Above all of its vocabulary: of two ids for a token, each reader takes another.
        let DistinctThroughout = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let declared: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let sections = [
            ("normalizer", "normalizers", &declared.normalizer),
            ("pre_tokenizer", "pretokenizers", &declared.pre_tokenizer),
            ("decoder", "decoders", &declared.decoder),
        ];
        for (section, list, step) in sections {
            let mut left = STEPS;
            check(list, step, DEPTH, &mut left).map_err(|reason| format!("{section}: {reason}"))?;
        }
        at_most("max_input_chars_per_word", declared.model.max_input_chars_per_word)?;
        Ok(declared)
    }
}

fn check(list: &str, step: &Value, depth: usize, left: &mut usize) -> Result<(), String> {
    let kind = step["type"].as_str().unwrap_or_default();
    if let Some(steps) = step[list].as_array() {
        let depth = depth.checked_sub(1).ok_or(format!("nested more than {DEPTH} deep"))?;
        return steps.iter().try_for_each(|step| check(list, step, depth, left));
    }
    *left = left.checked_sub(1).ok_or(format!("more than {STEPS} steps"))?;
    let named = |reason: String| format!("{kind}: {reason}");
    for (field, value) in step.as_object().into_iter().flatten() {
        let is_text = ["content", "prepend", "replacement", "prefix", "suffix"].contains(&&**field);
        if is_text && value.as_str().is_some_and(|text| text.len() > CONTENT) {
            return Err(named(format!("its {field} has more than {CONTENT} bytes")));
        }
        if ["start", "stop", "length"].contains(&&**field) {
            at_most(field, value.as_u64()).map_err(named)?;
        }
    }
    if step["pattern"]["String"].as_str() == Some("") {
        return Err(named("its pattern is empty".to_owned()));
    }
    if step["length"].as_u64() == Some(0) {
        return Err(named("its length is 0".to_owned()));
    }
    match step["precompiled_charsmap"].as_str() {
        Some(map) => characters_map(map).map_err(named),
        None => Ok(()),
    }
}

fn at_most(field: &str, found: Option<u64>) -> Result<(), String> {
    match found.filter(|found| *found > COUNT) {
        Some(found) => Err(format!("{field} is {found}; at most {COUNT} are taken")),
        None => Ok(()),
    }
}

/// A table of SentencePiece: the bytes of an index, the index, and what its entries stand for, each
/// ended by a zero byte.
fn characters_map(map: &str) -> Result<(), String> {
    let bytes = BASE64.decode(map).map_err(|error| format!("its table: {error}"))?;
    let cut = || "its table is cut short".to_owned();
    let (index, rest) = bytes.split_first_chunk().ok_or_else(cut)?;
    let texts = rest.get(u32::from_le_bytes(*index) as usize..).ok_or_else(cut)?;
    match texts.split(|byte| *byte == 0).any(|text| text.len() > CONTENT) {
        true => Err(format!("its table puts more than {CONTENT} bytes in a character's place")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reason(section: &str, step: Value) -> Option<String> {
        let file = json!({"model": {}, section: step}).to_string();
        Declared::read(file.as_bytes()).err()
    }

    #[test]
    fn steps_of_published_tokenizers_pass() {
        let split = json!({"type": "Split", "pattern": {"Regex": " ?\\p{L}+"}, "behavior": "Isolated", "invert": false});
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false});
        let both = json!({"type": "Sequence", "pretokenizers": [split, byte_level]});
        assert_eq!(reason("pre_tokenizer", both), None);
        let strip = json!({"type": "Strip", "content": " ", "start": 1, "stop": 0});
        assert_eq!(reason("decoder", json!({"type": "Sequence", "decoders": [strip]})), None);
        assert_eq!(reason("normalizer", Value::Null), None);
        // An index of four bytes, then two texts.
        let map = BASE64.encode(b"\x04\0\0\0\0\0\0\0a\0bc\0");
        let step = json!({"type": "Precompiled", "precompiled_charsmap": map});
        assert_eq!(reason("normalizer", step), None);
    }

    #[test]
    fn steps_without_bounds_are_refused_by_name() {
        let replace = |pattern: &str, content: String| json!({"type": "Replace", "pattern": {"String": pattern}, "content": content});
        let nested = (0..20).fold(
            json!({"type": "Fuse"}),
            |inner, _| json!({"type": "Sequence", "decoders": [inner]}),
        );
        let many = vec![json!({"type": "Fuse"}); 65];
        let map = |bytes: &[u8]| json!({"type": "Precompiled", "precompiled_charsmap": BASE64.encode(bytes)});
        let long = [b"\0\0\0\0".as_slice(), &[b'a'; 300]].concat();
        for (section, step, expected) in [
            ("normalizer", replace("", "x".to_owned()), "Replace: its pattern is empty"),
            ("decoder", replace("a", "x".repeat(300)), "its content has more than 256 bytes"),
            ("decoder", nested, "decoder: nested more than 8 deep"),
            ("decoder", json!({"type": "Sequence", "decoders": many}), "more than 64 steps"),
            (
                "decoder",
                json!({"type": "Strip", "content": "a", "start": 0, "stop": 1_000_000_000_000_u64}),
                "stop is 1000000000000",
            ),
            ("pre_tokenizer", json!({"type": "FixedLength", "length": 0}), "length is 0"),
            ("normalizer", map(b"abc"), "cut short"),
            ("normalizer", map(b"\xff\xff\xff\xff"), "cut short"),
            ("normalizer", map(&long), "in a character's place"),
            (
                "normalizer",
                json!({"type": "Precompiled", "precompiled_charsmap": "?"}),
                "its table",
            ),
        ] {
            let reason = reason(section, step).unwrap();
            assert!(reason.contains(expected), "{reason}");
        }
        for twice in [
            r#"{"model": {"vocab": {"a": 0, "b": 1, "a": 2}}}"#,
            r#"{"model": {"merges": [], "vocab": {}, "merges": ["a b"]}}"#,
            r#"{"model": {}, "post_processor": null, "post_processor": null}"#,
            r#"{"model": {}, "added_tokens": [{"id": 1, "content": "a", "lstrip": true, "lstrip": false}]}"#,
        ] {
            let reason = Declared::read(twice.as_bytes()).err().unwrap();
            assert!(reason.contains("is there twice"), "{reason}");
        }
        let file = json!({"model": {"max_input_chars_per_word": 1_000_000}}).to_string();
        assert!(Declared::read(file.as_bytes()).is_err());
    }
}
