//! Variable tracking: a chain of assignments scattered over noise, after one worked example.

use serde_json::json;

use crate::{ChatFrame, CountTokens, EvalError};

use super::fit::{Budget, Draft, Draws, Family, Search};
use super::texts::{Texts, fill, python_list, variable_tracking};
use super::{NOISE, Variant};

/// Variables of the chain: the first gets a number, each other one its predecessor.
const CHAIN: usize = 5;
/// Tokens of the worked example, at most.
const EXAMPLE_LENGTH: usize = 500;
/// Its number upstream, before another one is drawn for every sample.
const EXAMPLE_VALUE: &str = "12345";

/// The variant, the chat markers and the length of a generator's samples.
pub(super) struct Setting<'a> {
    pub(super) variant: Variant,
    pub(super) frame: &'a ChatFrame,
    /// Tokens to fill.
    pub(super) length: usize,
    /// Whether samples are to be drawn as upstream draws them.
    pub(super) exact: bool,
    /// Tokens kept free for the answer.
    pub(super) reserved: usize,
}

/// The generator; without an example, of the example itself.
pub(super) struct VariableTracking {
    variant: Variant,
    length: usize,
    exact: bool,
    generated: usize,
    context: String,
    query: String,
    /// Bytes of the chat's head, which stands before the task's text.
    head: usize,
    example: Option<Example>,
}

/// The worked example.
struct Example {
    text: String,
    names: Vec<String>,
    tokens: usize,
}

impl VariableTracking {
    /// The generator with an example drawn from `draws`.
    ///
    /// # Errors
    ///
    /// What counting tokens reports; [`EvalError::TooShort`] when the example takes over 500
    /// tokens.
    pub(super) fn new(
        setting: Setting<'_>,
        counter: &dyn CountTokens,
        draws: &mut Draws,
    ) -> Result<Self, EvalError> {
        let Setting { variant, frame, length, exact, reserved: generated } = setting;
        let texts = variable_tracking(variant);
        let (context, query) = example_templates(variant, texts, frame);
        // Upstream's example needs no room for an answer: it holds one.
        let kept = if variant == Variant::RulerUpstream { 0 } else { generated };
        let writer = Self {
            variant,
            length: EXAMPLE_LENGTH,
            exact,
            generated: kept,
            context,
            query,
            head: 0,
            example: None,
        };
        let budget = Budget { task: "the example of vt", length: EXAMPLE_LENGTH, counter };
        let search = if variant.is_star() || exact { Search::Reference } else { Search::Fast };
        let units = budget.fit(&writer, draws, search)?;
        // One, about one question.
        let sample = budget.sample(&writer, draws, 0, units)?.swap_remove(0);

        let (space, end) = match variant {
            Variant::Clean => ("", "\n\n"),
            Variant::RulerUpstream => (" ", "\n"),
            _ => (" ", "\n\n"),
        };
        let names = sample.outputs;
        let text = format!(
            "{}{}{space}{}{end}",
            sample.input_context,
            sample.input_query,
            names.join(" ")
        );
        let tokens = counter.count(&text)?;
        Ok(Self {
            variant,
            length,
            exact,
            generated,
            context: texts.framed_context(frame),
            query: texts.framed_query(frame),
            head: frame.head.len(),
            example: Some(Example { text, names, tokens }),
        })
    }

    /// Names of `letters` letters and the statements of their chain.
    fn chain(&self, draws: &mut Draws, letters: usize) -> (Vec<String>, Vec<String>, String) {
        let name = |draws: &mut Draws| draws.python.letters(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", letters);
        let names = loop {
            let names: Vec<String> = (0..CHAIN).map(|_| name(draws)).collect();
            if (1..CHAIN).all(|i| !names[..i].contains(&names[i])) {
                break names;
            }
        };
        let fixed = self.example.is_none() && !self.variant.is_star();
        let value = if fixed { EXAMPLE_VALUE.to_owned() } else { random_value(draws) };
        let mut statements = vec![format!("VAR {} = {value}", names[0])];
        statements
            .extend(names.windows(2).map(|pair| format!("VAR {} = VAR {} ", pair[1], pair[0])));
        (names, statements, value)
    }

    /// `units` lines of noise with the statements between them, and the statements' depths.
    fn hide(&self, statements: &[String], draws: &mut Draws, units: usize) -> (String, Vec<f64>) {
        let mut noise = Vec::new();
        let separator = if self.variant.is_star() {
            let line = format!("{NOISE}\n");
            if units > CHAIN {
                noise.resize(units, line);
            } else {
                // Only a few lines: the statements go between their sentences.
                let sentences = line.split('.').map(|part| {
                    if part.trim().is_empty() { part.to_owned() } else { format!("{part}.") }
                });
                let sentences: Vec<String> = sentences.collect();
                noise = (0..units).flat_map(|_| sentences.clone()).collect();
            }
            " "
        } else {
            noise.resize(units.max(CHAIN), NOISE.to_owned());
            "\n"
        };
        let mut places = draws.python.sample(noise.len(), statements.len());
        places.sort_unstable();
        let (mut lines, mut at, mut offsets) = (Vec::new(), 0, Vec::new());
        let mut hidden = places.iter().zip(statements).peekable();
        for (index, line) in noise.iter().enumerate() {
            while let Some((_, statement)) = hidden.next_if(|(place, _)| **place == index) {
                offsets.push(at);
                at += statement.len() + 1;
                lines.push(statement.as_str());
            }
            at += line.len() + 1;
            lines.push(line);
        }
        let depths = offsets.into_iter().map(|offset| offset as f64 / at as f64).collect();
        (lines.join(separator).replace(". \n", ".\n"), depths)
    }

    /// The example under fresh names.
    fn renamed(&self, example: &Example, draws: &mut Draws) -> String {
        let mut text = example.text.clone();
        for name in &example.names {
            let fresh = draws.python.letters(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", name.len());
            text = text.replace(name.as_str(), &fresh);
        }
        if !self.variant.is_star() {
            text = text.replace(EXAMPLE_VALUE, &random_value(draws));
        }
        text
    }

    /// `draft` with the example between the chat's head and the task.
    fn with_example(&self, draws: &mut Draws, draft: Draft) -> Draft {
        let Some(example) = &self.example else { return draft };
        let (before, after) = match self.variant {
            Variant::Clean => ("", ""),
            Variant::RulerUpstream => ("", "\n"),
            _ => (" ", "\n\n"),
        };
        let (head, task) = draft.context.split_at(self.head);
        let context = format!("{head}{before}{}{after}{task}", self.renamed(example, draws));
        Draft { context, ..draft }
    }
}

/// A value of five digits.
fn random_value(draws: &mut Draws) -> String {
    draws.numpy.int(10_000, 99_999).to_string()
}

/// The templates of the example: plain text, but for what the reference does to it under a chat.
fn example_templates(variant: Variant, texts: Texts, frame: &ChatFrame) -> (String, String) {
    let plain = ChatFrame::base();
    if !variant.is_star() || (frame.head.is_empty() && frame.tail.is_empty()) {
        return (texts.framed_context(&plain), texts.framed_query(&plain));
    }
    // The reference joins the words up to the answer without the last one, meaning the chat's tail;
    // with it goes "above.", which is glued to that.
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut asked = words(&format!("{}{}", texts.query, frame.tail));
    asked.pop();
    (words(texts.context).join(" ") + " ", asked.join(" ") + texts.prefix)
}

impl Family for VariableTracking {
    fn step(&self) -> usize {
        match (&self.example, self.variant.is_star()) {
            (Some(_), true) => 10,
            (Some(_), false) if self.exact && self.length >= 4096 => 10,
            _ => 5,
        }
    }

    fn reserved(&self) -> usize {
        // The star variants put the example in once the rest fits.
        let later = self.example.as_ref().filter(|_| self.variant.is_star());
        self.generated + later.map_or(0, |example| example.tokens)
    }

    fn probe(&self) -> Option<usize> {
        self.exact.then(|| self.step())
    }

    fn reserved_in_search(&self) -> usize {
        self.generated + self.example.as_ref().map_or(0, |example| example.tokens)
    }

    /// Without the example, whose tokens are counted once.
    fn draw_trial(&self, draws: &mut Draws, units: usize) -> Result<Draft, EvalError> {
        let letters = if self.example.is_some() { 5 } else { 3 };
        let (names, statements, value) = self.chain(draws, letters);
        let (hidden, depths) = self.hide(&statements, draws, units);
        let count = CHAIN.to_string();
        Ok(Draft {
            context: fill(&self.context, &[("context", &hidden)]),
            query: fill(&self.query, &[("query", &value), ("num_v", &count)]),
            outputs: names,
            extra: [("depths".to_owned(), json!(depths))].into_iter().collect(),
            more: Vec::new(),
        })
    }

    fn draw(&self, draws: &mut Draws, _: usize, units: usize) -> Result<Draft, EvalError> {
        let draft = self.draw_trial(draws, units)?;
        Ok(if self.variant.is_star() { draft } else { self.with_example(draws, draft) })
    }

    fn counted_in_search(&self, draft: &Draft) -> String {
        let answer = python_list(&draft.outputs);
        let answer = if self.variant.is_star() { format!(" {answer}") } else { String::new() };
        format!("{}{}{answer}", draft.context, draft.query)
    }

    fn finish(&self, draws: &mut Draws, draft: Draft) -> Draft {
        if self.variant.is_star() { self.with_example(draws, draft) } else { draft }
    }
}
