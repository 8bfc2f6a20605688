//! What a runner has to know about a task: how much to generate and how to score it.

use super::babilong::compare_answers;
use super::infinitebench::{metric, overlap};
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
    /// BABILong: 1 when the answer is the only label of the task in the prediction's first
    /// sentence.
    CompareAnswers {
        /// The number of the task, 1 to 20, whose labels count.
        task: u8,
    },
    /// InfiniteBench: 1 when the first run of digits is the answer.
    FirstInteger,
    /// InfiniteBench: 1 when the answer is one of the words.
    Word,
    /// InfiniteBench: 1 when the answer is one of the words in capitals.
    Name,
    /// InfiniteBench: 1 when the first number equals the answer.
    FirstNumber,
    /// InfiniteBench: 1 for the letter or the function's name of the right option.
    CodeChoice,
    /// InfiniteBench: 1 for the letter or the text of the right option.
    Choice,
    /// InfiniteBench: F1 over words, articles and marks left out, of the best answer.
    WordF1,
    /// InfiniteBench: F1 over characters, white space and marks left out, of the best answer.
    CharacterF1,
    /// InfiniteBench: F-measure of ROUGE-Lsum.
    RougeLsum,
}

impl Metric {
    /// The score of one prediction for `sample`, in 0..=1.
    pub fn score(&self, prediction: &str, sample: &Sample) -> f64 {
        let answers = &sample.outputs;
        match self {
            Self::StringMatchAll => found(prediction, answers) as f64 / answers.len().max(1) as f64,
            Self::StringMatchPart => f64::from(found(prediction, answers) > 0),
            Self::CompareAnswers { task } => {
                let target = answers.first().map_or("", String::as_str);
                let question = sample.extra.get("question").and_then(serde_json::Value::as_str);
                let question = question.unwrap_or(&sample.input_query);
                f64::from(compare_answers(*task, target, prediction, question))
            }
            Self::FirstInteger => metric::first_integer(prediction, answers),
            Self::Word => metric::word(prediction, answers),
            Self::Name => metric::name(prediction, answers),
            Self::FirstNumber => metric::first_number(prediction, answers),
            Self::CodeChoice => metric::code_choice(prediction, answers),
            Self::Choice => metric::choice(prediction, answers),
            Self::WordF1 => overlap::word_f1(prediction, answers),
            Self::CharacterF1 => overlap::character_f1(prediction, answers),
            Self::RougeLsum => overlap::rouge_lsum(prediction, answers),
        }
    }

    /// A set's score in 0..=100: the mean of its samples' scores.
    ///
    /// RULER's scripts round it to two decimals, as Python rounds; an empty set scores 0.
    pub fn aggregate(&self, scores: &[f64]) -> f64 {
        let mean = scores.iter().sum::<f64>() / scores.len().max(1) as f64 * 100.0;
        match self {
            // Formatting rounds the exact value of the number, ties to even, as Python does.
            Self::StringMatchAll | Self::StringMatchPart => {
                format!("{mean:.2}").parse().unwrap_or(mean)
            }
            _ => mean,
        }
    }
}

/// How many of `answers` occur in a prediction, ignoring case.
fn found(prediction: &str, answers: &[String]) -> usize {
    let prediction = clean_prediction(prediction).to_lowercase();
    answers.iter().filter(|answer| prediction.contains(&answer.to_lowercase())).count()
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

/// The tasks of `all` that `names` asks for, in the order of `all`: names and groups joined by
/// commas.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(outputs: &[&str]) -> Sample {
        Sample {
            index: 0,
            input_context: String::new(),
            input_query: String::new(),
            outputs: outputs.iter().map(|&output| output.to_owned()).collect(),
            length: 0,
            extra: serde_json::Map::new(),
        }
    }

    #[test]
    fn ruler_looks_for_answers_in_the_prediction() {
        for (prediction, outputs, all, part) in [
            ("The numbers are 12, 34.", &["12", "34"][..], 1.0, 1.0),
            ("The numbers are 12.", &["12", "34"], 0.5, 1.0),
            ("ABCDE and fghij", &["abcde", "FGHIJ"], 1.0, 1.0),
            ("Denver\tBroncos", &["Denver\nBroncos"], 1.0, 1.0),
            ("\u{1}\u{1f} x", &["x"], 1.0, 1.0),
            ("9123458", &["12345"], 1.0, 1.0),
            ("", &["12"], 0.0, 0.0),
            ("3,677 people", &["3,677 seated"], 0.0, 0.0),
            ("anything", &[], 0.0, 0.0),
        ] {
            let sample = sample(outputs);
            assert_eq!(Metric::StringMatchAll.score(prediction, &sample), all, "{prediction}");
            assert_eq!(Metric::StringMatchPart.score(prediction, &sample), part, "{prediction}");
        }
    }

    #[test]
    fn sets_are_rounded_as_python_rounds() {
        let all = |scores: &[f64]| Metric::StringMatchAll.aggregate(scores);
        assert_eq!(all(&[1.0, 0.5, 0.0]), 50.0);
        assert_eq!(all(&[1.0, 0.0, 0.0]), 33.33);
        // 0.125 and 0.375, halfway between two decimals, go to the even one.
        let of_800 = |hits: usize| [vec![1.0; hits], vec![0.0; 800 - hits]].concat();
        assert_eq!((all(&of_800(1)), all(&of_800(3))), (0.12, 0.38));
        assert_eq!(all(&[]), 0.0);
        assert!((Metric::Word.aggregate(&[1.0, 0.0, 0.0]) - 100.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn generations_are_cut_at_every_stop_word() {
        let stops = ["<|eot_id|>", "<|end_of_text|>", ""].map(str::to_owned);
        assert_eq!(cut_at_stop_words(" a b<|end_of_text|>c<|eot_id|>d", &stops), "a b");
        assert_eq!(cut_at_stop_words("\n a ", &stops), "a");
        assert_eq!(clean_prediction(" \t a\tb\u{0} "), "a\nb");
    }

    #[test]
    fn tasks_are_chosen_by_name_and_group() {
        let all = super::super::ruler::tasks(Default::default());
        let groups = super::super::ruler::GROUPS;
        let names = |asked: &str| -> Vec<String> {
            let chosen = select(&all, &groups, asked).unwrap();
            chosen.into_iter().map(|task| task.name).collect()
        };
        assert_eq!(names("all").len(), 13);
        assert_eq!(names("generated").len(), 11);
        assert_eq!(names("qa, vt").join(" "), "vt qa_1 qa_2");
        let error = select(&all, &groups, "vt,niah_x").unwrap_err().to_string();
        assert!(error.contains("\"niah_x\"") && error.contains("niah_single_1"), "{error}");
    }
}
