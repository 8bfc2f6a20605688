//! Stop strings in a stream of text.
//!
//! Receives the pieces of an answer as they are decoded; returns what may be shown. A stop string
//! can be spread over several pieces, so a piece's end is held back exactly as long as it may be
//! the beginning of a stop string. How the text is cut into pieces never changes the result.

use super::TextError;

/// Watches a stream of text for the first stop string.
///
/// The text ends at the stop string that is complete first; of several that are complete at the
/// same character, the one that began first counts. This is the only rule that can be followed
/// without waiting for text that may never come.
#[derive(Debug, Clone)]
pub struct StopStrings {
    stops: Vec<String>,
    longest: usize,
    /// Text not given out yet: always a proper prefix of some stop string.
    held: String,
    stopped: bool,
}

/// What may be shown after one more piece of text, and whether the answer ends there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopStep {
    /// Text that can be shown now.
    pub emit: String,
    /// Whether a stop string is complete; nothing is emitted after it.
    pub stopped: bool,
}

impl StopStrings {
    /// Watches for `stops`, which may be an empty list.
    ///
    /// # Errors
    /// [`TextError::EmptyStop`] if one of them is the empty string.
    pub fn new(stops: Vec<String>) -> Result<Self, TextError> {
        if let Some(index) = stops.iter().position(String::is_empty) {
            return Err(TextError::EmptyStop { index });
        }
        let longest = stops.iter().map(String::len).max().unwrap_or(0);
        Ok(Self { stops, longest, held: String::new(), stopped: false })
    }

    /// Takes the next piece and returns what became certain. After a stop, nothing does.
    pub fn push(&mut self, piece: &str) -> StopStep {
        if self.stopped {
            return StopStep { emit: String::new(), stopped: true };
        }
        let mut text = std::mem::take(&mut self.held);
        text.push_str(piece);
        if let Some(start) = self.first_stop(&text) {
            text.truncate(start);
            self.stopped = true;
        } else {
            self.held = text.split_off(text.len() - self.beginning_at_end(&text));
        }
        StopStep { emit: text, stopped: self.stopped }
    }

    /// Ends the stream: returns what was held back, since no stop string follows any more.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// The start of the stop string that is completed first.
    fn first_stop(&self, text: &str) -> Option<usize> {
        let ends = |stop: &String| text.find(stop.as_str()).map(|at| (at + stop.len(), at));
        self.stops.iter().filter_map(ends).min().map(|(_, at)| at)
    }

    /// Length of the longest end of `text` that begins a stop string.
    fn beginning_at_end(&self, text: &str) -> usize {
        let most = text.len().min(self.longest.saturating_sub(1));
        (1..=most)
            .rev()
            .filter(|len| text.is_char_boundary(text.len() - len))
            .find(|len| {
                let end = &text[text.len() - len..];
                self.stops.iter().any(|stop| stop.starts_with(end))
            })
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stops(list: &[&str]) -> StopStrings {
        StopStrings::new(list.iter().map(|s| (*s).to_owned()).collect()).unwrap()
    }

    fn step(emit: &str, stopped: bool) -> StopStep {
        StopStep { emit: emit.to_owned(), stopped }
    }

    #[test]
    fn an_empty_stop_string_is_refused_by_its_place() {
        let error = StopStrings::new(vec!["a".into(), String::new()]).unwrap_err();
        assert_eq!(error, TextError::EmptyStop { index: 1 });
    }

    #[test]
    fn without_stop_strings_everything_passes() {
        let mut none = stops(&[]);
        assert_eq!(none.push("abc"), step("abc", false));
        assert_eq!(none.finish(), "");
    }

    #[test]
    fn only_a_possible_beginning_is_held_back() {
        let mut s = stops(&["\nUser:"]);
        assert_eq!(s.push("yes\nUs"), step("yes", false));
        assert_eq!(s.push("ual"), step("\nUsual", false));
        assert_eq!(s.push("\nUser"), step("", false));
        assert_eq!(s.push(": more"), step("", true));
        assert_eq!(s.push("after"), step("", true));
        assert_eq!(s.finish(), "");
    }

    #[test]
    fn a_failed_beginning_may_contain_the_real_one() {
        let mut s = stops(&["aab"]);
        assert_eq!(s.push("aa"), step("", false));
        assert_eq!(s.push("a"), step("a", false));
        assert_eq!(s.push("b"), step("", true));
    }

    #[test]
    fn the_stop_string_that_is_complete_first_counts() {
        assert_eq!(stops(&["abcd", "bc"]).push("xabcd"), step("xa", true));
        assert_eq!(stops(&["bc", "abc"]).push("xabcd"), step("x", true));
    }

    #[test]
    fn text_at_the_end_of_the_stream_is_given_out() {
        let mut s = stops(&["</s>"]);
        assert_eq!(s.push("a</"), step("a", false));
        assert_eq!(s.finish(), "</");
        assert_eq!(s.finish(), "");
    }

    /// The definition, on the whole text: the smallest end of a match, then its smallest start.
    fn naive(stops: &[String], text: &str) -> (String, bool) {
        for end in 0..=text.len() {
            for start in 0..end {
                let matches = |s: &String| text.as_bytes()[start..end] == *s.as_bytes();
                if stops.iter().any(matches) {
                    return (text[..start].to_owned(), true);
                }
            }
        }
        (text.to_owned(), false)
    }

    proptest! {
        #[test]
        fn any_split_gives_what_a_search_in_the_whole_text_gives(
            list in prop::collection::vec("[abé]{1,4}", 0..4),
            pieces in prop::collection::vec("[abé ]{0,5}", 0..12),
        ) {
            let (text, stopped) = naive(&list, &pieces.concat());
            let mut watcher = StopStrings::new(list).unwrap();
            let mut seen = String::new();
            for piece in &pieces {
                let step = watcher.push(piece);
                seen.push_str(&step.emit);
                prop_assert!(text.starts_with(&seen), "{seen:?} shown too early");
                if step.stopped {
                    prop_assert!(stopped);
                    break;
                }
            }
            seen.push_str(&watcher.finish());
            prop_assert_eq!(seen, text);
        }
    }
}
