//! RULER (Hsieh et al. 2024): thirteen synthetic tasks of any length.
//!
//! Receives a task, a length and something that counts tokens; returns samples that fill that length.
//! Published scores come from several versions of the generators whose differences move scores by tens
//! of points, so a [`Variant`] is always named. Random draws are CPython's, so that samples can be
//! compared with the reference's, hash for hash.

mod cwe;
mod fit;
mod fwe;
mod niah;
mod qa;
#[cfg(test)]
mod tests;
mod texts;
mod vt;

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::words::WordPairs;
use super::{Benchmark, ChatFrame, CountTokens, EvalError, Haystack, Metric, SampleSet, TaskInfo};
pub use fit::Search;
use fit::{Budget, Draws, Family};
use niah::{Hay, Kind, Niah, Shape};
use qa::{Corpus, Questions};

/// One line of noise.
const NOISE: &str =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

/// Which generator's samples: they are never to be mixed in one table.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Star Attention's evaluation as the paper's numbers come from it.
    #[default]
    StarPaper,
    /// Star Attention's repository after the paper: common words 300 and 30 times, SQuAD five times.
    StarHead,
    /// RULER's own repository: no system prompt, spelling mended, lengths filled closer.
    RulerUpstream,
    /// Upstream without its quirks: chat markers once, examples inside the user's turn, no gold document
    /// repeated, room kept for question and answer by every task.
    Clean,
}

impl Variant {
    /// Every variant.
    pub const ALL: [Self; 4] = [Self::StarPaper, Self::StarHead, Self::RulerUpstream, Self::Clean];

    /// The name, as options and reports spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::StarPaper => "star-paper",
            Self::StarHead => "star-head",
            Self::RulerUpstream => "ruler-upstream",
            Self::Clean => "clean",
        }
    }

    fn is_star(self) -> bool {
        matches!(self, Self::StarPaper | Self::StarHead)
    }

    /// The frame called `name` as this variant writes it: upstream's Llama 3 has no system prompt.
    ///
    /// # Errors
    ///
    /// [`EvalError::Unknown`] naming the frames that exist.
    pub fn frame(self, name: &str) -> Result<ChatFrame, EvalError> {
        match (self, name) {
            (Self::RulerUpstream, "llama3") => Ok(ChatFrame::llama3_without_system()),
            _ => ChatFrame::named(name),
        }
    }
}

impl std::str::FromStr for Variant {
    type Err = EvalError;

    fn from_str(name: &str) -> Result<Self, EvalError> {
        let found = Self::ALL.into_iter().find(|variant| variant.name() == name);
        found.ok_or_else(|| EvalError::unknown("variant", name, Self::ALL.map(Self::name)))
    }
}

/// Task, and the tokens it keeps free for the answer.
const TASKS: [(&str, usize); 13] = [
    ("niah_single_1", 128),
    ("niah_single_2", 128),
    ("niah_single_3", 128),
    ("niah_multikey_1", 128),
    ("niah_multikey_2", 128),
    ("niah_multikey_3", 128),
    ("niah_multivalue", 128),
    ("niah_multiquery", 128),
    ("vt", 30),
    ("cwe", 120),
    ("fwe", 50),
    ("qa_1", 32),
    ("qa_2", 32),
];

/// Groups of tasks that [`select`](super::select) knows beside `all`.
pub const GROUPS: [(&str, &[&str]); 3] = [
    (
        "niah",
        &[
            "niah_single_1",
            "niah_single_2",
            "niah_single_3",
            "niah_multikey_1",
            "niah_multikey_2",
            "niah_multikey_3",
            "niah_multivalue",
            "niah_multiquery",
        ],
    ),
    ("qa", &["qa_1", "qa_2"]),
    (
        "generated",
        &[
            "niah_single_1",
            "niah_single_2",
            "niah_single_3",
            "niah_multikey_1",
            "niah_multikey_2",
            "niah_multikey_3",
            "niah_multivalue",
            "niah_multiquery",
            "vt",
            "cwe",
            "fwe",
        ],
    ),
];

/// The thirteen tasks, in the order of the published tables.
pub fn tasks(variant: Variant) -> Vec<TaskInfo> {
    let info = |(name, reserved): (&str, usize)| TaskInfo {
        name: name.to_owned(),
        benchmark: Benchmark::Ruler,
        // Star Attention's runner generates more for fwe than its generator keeps free.
        tokens_to_generate: if name == "fwe" && variant.is_star() { 120 } else { reserved },
        metric: if name.starts_with("qa") {
            Metric::StringMatchPart
        } else {
            Metric::StringMatchAll
        },
    };
    TASKS.into_iter().map(info).collect()
}

/// The shape of a needle task.
fn shape(task: &str) -> Option<Shape> {
    use Kind::{Numbers, Uuids, Words};
    let (hay, key, value, counts) = match task {
        "niah_single_1" => (Hay::Noise, Words, Numbers, [1, 1, 1]),
        "niah_single_2" => (Hay::Essay, Words, Numbers, [1, 1, 1]),
        "niah_single_3" => (Hay::Essay, Words, Uuids, [1, 1, 1]),
        "niah_multikey_1" => (Hay::Essay, Words, Numbers, [4, 1, 1]),
        "niah_multikey_2" => (Hay::Needles, Words, Numbers, [1, 1, 1]),
        "niah_multikey_3" => (Hay::Needles, Uuids, Uuids, [1, 1, 1]),
        "niah_multivalue" => (Hay::Essay, Words, Numbers, [1, 4, 1]),
        "niah_multiquery" => (Hay::Essay, Words, Numbers, [4, 1, 4]),
        _ => return None,
    };
    let [keys, values, queries] = counts;
    Some(Shape { hay, key, value, keys, values, queries })
}

/// What samples are made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which generator.
    pub variant: Variant,
    /// The chat markers; see [`Variant::frame`].
    pub frame: ChatFrame,
    /// Seed of all draws; the published samples have 42.
    pub seed: u32,
    /// How lengths are fitted.
    pub search: Search,
    /// The text of the essay tasks.
    pub haystack: Haystack,
    /// SQuAD v2.0's development set, for qa_1.
    pub squad: Option<PathBuf>,
    /// HotpotQA's development set with distractors, for qa_2.
    pub hotpot: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            variant: Variant::default(),
            frame: ChatFrame::base(),
            seed: 42,
            search: Search::default(),
            haystack: Haystack::embedded(),
            squad: None,
            hotpot: None,
        }
    }
}

/// The generator of all tasks.
#[derive(Debug)]
pub struct Ruler {
    settings: Settings,
    pairs: WordPairs,
    squad: Option<Corpus>,
    hotpot: Option<Corpus>,
}

impl Ruler {
    /// A generator; the files of the question tasks are read here.
    ///
    /// # Errors
    ///
    /// [`EvalError::Io`] and [`EvalError::BadFile`] naming the file.
    pub fn new(settings: Settings) -> Result<Self, EvalError> {
        let squad = settings.squad.as_deref().map(Corpus::squad).transpose()?;
        let hotpot = settings.hotpot.as_deref().map(Corpus::hotpot).transpose()?;
        Ok(Self { settings, pairs: WordPairs::new(), squad, hotpot })
    }

    /// What samples are made of.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// `samples` samples of `task` that fill `length` tokens, generated ones included.
    ///
    /// Every call starts from the seed, so more samples begin with the same ones.
    ///
    /// # Errors
    ///
    /// [`EvalError::Unknown`] for a task that does not exist, [`EvalError::MissingData`] and
    /// [`EvalError::NotEnough`] for question tasks without files or with too few questions,
    /// [`EvalError::TooShort`] when no sample fits, and what counting tokens reports.
    pub fn generate(
        &self,
        task: &str,
        length: usize,
        samples: usize,
        counter: &dyn CountTokens,
    ) -> Result<SampleSet, EvalError> {
        let Settings { variant, seed, search, .. } = &self.settings;
        let infos = tasks(*variant);
        let index = infos.iter().position(|info| info.name == task).ok_or_else(|| {
            EvalError::unknown("task", task, infos.iter().map(|info| info.name.as_str()))
        })?;
        let mut draws = Draws::new(*seed);
        let family = self.family(task, length, samples, counter, &mut draws)?;
        let budget = Budget { task, length, counter };
        let units = budget.fit(family.as_ref(), &mut draws, *search)?;
        let samples = (0..samples)
            .map(|index| budget.sample(family.as_ref(), &mut draws, index, units))
            .collect::<Result<Vec<_>, _>>()?;
        let metadata = self.metadata(task, length, units, family.most() == Some(units));
        Ok(SampleSet { task: infos[index].clone(), samples, metadata })
    }

    /// The generator of one task.
    fn family<'a>(
        &'a self,
        task: &str,
        length: usize,
        samples: usize,
        counter: &dyn CountTokens,
        draws: &mut Draws,
    ) -> Result<Box<dyn Family + 'a>, EvalError> {
        let Settings { variant, frame, seed, haystack, .. } = &self.settings;
        let (variant, seed) = (*variant, u64::from(*seed));
        let reserved =
            TASKS.iter().find(|(name, _)| *name == task).map_or(0, |(_, tokens)| *tokens);
        if let Some(shape) = shape(task) {
            let (context, query) = Niah::templates(shape, variant, frame);
            let words = &self.pairs;
            return Ok(Box::new(Niah {
                shape,
                variant,
                seed,
                length,
                reserved,
                words,
                haystack,
                context,
                query,
            }));
        }
        Ok(match task {
            "vt" => Box::new(vt::VariableTracking::new(variant, frame, reserved, counter, draws)?),
            "cwe" => {
                let (pool, pairs) = (cwe::CommonWords::pool(seed), &self.pairs);
                Box::new(cwe::CommonWords { variant, frame, seed, length, reserved, pool, pairs })
            }
            "fwe" => {
                Box::new(fwe::FrequentWords { variant, frame, seed, length, generated: reserved })
            }
            _ => {
                let corpus = self.corpus(task, samples)?;
                let squad = task == "qa_1";
                Box::new(Questions::new(variant, frame, seed, reserved, corpus, squad))
            }
        })
    }

    /// The documents of a question task.
    fn corpus(&self, task: &str, samples: usize) -> Result<&Corpus, EvalError> {
        let (corpus, needs, flag) = match task {
            "qa_1" => (
                &self.squad,
                "SQuAD's dev-v2.0.json (rajpurkar.github.io/SQuAD-explorer)",
                "--squad",
            ),
            _ => (
                &self.hotpot,
                "HotpotQA's hotpot_dev_distractor_v1.json (hotpotqa.github.io)",
                "--hotpot",
            ),
        };
        let missing = || EvalError::MissingData { task: task.to_owned(), needs, flag };
        let corpus = corpus.as_ref().ok_or_else(missing)?;
        // One question is asked for the search even when no sample is.
        if corpus.questions() < samples.max(1) {
            return Err(EvalError::NotEnough {
                task: task.to_owned(),
                material: "questions",
                available: corpus.questions(),
                wanted: samples.max(1),
                remedy: "ask for fewer samples or give the whole file",
            });
        }
        Ok(corpus)
    }

    /// What a result has to say about its samples.
    fn metadata(
        &self,
        task: &str,
        length: usize,
        units: usize,
        exhausted: bool,
    ) -> Map<String, Value> {
        let Settings { variant, frame, seed, haystack, .. } = &self.settings;
        let mut metadata = Map::new();
        let mut note = |key: &str, value: Value| metadata.insert(key.to_owned(), value);
        note("variant", json!(variant.name()));
        note("template", json!(frame.name));
        note("seed", json!(seed));
        note("length", json!(length));
        note("units", json!(units));
        if shape(task).is_some_and(|shape| shape.hay == Hay::Essay) {
            note("haystack", json!(haystack.name()));
        }
        let file = match task {
            "qa_1" => &self.settings.squad,
            "qa_2" => &self.settings.hotpot,
            _ => &None,
        };
        if let Some(file) = file {
            note("documents", json!(file.display().to_string()));
        }
        if exhausted {
            note("note", json!("the material ends before the length is filled"));
        }
        metadata
    }
}
