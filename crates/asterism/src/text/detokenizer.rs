//! Token ids to text, one at a time.
//!
//! Receives the ids of an answer in order; returns for each the text that became certain. The
//! pieces put together are exactly the text of all the ids: a character whose bytes are spread
//! over tokens comes with the last of them, and nothing shown is ever taken back. Each id costs
//! the same, however long the answer is: see `decoding.rs` for how.

use super::decoding::Chain;
use super::{TextError, Tokenizer};
use std::ops::Deref;

/// Decodes a stream of ids by a tokenizer that it borrows, or shares by an [`Arc`](std::sync::Arc).
#[derive(Debug)]
pub struct Detokenizer<T> {
    tokenizer: T,
    skip_special: bool,
    chain: Chain,
}

impl<T: Deref<Target = Tokenizer>> Detokenizer<T> {
    /// Begins a text; `skip_special` leaves special tokens out of it.
    pub fn new(tokenizer: T, skip_special: bool) -> Self {
        let chain = tokenizer.decoder_chain();
        Self { tokenizer, skip_special, chain }
    }

    /// Takes the next id and returns the text that no later id can change; often empty.
    ///
    /// # Errors
    /// [`TextError::UnknownId`] for an id without a token; [`TextError::Decode`] if the
    /// tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<String, TextError> {
        match self.tokenizer.token_to_decode(id, self.skip_special)? {
            Some(token) => self.chain.push(token),
            None => Ok(String::new()),
        }
    }

    /// Ends the text and returns what was held back. The next id begins a new text.
    ///
    /// # Errors
    /// [`TextError::Decode`] if the tokenizer's decoder fails.
    pub fn finish(&mut self) -> Result<String, TextError> {
        let mut chain = std::mem::replace(&mut self.chain, self.tokenizer.decoder_chain());
        chain.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Special;
    use super::super::fixtures::{nano_tokenizer, sentencepiece_tokenizer};
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::sync::LazyLock;

    fn pieces(tok: &Tokenizer, ids: &[u32], skip_special: bool) -> Vec<String> {
        let mut stream = Detokenizer::new(tok, skip_special);
        let mut pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
        pieces.push(stream.finish().unwrap());
        pieces
    }

    /// The decoders of published models, and the rest of what `tokenizers` knows.
    fn decoders() -> Vec<Value> {
        let replace = json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
        let (bytes, fuse) = (json!({"type": "ByteFallback"}), json!({"type": "Fuse"}));
        let strip = |start: u32, stop: u32| json!({"type": "Strip", "content": " ", "start": start, "stop": stop});
        let metaspace = |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true});
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
        let word_piece =
            |cleanup: bool| json!({"type": "WordPiece", "prefix": "##", "cleanup": cleanup});
        let seq = |decoders: &[&Value]| json!({"type": "Sequence", "decoders": decoders});
        vec![
            Value::Null,
            byte_level.clone(),
            seq(&[&replace, &bytes, &fuse]),
            seq(&[&replace, &bytes, &fuse, &strip(1, 0)]),
            seq(&[&bytes, &seq(&[&metaspace("first")])]),
            seq(&[&replace, &strip(2, 0), &bytes]),
            metaspace("always"),
            metaspace("never"),
            bytes.clone(),
            word_piece(true),
            word_piece(false),
            json!({"type": "BPEDecoder", "suffix": "</w>"}),
            json!({"type": "CTC", "pad_token": "e", "word_delimiter_token": "▁", "cleanup": true}),
            // After a fusing decoder the others see one long token.
            seq(&[&fuse, &metaspace("first"), &fuse]),
            seq(&[&bytes, &fuse, &replace]),
            seq(&[&byte_level, &word_piece(true)]),
            seq(&[&byte_level, &byte_level]),
            seq(&[&byte_level, &bytes]),
        ]
    }

    #[test]
    fn a_character_comes_with_the_last_of_its_bytes() {
        let tok = nano_tokenizer();
        let text = "a 🦀 in 東京, naïve";
        let ids = tok.encode(text, Special::AsText).unwrap();
        let pieces = pieces(&tok, &ids, false);
        assert_eq!(pieces.concat(), text);
        assert!(pieces.iter().all(|piece| !piece.contains('\u{FFFD}')));
        assert!(pieces.iter().filter(|piece| piece.is_empty()).count() > 3, "{pieces:?}");
        assert_eq!(pieces.last().unwrap(), "", "nothing was left over");
    }

    #[test]
    fn an_unfinished_character_becomes_a_replacement_at_the_end() {
        let tok = nano_tokenizer();
        let mut ids = tok.encode("🦀", Special::AsText).unwrap();
        ids.pop();
        let pieces = pieces(&tok, &ids, false);
        assert_eq!(pieces.last().unwrap(), "\u{FFFD}");
        assert_eq!(pieces.concat(), tok.decode_by_crate(&ids, false));
    }

    #[test]
    fn a_sentencepiece_text_loses_its_first_space_only() {
        let fallback = json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]});
        let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true});
        for decoder in [fallback, metaspace] {
            let tok = sentencepiece_tokenizer(decoder);
            let id = |token: &str| tok.token_to_id(token).unwrap();
            let ids = [id("▁the"), id("▁sea"), id(","), id("▁sea"), id("s")];
            assert_eq!(pieces(&tok, &ids, false), ["the", " sea", ",", " sea", "s", ""]);
        }
    }

    #[test]
    fn byte_tokens_wait_until_no_later_byte_can_spoil_them() {
        let tok = sentencepiece_tokenizer(json!({"type": "ByteFallback"}));
        let byte = |b: u8| tok.token_to_id(&format!("<0x{b:02X}>")).unwrap();
        let s = tok.token_to_id("s").unwrap();
        let mut ids: Vec<u32> = "東".bytes().map(byte).collect();
        ids.push(s);
        assert_eq!(pieces(&tok, &ids, false), ["", "", "", "東s", ""]);
        // One stray byte and this decoder gives up on all of its neighbours.
        ids.insert(3, byte(0xFF));
        assert_eq!(pieces(&tok, &ids, false).concat(), "\u{FFFD}".repeat(4) + "s");
    }

    #[test]
    fn skipped_special_tokens_leave_no_trace() {
        let tok = sentencepiece_tokenizer(
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}),
        );
        let (sea, s) = (tok.token_to_id("▁sea").unwrap(), tok.token_to_id("s").unwrap());
        assert_eq!(pieces(&tok, &[1, sea, s, 2], true).concat(), "seas");
        assert_eq!(pieces(&tok, &[1, sea, s, 2], false).concat(), "<s> seas</s>");
    }

    #[test]
    fn after_finish_a_new_text_begins() {
        let tok = sentencepiece_tokenizer(
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true}),
        );
        let sea = tok.token_to_id("▁sea").unwrap();
        let mut stream = Detokenizer::new(&tok, false);
        for _ in 0..2 {
            assert_eq!(stream.push(sea).unwrap(), "sea");
            assert_eq!(stream.finish().unwrap(), "");
        }
    }

    #[test]
    fn a_long_answer_keeps_no_history() {
        let tok = nano_tokenizer();
        let id = tok.encode("sea", Special::AsText).unwrap()[0];
        let mut stream = Detokenizer::new(&tok, false);
        for _ in 0..100_000 {
            assert!(!stream.push(id).unwrap().is_empty());
        }
        assert!(format!("{stream:?}").len() < 4096);
    }

    #[test]
    fn no_ids_are_no_text_for_every_decoder() {
        for decoder in decoders() {
            let tok = sentencepiece_tokenizer(decoder);
            assert_eq!(tok.decode(&[], false).unwrap(), "");
            assert_eq!(tok.decode(&[1, 2], true).unwrap(), "");
        }
    }

    static NANO: LazyLock<Tokenizer> = LazyLock::new(nano_tokenizer);
    static ALL: LazyLock<Vec<Tokenizer>> =
        LazyLock::new(|| decoders().into_iter().map(sentencepiece_tokenizer).collect());

    proptest! {
        #[test]
        fn pieces_of_any_ids_are_what_the_crate_decodes(
            ids in prop::collection::vec(0u32..4094, 0..40), skip: bool,
        ) {
            prop_assert_eq!(pieces(&NANO, &ids, skip).concat(), NANO.decode_by_crate(&ids, skip));
        }

        #[test]
        fn text_in_ids_and_text_out_again(text in "\\PC{0,24}", skip: bool) {
            let ids = NANO.encode(&text, Special::AsText).unwrap();
            prop_assert_eq!(pieces(&NANO, &ids, skip).concat(), text);
        }

        #[test]
        fn every_decoder_streams_what_the_crate_decodes_at_once(
            // Bytes of 東 (E6 9D B1), ASCII ones, and all the tokens that are not bytes.
            ids in prop::collection::vec(
                prop_oneof![0u32..3, Just(3 + 0xE6), Just(3 + 0x9D), Just(3 + 0xB1), 35u32..50, 259u32..273],
                1..16,
            ),
        ) {
            for tok in ALL.iter() {
                prop_assert_eq!(pieces(tok, &ids, false).concat(), tok.decode_by_crate(&ids, false));
            }
        }
    }
}
