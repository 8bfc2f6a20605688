//! `asterism ask --watch`: the same question, answered again whenever a file changes.

use super::asking::Asking;
use super::documents::{Inputs, Reading};
use super::error::CliError;
use super::report::count;
use crate::terminal::note;
use asterism::engine::{Change, Context};
use asterism::plan::PlanSpec;
use std::thread::sleep;
use std::time::Duration;

/// How often files are looked at.
const EVERY: Duration = Duration::from_millis(500);
/// How long files must stay as they are before they are read: programs write in several steps.
const QUIET: Duration = Duration::from_millis(100);

/// Answers `question` from what `reading` has, and again whenever the files of `inputs` change.
/// Ctrl-C ends it.
pub(crate) fn run(
    asking: &Asking,
    inputs: &Inputs,
    mut reading: Reading,
    spec: PlanSpec,
    question: &str,
) -> Result<(), CliError> {
    let query = asking.frame.query_tokens(asking.engine.tokenizer(), question)?;
    // Room in each block, so that a file that grows a little leaves the blocks of others.
    let slack = spec.method.as_star().map_or(0, |star| star.block / 16);
    let prepare = |reading: &Reading| asking.prepare(&reading.texts(), spec, query.len(), slack);
    let mut context = asking.encode(prepare(&reading)?)?;
    loop {
        asking.answer(&context, &reading.documents, question, &query)?;
        // What cannot be read or encoded may be mended by the next change.
        loop {
            let next = asking.interrupt.while_idle(|| next(asking, inputs, &reading))?;
            next.tell();
            note(format_args!("{}", changes(&reading, &next)));
            reading = next;
            let prepared = match spec.method.as_star() {
                Some(_) => context
                    .prepare_edit(&reading.texts(), asking.interrupt.cancel())
                    .map_err(CliError::from),
                None => prepare(&reading),
            };
            match prepared.and_then(|prepared| asking.encode(prepared)) {
                Ok(edited) => {
                    note(format_args!("{}", encoded(&edited, &context)));
                    context = edited;
                    break;
                }
                Err(CliError::Interrupted) => return Err(CliError::Interrupted),
                Err(error) => error.print(),
            }
        }
    }
}

/// Waits until files change, and reads those that did.
fn next(asking: &Asking, inputs: &Inputs, before: &Reading) -> Result<Reading, CliError> {
    note(format_args!("watching; Ctrl-C ends"));
    let mut said = String::new();
    loop {
        sleep(EVERY);
        let read = match inputs.have_changed(before) {
            Ok(false) => continue,
            Ok(true) => {
                sleep(QUIET);
                inputs.read_after(before, asking.limit)
            }
            Err(error) => Err(error),
        };
        match read {
            Ok(reading) => return Ok(reading),
            // A file that is not there for a moment, or half written: once for each reason.
            Err(error) if error.to_string() == said => {}
            Err(error) => {
                error.print();
                said = error.to_string();
            }
        }
    }
}

/// Which documents are other than before.
fn changes(before: &Reading, after: &Reading) -> String {
    let text_of = |reading: &Reading, name: &str| {
        let found = reading.documents.iter().find(|document| document.name == name);
        found.map(|document| document.text.clone())
    };
    let mut parts = Vec::new();
    let names = |reading: &Reading| -> Vec<String> {
        reading.documents.iter().map(|document| document.name.clone()).collect()
    };
    for name in names(after) {
        match text_of(before, &name) {
            None => parts.push(format!("new: {name}")),
            Some(text) if Some(&text) != text_of(after, &name).as_ref() => {
                parts.push(format!("changed: {name}"));
            }
            Some(_) => {}
        }
    }
    let gone = names(before).into_iter().filter(|name| text_of(after, name).is_none());
    parts.extend(gone.map(|name| format!("gone: {name}")));
    if parts.is_empty() { "nothing that is read has changed".to_owned() } else { parts.join(", ") }
}

/// How much of a context was encoded anew.
fn encoded(after: &Context, before: &Context) -> String {
    let changes = after.changes_from(before);
    let anew = changes.iter().filter(|(_, change)| *change != Change::Reused).count();
    format!("{} of {} blocks encoded anew", count(anew), count(changes.len()))
}
