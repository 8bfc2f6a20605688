//! InfiniteBench's samples as the command line describes them.

use super::source::{self, Set, Source, file, unused_with_data};
use crate::args::eval::{InfiniteBenchArgs, SetArgs};
use crate::error::CliError;
use asterism::engine::ModelText;
use asterism_eval::infinitebench::{GROUPS, generate, read, tasks};
use asterism_eval::{Benchmark, ChatFrame, CountTokens, read_jsonl, select};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The tasks asked for, and where their samples come from. Without files `all` leaves out the tasks
/// that need them and says so.
pub(super) fn source(
    set: &SetArgs,
    _: &InfiniteBenchArgs,
    text: &ModelText,
    data: Option<&Path>,
) -> Result<Source, CliError> {
    let frame = source::frame(text, &set.template, ChatFrame::named)?;
    let mut chosen = select(&tasks(), &GROUPS, &set.tasks)?;
    if let Some(dir) = data {
        unused_with_data(&[("--seed", set.seed.is_some())])?;
        let none = |_: &str, _, _, _: &dyn CountTokens| Ok(Set::default());
        let source = Source::new(Benchmark::InfiniteBench, chosen, &frame, set, Box::new(none));
        let open = move |path: &Path, length, task: &str, keep, counter: &dyn CountTokens| {
            // Samples that were made, or the data set's own records.
            match path.ends_with(file(length, task)) {
                true => read_jsonl(path, keep),
                false => read(path, task, &frame, Some(length), keep, counter),
            }
        };
        return source.with_files(dir, set, places, open);
    }

    let made_here = |task: &str| GROUPS.iter().any(|(_, members)| members.contains(&task));
    let mut left_out = BTreeMap::new();
    for info in chosen.iter().filter(|info| !made_here(&info.name)) {
        let needs = format!("it needs the data set's {}.jsonl in --data DIR", info.name);
        if !set.is_all() {
            return Err(CliError::Usage(format!("{} cannot be made: {needs}", info.name)));
        }
        left_out.insert(info.name.clone(), needs);
    }
    chosen.retain(|info| made_here(&info.name));
    let (own_frame, seed) = (frame.clone(), set.seed());
    let make = move |task: &str, length, count, counter: &dyn CountTokens| {
        let made = generate(task, length, count, seed, &own_frame, counter)?;
        Ok(Set { samples: made.samples, ..Set::default() })
    };
    let mut source = Source::new(Benchmark::InfiniteBench, chosen, &frame, set, Box::new(make));
    source.left_out = left_out;
    Ok(source)
}

/// Where the samples of a task at a length may be.
fn places(length: usize, task: &str) -> Vec<PathBuf> {
    vec![file(length, task), PathBuf::from(format!("{task}.jsonl"))]
}
