//! BABILong (Kuratov et al. 2024): the twenty bAbI tasks, their facts scattered over book text.
//!
//! Facts come from the original bAbI files or from [`stories`], which tells new ones; the published
//! sets of mixed samples are read by [`read_published`]. Prompts and the metric are the
//! benchmark's.

mod carried;
mod metric;
mod mix;
mod moves;
mod prompt;
mod published;
mod puzzles;
mod story;
#[cfg(test)]
mod story_tests;
#[cfg(test)]
mod tests;
mod world;

use serde_json::{Map, json};

use super::random::PythonRandom;
use super::{
    Benchmark, ChatFrame, CountTokens, EvalError, Haystack, Metric, Sample, SampleSet, TaskInfo,
};
pub use metric::compare_answers;
use mix::{Library, Mixed};
use prompt::TaskPrompt;
pub use published::read_published;
use story::Story;
pub use story::{Asked, read_babi};

/// Tokens to generate.
const GENERATED: usize = 128;

/// Groups of tasks that [`select`](super::select) knows beside `all`: `paper` is qa1 to qa5.
pub const GROUPS: [(&str, &[&str]); 1] = [("paper", &["qa1", "qa2", "qa3", "qa4", "qa5"])];

/// The tasks qa1 to qa20.
pub fn tasks() -> Vec<TaskInfo> {
    let info = |task| TaskInfo {
        name: format!("qa{task}"),
        benchmark: Benchmark::Babilong,
        tokens_to_generate: GENERATED,
        metric: Metric::CompareAnswers { task },
    };
    (1..=20).map(info).collect()
}

/// The number of the task called `name`.
///
/// # Errors
///
/// [`EvalError::Unknown`] naming those that exist.
fn number(name: &str) -> Result<u8, EvalError> {
    let number = name.strip_prefix("qa").and_then(|digits| digits.parse().ok());
    match number {
        Some(number @ 1..=20) if name == format!("qa{number}") => Ok(number),
        _ => {
            let tasks = tasks();
            Err(EvalError::unknown("task", name, tasks.iter().map(|task| task.name.as_str())))
        }
    }
}

/// New stories of `task`, split into one item for each question, `count` items or more.
///
/// Simulations in the manner of bAbI v1.2, not its files: the wording is that of the files, the
/// answers are as often as there, roughly.
///
/// # Errors
///
/// [`EvalError::Unknown`] for a task that does not exist.
pub fn stories(task: &str, seed: u32, count: usize) -> Result<Vec<Asked>, EvalError> {
    let task = number(task)?;
    let random = &mut PythonRandom::new(seed.into());
    let mut asked = Vec::with_capacity(count);
    while asked.len() < count {
        asked.extend(tell(task, random).asked);
    }
    Ok(asked)
}

/// One story.
fn tell(task: u8, random: &mut PythonRandom) -> Story {
    match task {
        1 => carried::where_is_person(random),
        2 => carried::where_is_thing(random, false),
        3 => carried::where_is_thing(random, true),
        4 => puzzles::two_directions(random),
        5 => carried::who_gave(random),
        6 => carried::is_person_there(random),
        7 => carried::what_is_carried(random, false),
        8 => carried::what_is_carried(random, true),
        9 => moves::negated(random),
        10 => moves::indefinite(random),
        11 => moves::pronouns(random, false),
        12 => moves::conjunction(random),
        13 => moves::pronouns(random, true),
        14 => moves::times(random),
        15 => puzzles::fears(random),
        16 => puzzles::colours(random),
        17 => puzzles::positions(random),
        18 => puzzles::sizes(random),
        19 => puzzles::paths(random),
        _ => puzzles::motives(random),
    }
}

/// What samples are made of.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The chat markers.
    pub frame: ChatFrame,
    /// Seed of all draws.
    pub seed: u32,
    /// The books between whose sentences the facts go.
    pub books: Vec<Haystack>,
    /// Facts of bAbI files, by [`read_babi`], under the name they are reported with; without them
    /// new stories are told.
    pub facts: Option<(String, Vec<Asked>)>,
    /// Keeps the facts between two shares of the text, such as (0.25, 0.5).
    pub window: Option<(f64, f64)>,
}

impl Default for Settings {
    fn default() -> Self {
        let books = vec![Haystack::embedded()];
        Self { frame: ChatFrame::base(), seed: 42, books, facts: None, window: None }
    }
}

/// `samples` samples of `task` that fill `length` tokens, generated ones included.
///
/// Tokens are the model's own: the published sets count GPT-2's, so that theirs of "128k" are
/// shorter. Stories of more lines than an eighth of the text's tokens are left out, as there.
///
/// # Errors
///
/// [`EvalError::Unknown`] for a task that does not exist, [`EvalError::TooShort`] when prompt and
/// facts do not fit, [`EvalError::NotEnough`] when files hold too few questions that fit or books
/// too few sentences, and what counting tokens reports.
pub fn generate(
    settings: &Settings,
    task: &str,
    length: usize,
    samples: usize,
    counter: &dyn CountTokens,
) -> Result<SampleSet, EvalError> {
    let Settings { frame, seed, books, facts, window } = settings;
    let number = number(task)?;
    let not_enough = |material, available, wanted, remedy| EvalError::NotEnough {
        task: task.to_owned(),
        material,
        available,
        wanted,
        remedy,
    };
    let library = Library::new(books, counter)?;
    if library.is_empty() {
        return Err(not_enough("sentences of ten tokens", 0, 4, "give a book of running text"));
    }
    let prompt = TaskPrompt::of(number);
    // One generator for the stories and one for their places: other books leave the stories alone.
    let told = &mut PythonRandom::new((*seed).into());
    let placed = &mut PythonRandom::new((*seed).into());
    let mut waiting: std::collections::VecDeque<Asked> =
        facts.iter().flat_map(|(_, asked)| asked.iter().cloned()).collect();

    let mut made = Vec::<Sample>::with_capacity(samples);
    let (mut refused, mut least) = (0, usize::MAX);
    while made.len() < samples {
        let Some(asked) = waiting.pop_front() else {
            if facts.is_some() {
                let remedy = "ask for fewer samples, a greater length, or give more files";
                return Err(not_enough("questions that fit", made.len(), samples, remedy));
            }
            waiting.extend(tell(number, told).asked);
            continue;
        };
        let (context, query) = prompt.split("", &asked.question, frame);
        let fixed = counter.count(&format!("{context}{query}"))? + GENERATED;
        let mut budget = length.saturating_sub(fixed);
        let place = placed.clone();
        let made_of = |mixed: &Mixed| prompt.split(&mixed.text, &asked.question, frame);
        let mixed = loop {
            if asked.facts.len() >= (budget / 8).max(1) {
                break None;
            }
            *placed = place.clone();
            let Some(mixed) = library.mix(&asked, placed, budget, *window, counter)? else {
                break None;
            };
            let (context, query) = made_of(&mixed);
            let tokens = counter.count(&format!("{context}{query}"))? + GENERATED;
            if tokens <= length {
                break Some((mixed, tokens));
            }
            // Sentences take a token or two more together than they do apart.
            budget = budget.saturating_sub(tokens - length);
        };
        let Some((mixed, tokens)) = mixed else {
            // Most stories of some tasks are too long for short lengths, yet not all of them.
            refused += 1;
            let lines = 8 * (asked.facts.len() + 1);
            least = least.min(fixed + lines.max(counter.count(&asked.facts.join(" "))?));
            if refused > 1000 + 20 * samples && facts.is_none() {
                return Err(EvalError::TooShort { task: task.to_owned(), length, least });
            }
            continue;
        };
        let (input_context, input_query) = made_of(&mixed);
        let extra = [
            ("task".to_owned(), json!(task)),
            ("question".to_owned(), json!(asked.question)),
            ("depths".to_owned(), mixed.depths_of(&asked)),
        ];
        made.push(Sample {
            index: made.len(),
            length: tokens,
            input_context,
            input_query,
            outputs: vec![asked.answer],
            extra: extra.into_iter().collect(),
        });
    }
    let mut metadata = Map::new();
    let facts_source = facts.as_ref().map_or("generated", |(name, _)| name);
    let names: Vec<&str> = books.iter().map(Haystack::name).collect();
    for (key, value) in [
        ("template", json!(frame.name)),
        ("seed", json!(seed)),
        ("length", json!(length)),
        ("token_unit", json!("model")),
        ("facts_source", json!(facts_source)),
        ("haystack", json!(names.join(", "))),
        ("window", json!(window)),
    ] {
        metadata.insert(key.to_owned(), value);
    }
    let info = tasks().swap_remove(usize::from(number) - 1);
    Ok(SampleSet { task: info, samples: made, metadata })
}
