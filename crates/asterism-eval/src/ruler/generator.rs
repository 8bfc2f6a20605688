//! The generator of all tasks: what samples are made of, and sets of them.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::words::WordPairs;
use crate::{ChatFrame, CountTokens, EvalError, Haystack, Sample, SampleSet};

use super::fit::{Budget, Draws, Family, Search};
use super::niah::{Hay, Niah};
use super::qa::{Corpus, Questions};
use super::{TASKS, Variant, cwe, fwe, shape, tasks, vt};

/// Everything that decides the samples of a generator.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The variant of the benchmark.
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
    /// Questions about each context, samples of their own: more than one of the NIAH tasks only,
    /// whose contexts then have needles for all of them.
    pub questions: usize,
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
            questions: 1,
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

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// `samples` samples of `task` that fill `length` tokens, generated ones included.
    ///
    /// Every call starts from the seed, so more samples begin with the same ones.
    ///
    /// # Errors
    ///
    /// [`EvalError::Unknown`] for a task that does not exist, or has one question only where
    /// several are wanted, [`EvalError::MissingData`] and
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
        if self.settings.questions != 1 && (shape(task).is_none() || self.settings.questions == 0) {
            let several = infos.iter().filter(|info| shape(&info.name).is_some());
            let names = several.map(|info| info.name.as_str());
            return Err(EvalError::unknown("task with several questions", task, names));
        }
        let mut draws = Draws::new(*seed);
        let family = self.family(task, length, samples, counter, &mut draws)?;
        let budget = Budget { task, length, counter };
        let units = budget.fit(family.as_ref(), &mut draws, *search)?;
        let contexts = (0..samples.div_ceil(self.settings.questions))
            .map(|index| budget.sample(family.as_ref(), &mut draws, index, units))
            .collect::<Result<Vec<_>, _>>()?;
        let mut samples: Vec<Sample> = contexts.into_iter().flatten().take(samples).collect();
        samples.iter_mut().enumerate().for_each(|(index, sample)| sample.index = index);
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
        let Settings { variant, frame, seed, haystack, search, .. } = &self.settings;
        let (variant, seed) = (*variant, u64::from(*seed));
        let exact = variant == Variant::RulerUpstream && *search == Search::Reference;
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
                exact,
                reserved,
                questions: self.settings.questions,
                words,
                haystack,
                context,
                query,
            }));
        }
        Ok(match task {
            "vt" => {
                let setting = vt::Setting { variant, frame, length, exact, reserved };
                Box::new(vt::VariableTracking::new(setting, counter, draws)?)
            }
            "cwe" => {
                let (pool, pairs) = (cwe::CommonWords::pool(seed), &self.pairs);
                Box::new(cwe::CommonWords {
                    variant,
                    frame,
                    seed,
                    length,
                    exact,
                    reserved,
                    pool,
                    pairs,
                })
            }
            "fwe" => {
                let generated = reserved;
                Box::new(fwe::FrequentWords { variant, frame, seed, length, exact, generated })
            }
            _ => {
                let corpus = self.corpus(task, samples)?;
                let squad = task == "qa_1";
                Box::new(Questions::new(variant, frame, seed, exact, reserved, corpus, squad))
            }
        })
    }

    /// The documents of a question task.
    fn corpus(&self, task: &str, samples: usize) -> Result<&Corpus, EvalError> {
        let (corpus, needs, setting) = match task {
            "qa_1" => {
                (&self.squad, "SQuAD's dev-v2.0.json (rajpurkar.github.io/SQuAD-explorer)", "squad")
            }
            _ => (
                &self.hotpot,
                "HotpotQA's hotpot_dev_distractor_v1.json (hotpotqa.github.io)",
                "hotpot",
            ),
        };
        let missing = || EvalError::MissingData { task: task.to_owned(), needs, setting };
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
        } else if task == "fwe" && variant.is_star() {
            note("note", json!("the context fills the length; question and answer come on top"));
        }
        metadata
    }
}
