//! RULER (Hsieh et al. 2024): thirteen synthetic tasks of any length.
//!
//! Receives a task, a length and something that counts tokens; returns samples that fill that
//! length. Published scores come from several versions of the generators whose differences move
//! scores by tens of points, so a [`Variant`] is always named. Random draws are CPython's, so that
//! samples can be compared with the reference's, hash for hash.

mod cwe;
mod fit;
mod fwe;
mod generator;
#[cfg(test)]
mod golden;
mod niah;
mod qa;
#[cfg(test)]
mod tests;
mod texts;
mod vt;

use super::{Benchmark, ChatFrame, EvalError, Metric, TaskInfo};
pub use fit::Search;
pub use generator::{Ruler, Settings};
use niah::{Hay, Kind, Shape};

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
    /// Star Attention's repository after the paper: common words 300 and 30 times, SQuAD five
    /// times.
    StarHead,
    /// RULER's own repository: no system prompt, spelling mended, lengths filled closer. Beyond its
    /// 8,169 words, at about 130K tokens, cwe stops growing as in the star variants: the word list
    /// that RULER goes on with cannot be shipped.
    RulerUpstream,
    /// Upstream without its quirks: chat markers once, examples inside the user's turn, no gold
    /// document repeated, room kept for question and answer by every task, pairs of words for lists
    /// beyond 8,169.
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
