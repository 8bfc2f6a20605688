//! `run.json`: everything the results of a folder depend on, for people who want to repeat them and
//! for a later run that goes on.

use super::record::{digest, sha256};
use super::{Failure, RunError};
use crate::{Benchmark, EvalError, TaskInfo};
use asterism::model::ModelFiles;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// The name of the file.
pub const FILE: &str = "run.json";

/// What a folder of results holds: tasks, lengths and methods, and the settings and machines that
/// they were run with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunInfo {
    /// Version of this program.
    pub asterism: String,
    /// Which benchmark.
    pub benchmark: Benchmark,
    /// The model that answered.
    pub model: ModelInfo,
    /// Every setting that decides what a sample is and how it is answered, by name.
    pub settings: Map<String, Value>,
    /// Lengths, in tokens, in the order of reports.
    pub lengths: Vec<usize>,
    /// Tasks, in the order of reports.
    pub tasks: Vec<TaskInfo>,
    /// Methods, in the order of reports.
    pub methods: Vec<MethodInfo>,
    /// Samples of each task at each length.
    pub samples: usize,
    /// Tasks that were not asked although all were asked for, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, String>,
    /// What a reader has to know, such as material that ends early.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What could not be read, asked or answered when a task was last asked at a length, by
    /// `LENGTH/TASK`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failures: BTreeMap<String, Vec<String>>,
    /// The machines that contributed, in order of appearance.
    pub machines: Vec<MachineInfo>,
}

/// Files that only some tasks need. A run may go on with one more of them.
const ADDABLE: [&str; 2] = ["squad", "hotpot"];

/// Pieces of a file of weights that are hashed, and bytes of each.
const PIECES: usize = 64;
const PIECE: usize = 4096;

/// One method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MethodInfo {
    /// As it was given: `star:block=1/4`.
    pub name: String,
    /// What others are compared with: exact attention on the same samples.
    pub baseline: bool,
}

/// Which weights and which tokenizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Name of the model.
    pub name: String,
    /// SHA-256 of `config.json`, of the names and sizes of the weight files and of pieces of them,
    /// 16 digits.
    pub hash: String,
    /// SHA-256 of `tokenizer.json`, 16 digits.
    pub tokenizer_hash: String,
    /// Precision of weights and cached keys.
    pub precision: String,
    /// Positions of the model.
    pub max_positions: usize,
}

impl ModelInfo {
    /// What identifies `files` without reading gigabytes of weights: training changes all of them,
    /// so a few pieces tell two states of a model apart.
    #[must_use]
    pub fn of(files: &ModelFiles, precision: &str, max_positions: usize) -> Self {
        let sizes: Vec<String> =
            files.weights.iter().map(|(name, bytes)| format!("{name} {}", bytes.len())).collect();
        let mut parts = vec![files.config.as_slice()];
        parts.extend(sizes.iter().map(String::as_bytes));
        parts.extend(files.weights.iter().flat_map(|(_, bytes)| pieces(bytes)));
        let short = |mut digits: String| {
            digits.truncate(16);
            digits
        };
        Self {
            name: files.name.clone(),
            hash: short(sha256(&parts)),
            tokenizer_hash: short(digest(&files.tokenizer)),
            precision: precision.to_owned(),
            max_positions,
        }
    }
}

/// [`PIECES`] pieces of `bytes`, from its beginning on, at even distances; all of it if it is
/// short.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let step = (bytes.len() / PIECES).max(PIECE);
    bytes.chunks(step).map(|chunk| &chunk[..chunk.len().min(PIECE)])
}

/// What computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineInfo {
    /// Name of the processor.
    pub processor: String,
    /// Operating system and architecture.
    pub system: String,
    /// Cores this process could use.
    pub cores: usize,
    /// What computed: "2 threads, avx2", or a GPU.
    pub computing_on: String,
    /// Bytes of memory, where the system says.
    pub memory: Option<u64>,
}

impl RunInfo {
    /// The description of the run in `dir`.
    ///
    /// # Errors
    ///
    /// A file that is missing, unreadable or no description of a run.
    pub fn read(dir: &Path) -> Result<Self, EvalError> {
        let path = dir.join(FILE);
        let text = crate::files::read_text(&path)?;
        serde_json::from_str(&text).map_err(|error| EvalError::BadFile {
            path,
            reason: format!("does not describe an evaluation: {error}"),
        })
    }

    /// Starts or continues the run in `dir`: tasks, lengths and methods of an earlier run stay
    /// listed, and the file is written anew. Also returns the index, among the machines of the
    /// run, of the machine that `self` was made on.
    ///
    /// # Errors
    ///
    /// [`RunError::OtherRun`] naming the first setting in which an earlier run differs, and the
    /// errors of the file system.
    pub fn begin(mut self, dir: &Path) -> Result<(Self, Option<usize>), RunError> {
        std::fs::create_dir_all(dir).map_err(EvalError::io(dir))?;
        let own = self.machines.clone();
        if dir.join(FILE).exists() {
            let before = Self::read(dir)?;
            self.check_same(&before, dir)?;
            self.lengths = union(&before.lengths, &self.lengths, |a, b| a == b);
            self.lengths.sort_unstable();
            self.tasks = union(&before.tasks, &self.tasks, |a, b| a.name == b.name);
            self.methods = union(&before.methods, &self.methods, |a, b| a.name == b.name);
            self.machines = union(&before.machines, &self.machines, |a, b| a == b);
            self.notes = union(&before.notes, &self.notes, |a, b| a == b);
            self.failures = before.failures.clone();
            self.left_out.extend(before.left_out.clone());
            self.left_out.retain(|name, _| !self.tasks.iter().any(|task| task.name == *name));
            self.samples = self.samples.max(before.samples);
            for name in ADDABLE {
                if let Some(file) = before.settings.get(name) {
                    self.settings.entry(name).or_insert_with(|| file.clone());
                }
            }
        }
        self.write(dir)?;
        let machine = self.machines.iter().position(|machine| own.contains(machine));
        Ok((self, machine))
    }

    /// The method that the others are compared with: the first exact one, or the first.
    #[must_use]
    pub fn baseline(&self) -> Option<&MethodInfo> {
        self.methods.iter().find(|method| method.baseline).or(self.methods.first())
    }

    /// Adds a note, once.
    ///
    /// # Errors
    ///
    /// The errors of the file system.
    pub fn note(&mut self, dir: &Path, note: &str) -> Result<(), EvalError> {
        if !self.notes.iter().any(|known| known == note) {
            self.notes.push(note.to_owned());
            self.write(dir)?;
        }
        Ok(())
    }

    /// Keeps what could not be done of a task at a length, in place of what could not be done
    /// before.
    ///
    /// # Errors
    ///
    /// The errors of the file system.
    pub fn failed(
        &mut self,
        dir: &Path,
        (length, task): (usize, &str),
        failures: &[Failure],
    ) -> Result<(), EvalError> {
        let key = format!("{length}/{task}");
        let new: Vec<String> = failures.iter().map(Failure::to_string).collect();
        let old = match new.is_empty() {
            true => self.failures.remove(&key),
            false => self.failures.insert(key, new.clone()),
        };
        // Most tasks have nothing to say, before and now.
        if old.unwrap_or_default() == new { Ok(()) } else { self.write(dir) }
    }

    fn write(&self, dir: &Path) -> Result<(), EvalError> {
        let path = dir.join(FILE);
        let text = serde_json::to_string_pretty(self).map_err(|error| EvalError::BadFile {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        replace(&path, &(text + "\n"))
    }

    fn check_same(&self, before: &Self, dir: &Path) -> Result<(), RunError> {
        let (old, new) = (before.identity(), self.identity());
        let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
        for name in names {
            let show = |all: &Map<String, Value>| {
                all.get(name).map_or_else(|| "not set".to_owned(), Value::to_string)
            };
            let is_added = ADDABLE.contains(&name.as_str())
                && old.contains_key(name) != new.contains_key(name);
            if !is_added && old.get(name) != new.get(name) {
                return Err(RunError::OtherRun {
                    path: dir.join(FILE),
                    what: name.clone(),
                    before: show(&old),
                    now: show(&new),
                });
            }
        }
        Ok(())
    }

    /// What may not change between a run and its continuation.
    fn identity(&self) -> Map<String, Value> {
        let mut all = Map::new();
        let benchmark = serde_json::to_value(self.benchmark).unwrap_or_default();
        all.insert("benchmark".to_owned(), benchmark);
        for (name, value) in [
            ("model", &self.model.name),
            ("model hash", &self.model.hash),
            ("tokenizer hash", &self.model.tokenizer_hash),
            ("precision", &self.model.precision),
        ] {
            all.insert(name.to_owned(), value.as_str().into());
        }
        all.extend(self.settings.clone());
        all
    }
}

/// Writes `text` beside `path` and renames it: a stop, or another process, leaves the old file or a
/// whole new one.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), EvalError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    std::fs::write(&beside, text).map_err(EvalError::io(&beside))?;
    std::fs::rename(&beside, path).map_err(EvalError::io(path))
}

/// `old`, then what only `new` has.
fn union<T: Clone>(old: &[T], new: &[T], same: impl Fn(&T, &T) -> bool) -> Vec<T> {
    let added = new.iter().filter(|item| !old.iter().any(|other| same(other, item)));
    old.iter().chain(added).cloned().collect()
}
