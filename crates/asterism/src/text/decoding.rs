//! Decoders of `tokenizers`, turned into stages that work token by token.
//!
//! Receives the `decoder` of a `tokenizer.json` and then tokens; returns, after each, the text that
//! no later token can change. The crate's decoders take all tokens at once, and decoding a
//! growing answer that way costs the square of its length. But what each of them does to a token
//! depends on little: on nothing else, on whether it is the first, on its neighbour, on the bytes
//! of an unfinished character. A stage keeps that little and passes the rest on.
//!
//! Some decoders fuse all tokens into one. The stages behind them see pieces of that one token;
//! those that need it whole ([`Stage::Whole`]) wait for the end, which is exact but does not
//! stream. No published model known here puts one there.

use std::collections::VecDeque;

use tokenizers::decoders::strip::Strip;
use tokenizers::{Decoder, DecoderWrapper};

use super::TextError;
use super::guard::guarded;

/// A decoder in the middle of a text.
#[derive(Debug)]
pub(super) struct Chain {
    stages: Vec<Stage>,
}

/// One step of a [`Chain`], with what it remembers.
#[derive(Debug)]
enum Stage {
    /// No decoder at all: tokens are joined by spaces.
    Spaces { first: bool },
    /// Every token alone.
    Each(DecoderWrapper),
    /// Every token alone, but the first in another way.
    FirstDiffers { decoder: DecoderWrapper, first: bool },
    /// Every token alone, but the last in another way, so one is always waiting.
    LastDiffers { decoder: DecoderWrapper, waiting: Option<String> },
    /// Every token alone, repetitions left out.
    Dedup { decoder: DecoderWrapper, last: Option<String> },
    /// `<0xNN>` tokens. A run of them is text only if all of it is UTF-8, so it waits for its end.
    ByteRun(Vec<u8>),
    /// Characters that stand for bytes; fuses. The bytes of an unfinished character wait.
    ByteLevel(Vec<u8>),
    /// Every token loses up to `start` and `stop` times `content` at its ends.
    StripEach(Strip),
    /// The same for the one fused token: its beginning comes first, its end last.
    StripFused {
        strip: Strip,
        /// How much may still be stripped at the beginning.
        start: usize,
        /// What would be stripped if the text ended here: up to `stop` times `content`.
        waiting: VecDeque<char>,
    },
    /// A decoder that needs the one fused token whole.
    Whole { decoder: DecoderWrapper, text: String },
}

impl Chain {
    /// The stages of `decoder`, ready for the first token of a text.
    pub(super) fn new(decoder: Option<&DecoderWrapper>) -> Self {
        let mut stages = Vec::new();
        match decoder {
            Some(decoder) => drop(append(decoder, false, &mut stages)),
            None => stages.push(Stage::Spaces { first: true }),
        }
        Self { stages }
    }

    /// Takes the next token and returns the text that became certain.
    pub(super) fn push(&mut self, token: String) -> Result<String, TextError> {
        let mut tokens = vec![token];
        for stage in &mut self.stages {
            let mut out = Vec::with_capacity(tokens.len());
            let before = bytes(&tokens);
            let done = guarded(|| tokens.into_iter().try_for_each(|t| stage.push(t, &mut out)));
            done.map_err(|reason| TextError::Decode { reason })?.map_err(failed)?;
            within(before, bytes(&out))?;
            tokens = out;
        }
        Ok(tokens.concat())
    }

    /// Ends the text and returns what waited.
    pub(super) fn finish(&mut self) -> Result<String, TextError> {
        let mut tokens = Vec::new();
        for stage in &mut self.stages {
            let mut out = Vec::new();
            let before = bytes(&tokens) + stage.waiting();
            let done = guarded(|| {
                tokens.into_iter().try_for_each(|token| stage.push(token, &mut out))?;
                stage.finish(&mut out)
            });
            done.map_err(|reason| TextError::Decode { reason })?.map_err(failed)?;
            within(before, bytes(&out))?;
            tokens = out;
        }
        Ok(tokens.concat())
    }
}

/// A token may grow in a stage to this many times its length, and by this many bytes.
const GROWTH: usize = 16;
const GROWTH_BYTES: usize = 64 << 10;

fn bytes(tokens: &[String]) -> usize {
    tokens.iter().map(String::len).sum()
}

/// Refuses decoders that multiply text: each of several in a row would multiply what the one before
/// it made.
fn within(before: usize, after: usize) -> Result<(), TextError> {
    if after <= before.saturating_mul(GROWTH).saturating_add(GROWTH_BYTES) {
        return Ok(());
    }
    Err(TextError::Decode { reason: format!("{before} bytes of tokens become {after}") })
}

fn failed(error: tokenizers::Error) -> TextError {
    TextError::Decode { reason: error.to_string() }
}

/// Appends the stages of `decoder` and returns whether what leaves them is one fused token;
/// `fused` says whether what enters them is.
fn append(decoder: &DecoderWrapper, fused: bool, stages: &mut Vec<Stage>) -> bool {
    use DecoderWrapper as D;
    let stage = match decoder {
        D::Sequence(sequence) => {
            let inner = sequence.get_decoders().iter();
            return inner.fold(fused, |fused, decoder| append(decoder, fused, stages));
        }
        D::Fuse(_) => return true,
        D::Strip(strip) if fused => {
            let (strip, start) = (strip.clone(), strip.start);
            Stage::StripFused { strip, start, waiting: VecDeque::new() }
        }
        // With one token that is also the first, every character is treated alike.
        D::Metaspace(_) if fused => Stage::Each(decoder.clone()),
        _ if fused => Stage::Whole { decoder: decoder.clone(), text: String::new() },
        D::Replace(_) => Stage::Each(decoder.clone()),
        D::Strip(strip) => Stage::StripEach(strip.clone()),
        D::Metaspace(_) | D::WordPiece(_) => {
            Stage::FirstDiffers { decoder: decoder.clone(), first: true }
        }
        D::BPE(_) => Stage::LastDiffers { decoder: decoder.clone(), waiting: None },
        D::CTC(_) => Stage::Dedup { decoder: decoder.clone(), last: None },
        D::ByteFallback(_) => Stage::ByteRun(Vec::new()),
        D::ByteLevel(_) => {
            stages.push(Stage::ByteLevel(Vec::new()));
            return true;
        }
    };
    stages.push(stage);
    fused
}

impl Stage {
    /// Takes a token, or a piece of the fused one, and appends to `out` what became certain.
    fn push(&mut self, token: String, out: &mut Vec<String>) -> tokenizers::Result<()> {
        match self {
            Self::Spaces { first: true } => {
                *self = Self::Spaces { first: false };
                out.push(token);
            }
            Self::Spaces { first: false } => out.push(format!(" {token}")),
            Self::Each(decoder) => out.extend(decoder.decode_chain(vec![token])?),
            Self::FirstDiffers { decoder, first } => {
                if std::mem::take(first) {
                    out.extend(decoder.decode_chain(vec![token])?);
                } else {
                    // An empty token in front shows the decoder that this is not the first.
                    let decoded = decoder.decode_chain(vec![String::new(), token])?;
                    out.extend(decoded.into_iter().skip(1));
                }
            }
            Self::LastDiffers { decoder, waiting } => {
                if let Some(before) = waiting.replace(token) {
                    // And an empty token behind that this is not the last.
                    let decoded = decoder.decode_chain(vec![before, String::new()])?;
                    out.extend(decoded.into_iter().take(1));
                }
            }
            Self::Dedup { decoder, last } => {
                if last.as_ref() != Some(&token) {
                    out.extend(decoder.decode_chain(vec![token.clone()])?);
                    *last = Some(token);
                }
            }
            Self::ByteRun(run) => match byte_token(&token) {
                Some(byte) => run.push(byte),
                None => {
                    end_byte_run(run, out);
                    out.push(token);
                }
            },
            Self::ByteLevel(bytes) => {
                match token.chars().map(byte_of_char).collect::<Option<Vec<u8>>>() {
                    Some(decoded) => bytes.extend(decoded),
                    // A token with any other character, such as a special one, is itself.
                    None => bytes.extend(token.as_bytes()),
                }
                out.push(take_characters(bytes));
            }
            Self::StripEach(strip) => {
                let (rest, _) = strip_start(&token, strip.content, strip.start);
                out.push(strip_end(rest, strip.content, strip.stop).to_owned());
            }
            Self::StripFused { strip, start, waiting } => {
                let (rest, stripped) = strip_start(&token, strip.content, *start);
                *start = if rest.is_empty() { *start - stripped } else { 0 };
                let mut certain = String::new();
                for c in rest.chars() {
                    if c != strip.content {
                        certain.extend(waiting.drain(..));
                        certain.push(c);
                        continue;
                    }
                    waiting.push_back(c);
                    if waiting.len() > strip.stop {
                        certain.extend(waiting.pop_front());
                    }
                }
                out.push(certain);
            }
            Self::Whole { text, .. } => text.push_str(&token),
        }
        Ok(())
    }

    /// Bytes that wait for the end.
    fn waiting(&self) -> usize {
        match self {
            Self::LastDiffers { waiting, .. } => waiting.as_ref().map_or(0, String::len),
            Self::ByteRun(bytes) | Self::ByteLevel(bytes) => bytes.len(),
            Self::Whole { text, .. } => text.len(),
            _ => 0,
        }
    }

    /// Ends the tokens and appends to `out` what waited.
    fn finish(&mut self, out: &mut Vec<String>) -> tokenizers::Result<()> {
        match self {
            Self::LastDiffers { decoder, waiting } => {
                if let Some(last) = waiting.take() {
                    out.extend(decoder.decode_chain(vec![last])?);
                }
            }
            Self::ByteRun(run) => end_byte_run(run, out),
            Self::ByteLevel(bytes) => out.push(String::from_utf8_lossy(bytes).into_owned()),
            Self::Whole { decoder, text } => {
                out.extend(decoder.decode_chain(vec![std::mem::take(text)])?);
            }
            // What waits in `StripFused` is what is stripped.
            _ => {}
        }
        Ok(())
    }
}

/// The byte of a `<0xNN>` token.
fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// Ends a run of byte tokens: its text, or one replacement character for each byte of it.
fn end_byte_run(run: &mut Vec<u8>, out: &mut Vec<String>) {
    match std::str::from_utf8(run) {
        Ok("") => {}
        Ok(text) => out.push(text.to_owned()),
        Err(_) => out.extend(run.iter().map(|_| char::REPLACEMENT_CHARACTER.to_string())),
    }
    run.clear();
}

/// The byte that a character of a byte-level vocabulary stands for. Printable bytes of Latin-1
/// stand for themselves; the others, in order, are the characters from U+0100 on.
fn byte_of_char(c: char) -> Option<u8> {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(c) {
        code @ 0..=0xFF => Some(code as u8).filter(|&b| printable(b)),
        code => (0..=0xFF).filter(|&b| !printable(b)).nth(code as usize - 0x100),
    }
}

/// Takes the finished characters from the front of `bytes`, one replacement character for each
/// sequence that cannot become one, and leaves an unfinished one there.
fn take_characters(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut taken = 0;
    loop {
        let rest = &bytes[taken..];
        let (valid, bad) = match std::str::from_utf8(rest) {
            Ok(_) => (rest.len(), None),
            Err(e) => (e.valid_up_to(), Some(e.error_len())),
        };
        text.push_str(&String::from_utf8_lossy(&rest[..valid]));
        taken += valid;
        match bad {
            Some(Some(length)) => {
                text.push(char::REPLACEMENT_CHARACTER);
                taken += length;
            }
            // The end, or a character that more bytes could finish.
            None | Some(None) => break,
        }
    }
    bytes.drain(..taken);
    text
}

/// `text` without up to `most` times `content` at its beginning, and how often that was.
fn strip_start(mut text: &str, content: char, most: usize) -> (&str, usize) {
    let mut stripped = 0;
    while stripped < most
        && let Some(rest) = text.strip_prefix(content)
    {
        (text, stripped) = (rest, stripped + 1);
    }
    (text, stripped)
}

/// `text` without up to `most` times `content` at its end.
fn strip_end(mut text: &str, content: char, most: usize) -> &str {
    for _ in 0..most {
        let Some(rest) = text.strip_suffix(content) else { break };
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn stream(decoder: Value, tokens: &[&str]) -> Vec<String> {
        let decoder: DecoderWrapper = serde_json::from_value(decoder).unwrap();
        let mut chain = Chain::new(Some(&decoder));
        let pieces = tokens.iter().map(|t| chain.push((*t).to_owned()).unwrap());
        let mut pieces: Vec<String> = pieces.collect();
        pieces.push(chain.finish().unwrap());
        pieces
    }

    #[test]
    fn the_byte_alphabet_is_the_crates() {
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let mut bytes: Vec<u8> = alphabet.iter().map(|&c| byte_of_char(c).unwrap()).collect();
        bytes.sort_unstable();
        assert!(bytes.into_iter().eq(0..=255));
        for c in [' ', '\u{AD}', '\u{144}', '東', char::MAX] {
            assert_eq!(byte_of_char(c), None, "{c:?}");
        }
    }

    #[test]
    fn characters_leave_as_soon_as_they_are_finished_or_broken() {
        let mut bytes = b"a\xE6\x9D".to_vec();
        assert_eq!(take_characters(&mut bytes), "a");
        bytes.push(0xB1);
        assert_eq!(take_characters(&mut bytes), "東");
        bytes.extend(b"\xE6\x9Db\xFF\xF0\x9F");
        assert_eq!(take_characters(&mut bytes), "\u{FFFD}b\u{FFFD}");
        assert_eq!(bytes, b"\xF0\x9F");
    }

    #[test]
    fn both_ends_of_a_fused_text_are_stripped() {
        let decoder = json!({"type": "Sequence", "decoders": [
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 2, "stop": 1}]});
        assert_eq!(
            stream(decoder.clone(), &[" ", "  a", " ", " ", "b ", "", " "]),
            ["", " a", "", " ", " b", "", " ", ""]
        );
        // Nothing but spaces: the crate's own decoder panics here.
        assert_eq!(stream(decoder, &[" ", " "]).concat(), "");
    }

    #[test]
    fn stripping_an_empty_token_is_not_a_panic() {
        let strip = json!({"type": "Strip", "content": " ", "start": 1, "stop": 1});
        assert_eq!(stream(strip, &["", " ", " a "]), ["", "", "a", ""]);
    }

    #[test]
    fn a_decoder_that_needs_the_whole_text_waits_for_the_end() {
        let decoder = json!({"type": "Sequence", "decoders": [
            {"type": "Fuse"}, {"type": "Replace", "pattern": {"String": "ab"}, "content": "-"}]});
        assert_eq!(stream(decoder, &["a", "b", "a"]), ["", "", "", "-a"]);
    }
}
