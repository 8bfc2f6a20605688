//! Text to token ids and back, by the model's own `tokenizer.json`.
//!
//! Receives the bytes of `tokenizer.json`; returns ids for text and text for ids. Nothing is added
//! to what the caller wrote (no bos, no eos), nothing is cut off and nothing is padded: a prompt is
//! put together in `prompt.rs`, and its length is checked where the model's limit is known.

use std::collections::HashMap;

use tokenizers::{
    AddedToken, AddedVocabulary, Model, ModelWrapper, OffsetReferential, OffsetType,
    PreTokenizedString, Tokenizer as Pipeline,
};

use super::declared::Declared;
use super::decoding::Chain;
use super::guard::{Effort, GivenUp, guarded, most_grown};
use super::steps::{Normalizing, NormalizingText, Splitting};
use super::{Detokenizer, TextError};
use crate::cancel::Cancel;

/// How text that looks like a special token is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// `<|eot_id|>` in the text is the special token: for what a chat template wrote.
    Parse,
    /// `<|eot_id|>` in the text is ten characters like any others: for what a person wrote, who
    /// could otherwise end the user's turn and begin one in another role.
    AsText,
}

/// How much shorter a tokenizer may make a text before its tokens are counted.
const SHORTENED: usize = 8;

/// Bytes of a text that the library has at a time, where that makes no difference: it takes some
/// 130 bytes of memory for each.
const SLAB: usize = 256 << 10;

/// A model's tokenizer.
pub struct Tokenizer {
    /// Model, decoder, and the added tokens as [`Special::Parse`] sees them.
    pipeline: Pipeline,
    /// Its normalizer and its pre-tokenizer.
    normalizing: Normalizing,
    splitting: Splitting,
    /// The same added tokens as [`Special::AsText`] sees them. Only this part is kept twice: the
    /// switch sits inside it, and the vocabulary of the model is large.
    added_as_text: AddedVocabulary,
    /// Bytes of the longest token.
    longest: usize,
    /// Special tokens that no ordinary text may turn into; not the unknown token, which stands for
    /// ordinary text.
    control: HashMap<u32, String>,
    /// Looked up once: the crate can only list all tokens.
    highest_id: Option<u32>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// [`TextError::BadTokenizer`] if it cannot be read, or asks for steps that have no bounds;
    /// [`TextError::AddedTokenId`] if an added
    /// token would get another id than the file declares (the crate only logs that).
    pub fn from_bytes(json: &[u8]) -> Result<Self, TextError> {
        let bad = |reason: String| TextError::BadTokenizer { reason };
        let json = crate::files::without_mark(json);
        let declared = Declared::read(json).map_err(bad)?;
        let pipeline = guarded(|| Pipeline::from_bytes(json)).map_err(bad)?;
        let mut pipeline = pipeline.map_err(|e| bad(e.to_string()))?;
        // Leaves out merges at random, for training: a prompt would be other tokens each time.
        if let ModelWrapper::BPE(bpe) = pipeline.get_model()
            && bpe.dropout.is_some()
        {
            let mut bpe = bpe.clone();
            bpe.dropout = None;
            pipeline.with_model(bpe);
        }
        let normalizing = Normalizing::new(pipeline.get_normalizer()).map_err(bad)?;
        let splitting = Splitting::new(pipeline.get_pre_tokenizer()).map_err(bad)?;

        // The pipeline is run step by step below and these three steps are left out; taking them
        // out as well leaves no way for them to come back.
        pipeline
            .with_truncation(None)
            .map_err(|e| bad(e.to_string()))?
            .with_padding(None)
            .with_post_processor(None::<tokenizers::PostProcessorWrapper>);
        pipeline.set_encode_special_tokens(false);

        let unknown = declared
            .model
            .unk_token
            .and_then(|token| pipeline.token_to_id(&token))
            .or(declared.model.unk_id);
        let mut control = HashMap::new();
        for token in declared.added_tokens {
            match pipeline.token_to_id(&token.content) {
                Some(actual) if actual != token.id => {
                    return Err(TextError::AddedTokenId {
                        token: token.content,
                        declared: token.id,
                        actual,
                    });
                }
                Some(id) if token.special && Some(id) != unknown => {
                    control.insert(id, token.content);
                }
                _ => {}
            }
        }
        let mut added_as_text = pipeline.get_added_vocabulary().clone();
        added_as_text.set_encode_special_tokens(true);
        let vocabulary = pipeline.get_vocab(true);
        let highest_id = vocabulary.values().copied().max();
        let longest = vocabulary.keys().map(String::len).max().unwrap_or(1);
        Ok(Self { pipeline, normalizing, splitting, added_as_text, longest, control, highest_id })
    }

    /// The ids of `text`, and only of `text`.
    ///
    /// [`Special::AsText`] concerns the tokens declared `special`. Other added tokens are shorthand
    /// for ordinary text by the tokenizer's own word (runs of newlines, say) and are used in both
    /// modes, as the model saw them in training.
    ///
    /// # Errors
    /// [`TextError::Encode`] if the tokenizer fails; [`TextError::SpecialInText`] in the rare case
    /// of a vocabulary that spells a special token out of ordinary pieces, so that it cannot be
    /// kept apart from its text.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>, TextError> {
        self.encode_until(text, special, &Cancel::new())
    }

    /// As [`Tokenizer::encode`]; `cancel` is looked at between pieces of the text.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`], and [`TextError::Cancelled`].
    pub fn encode_until(
        &self,
        text: &str,
        special: Special,
        cancel: &Cancel,
    ) -> Result<Vec<u32>, TextError> {
        self.encode_in_slabs(text, special, SLAB, cancel)
    }

    fn encode_in_slabs(
        &self,
        text: &str,
        special: Special,
        slab: usize,
        cancel: &Cancel,
    ) -> Result<Vec<u32>, TextError> {
        let effort = Effort::new(text.len(), cancel);
        let model = self.pipeline.get_model();
        let mut ids = Vec::new();
        self.limited(text, || {
            self.words(text, special, slab, &effort, &mut |_, words| {
                let words = words.get_splits(OffsetReferential::Original, OffsetType::None);
                for (number, (word, _, added)) in words.into_iter().enumerate() {
                    if number % 256 == 0 {
                        effort.check()?;
                    }
                    match added {
                        Some(tokens) => ids.extend(tokens.iter().map(|token| token.id)),
                        None => ids.extend(model.tokenize(word)?.iter().map(|token| token.id)),
                    }
                }
                Ok(())
            })
        })?;
        self.keeps_apart(&ids, special)?;
        Ok(ids)
    }

    /// `text` without its added tokens, normalized and cut into the words that the model sees: at
    /// once or, where that is the same, slab by slab. `each` gets them with the byte of the text
    /// that their places count from.
    fn words(
        &self,
        text: &str,
        special: Special,
        slab: usize,
        effort: &Effort<'_>,
        each: &mut dyn FnMut(usize, PreTokenizedString) -> tokenizers::Result<()>,
    ) -> tokenizers::Result<()> {
        if text.len() > slab
            && self.normalizing.is_empty()
            && !self.may_hold_added(text, special)
            && self.splitting.run_in_slabs(text, slab, effort, each)?
        {
            return Ok(());
        }
        let added = match special {
            Special::Parse => self.pipeline.get_added_vocabulary(),
            Special::AsText => &self.added_as_text,
        };
        let normalizer = NormalizingText::new(&self.normalizing, effort);
        let some = (!self.normalizing.is_empty()).then_some(&normalizer);
        let mut words = added.extract_and_normalize(some, text);
        normalizer.failed()?;
        self.splitting.run(&mut words, 0, effort)?;
        each(0, words)
    }

    /// Whether `text` has something in it that an added token is written as.
    fn may_hold_added(&self, text: &str, special: Special) -> bool {
        let added = self.pipeline.get_added_vocabulary().get_added_tokens_decoder();
        let is_read = |token: &&AddedToken| special == Special::Parse || !token.special;
        added.values().filter(is_read).any(|token| text.contains(&token.content))
    }

    /// What the library makes of `text`, its failures and panics as errors.
    fn limited<T>(
        &self,
        text: &str,
        work: impl FnOnce() -> tokenizers::Result<T>,
    ) -> Result<T, TextError> {
        let failed = |reason: String| TextError::Encode { bytes: text.len(), reason };
        guarded(work).map_err(failed)?.map_err(|error| match error.downcast_ref() {
            Some(GivenUp::Cancelled) => TextError::Cancelled,
            _ => failed(error.to_string()),
        })
    }

    /// The ids of `first` and of `second` read as one text, special tokens parsed.
    ///
    /// The token that holds the boundary belongs to the second part, so that the first is a prefix
    /// of the text alone; where no token reaches over it, the parts end and begin there.
    ///
    /// # Errors
    /// [`TextError::Encode`] if the tokenizer fails.
    pub fn encode_joint(
        &self,
        first: &str,
        second: &str,
    ) -> Result<(Vec<u32>, Vec<u32>), TextError> {
        let text = format!("{first}{second}");
        let (mut ids, ends) = self.placed(&text, Special::Parse, SLAB, &Cancel::new())?;
        let cut = ends.iter().position(|end| *end > first.len()).unwrap_or(ids.len());
        let query = ids.split_off(cut);
        Ok((ids, query))
    }

    /// The ids of `text` as [`Tokenizer::encode_until`] gives them and, of each, the bytes of
    /// `text` up to its end, rising: tokens that are parts of one character end where that ends.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_until`].
    pub fn encode_placed(
        &self,
        text: &str,
        special: Special,
        cancel: &Cancel,
    ) -> Result<(Vec<u32>, Vec<usize>), TextError> {
        let (ids, ends) = self.placed(text, special, SLAB, cancel)?;
        self.keeps_apart(&ids, special)?;
        Ok((ids, ends))
    }

    fn placed(
        &self,
        text: &str,
        special: Special,
        slab: usize,
        cancel: &Cancel,
    ) -> Result<(Vec<u32>, Vec<usize>), TextError> {
        let effort = Effort::new(text.len(), cancel);
        let (mut ids, mut ends, mut last) = (Vec::new(), Vec::new(), 0);
        self.limited(text, || {
            self.words(text, special, slab, &effort, &mut |start, mut words| {
                words.tokenize(|word| {
                    effort.check()?;
                    self.pipeline.get_model().tokenize(word.get())
                })?;
                // The library knows where in the text, in bytes, each token lies.
                let encoded = words.into_encoding(None, 0, OffsetType::Byte)?;
                ids.extend_from_slice(encoded.get_ids());
                for (_, end) in encoded.get_offsets() {
                    last = last.max(start + end);
                    ends.push(last);
                }
                Ok(())
            })
        })?;
        Ok((ids, ends))
    }

    /// Refuses ordinary text that came out as a special token.
    fn keeps_apart(&self, ids: &[u32], special: Special) -> Result<(), TextError> {
        match ids.iter().find_map(|id| self.control.get(id)) {
            Some(token) if special == Special::AsText => {
                Err(TextError::SpecialInText { token: token.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The text of `ids`; `skip_special` leaves special tokens out.
    ///
    /// # Errors
    /// [`TextError::UnknownId`] for an id without a token (the crate would drop it);
    /// [`TextError::Decode`] if the decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TextError> {
        // One implementation for whole answers and streams, so that they cannot differ. The tests
        // of the detokenizer compare it with the crate's.
        let mut stream = Detokenizer::new(self, skip_special);
        let mut text = String::new();
        for &id in ids {
            text.push_str(&stream.push(id)?);
        }
        text.push_str(&stream.finish()?);
        Ok(text)
    }

    /// The id of exactly this token.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.pipeline.token_to_id(token)
    }

    /// The token of an id as the vocabulary writes it: `Ġsea`, `▁sea`, `<0x0A>`.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.pipeline.id_to_token(id)
    }

    /// Bytes that a text of `tokens` tokens has at most: so many of the longest token. A normalizer
    /// may shorten a text first, and a token may stand for any number of characters that the
    /// vocabulary lacks; tokenizers that do such things get `SHORTENED` times as many.
    #[must_use]
    pub fn most_bytes(&self, tokens: usize) -> usize {
        let bytes = self.longest.saturating_mul(tokens);
        let is_exact = self.normalizing.is_empty() && self.splitting.is_byte_level();
        if is_exact { bytes } else { bytes.saturating_mul(SHORTENED) }
    }

    /// Tokens that a text of `bytes` bytes becomes at most, by whatever rules: a text that they
    /// make longer than so many bytes is refused, and a token stands for at least one of them.
    #[must_use]
    pub fn most_tokens(bytes: usize) -> usize {
        most_grown(bytes)
    }

    /// Number of tokens, added ones included. Models often have more rows than this.
    pub fn vocab_size(&self) -> usize {
        self.pipeline.get_vocab_size(true)
    }

    /// The highest id that has a token, added ones included; `None` without tokens. Ids may have
    /// gaps, so this may be more than [`Self::vocab_size`].
    pub fn highest_id(&self) -> Option<u32> {
        self.highest_id
    }

    pub(super) fn decoder(&self) -> Option<&tokenizers::DecoderWrapper> {
        self.pipeline.get_decoder()
    }

    pub(super) fn is_special(&self, token: &str) -> bool {
        self.pipeline.get_added_vocabulary().is_special_token(token)
    }

    /// Whether `id` was added to the model's vocabulary, from which it would come as text.
    pub(super) fn is_added(&self, id: u32) -> bool {
        self.pipeline.get_added_vocabulary().get_added_tokens_decoder().contains_key(&id)
    }

    /// The token of `id` as its decoder receives it; `None` if it is special and to be skipped.
    pub(super) fn token_to_decode(
        &self,
        id: u32,
        skip_special: bool,
    ) -> Result<Option<String>, TextError> {
        let token = self
            .id_to_token(id)
            .ok_or_else(|| TextError::UnknownId { id, vocab_size: self.vocab_size() })?;
        Ok(Some(token).filter(|token| !(skip_special && self.is_special(token))))
    }

    /// The decoder, ready for the first token of a text.
    pub(super) fn decoder_chain(&self) -> Chain {
        Chain::new(self.decoder())
    }

    /// What the crate makes of the same ids: the oracle of the detokenizer's tests.
    #[cfg(test)]
    pub(super) fn decode_by_crate(&self, ids: &[u32], skip_special: bool) -> String {
        self.pipeline.decode(ids, skip_special).unwrap_or_else(|e| panic!("{ids:?}: {e}"))
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
