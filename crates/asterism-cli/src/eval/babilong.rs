//! BABILong's samples as the command line describes them.

use super::source::{self, Set, Source, file, haystack, unused_with_data};
use crate::args::eval::{BabilongArgs, SetArgs};
use crate::error::CliError;
use asterism::engine::ModelText;
use asterism::plan::words::short;
use asterism_eval::babilong::{
    Asked, GROUPS, Settings, generate, read_babi, read_published, tasks,
};
use asterism_eval::run::Failure;
use asterism_eval::{Benchmark, ChatFrame, CountTokens, EvalError, select};
use serde_json::json;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The tasks asked for, and where their samples come from.
pub(super) fn source(
    set: &SetArgs,
    args: &BabilongArgs,
    text: &ModelText,
    data: Option<&Path>,
) -> Result<Source, CliError> {
    let frame = source::frame(text, &set.template, ChatFrame::named)?;
    let chosen = select(&tasks(), &GROUPS, &set.tasks)?;
    if let Some(dir) = data {
        unused_with_data(&[
            ("--seed", set.seed.is_some()),
            ("--babi", args.babi.is_some()),
            ("--book", !args.book.is_empty()),
        ])?;
        let none = |_: &str, _, _, _: &dyn CountTokens| Ok(Set::default());
        let source = Source::new(Benchmark::Babilong, chosen, &frame, set, Box::new(none));
        let read = move |path: &Path, _, task: &str, keep, counter: &dyn CountTokens| {
            read_published(path, task, &frame, keep, counter)
        };
        return source.with_files(dir, set, places, read);
    }

    let given = args.book.iter().map(|path| Some(path.as_path()));
    let paths: Vec<_> = if args.book.is_empty() { vec![None] } else { given.collect() };
    let texts = paths.into_iter().map(|path| haystack("--book", path));
    let (books, names): (Vec<_>, Vec<_>) =
        texts.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    let mut facts = HashMap::new();
    if let Some(dir) = &args.babi {
        for task in &chosen {
            let path = babi_file(dir, &task.name)?;
            facts.insert(task.name.clone(), (path.clone(), read_babi(&path)?));
        }
    }
    let mut source = {
        let (own_frame, seed, books) = (frame.clone(), set.seed(), books.clone());
        let make = move |task: &str, length, count, counter: &dyn CountTokens| {
            let own = facts.get(task);
            let named = own.map(|(path, reading)| -> (String, Vec<Asked>) {
                (path.display().to_string(), reading.items.clone())
            });
            let (frame, books) = (own_frame.clone(), books.clone());
            let settings = Settings { frame, seed, books, facts: named, window: None };
            let made = generate(&settings, task, length, count, counter)?;
            let errors = own.map_or(&[][..], |(_, reading)| reading.errors.as_slice());
            let failure = |error: &EvalError| Failure {
                what: format!("{length}/{task}"),
                reason: error.to_string(),
            };
            let failures = errors.iter().map(failure).collect();
            Ok(Set { samples: made.samples, failures, note: None })
        };
        Source::new(Benchmark::Babilong, chosen, &frame, set, Box::new(make))
    };
    let stories = args.babi.as_ref().map_or_else(|| "told anew".to_owned(), |dir| show(dir));
    source.settings.insert("stories".to_owned(), json!(stories));
    source.settings.insert("books".to_owned(), json!(names.join(", ")));
    Ok(source)
}

/// Where the samples of a task at a length may be, as the reference or the published sets have it.
fn places(length: usize, task: &str) -> Vec<PathBuf> {
    let mut places = vec![file(length, task)];
    // The published sets write a million with a capital.
    let published = short(length).replace('m', "M");
    let mut names = vec![short(length), published];
    names.dedup();
    for name in names {
        for extension in ["jsonl", "json", "parquet"] {
            places.push(Path::new(task).join(format!("{name}.{extension}")));
            places.push(Path::new(&name).join(format!("{task}.{extension}")));
        }
        places.push(Path::new("data").join(task).join(format!("{name}.parquet")));
    }
    places
}

/// The test questions of `task` among the original files: `qa1_single-supporting-fact_test.txt`.
fn babi_file(dir: &Path, task: &str) -> Result<PathBuf, CliError> {
    let entries = std::fs::read_dir(dir)
        .map_err(|error| CliError::Usage(format!("--babi {}: {error}", dir.display())))?;
    let start = format!("{task}_");
    let is_file = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&start) && name.ends_with("_test.txt")
    };
    // The first by name: folders list their files in any order.
    let found = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_file).min();
    found.ok_or_else(|| {
        CliError::Usage(format!("--babi {}: there is no {task}_…_test.txt", dir.display()))
    })
}

fn show(path: &Path) -> String {
    path.display().to_string()
}
