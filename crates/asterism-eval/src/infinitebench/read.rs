//! Readers of the benchmark's data files: one JSONL file for each task.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::set::{Lines, MOST_BAD_LINES};
use crate::{ChatFrame, CountTokens, EvalError, Reading, Sample};

use super::record::Record;
use super::{Task, prompt};

/// Reads the first `keep` samples of `task` from the data set's file, such as `passkey.jsonl`.
///
/// The files have hundreds of megabytes: a line is read, cut and let go before the next one, and no
/// line after the last sample is read. A sample's index is its line's, so that a line that is
/// mended later leaves the numbers of the others.
///
/// With `length`, prompts of more tokens than it leaves beside the answer are cut in the middle:
/// their two ends are kept, as the benchmark does.
///
/// # Errors
///
/// [`EvalError::Unknown`] for a task that does not exist, [`EvalError::Io`] when the file cannot be
/// opened, and what counting tokens reports; lines that cannot be read, or whose question alone is
/// longer than `length`, are in the result.
pub fn read(
    path: &Path,
    task: &str,
    frame: &ChatFrame,
    length: Option<usize>,
    keep: usize,
    counter: &dyn CountTokens,
) -> Result<Reading, EvalError> {
    let task: Task = task.parse()?;
    let mut lines = Lines::open(path)?;
    let mut reading = Reading { items: Vec::new(), errors: Vec::new() };
    while reading.items.len() < keep
        && let Some(line) = lines.next()?
    {
        let made = match line.object.and_then(|object| record(task, object)) {
            Ok(record) => match sample(task, line.index, record, frame, length, counter) {
                Err(error @ EvalError::TooShort { .. }) => Err(error.to_string()),
                made => made?.with_answers(),
            },
            Err(reason) => Err(reason),
        };
        match made {
            Ok(sample) => reading.items.push(sample),
            Err(reason) => reading.errors.push(lines.bad(line.number, reason)),
        }
        if reading.errors.len() > MOST_BAD_LINES {
            break;
        }
    }
    Ok(reading)
}

/// The sample of a record, cut to `length`.
pub(super) fn sample(
    task: Task,
    index: usize,
    mut record: Record,
    frame: &ChatFrame,
    length: Option<usize>,
    counter: &dyn CountTokens,
) -> Result<Sample, EvalError> {
    let generated = task.tokens_to_generate();
    let count = |record: &Record| {
        let (context, query) = prompt::split(task, record, frame);
        counter.count(&format!("{context}{query}"))
    };
    let mut tokens = count(&record)?;
    if let Some(length) = length.filter(|length| tokens + generated > *length) {
        let budget = length.saturating_sub(generated);
        let text = std::mem::take(&mut record.context);
        let frame_tokens = count(&record)?;
        let Some(room) = budget.checked_sub(frame_tokens).filter(|&room| room > 0) else {
            let least = frame_tokens + generated + 1;
            return Err(EvalError::TooShort { task: task.name().to_owned(), length, least });
        };
        let (context, query) = prompt::split(task, &record, frame);
        // Half of all tokens from either end, less those of the prompt's own words at that end.
        let before = counter.count(&context)?.min(budget / 2);
        let after = counter.count(&query)?.min(budget - budget / 2);
        let (first, last) = (budget / 2 - before, budget - budget / 2 - after);
        let mut kept = (first + last).min(room);
        // Joined ends can take a token or two more than they do apart.
        loop {
            let first = first.min(kept);
            let start = take(&text, first, false, counter)?;
            let end = take(&text, kept - first, true, counter)?;
            record.context = format!("{start}{end}");
            tokens = count(&record)?;
            if tokens <= budget || kept == 0 {
                break;
            }
            kept = kept.saturating_sub(tokens - budget);
        }
    }
    let (input_context, input_query) = prompt::split(task, &record, frame);
    let extra =
        [("task".to_owned(), json!(task.name())), ("question".to_owned(), json!(record.input))];
    Ok(Sample {
        index,
        input_context,
        input_query,
        outputs: record.answers,
        length: tokens + generated,
        extra: extra.into_iter().collect(),
    })
}

/// As much of the start of `text`, or of its end, as takes at most `tokens` tokens, and nearly all.
fn take<'a>(
    text: &'a str,
    tokens: usize,
    from_end: bool,
    counter: &dyn CountTokens,
) -> Result<&'a str, EvalError> {
    let part = |bytes: usize| {
        let mut at = if from_end { text.len() - bytes } else { bytes };
        while !text.is_char_boundary(at) {
            // Shorter, from whichever end.
            at = if from_end { at + 1 } else { at - 1 };
        }
        if from_end { &text[at..] } else { &text[..at] }
    };
    // (bytes, tokens) known to fit, and bytes known not to.
    let (mut fits, mut over) = ((0, 0), text.len() + 1);
    let mut rate = 4.0;
    for round in 0..40 {
        if over - fits.0 <= 1 || tokens - fits.1 < 2 {
            break;
        }
        let ahead = ((tokens - fits.1) as f64 * rate) as usize;
        let ahead = if round % 3 == 2 { (over - fits.0) / 2 } else { ahead };
        let bytes = fits.0 + ahead.clamp(1, over - fits.0 - 1);
        let count = counter.count(part(bytes))?;
        if count > fits.1 {
            rate = (bytes - fits.0) as f64 / (count - fits.1) as f64;
        }
        if count <= tokens {
            fits = (bytes, count);
        } else {
            over = bytes;
        }
    }
    Ok(part(fits.0))
}

/// A record's fields, its labels as strings.
fn record(task: Task, mut object: Map<String, Value>) -> Result<Record, String> {
    let options = strings(object.get("options").unwrap_or(&Value::Null));
    let answers = strings(object.get("answer").ok_or("there is no field named \"answer\"")?);
    if answers.is_empty() {
        return Err("the answer is empty".to_owned());
    }
    let answers = if task.has_options() { with_letter(answers, &options)? } else { answers };
    // Moved, not copied: a context is a book.
    let mut text = |names: &[&str]| -> Result<String, String> {
        for name in names {
            if let Some(Value::String(text)) = object.get_mut(*name) {
                return Ok(std::mem::take(text));
            }
        }
        Err(format!("there is no string named {:?}", names[0]))
    };
    let input = text(&["input"]).or_else(|reason| {
        // The tasks without a question of their own need none.
        let silent =
            matches!(task, Task::LongbookSumEng | Task::LongdialogueQaEng | Task::CodeDebug);
        if silent { Ok(String::new()) } else { Err(reason) }
    })?;
    Ok(Record { context: text(&["context", "content"])?, input, answers, options })
}

/// Every string and number of a value, lists within lists included.
fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Number(number) => vec![number.to_string()],
        Value::Array(items) => items.iter().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}

/// The text and the letter of the right option.
fn with_letter(answers: Vec<String>, options: &[String]) -> Result<Vec<String>, String> {
    const LETTERS: [&str; 4] = ["A", "B", "C", "D"];
    if answers.len() == 2 && LETTERS.contains(&answers[1].as_str()) {
        return Ok(answers);
    }
    let right = options.iter().take(4).position(|option| *option == answers[0]);
    let right =
        right.ok_or_else(|| format!("the answer {:?} is none of the options", answers[0]))?;
    Ok(vec![answers[0].clone(), LETTERS[right].to_owned()])
}
