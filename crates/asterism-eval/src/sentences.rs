//! Where the sentences of English text end, as NLTK's Punkt finds them.
//!
//! RULER hides needles between the sentences that `nltk.sent_tokenize` finds. Punkt decides with
//! words counted in newspapers; what it decides by rule is here, with short lists for the rest: of
//! the 4,090 sentences it finds in *Walden* all but four are the same, of those of five other
//! novels all but one in three hundred (Kiss and Strunk 2006, Unsupervised Multilingual Sentence
//! Boundary Detection).

use std::ops::Range;

/// Words with a full stop that ends no sentence, in lower case. Punkt takes "etc", "e.g", "no" and
/// "rev" for the ends of sentences, and so they are here.
const ABBREVIATIONS: [&str; 38] = [
    "mr", "mrs", "ms", "dr", "prof", "gen", "col", "lt", "maj", "sen", "st", "jr", "sr", "adm",
    "messrs", "vs", "inc", "corp", "co", "ltd", "a.m", "p.m", "jan", "feb", "aug", "sept", "oct",
    "nov", "dec", "u.s", "u.k", "d.c", "u.n", "u.s.a", "a.d", "n.y", "l.a", "ph.d",
];

/// Words that begin a sentence also after an abbreviation or dots, in lower case.
const STARTERS: [&str; 26] = [
    "although", "but", "even", "however", "i", "if", "indeed", "instead", "it", "many", "most",
    "nor", "since", "so", "some", "the", "there", "these", "they", "this", "though", "thus",
    "under", "when", "while", "yet",
];

/// Words that are no names, and so may begin a sentence after a single letter, in lower case.
const ORDINARY: [&str; 64] = [
    "a", "about", "after", "all", "and", "any", "are", "as", "at", "because", "before", "both",
    "by", "can", "do", "each", "every", "few", "for", "from", "had", "has", "have", "he", "her",
    "here", "his", "how", "in", "into", "is", "its", "just", "my", "never", "no", "not", "nothing",
    "now", "of", "on", "once", "one", "only", "or", "our", "perhaps", "she", "that", "their",
    "then", "to", "was", "we", "were", "what", "where", "which", "who", "why", "with", "without",
    "you", "your",
];

/// Marks after which a sentence can end without white space: what follows is a token of its own.
const APART: &[char] = &[')', '"', ';', '}', ']', '*', ':', '@', '\'', '(', '{', '[', '!', '?'];
/// Marks that belong to the sentence they close.
const CLOSING: &[char] = &['"', '\'', ')', ']', '}'];
/// Marks that open what follows.
const OPENING: &[char] = &['(', '"', '`', '[', '{'];
/// Marks at which a word begins anew.
const WITHIN: &[char] =
    &['(', '"', '`', '{', '[', ':', ';', '&', '#', '*', '@', ')', '}', ']', ','];

/// The sentences of `text` as byte ranges, without the white space between them.
pub(crate) fn sentences(text: &str) -> Vec<Range<usize>> {
    let space = |at: usize| text[at..].len() - text[at..].trim_start().len();
    let mut found = Vec::new();
    let (mut start, mut at) = (space(0), 0);
    while let Some(ahead) = text[at..].find(['.', '?', '!']) {
        let first = at + ahead;
        let run = text[first..].find(|c| !matches!(c, '.' | '?' | '!'));
        let mut end = run.map_or(text.len(), |length| first + length);
        at = end;
        if !ends(text, first, end) {
            continue;
        }
        let marks = end + space(end);
        let after = text[marks..].trim_start_matches(CLOSING);
        let closed = text.len() - after.len();
        let apart = after.is_empty() || after.starts_with(char::is_whitespace);
        if closed > marks && (apart || after.starts_with("--")) {
            end = closed;
        }
        found.push(start..end);
        at = end;
        start = end + space(end);
    }
    let end = text.trim_end().len();
    if start < end {
        found.push(start..end);
    }
    found
}

/// Whether a sentence ends with the stops at `first..end`.
fn ends(text: &str, first: usize, end: usize) -> bool {
    let rest = &text[end..];
    let Some(next) = rest.chars().next() else { return true };
    let spaced = next.is_whitespace();
    if !spaced && !APART.contains(&next) {
        return false;
    }
    let stops = &text[first..end];
    if stops.contains(['?', '!']) {
        return true;
    }

    let follows = rest.trim_start();
    let token = follows.split(char::is_whitespace).next().unwrap_or_default();
    // A mark between the stop and the next word: nothing is known of what follows.
    let marked = !spaced || follows.starts_with([')', ']', '}']) || follows.starts_with(OPENING);
    let name = token.trim_start_matches(OPENING);
    let (upper, lower) =
        (name.starts_with(char::is_uppercase), name.starts_with(char::is_lowercase));
    let name = name.trim_end_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let starts = upper && !marked && STARTERS.contains(&name.as_str());
    let word = word_before(&text[..first]);
    let initial = word.chars().count() == 1 && word.chars().all(char::is_alphabetic);
    let ends = if stops.len() > 1 || ABBREVIATIONS.contains(&word.to_lowercase().as_str()) {
        starts
    } else if initial || is_number(word) {
        let ordinary = STARTERS.contains(&name.as_str()) || ORDINARY.contains(&name.as_str());
        marked || !(lower || (initial && upper && !ordinary))
    } else {
        true
    };
    // Punkt also ends a sentence before a token that itself holds the end of one.
    ends || (spaced && holds_end(token))
}

/// The word that ends with `text`, without the marks before it.
fn word_before(text: &str) -> &str {
    let word = text.rsplit(char::is_whitespace).next().unwrap_or_default();
    let word = word.rsplit(WITHIN).next().unwrap_or_default();
    word.rsplit("--").next().unwrap_or_default().trim_start_matches('-')
}

fn is_number(word: &str) -> bool {
    let digits = word.trim_start_matches(['.', ',']);
    digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ',' | '-'))
}

/// Whether a sentence ends within a token, before its last mark.
fn holds_end(token: &str) -> bool {
    token.char_indices().any(|(at, c)| {
        let after = &token[at + c.len_utf8()..];
        match c {
            '?' | '!' => !after.is_empty(),
            '.' => after.starts_with(APART) && token[..at].ends_with(char::is_alphanumeric),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Haystack;

    // What NLTK 3.10's `sent_tokenize` makes of the same text.
    #[test]
    fn sentences_end_where_punkt_ends_them() {
        let expected = [
            "Mr. Flint, of N. Hampshire, paid $3.50.",
            "\"Did he?\"",
            "asked I.",
            "No!",
            "He said so, Dr. Thoreau, at 5 p.m. yesterday, etc.",
            "7 men saw it (late.)",
            "\"Now, Mr.",
            "Holmes?\"",
            "he cried... and went.",
            "So it was...",
            "But who \"--that is all?\"",
            "-- \"Yes!\"",
            "It cost 12.",
            "That is dear.",
            "It came from the U.S.",
            "They left...",
            "Where?!",
            "Nobody knows in the U.K. parliament",
        ];
        let text = expected.join(" ").replace("\" -- \"Yes", "\"-- \"Yes");
        let found: Vec<_> = sentences(&text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, expected);
        assert!(sentences("  \n").is_empty() && sentences("").is_empty());
    }

    #[test]
    fn walden_has_the_sentences_of_punkt_but_for_four() {
        let walden = Haystack::embedded();
        assert_eq!(sentences(walden.text()).len(), 4_089);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn nothing_is_lost_between_sentences(text in "[a-cA-C.?!\"') \\-é7]{0,60}") {
            let mut at = 0;
            for range in sentences(&text) {
                prop_assert!(text[at..range.start].trim().is_empty() && !range.is_empty());
                at = range.end;
            }
            prop_assert!(text[at..].trim().is_empty());
        }
    }
}
