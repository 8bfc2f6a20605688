//! tokenizer.json up to the border of the library: its sections are put into a small sound file, so
//! that mutations reach what each of them means.

#![no_main]

use asterism::text::{Detokenizer, Special, Tokenizer};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const SECTIONS: [&str; 5] = ["normalizer", "pre_tokenizer", "decoder", "added_tokens", "model"];

fn sound() -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": "u", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "vocab": {"u": 0, "a": 1, "b": 2, "ab": 3}, "merges": ["a b"]},
    })
}

fn run(bytes: &[u8]) {
    let Ok(tokenizer) = Tokenizer::from_bytes(bytes) else { return };
    for text in ["", "abab a  b", "\u{feff}é東京🦀\r\n\t1234 <s>aaaaaaaaaaaaaaaaaaaaaaaaaaaab"]
    {
        for special in [Special::Parse, Special::AsText] {
            let Ok(ids) = tokenizer.encode(text, special) else { continue };
            assert!(ids.len() <= Tokenizer::most_tokens(text.len()), "{} tokens", ids.len());
            let mut stream = Detokenizer::new(&tokenizer, true);
            let _ = ids.iter().try_for_each(|id| stream.push(*id).map(drop));
            let _ = stream.finish();
        }
        let _ = tokenizer.encode_joint(text, "ab");
    }
}

fuzz_target!(
    init: {
        // The library's panics are what is caught: only ours end the run.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !asterism::text::panics_are_caught() {
                hook(panic);
            }
        }));
    },
    |data: &[u8]| {
        run(data);
        let Some((first, rest)) = data.split_first() else { return };
        let Ok(section) = serde_json::from_slice::<Value>(rest) else { return };
        let mut file = sound();
        let name = SECTIONS[*first as usize % SECTIONS.len()];
        match (name, section) {
            ("model", Value::Object(fields)) => {
                fields.into_iter().for_each(|(name, value)| file["model"][name] = value);
            }
            (name, section) => file[name] = section,
        }
        run(file.to_string().as_bytes());
    }
);
