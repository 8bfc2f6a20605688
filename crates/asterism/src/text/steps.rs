//! The steps of a tokenizer before its model: the normalizer's and the pre-tokenizer's.
//!
//! Receives the library's wrappers and gives the same steps in a row, run one by one so that time
//! and size can be looked at in between. Steps that follow a regular expression are run here: the
//! library searches the whole text in one call, which nothing can stop, and panics where the
//! expression backtracks too often. What they find is what the library finds.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use onig::{MatchParam, Regex, Region, SearchOptions};
use tokenizers::normalizer::SplitDelimiterBehavior;
use tokenizers::tokenizer::pattern::{Invert, Pattern};
use tokenizers::{
    NormalizedString, Normalizer, NormalizerWrapper, OffsetReferential, OffsetType, Offsets,
    PreTokenizedString, PreTokenizer, PreTokenizerWrapper,
};

use super::guard::Effort;

/// Places after which a search looks whether it should go on: at each of them an expression may
/// backtrack ten million times, which takes some tens of milliseconds.
const STRIDE: usize = 64;

/// What is searched for.
#[derive(Debug)]
pub(super) enum Search {
    /// This text, which is not empty.
    Text(String),
    Regex(Regex),
}

impl Search {
    /// Reads a `pattern` as the file writes it.
    fn read(pattern: &serde_json::Value) -> Result<Self, String> {
        match (pattern["String"].as_str(), pattern["Regex"].as_str()) {
            (Some(text), _) if !text.is_empty() => Ok(Self::Text(text.to_owned())),
            (_, Some(regex)) => Regex::new(regex)
                .map(Self::Regex)
                .map_err(|error| format!("the pattern {regex:?}: {}", error.description())),
            _ => Err(format!("a pattern of {pattern} finds nothing to match")),
        }
    }
}

/// A search with limits.
struct Limited<'a> {
    search: &'a Search,
    effort: &'a Effort<'a>,
}

impl Limited<'_> {
    /// The next match from `from` on.
    fn find(&self, inside: &str, from: usize) -> tokenizers::Result<Option<(usize, usize)>> {
        let regex = match self.search {
            Search::Text(text) => {
                return Ok(inside[from..].find(text).map(|at| (from + at, from + at + text.len())));
            }
            Search::Regex(regex) => regex,
        };
        // Place by place: a search within a range would also end its matches there.
        let places = inside[from..].char_indices().map(|(at, _)| from + at);
        let mut region = Region::new();
        for (count, at) in places.chain([inside.len()]).enumerate() {
            if count % STRIDE == 0 {
                self.effort.check()?;
            }
            region.clear();
            let found = regex
                .match_with_param(
                    inside,
                    at,
                    SearchOptions::SEARCH_OPTION_NONE,
                    Some(&mut region),
                    MatchParam::default(),
                )
                .map_err(|error| format!("a pattern of its rules: {}", error.description()))?;
            if let (Some(_), Some(place)) = (found, region.pos(0)) {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }
}

/// As the library's own implementation for regular expressions: matches, and what lies between.
impl Pattern for &Limited<'_> {
    fn find_matches(&self, inside: &str) -> tokenizers::Result<Vec<(Offsets, bool)>> {
        if inside.is_empty() {
            return Ok(vec![((0, 0), false)]);
        }
        let (mut pieces, mut end) = (Vec::new(), 0);
        // Where the next search begins, and where the last match ended.
        let (mut from, mut last_match) = (0, None);
        while from <= inside.len() {
            let Some(place) = self.find(inside, from)? else { break };
            from = place.1;
            if place.0 == place.1 {
                // A match of nothing: the next one begins a character further.
                from += inside[place.1..].chars().next().map_or(1, char::len_utf8);
                if last_match == Some(place.1) {
                    continue;
                }
            }
            last_match = Some(place.1);
            if end != place.0 {
                pieces.push(((end, place.0), false));
            }
            pieces.push((place, true));
            end = place.1;
        }
        if end != inside.len() {
            pieces.push(((end, inside.len()), false));
        }
        Ok(pieces)
    }
}

/// A normalizer as steps.
pub(super) struct Normalizing(Vec<NormalStep>);

enum NormalStep {
    Replace { search: Search, content: String },
    Other(NormalizerWrapper),
}

impl Normalizing {
    pub(super) fn new(normalizer: Option<&NormalizerWrapper>) -> Result<Self, String> {
        let mut steps = Vec::new();
        normalizer.map_or(Ok(()), |normalizer| Self::append(normalizer, &mut steps))?;
        Ok(Self(steps))
    }

    fn append(normalizer: &NormalizerWrapper, steps: &mut Vec<NormalStep>) -> Result<(), String> {
        steps.push(match normalizer {
            NormalizerWrapper::Sequence(sequence) => {
                return sequence.as_ref().iter().try_for_each(|step| Self::append(step, steps));
            }
            NormalizerWrapper::Replace(replace) => {
                let json = serde_json::to_value(replace).map_err(|e| e.to_string())?;
                let search = Search::read(&json["pattern"])?;
                NormalStep::Replace { search, content: replace.content.clone() }
            }
            other => NormalStep::Other(other.clone()),
        });
        Ok(())
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// [`Normalizing`] at work on one text. The library drops the errors of normalizers: the first is
/// kept in `failed`. It normalizes the parts between added tokens one by one.
pub(super) struct NormalizingText<'a> {
    steps: &'a Normalizing,
    effort: &'a Effort<'a>,
    failed: OnceLock<tokenizers::Error>,
    /// Bytes that the parts before have become.
    before: AtomicUsize,
}

impl<'a> NormalizingText<'a> {
    pub(super) fn new(steps: &'a Normalizing, effort: &'a Effort<'a>) -> Self {
        Self { steps, effort, failed: OnceLock::new(), before: AtomicUsize::new(0) }
    }

    /// Why a part could not be normalized.
    pub(super) fn failed(self) -> tokenizers::Result<()> {
        self.failed.into_inner().map_or(Ok(()), Err)
    }
}

impl Normalizer for NormalizingText<'_> {
    fn normalize(&self, text: &mut NormalizedString) -> tokenizers::Result<()> {
        if self.failed.get().is_some() {
            return Ok(());
        }
        let before = self.before.load(Relaxed);
        let done = self.steps.0.iter().try_for_each(|step| {
            self.effort.check()?;
            match step {
                NormalStep::Replace { search, content } => {
                    let limited = Limited { search, effort: self.effort };
                    let growing = Growing { pattern: &limited, content: content.len(), before };
                    text.replace(&growing, content)?;
                }
                NormalStep::Other(other) => other.normalize(text)?,
            }
            Ok(self.effort.check_size(before.saturating_add(text.get().len()))?)
        });
        self.before.fetch_add(text.get().len(), Relaxed);
        if let Err(error) = done {
            let _ = self.failed.set(error);
        }
        Ok(())
    }
}

/// A search whose matches will be replaced by `content` bytes each, in a text of which `before`
/// bytes are done.
struct Growing<'a> {
    pattern: &'a Limited<'a>,
    content: usize,
    before: usize,
}

impl Pattern for &Growing<'_> {
    fn find_matches(&self, inside: &str) -> tokenizers::Result<Vec<(Offsets, bool)>> {
        let pieces = self.pattern.find_matches(inside)?;
        let matches = pieces.iter().filter(|(_, is_match)| *is_match).count();
        let bytes = matches.saturating_mul(self.content).saturating_add(self.before);
        self.pattern.effort.check_size(bytes)?;
        Ok(pieces)
    }
}

/// A pre-tokenizer as steps.
pub(super) struct Splitting(Vec<SplitStep>);

enum SplitStep {
    Split { search: Search, behavior: SplitDelimiterBehavior, invert: bool },
    Other(PreTokenizerWrapper),
}

impl Splitting {
    pub(super) fn new(pre_tokenizer: Option<&PreTokenizerWrapper>) -> Result<Self, String> {
        let mut steps = Vec::new();
        pre_tokenizer.map_or(Ok(()), |splits| Self::append(splits, &mut steps))?;
        Ok(Self(steps))
    }

    fn append(splits: &PreTokenizerWrapper, steps: &mut Vec<SplitStep>) -> Result<(), String> {
        steps.push(match splits {
            PreTokenizerWrapper::Sequence(sequence) => {
                return sequence.as_ref().iter().try_for_each(|step| Self::append(step, steps));
            }
            PreTokenizerWrapper::Split(split) => {
                let pattern = serde_json::to_value(&split.pattern).map_err(|e| e.to_string())?;
                let search = Search::read(&pattern)?;
                SplitStep::Split { search, behavior: split.behavior, invert: split.invert }
            }
            other => SplitStep::Other(other.clone()),
        });
        Ok(())
    }

    /// Whether each byte of a text becomes a character of its own, which byte-level vocabularies
    /// have: no part of a text is lost, or stands for more than itself.
    pub(super) fn is_byte_level(&self) -> bool {
        let is =
            |step: &SplitStep| matches!(step, SplitStep::Other(PreTokenizerWrapper::ByteLevel(_)));
        self.0.iter().any(is)
    }

    /// Cuts `words` by every step. `before` bytes of the text are words already.
    pub(super) fn run(
        &self,
        words: &mut PreTokenizedString,
        before: usize,
        effort: &Effort<'_>,
    ) -> tokenizers::Result<()> {
        Self::run_steps(&self.0, words, before, effort)
    }

    /// Cuts `text` by every step, slab by slab, which `each` gets with the byte where it begins;
    /// `false` if these steps need the whole text at once. A step needs no more than the piece that
    /// it gets, but for those that ask where the piece stands: so a text can be cut between two
    /// pieces of the first step, if that only cuts and looks at the whole text for where.
    pub(super) fn run_in_slabs(
        &self,
        text: &str,
        slab: usize,
        effort: &Effort<'_>,
        each: &mut dyn FnMut(usize, PreTokenizedString) -> tokenizers::Result<()>,
    ) -> tokenizers::Result<bool> {
        let Some((SplitStep::Split { search, behavior, invert: false }, rest)) =
            self.0.split_first()
        else {
            return Ok(false);
        };
        let only_cuts =
            matches!(behavior, SplitDelimiterBehavior::Isolated | SplitDelimiterBehavior::Removed);
        let is_local = |step: &SplitStep| match step {
            SplitStep::Split { .. } => true,
            SplitStep::Other(other) => matches!(other, PreTokenizerWrapper::ByteLevel(_)),
        };
        if !only_cuts || !rest.iter().all(is_local) {
            return Ok(false);
        }
        let pieces = (&Limited { search, effort }).find_matches(text)?;
        let (mut left, mut before) = (&pieces[..], 0);
        while let [((start, _), _), ..] = *left {
            // At least one piece, and of those that follow what is not too much.
            let count = left.partition_point(|((_, end), _)| end - start <= slab).max(1);
            let (some, others) = left.split_at(count);
            left = others;
            let end = some[count - 1].0.1;
            let mut words = PreTokenizedString::from(&text[start..end]);
            words.split(|_, text| text.split(Found { pieces: some, start }, *behavior))?;
            Self::run_steps(rest, &mut words, before, effort)?;
            before += bytes_of(&words);
            each(start, words)?;
        }
        Ok(true)
    }

    fn run_steps(
        steps: &[SplitStep],
        words: &mut PreTokenizedString,
        before: usize,
        effort: &Effort<'_>,
    ) -> tokenizers::Result<()> {
        for step in steps {
            effort.check()?;
            match step {
                SplitStep::Split { search, behavior, invert } => {
                    let limited = Limited { search, effort };
                    words.split(|_, text| match invert {
                        true => text.split(Invert(&limited), *behavior),
                        false => text.split(&limited, *behavior),
                    })?;
                }
                SplitStep::Other(other) => other.pre_tokenize(words)?,
            }
            effort.check_size(before.saturating_add(bytes_of(words)))?;
        }
        Ok(())
    }
}

/// What a search has found already, in a text of which this is the part from `start` on.
struct Found<'a> {
    pieces: &'a [(Offsets, bool)],
    start: usize,
}

impl Pattern for Found<'_> {
    fn find_matches(&self, _: &str) -> tokenizers::Result<Vec<(Offsets, bool)>> {
        let moved = |((start, end), is_match): &(Offsets, bool)| {
            ((start - self.start, end - self.start), *is_match)
        };
        Ok(self.pieces.iter().map(moved).collect())
    }
}

/// Bytes of all `words`, added tokens among them.
fn bytes_of(words: &PreTokenizedString) -> usize {
    let words = words.get_splits(OffsetReferential::Normalized, OffsetType::None);
    words.last().map_or(0, |(_, (_, end), _)| *end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;
    use proptest::prelude::*;
    use tokenizers::utils::SysRegex;

    proptest! {
        #[test]
        fn matches_are_those_that_the_library_finds(
            regex in prop_oneof![
                Just(r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
                Just(r"a*"), Just(r"\b"), Just(r"(?<=b)a"), Just(r"$|^"), Just(r"b|"), Just("a{3}b?"),
            ],
            text in r"[ab 東1'st\n]{0,30}", times in 1..1000_usize,
        ) {
            let text = text.repeat(times);
            let theirs = SysRegex::new(regex).unwrap();
            let search = Search::Regex(Regex::new(regex).unwrap());
            let (cancel, bytes) = (Cancel::new(), text.len());
            let limited = Limited { search: &search, effort: &Effort::new(bytes, &cancel) };
            let ours = (&limited).find_matches(&text).unwrap();
            prop_assert_eq!(ours, (&theirs).find_matches(&text).unwrap());
        }
    }

    #[test]
    fn an_expression_without_end_is_given_up() {
        let search = Search::Regex(Regex::new("(a+)+$").unwrap());
        let text = "a".repeat(64) + "b";
        let cancel = Cancel::new();
        let limited = Limited { search: &search, effort: &Effort::new(text.len(), &cancel) };
        let error = (&limited).find_matches(&text).unwrap_err().to_string();
        assert!(error.contains("retry"), "{error}");
    }
}
