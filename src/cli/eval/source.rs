//! Where the samples of a run come from: a generator, or files in the reference's layout.

use super::args::SetArgs;
use crate::cli::error::CliError;
use asterism::eval::run::Failure;
use asterism::eval::{
    Benchmark, ChatFrame, CountTokens, EvalError, Sample, TaskInfo, read_jsonl,
};
use asterism::model::{ModelConfig, ModelFiles};
use asterism::text::{ChatTemplate, PromptFrame, Tokenizer};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The name of the reference's sample files.
const FILE: &str = "validation.jsonl";

/// A benchmark as the command line describes it.
pub(super) struct Source {
    pub(super) benchmark: Benchmark,
    pub(super) tasks: Vec<TaskInfo>,
    /// Where answers end.
    pub(super) stop_words: Vec<String>,
    /// What decides the samples, by name.
    pub(super) settings: Map<String, Value>,
    /// What a reader has to know, such as tasks left out.
    pub(super) notes: Vec<String>,
    make: Box<Make>,
}

/// Makes so many samples of a task at a length.
type Make = dyn Fn(&str, usize, usize, &dyn CountTokens) -> Result<Set, EvalError>;

/// The samples of one task at one length.
#[derive(Debug, Default)]
pub(super) struct Set {
    pub(super) samples: Vec<Sample>,
    /// Lines of files that are no samples.
    pub(super) failures: Vec<Failure>,
    /// What a reader has to know about them.
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
        let settings = [("template", json!(frame.name)), ("seed", json!(args.seed()))];
        Self {
            benchmark,
            tasks,
            stop_words: frame.stop_words.clone(),
            settings: settings.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(),
            notes: Vec::new(),
            make,
        }
    }

    /// The same tasks with the samples in `dir`. Says now if a file is missing.
    pub(super) fn from_files(mut self, dir: &Path, lengths: &[usize]) -> Result<Self, CliError> {
        for length in lengths {
            for task in &self.tasks {
                let path = file(dir, *length, &task.name);
                if !path.is_file() {
                    let message = format!("--data: there is no {}", path.display());
                    return Err(CliError::Usage(message));
                }
            }
        }
        // Only the samples' own settings are lost; where answers end is still the template's.
        self.settings.remove("seed");
        self.settings.insert("data".to_owned(), json!(dir.display().to_string()));
        let dir = dir.to_owned();
        self.make = Box::new(move |task, length, count, _| {
            let path = file(&dir, length, task);
            let mut reading = read_jsonl(&path)?;
            // A number twice would count its sample twice.
            let mut seen = HashMap::new();
            for sample in &reading.items {
                if seen.insert(sample.index, ()).is_some() {
                    let reason = format!("index {} occurs twice", sample.index);
                    return Err(EvalError::BadFile { path, reason });
                }
            }
            reading.items.truncate(count);
            let failures = reading.errors.into_iter().map(Failure::from).collect();
            Ok(Set { samples: reading.items, failures, note: None })
        });
        Ok(self)
    }

    /// So many samples of `task` at `length`.
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

/// Where the samples of a task at a length are.
pub(super) fn file(dir: &Path, length: usize, task: &str) -> PathBuf {
    dir.join(length.to_string()).join(task).join(FILE)
}

/// What of a model its samples depend on.
pub(super) struct Reader {
    pub(super) config: ModelConfig,
    pub(super) tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
}

impl Reader {
    /// Reads tokenizer and template, but no weights.
    pub(super) fn of(files: &ModelFiles) -> Result<Self, CliError> {
        let config = ModelConfig::parse(&files.config, files.generation_config.as_deref())?;
        let tokenizer = Tokenizer::from_bytes(&files.tokenizer)?;
        let template = ChatTemplate::from_files(
            files.tokenizer_config.as_deref(),
            files.chat_template.as_deref(),
        )?;
        Ok(Self { config, tokenizer, template })
    }

    /// The model's own chat markers, ending at the tokens that end its answers; without a template
    /// nothing but the token that begins every text.
    pub(super) fn own_frame(&self) -> Result<ChatFrame, CliError> {
        let text = |id: u32| self.tokenizer.id_to_token(id);
        let bos = self.config.bos.and_then(text);
        let frame = PromptFrame::from_template(self.template.as_ref(), None, bos.as_deref())?;
        let ends: Vec<String> = self.config.eos.iter().filter_map(|id| text(*id)).collect();
        let ends: Vec<&str> = ends.iter().map(String::as_str).collect();
        Ok(ChatFrame::new("auto", frame.head(), frame.tail(), &ends))
    }
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

/// Refuses lists with a value twice, which would be answered twice.
pub(super) fn distinct<T: PartialEq + std::fmt::Display>(
    option: &str,
    values: &[T],
) -> Result<(), CliError> {
    for (i, value) in values.iter().enumerate() {
        if values[..i].contains(value) {
            return Err(CliError::Usage(format!("{option}: {value} is given twice")));
        }
    }
    Ok(())
}
