//! RULER's samples as the command line describes them.

use super::source::{self, Set, Source, described, file, haystack, unused_with_data};
use crate::args::eval::{RulerArgs, SearchName, SetArgs};
use crate::error::CliError;
use asterism::engine::ModelText;
use asterism_eval::ruler::{GROUPS, Ruler, Settings, tasks};
use asterism_eval::{Benchmark, CountTokens, read_jsonl, select};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// The tasks asked for, and their generator. `all` leaves out those whose files are not given and
/// says so; a task that is named must have its file.
pub(super) fn source(
    set: &SetArgs,
    args: &RulerArgs,
    text: &ModelText,
    data: Option<&Path>,
) -> Result<Source, CliError> {
    let (variant, from_files) = (args.variant.0, data.is_some());
    let frame = source::frame(text, &set.template, |name| variant.frame(name))?;
    let mut chosen = select(&tasks(variant), &GROUPS, &set.tasks)?;
    let mut left_out = BTreeMap::new();
    if from_files {
        unused_with_data(&[
            ("--seed", set.seed.is_some()),
            ("--search", args.search.is_some()),
            ("--questions", args.questions.is_some()),
            ("--haystack", args.haystack.is_some()),
            ("--squad", args.squad.is_some()),
            ("--hotpot", args.hotpot.is_some()),
        ])?;
    } else {
        for (task, given, needs) in [
            ("qa_1", args.squad.is_some(), "--squad (SQuAD's dev-v2.0.json)"),
            ("qa_2", args.hotpot.is_some(), "--hotpot (hotpot_dev_distractor_v1.json)"),
        ] {
            let asked = chosen.iter().any(|info| info.name == task);
            if given || !asked {
                continue;
            }
            if !set.is_all() {
                return Err(CliError::Usage(format!("{task} needs a file: give it with {needs}")));
            }
            chosen.retain(|info| info.name != task);
            left_out.insert(task.to_owned(), format!("it needs {needs}"));
        }
    }
    let (haystack, haystack_name) = haystack("--haystack", args.haystack.as_deref())?;
    let search = args.search.unwrap_or(SearchName::Fast);
    let questions = args.questions.map_or(1, usize::from);
    if let Some(info) = chosen.iter().find(|info| !info.name.starts_with("niah_"))
        && questions > 1
    {
        let message = format!(
            "--questions {questions}: {} has one question for each context; ask for NIAH tasks, such \
             as --tasks niah_multikey_1,niah_multiquery",
            info.name
        );
        return Err(CliError::Usage(message));
    }
    let ruler = Ruler::new(Settings {
        variant,
        frame: frame.clone(),
        seed: set.seed(),
        search: search.into(),
        haystack,
        squad: args.squad.clone(),
        hotpot: args.hotpot.clone(),
        questions,
    })?;
    let make = move |task: &str, length, count, counter: &dyn CountTokens| {
        let made = ruler.generate(task, length, count, counter)?;
        let note = made.metadata.get("note").and_then(|note| note.as_str());
        let note = note.map(|note| format!("{task} at {length} tokens: {note}"));
        Ok(Set { samples: made.samples, failures: Vec::new(), note })
    };
    let mut source = Source::new(Benchmark::Ruler, chosen, &frame, set, Box::new(make));
    source.left_out = left_out;
    // Files do not say which variant made them; it still decides how long answers are.
    let variant_is = if from_files { "answered and scored as" } else { "variant" };
    source.settings.insert(variant_is.to_owned(), json!(variant.name()));
    if !from_files {
        let search = format!("{search:?}").to_lowercase();
        source.settings.insert("length search".to_owned(), json!(search));
        source.settings.insert("haystack".to_owned(), json!(haystack_name));
        if questions > 1 {
            source.settings.insert("questions about a context".to_owned(), json!(questions));
        }
        for (name, file) in [("squad", &args.squad), ("hotpot", &args.hotpot)] {
            if let Some(file) = file {
                let described = described(&format!("--{name}"), file)?;
                source.settings.insert(name.to_owned(), json!(described));
            }
        }
    }
    match data {
        None => Ok(source),
        Some(dir) => source.with_files(
            dir,
            set,
            |length, task| vec![file(length, task)],
            |path, _, _, keep, _| read_jsonl(path, keep),
        ),
    }
}
