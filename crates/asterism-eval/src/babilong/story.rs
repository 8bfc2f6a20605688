//! Stories of bAbI: facts with questions between them, written or read.

use std::path::Path;

use crate::{EvalError, Reading};

/// A question and everything it is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The facts told before it, in order.
    pub facts: Vec<String>,
    /// The question; most end in a space, as the original files have it.
    pub question: String,
    /// The answer: one label, or several joined by commas.
    pub answer: String,
    /// Which of `facts` the answer follows from, where the file says so.
    pub supports: Vec<usize>,
}

/// A story told so far.
#[derive(Debug, Default)]
pub(super) struct Story {
    pub(super) facts: Vec<String>,
    pub(super) asked: Vec<Asked>,
}

impl Story {
    pub(super) fn tell(&mut self, fact: String) {
        self.facts.push(fact);
    }

    pub(super) fn ask(&mut self, question: String, answer: impl Into<String>) {
        let (facts, supports) = (self.facts.clone(), Vec::new());
        self.asked.push(Asked { facts, question, answer: answer.into(), supports });
    }
}

/// Reads an original bAbI file: `ID FACT`, or `ID QUESTION\tANSWER\tSUPPORTS`; an ID of 1 begins a
/// story.
///
/// A story of several questions becomes one item for each, with all facts told before it.
///
/// # Errors
///
/// [`EvalError::Io`] when the file cannot be read; lines that are neither are in the result, and
/// take the rest of their story with them, whose questions they might have changed.
pub fn read_babi(path: &Path) -> Result<Reading<Asked>, EvalError> {
    let bytes = crate::files::read(path)?;
    let mut reading = Reading { items: Vec::new(), errors: Vec::new() };
    // IDs of the story's facts, and the facts; None after a line that could not be read.
    let mut story = Some((Vec::<usize>::new(), Vec::<String>::new()));
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.trim_ascii().is_empty() {
            continue;
        }
        let parsed = std::str::from_utf8(line).map_err(|error| error.to_string()).and_then(parse);
        match parsed {
            Ok((id, text)) => {
                if id == 1 {
                    story = Some(Default::default());
                }
                let Some((ids, facts)) = &mut story else { continue };
                match text {
                    Text::Fact(fact) => {
                        ids.push(id);
                        facts.push(fact);
                    }
                    Text::Question { question, answer, supports } => {
                        let place = |id: &usize| ids.iter().position(|fact| fact == id);
                        let supports = supports.iter().filter_map(place).collect();
                        let facts = facts.clone();
                        reading.items.push(Asked { facts, question, answer, supports });
                    }
                }
            }
            Err(reason) => {
                story = None;
                let (path, line) = (path.into(), index + 1);
                reading.errors.push(EvalError::BadLine { path, line, reason });
            }
        }
    }
    Ok(reading)
}

/// What a line holds after its ID.
enum Text {
    Fact(String),
    Question { question: String, answer: String, supports: Vec<usize> },
}

fn parse(line: &str) -> Result<(usize, Text), String> {
    let (id, rest) = line.split_once(' ').ok_or("expected an ID, a space and a sentence")?;
    let id = id.parse().map_err(|_| format!("{id:?} is not an ID: expected a number"))?;
    let mut fields = rest.split('\t');
    let text = fields.next().unwrap_or_default().to_owned();
    let Some(answer) = fields.next() else { return Ok((id, Text::Fact(text))) };
    if answer.trim().is_empty() {
        return Err("the question has no answer after its tab".to_owned());
    }
    let supports = fields.next().unwrap_or_default().split_whitespace();
    let supports: Result<Vec<usize>, _> = supports.map(str::parse).collect();
    let supports = supports.map_err(|_| "the supporting IDs are not numbers".to_owned())?;
    Ok((id, Text::Question { question: text, answer: answer.trim().to_owned(), supports }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Reading<Asked> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qa1_single-supporting-fact_test.txt");
        std::fs::write(&path, text).unwrap();
        read_babi(&path).unwrap()
    }

    const STORY: &str = "1 Mary moved to the bathroom.\n2 John went to the hallway.\n\
                         3 Where is Mary? \tbathroom\t1\n4 Daniel went back to the hallway.\n\
                         5 Where is Daniel? \thallway\t4\n";

    #[test]
    fn a_question_sees_the_facts_before_it() {
        let reading = read(&format!("{STORY}{}", STORY.replace('\n', "\r\n")));
        assert!(reading.errors.is_empty());
        assert_eq!(reading.items.len(), 4);
        let last = &reading.items[3];
        assert_eq!(last.facts.len(), 3);
        assert_eq!(
            (last.question.as_str(), last.answer.as_str()),
            ("Where is Daniel? ", "hallway")
        );
        assert_eq!(last.supports, [2]);
        assert_eq!(reading.items[..2], reading.items[2..]);
    }

    #[test]
    fn a_bad_line_ends_its_story_and_no_other() {
        let broken = STORY.replace("4 Daniel", "four Daniel");
        let reading = read(&format!("{broken}{STORY}"));
        assert_eq!(reading.items.len(), 3);
        let error = reading.errors[0].to_string();
        assert!(error.contains("_test.txt:4: ") && error.contains("\"four\""), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn foreign_text_never_panics(lines in prop::collection::vec("[0-9]{0,3} ?.{0,20}\t?.{0,9}\t?.{0,5}", 0..8)) {
            let text = lines.join("\n");
            let reading = read(&format!("{STORY}{text}\n{STORY}"));
            prop_assert!(reading.items.len() >= 4);
        }
    }
}
