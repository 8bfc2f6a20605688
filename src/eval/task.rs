//! What a runner has to know about a task: how much to generate and how to score it.

use super::babilong::compare_answers;
use super::{EvalError, Sample};

/// A family of tasks with one way to lay out prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Benchmark {
    /// Thirteen synthetic tasks of any length (Hsieh et al. 2024).
    Ruler,
    /// bAbI facts scattered in book text (Kuratov et al. 2024).
    Babilong,
    /// Real and synthetic tasks beyond 100K tokens (Zhang et al. 2024).
    InfiniteBench,
}

/// How one prediction becomes a number in 0..=1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// RULER: the share of the answers that occur in the prediction, ignoring case.
    StringMatchAll,
    /// RULER: 1 when any of the answers occurs in the prediction, ignoring case.
    StringMatchPart,
    /// BABILong: 1 when the answer is the only label of the task in the prediction's first sentence.
    CompareAnswers {
        /// The number of the task, 1 to 20, whose labels count.
        task: u8,
    },
}

impl Metric {
    /// The score of one prediction for `sample`, in 0..=1.
    pub fn score(&self, prediction: &str, sample: &Sample) -> f64 {
        if let Self::CompareAnswers { task } = self {
            let target = sample.outputs.first().map_or("", String::as_str);
            let question = sample.extra.get("question").and_then(serde_json::Value::as_str);
            let question = question.unwrap_or(&sample.input_query);
            return f64::from(compare_answers(*task, target, prediction, question));
        }
        let prediction = clean_prediction(prediction).to_lowercase();
        let held = |answer: &&String| prediction.contains(&answer.to_lowercase());
        let found = sample.outputs.iter().filter(held).count();
        match self {
            Self::StringMatchAll => found as f64 / sample.outputs.len().max(1) as f64,
            _ => f64::from(found > 0),
        }
    }

    /// A set's score in 0..=100: the mean of its samples' scores, rounded as the benchmark rounds it.
    ///
    /// An empty set scores 0.
    pub fn aggregate(&self, scores: &[f64]) -> f64 {
        let mean = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
        (mean * 1e4).round_ties_even() / 1e2
    }
}

/// What a runner has to know about a task.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TaskInfo {
    /// Name, as the benchmark spells it.
    pub name: String,
    /// The benchmark it belongs to.
    pub benchmark: Benchmark,
    /// Tokens to generate for every sample, greedily.
    pub tokens_to_generate: usize,
    /// How a prediction is scored.
    pub metric: Metric,
}

/// The tasks of `all` that `names` asks for, in the order of `all`: names and groups joined by commas.
///
/// `groups` are (name, members); `all` is a group of every benchmark.
///
/// # Errors
///
/// [`EvalError::Unknown`] naming what is neither a task nor a group, and what is.
pub fn select(
    all: &[TaskInfo],
    groups: &[(&str, &[&str])],
    names: &str,
) -> Result<Vec<TaskInfo>, EvalError> {
    let mut chosen = vec![false; all.len()];
    for name in names.split(',').map(str::trim) {
        let group = groups.iter().find(|(group, _)| *group == name);

        let mut found = false;
        for (task, chosen) in all.iter().zip(&mut chosen) {
            let member = group.is_some_and(|(_, members)| members.contains(&task.name.as_str()));
            if name == "all" || name == task.name || member {
                (*chosen, found) = (true, true);
            }
        }

        if !found {
            let known = std::iter::once("all")
                .chain(groups.iter().map(|(group, _)| *group))
                .chain(all.iter().map(|task| task.name.as_str()));
            return Err(EvalError::unknown("task", name, known));
        }
    }
    Ok(all.iter().zip(chosen).filter(|(_, yes)| *yes).map(|(task, _)| task.clone()).collect())
}

/// A decoded generation up to the first occurrence of each stop word, stripped.
pub fn cut_at_stop_words(generated: &str, stop_words: &[String]) -> String {
    let mut text = generated;
    for stop in stop_words.iter().filter(|stop| !stop.is_empty()) {
        text = text.split(stop.as_str()).next().unwrap_or(text);
    }
    text.trim().to_owned()
}

/// A prediction as RULER scores it: stripped, control characters as newlines, stripped again.
pub fn clean_prediction(prediction: &str) -> String {
    let replaced = prediction.trim().replace(|c: char| c <= '\u{1f}', "\n");
    replaced.trim().to_owned()
}
