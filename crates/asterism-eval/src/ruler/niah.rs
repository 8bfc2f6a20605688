//! Needles in a haystack: sentences that give a key its value, hidden in text, noise or other
//! needles.

use serde_json::json;

use crate::random::PythonRandom;
use crate::sentences::sentences;
use crate::words::WordPairs;
use crate::{ChatFrame, EvalError, Haystack};

use super::fit::{Draft, Draws, Family, Question};
use super::texts::{NIAH, fill};
use super::{NOISE, Variant};

/// The kind of a needle's key or value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Words,
    Numbers,
    Uuids,
}

/// The text around the needles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hay {
    Noise,
    Essay,
    Needles,
}

/// One of the eight tasks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) hay: Hay,
    pub(super) key: Kind,
    pub(super) value: Kind,
    pub(super) keys: usize,
    pub(super) values: usize,
    pub(super) queries: usize,
}

/// The depths, in percent of the sentences, at which needles can lie in an essay: 40 even ones,
/// rounded.
const DEPTHS: [usize; 40] = [
    0, 3, 5, 8, 10, 13, 15, 18, 21, 23, 26, 28, 31, 33, 36, 38, 41, 44, 46, 49, 51, 54, 56, 59, 62,
    64, 67, 69, 72, 74, 77, 79, 82, 85, 87, 90, 92, 95, 97, 100,
];

/// The generator of one task.
pub(super) struct Niah<'a> {
    pub(super) shape: Shape,
    pub(super) variant: Variant,
    pub(super) seed: u64,
    pub(super) length: usize,
    /// Whether upstream's own sizes are to be tried, rather than a finer grid of them.
    pub(super) exact: bool,
    pub(super) reserved: usize,
    /// Questions about a context, each about keys of its own.
    pub(super) questions: usize,
    pub(super) words: &'a WordPairs,
    pub(super) haystack: &'a Haystack,
    pub(super) context: String,
    pub(super) query: String,
}

impl Niah<'_> {
    /// Context and query templates: of one needle the texts speak in the singular.
    ///
    /// The reference replaces words in the whole template, so that its chats open with "You is a
    /// helpful assistant."; `clean` leaves the chat alone.
    pub(super) fn templates(shape: Shape, variant: Variant, frame: &ChatFrame) -> (String, String) {
        let one = shape.queries * shape.values == 1;
        let singular = |text: &str| {
            if !one {
                return text.to_owned();
            }
            let text = text.replace("Some", "A").replace("are all", "is");
            text.replace("are", "is").replace("answers", "answer")
        };
        if variant == Variant::Clean {
            let query = format!("{}{}{}", singular(NIAH.query), frame.tail, singular(NIAH.prefix));
            (format!("{}{}", frame.head, singular(NIAH.context)), query)
        } else {
            (singular(&NIAH.framed_context(frame)), singular(&NIAH.framed_query(frame)))
        }
    }

    fn draw_one(&self, kind: Kind, random: &mut PythonRandom) -> String {
        match kind {
            Kind::Numbers => random.int(1_000_000, 9_999_999).to_string(),
            Kind::Words => self.words.get(random.below(self.words.len())),
            Kind::Uuids => random.uuid(),
        }
    }

    fn needle(&self, key: &str, value: &str) -> String {
        format!("One of the special magic {} for {key} is: {value}.", self.plural())
    }

    fn plural(&self) -> &'static str {
        match self.shape.value {
            Kind::Words => "words",
            Kind::Numbers => "numbers",
            Kind::Uuids => "uuids",
        }
    }

    /// The haystack with `needles` in it.
    fn hide(&self, needles: &[String], random: &mut PythonRandom, units: usize) -> String {
        if self.shape.hay == Hay::Essay {
            let text = self.haystack.prefix(units);
            let ends = sentences(&text);
            let mut places: Vec<usize> = random
                .sample(DEPTHS.len(), needles.len())
                .into_iter()
                .map(|depth| (ends.len() as f64 * (DEPTHS[depth] as f64 / 100.0)) as usize)
                .collect();
            places.sort_unstable();
            // Pieces of text and needles in turn, all joined by spaces, empty pieces too.
            let mut parts = Vec::new();
            let mut from = 0;
            for (needle, to) in needles.iter().zip(&places) {
                parts.push(piece(&text, &ends[from..*to]));
                parts.push(needle);
                from = *to;
            }
            parts.push(piece(&text, &ends[from..]));
            return parts.join(" ");
        }
        let hay: Vec<String> = (0..units)
            .map(|_| match self.shape.hay {
                Hay::Needles => {
                    let key = self.draw_one(self.shape.key, random);
                    self.needle(&key, &self.draw_one(self.shape.value, random))
                }
                _ => NOISE.to_owned(),
            })
            .collect();
        // The first needle lies deepest.
        let mut places = random.sample(units, needles.len());
        places.sort_unstable();
        let mut hidden = places.iter().zip(needles.iter().rev()).peekable();
        let mut lines = Vec::with_capacity(units + needles.len());
        for (index, line) in hay.iter().enumerate() {
            while let Some((_, needle)) = hidden.next_if(|(place, _)| **place == index) {
                lines.push(needle.as_str());
            }
            lines.push(line);
        }
        lines.join("\n")
    }
}

/// The sentences at `ends` of `text`, with single spaces between them as in `text`.
fn piece<'a>(text: &'a str, ends: &[std::ops::Range<usize>]) -> &'a str {
    match (ends.first(), ends.last()) {
        (Some(first), Some(last)) => &text[first.start..last.end],
        _ => "",
    }
}

impl Family for Niah<'_> {
    fn step(&self) -> usize {
        match (self.shape.hay, self.variant.is_star() || self.exact) {
            (Hay::Essay, true) => 500,
            (Hay::Essay, false) => 50,
            (_, false) => 5,
            _ if self.length < 4096 => 5,
            _ => 25,
        }
    }

    fn most(&self) -> Option<usize> {
        let bounded = self.shape.hay == Hay::Essay && self.variant.is_star();
        bounded.then(|| self.haystack.words())
    }

    fn reserved(&self) -> usize {
        self.reserved
    }

    fn probe(&self) -> Option<usize> {
        self.exact.then(|| self.step())
    }

    fn draw(&self, draws: &mut Draws, _: usize, units: usize) -> Result<Draft, EvalError> {
        let random = &mut draws.python;
        let (mut keys, mut values, mut needles) = (Vec::new(), Vec::new(), Vec::new());
        // With several questions as many keys as these ask for, at least.
        let asked_for = if self.questions > 1 { self.shape.queries * self.questions } else { 0 };
        for _ in 0..self.shape.keys.max(asked_for) {
            let key = self.draw_one(self.shape.key, random);
            let of_key: Vec<String> =
                (0..self.shape.values).map(|_| self.draw_one(self.shape.value, random)).collect();
            needles.extend(of_key.iter().map(|value| self.needle(&key, value)));
            keys.push(key);
            values.push(of_key);
        }
        PythonRandom::new(self.seed).shuffle(&mut needles);
        let hidden = self.hide(&needles, random, units);

        let asked = random.sample(keys.len(), self.shape.queries.max(asked_for));
        let kind = {
            let one = self.shape.queries * self.shape.values == 1;
            let plural = self.plural();
            if one { &plural[..plural.len() - 1] } else { plural }
        };
        let mut questions: Vec<Question> = asked
            .chunks(self.shape.queries)
            .map(|asked| self.question(asked, (&keys, &values), &hidden, kind))
            .collect();
        if self.questions > 1 {
            for (number, question) in questions.iter_mut().enumerate() {
                question.extra.insert("question".to_owned(), json!(number + 1));
            }
        }
        let mut questions = questions.into_iter();
        let Question { query, outputs, extra } = questions.next().unwrap_or_default();
        let context = fill(&self.context, &[("type_needle_v", kind), ("context", &hidden)]);
        Ok(Draft { context, query, outputs, extra, more: questions.collect() })
    }

    fn counted_in_search(&self, draft: &Draft) -> String {
        let answer = if self.variant.is_star() { draft.outputs.join(" ") } else { String::new() };
        format!("{}{}{answer}", draft.context, draft.query)
    }
}

impl Niah<'_> {
    /// The question for the keys `asked`, in the words for this `kind` of value.
    fn question(
        &self,
        asked: &[usize],
        (keys, values): (&[String], &[Vec<String>]),
        hidden: &str,
        kind: &str,
    ) -> Question {
        let outputs: Vec<String> = asked.iter().flat_map(|&key| values[key].clone()).collect();
        let names: Vec<&str> = asked.iter().map(|&key| keys[key].as_str()).collect();
        let query = match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{}, and {last}", rest.join(", ")),
            _ => names.concat(),
        };
        let mut depths = Vec::new();
        for &key in asked {
            for value in &values[key] {
                let at = hidden.find(&self.needle(&keys[key], value));
                depths.extend(at.map(|at| at as f64 / hidden.len() as f64));
            }
        }

        Question {
            query: fill(&self.query, &[("type_needle_v", kind), ("query", &query)]),
            outputs,
            extra: [("depths".to_owned(), json!(depths))].into_iter().collect(),
        }
    }
}
