//! The bytes that a single token stands for, wherever in a text it comes: for masks that decide
//! byte by byte which tokens may come next, and for lists of likely tokens.

use super::Tokenizer;
use tokenizers::DecoderWrapper;

/// What a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenBytes {
    /// These bytes, which may be a part of a character.
    Text(Vec<u8>),
    /// Nothing that is text: it begins or ends a turn, say. Its name.
    Special(String),
}

/// How a vocabulary writes bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    /// One character for each byte (GPT-2's table).
    ByteLevel,
    /// Text, with `▁` for a space; `<0x0A>` for a byte that is not a character of its own.
    Pieces,
    /// Text as it is.
    Plain,
}

impl Tokenizer {
    /// What token `id` stands for within a text; `None` if there is no such token.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<TokenBytes> {
        let token = self.id_to_token(id)?;
        if self.is_special(&token) {
            return Some(TokenBytes::Special(token));
        }
        // Added tokens are text as it is.
        let spelling = if self.is_added(id) { Spelling::Plain } else { self.spelling() };
        Some(TokenBytes::Text(match spelling {
            Spelling::Plain => token.into_bytes(),
            Spelling::ByteLevel => {
                let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
                bytes.unwrap_or_else(|| token.into_bytes())
            }
            Spelling::Pieces => match named_byte(&token) {
                Some(byte) => vec![byte],
                None => token.replace('▁', " ").into_bytes(),
            },
        }))
    }

    fn spelling(&self) -> Spelling {
        match self.decoder() {
            Some(decoder) if contains(decoder, &|d| matches!(d, DecoderWrapper::ByteLevel(_))) => {
                Spelling::ByteLevel
            }
            Some(decoder)
                if contains(decoder, &|d| {
                    matches!(d, DecoderWrapper::ByteFallback(_) | DecoderWrapper::Metaspace(_))
                }) =>
            {
                Spelling::Pieces
            }
            _ => Spelling::Plain,
        }
    }
}

/// Whether `decoder` is, or consists among others of, one that `is`.
fn contains(decoder: &DecoderWrapper, is: &dyn Fn(&DecoderWrapper) -> bool) -> bool {
    match decoder {
        DecoderWrapper::Sequence(all) => {
            all.get_decoders().iter().any(|decoder| contains(decoder, is))
        }
        decoder => is(decoder),
    }
}

/// The byte that a byte-level vocabulary writes as `character`: printable ones of Latin-1 as
/// themselves, the other 68 as the characters from U+0100 on, in their order.
fn byte_of(character: char) -> Option<u8> {
    let printable =
        |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff).then_some(byte);
    let code = u32::from(character);
    match code.checked_sub(0x100) {
        None => printable(code).and_then(|byte| u8::try_from(byte).ok()),
        Some(index) => {
            (0..=u8::MAX).filter(|byte| printable(u32::from(*byte)).is_none()).nth(index as usize)
        }
    }
}

/// The byte of a token such as `<0x0A>`.
fn named_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{nano_tokenizer, sentencepiece_tokenizer};
    use super::super::{Special, Tokenizer};
    use super::*;
    use proptest::prelude::*;

    /// The bytes of all of `ids`, one after another.
    fn bytes(tok: &Tokenizer, ids: &[u32]) -> Vec<u8> {
        let of = |id: &u32| match tok.token_bytes(*id).unwrap() {
            TokenBytes::Text(bytes) => bytes,
            TokenBytes::Special(name) => panic!("{name}"),
        };
        ids.iter().flat_map(of).collect()
    }

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let mut all: Vec<u8> = alphabet.into_iter().map(|c| byte_of(c).unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..=u8::MAX).collect::<Vec<_>>());
        assert_eq!((byte_of('A'), byte_of('Ġ'), byte_of('Ċ')), (Some(65), Some(32), Some(10)));
        assert_eq!((byte_of('ń'), byte_of('中')), (None, None));
    }

    #[test]
    fn special_tokens_are_no_text() {
        let tok = nano_tokenizer();
        let eot = tok.token_to_id("<|eot_id|>").unwrap();
        assert_eq!(tok.token_bytes(eot), Some(TokenBytes::Special("<|eot_id|>".to_owned())));
        assert_eq!(tok.token_bytes(u32::MAX), None);
    }

    #[test]
    fn pieces_with_bytes_for_what_they_lack_spell_the_text() {
        let decoder = serde_json::json!({"type": "Metaspace", "replacement": "▁",
            "prepend_scheme": "first", "split": true});
        let tok = sentencepiece_tokenizer(decoder);
        let ids = tok.encode("The sea\n", Special::AsText).unwrap();
        let text = String::from_utf8(bytes(&tok, &ids)).unwrap();
        assert_eq!(text.trim_start(), "The sea\n");
    }

    proptest! {
        #[test]
        fn tokens_of_a_byte_level_vocabulary_spell_the_text(text in "\\PC{0,40}[\\n\\t ]?") {
            let tok = nano_tokenizer();
            let ids = tok.encode(&text, Special::AsText).unwrap();
            prop_assert_eq!(bytes(&tok, &ids), text.as_bytes());
        }
    }
}
