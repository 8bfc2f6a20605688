//! Where the samples of a run come from: a generator, or files in the reference's layout.

use crate::args::eval::SetArgs;
use crate::error::CliError;
use crate::terminal::note;
use asterism::engine::ModelText;
use asterism_eval::run::{Failure, digest};
use asterism_eval::{
    Benchmark, ChatFrame, CountTokens, EvalError, Haystack, Reading, Sample, TaskInfo, exists,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The name of the reference's sample files.
const FILE: &str = "validation.jsonl";
/// The template that is the model's own.
const OWN: &str = "auto";

/// A benchmark as the command line describes it.
pub(super) struct Source {
    pub(super) benchmark: Benchmark,
    pub(super) tasks: Vec<TaskInfo>,
    /// Where answers end.
    pub(super) stop_words: Vec<String>,
    /// The settings that decide the samples, by name.
    pub(super) settings: Map<String, Value>,
    /// Tasks of `all` that are not asked, and why.
    pub(super) left_out: BTreeMap<String, String>,
    make: Box<Make>,
}

/// Makes samples: of a task, at a length, the number of samples, and what counts tokens.
type Make = dyn Fn(&str, usize, usize, &dyn CountTokens) -> Result<Set, EvalError> + Send + Sync;

/// The samples of one task at one length.
#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) samples: Vec<Sample>,
    /// Lines of files that are no samples.
    pub(super) failures: Vec<Failure>,
    /// A remark on the samples for the readers of the report.
    pub(super) note: Option<String>,
}

impl Source {
    /// A source that makes its samples.
    pub(super) fn new(
        benchmark: Benchmark,
        tasks: Vec<TaskInfo>,
        frame: &ChatFrame,
        args: &SetArgs,
        make: Box<Make>,
    ) -> Self {
        let mut settings = Map::new();
        settings.insert("template".to_owned(), json!(frame.name));
        if frame.name == OWN {
            let markers = format!("{}…{}", frame.head, frame.tail);
            settings.insert("chat markers".to_owned(), json!(markers));
        }
        settings.insert("seed".to_owned(), json!(args.seed()));
        Self {
            benchmark,
            tasks,
            stop_words: frame.stop_words.clone(),
            settings,
            left_out: BTreeMap::new(),
            make,
        }
    }

    /// The same tasks with samples from files in `dir`. `candidates` gives the file names of a
    /// length and a task; the first that exists, whole or in parts, is read with `read`, which
    /// stops at the number of samples wanted. A missing file is an error before any work; where all
    /// tasks were asked for, those without a file at any length are left out.
    pub(super) fn with_files(
        mut self,
        dir: &Path,
        set: &SetArgs,
        candidates: impl Fn(usize, &str) -> Vec<PathBuf> + Send + Sync + 'static,
        read: impl Fn(&Path, usize, &str, usize, &dyn CountTokens) -> Result<Reading, EvalError>
        + Send
        + Sync
        + 'static,
    ) -> Result<Self, CliError> {
        let base = dir.to_owned();
        let find = move |length: usize, task: &str| {
            let paths: Vec<PathBuf> =
                candidates(length, task).iter().map(|path| base.join(path)).collect();
            paths.iter().find(|path| exists(path)).cloned().ok_or(paths)
        };
        let has_file = |task: &TaskInfo| set.lengths.iter().any(|n| find(*n, &task.name).is_ok());
        if set.is_all() && self.tasks.iter().any(has_file) {
            let (found, absent): (_, Vec<_>) = self.tasks.into_iter().partition(has_file);
            self.tasks = found;
            let why = |task: TaskInfo| (task.name, "there is no file of it".to_owned());
            self.left_out.extend(absent.into_iter().map(why));
        }
        for &length in &set.lengths {
            for task in &self.tasks {
                if let Err(paths) = find(length, &task.name) {
                    let paths: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
                    let message = format!("--data: there is no {}", paths.join(", nor "));
                    return Err(CliError::Usage(message));
                }
            }
        }
        // Only the samples' own settings are lost; where answers end is still the template's.
        self.settings.shift_remove("seed");
        self.settings.insert("data".to_owned(), json!(dir.display().to_string()));
        self.make = Box::new(move |task, length, count, counter| {
            let missing = |paths: Vec<PathBuf>| EvalError::BadFile {
                path: paths.into_iter().next().unwrap_or_default(),
                reason: "the file is gone".to_owned(),
            };
            let path = find(length, task).map_err(missing)?;
            let Reading { items, errors } = read(&path, length, task, count, counter)?;
            if items.is_empty() && errors.is_empty() {
                let reason = "the file holds no sample".to_owned();
                return Err(EvalError::BadFile { path, reason });
            }
            let failures = errors.into_iter().map(Failure::from).collect();
            Ok(Set { samples: items, failures, note: None })
        });
        Ok(self)
    }

    /// Prints which tasks of `all` are left out, and why.
    pub(super) fn say_what_is_left_out(&self) {
        for (task, why) in &self.left_out {
            note(format_args!("note: {task} is left out: {why}"));
        }
    }

    /// `count` samples of `task` at `length`.
    pub(super) fn samples(
        &self,
        task: &TaskInfo,
        length: usize,
        count: usize,
        counter: &dyn CountTokens,
    ) -> Result<Set, EvalError> {
        (self.make)(&task.name, length, count, counter)
    }
}

/// Where the samples of a task at a length are, below their folder.
pub(super) fn file(length: usize, task: &str) -> PathBuf {
    Path::new(&length.to_string()).join(task).join(FILE)
}

/// The chat markers of `--template`: the model's own for `auto`, else those that `named` gives.
/// The model's own get the name of equal ones, if there are any; they still end where the model
/// ends.
pub(super) fn frame(
    text: &ModelText,
    template: &str,
    named: impl Fn(&str) -> Result<ChatFrame, EvalError>,
) -> Result<ChatFrame, CliError> {
    if template != OWN {
        return Ok(named(template)?);
    }
    let own = own_frame(text)?;
    for name in ChatFrame::NAMES {
        let frame = named(name)?;
        if (&frame.head, &frame.tail) == (&own.head, &own.tail) {
            return Ok(ChatFrame { name: frame.name, ..own });
        }
    }
    Ok(own)
}

/// The model's own chat markers, ending at the tokens that end its answers; without a template
/// nothing but the token that begins every text.
fn own_frame(text: &ModelText) -> Result<ChatFrame, CliError> {
    let frame = text.frame(None)?;
    let ends = text.ends();
    let ends: Vec<&str> = ends.iter().map(String::as_str).collect();
    Ok(ChatFrame::new(OWN, frame.head(), frame.tail(), &ends))
}

/// What settings say of the file given with `option`: its name, and what it holds.
pub(super) fn described(option: &str, path: &Path) -> Result<String, CliError> {
    let bytes = asterism::files::read_regular(path, 2 << 30)
        .map_err(|error| CliError::Usage(format!("{option} {}: {error}", path.display())))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("{name} (SHA-256 {:.16})", digest(&bytes)))
}

/// The text given with `option`, or the embedded one, and what settings say of it.
pub(super) fn haystack(option: &str, path: Option<&Path>) -> Result<(Haystack, String), CliError> {
    let text = path.map_or_else(|| Ok(Haystack::embedded()), Haystack::from_file)?;
    let name = match path {
        Some(path) => described(option, path)?,
        None => text.name().to_owned(),
    };
    Ok((text, name))
}

/// Refuses options that decide how samples are made where none are: (name, whether it is given).
pub(super) fn unused_with_data(options: &[(&str, bool)]) -> Result<(), CliError> {
    match options.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((name, _)) => Err(CliError::Usage(format!(
            "{name} decides how samples are made, but --data reads them: leave one of the two out"
        ))),
    }
}
