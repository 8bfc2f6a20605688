//! Text in, text out: everything between a string and the token ids a model computes on.
//!
//! The way of a request, and the file of each step:
//!
//! 1. A document and a question meet the model's [`ChatTemplate`] (`template.rs`) only once, as a
//!    placeholder. What stands before it and after it is a [`PromptFrame`] (`prompt.rs`). The
//!    template comes from the model's files (`config.rs`) and is written in a dialect of Jinja
//!    (`jinja.rs`, with Python's strings in `python.rs` and its JSON in `json.rs`).
//! 2. The frame, the document and the question become two token sequences, a [`Prompt`]: the
//!    `context`, which Star Attention splits into blocks, and the `query`, which every host sees.
//!    [`Tokenizer`] (`tokenizer.rs`) parses special tokens in the frame and never in the document.
//!    Several [`Documents`] (`documents.rs`) are read one by one, and lead from tokens to text.
//! 3. The model answers with ids. [`Detokenizer`] (`detokenizer.rs`, on the stages of
//!    `decoding.rs`) turns each id into the text that no later id can change.
//! 4. [`StopStrings`] (`stop.rs`) holds back what may be the beginning of a stop string and ends
//!    the answer where one is complete.
//!
//! A model's tokenizer and template are programs of somebody else's: `declared.rs` looks at the one
//! before the library reads it, `steps.rs` and `guard.rs` bound its time, memory and panics,
//! `jinja.rs` those of the other.
//!
//! Nothing here knows about tensors, devices or files: bytes and strings come in, ids and strings
//! go out.

mod config;
mod conversation;
mod declared;
mod decoding;
mod detokenizer;
mod documents;
mod error;
mod guard;
mod jinja;
mod json;
mod prompt;
mod python;
mod source;
mod steps;
mod stop;
mod template;
mod token_bytes;
mod tokenizer;

pub(crate) use config::bos_text;
pub(crate) use conversation::{Piece, pieces};
pub use detokenizer::Detokenizer;
pub use documents::{Document, Documents, Place};
pub use error::TextError;
pub use guard::panics_are_caught;
pub use prompt::{Prompt, PromptFrame};
pub use stop::{StopStep, StopStrings};
pub use template::{ChatTemplate, Message};
pub use token_bytes::TokenBytes;
pub use tokenizer::{Special, Tokenizer};

/// What the tests of this module share.
#[cfg(test)]
mod fixtures {
    use super::{ChatTemplate, Tokenizer};

    fn nano(file: &str) -> Vec<u8> {
        let path = format!("{}/../../models/nano/{file}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    /// The tokenizer of the bundled model: byte-level BPE, six special tokens from id 4088.
    pub(super) fn nano_tokenizer() -> Tokenizer {
        Tokenizer::from_bytes(&nano("tokenizer.json")).unwrap()
    }

    /// The same file as JSON, to be bent by a test.
    pub(super) fn nano_tokenizer_json() -> serde_json::Value {
        serde_json::from_slice(&nano("tokenizer.json")).unwrap()
    }

    /// The chat template of the bundled model, in the Llama 3 manner.
    pub(super) fn nano_template() -> ChatTemplate {
        ChatTemplate::from_files(Some(&nano("tokenizer_config.json")), None).unwrap().unwrap()
    }

    /// A tokenizer in the SentencePiece manner: words begin with `▁`, unknown characters become
    /// `<0xNN>` byte tokens, `<s>` and `</s>` are special. `decoder` is its `decoder` section.
    pub(super) fn sentencepiece_tokenizer(decoder: serde_json::Value) -> Tokenizer {
        let mut vocab = serde_json::Map::new();
        let bytes = (0..=255u8).map(|b| format!("<0x{b:02X}>"));
        let words = "▁ ▁▁ ▁a ▁the ▁sea l ing s a th e , ##e e</w>".split(' ');
        let tokens = ["<unk>", "<s>", "</s>"].into_iter().map(str::to_owned);
        for token in tokens.chain(bytes).chain(words.map(str::to_owned)) {
            vocab.insert(token, vocab.len().into());
        }
        let special = |id: u32, content: &str| {
            serde_json::json!({"id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true})
        };
        let json = serde_json::json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
            "normalizer": null,
            "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true},
            "post_processor": null,
            "decoder": decoder,
            "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>",
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
                "byte_fallback": true, "ignore_merges": true, "vocab": vocab, "merges": []},
        });
        Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::{ChatTemplate, PromptFrame, StopStrings, Tokenizer};

    #[test]
    fn threads_can_share_a_tokenizer_and_a_template() {
        fn shared<T: Send + Sync>() {}
        shared::<(Tokenizer, ChatTemplate, PromptFrame, StopStrings)>();
    }
}
