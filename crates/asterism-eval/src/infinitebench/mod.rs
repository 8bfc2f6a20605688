//! InfiniteBench (Zhang et al. 2024): the ten of its tasks that papers on sparse attention report.
//!
//! [`read`] takes the data set's files; [`generate`] makes samples of the four tasks that need
//! none.

mod generate;
pub(crate) mod metric;
pub(crate) mod overlap;
mod prompt;
mod read;
mod record;
#[cfg(test)]
mod tests;

use super::{Benchmark, EvalError, Metric, TaskInfo};
pub use generate::generate;
pub use read::read;

/// A task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Passkey,
    NumberString,
    KvRetrieval,
    LongbookSumEng,
    LongbookQaEng,
    LongbookChoiceEng,
    LongdialogueQaEng,
    LongbookQaChn,
    MathFind,
    CodeDebug,
}

impl Task {
    const ALL: [Self; 10] = [
        Self::LongbookSumEng,
        Self::LongbookQaEng,
        Self::LongbookChoiceEng,
        Self::LongdialogueQaEng,
        Self::LongbookQaChn,
        Self::CodeDebug,
        Self::MathFind,
        Self::Passkey,
        Self::NumberString,
        Self::KvRetrieval,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Passkey => "passkey",
            Self::NumberString => "number_string",
            Self::KvRetrieval => "kv_retrieval",
            Self::LongbookSumEng => "longbook_sum_eng",
            Self::LongbookQaEng => "longbook_qa_eng",
            Self::LongbookChoiceEng => "longbook_choice_eng",
            Self::LongdialogueQaEng => "longdialogue_qa_eng",
            Self::LongbookQaChn => "longbook_qa_chn",
            Self::MathFind => "math_find",
            Self::CodeDebug => "code_debug",
        }
    }

    fn tokens_to_generate(self) -> usize {
        match self {
            Self::Passkey => 6,
            Self::NumberString => 12,
            Self::KvRetrieval => 50,
            Self::LongbookSumEng => 1200,
            Self::MathFind => 3,
            Self::CodeDebug => 5,
            _ => 40,
        }
    }

    fn metric(self) -> Metric {
        match self {
            Self::Passkey | Self::NumberString => Metric::FirstInteger,
            Self::KvRetrieval => Metric::Word,
            Self::LongbookSumEng => Metric::RougeLsum,
            Self::LongbookQaEng => Metric::WordF1,
            Self::LongbookChoiceEng => Metric::Choice,
            Self::LongdialogueQaEng => Metric::Name,
            Self::LongbookQaChn => Metric::CharacterF1,
            Self::MathFind => Metric::FirstNumber,
            Self::CodeDebug => Metric::CodeChoice,
        }
    }

    /// Whether the answer is one of four options.
    fn has_options(self) -> bool {
        matches!(self, Self::LongbookChoiceEng | Self::CodeDebug)
    }

    /// Whether samples can be made without the data set.
    fn is_generated(self) -> bool {
        matches!(self, Self::Passkey | Self::NumberString | Self::KvRetrieval | Self::MathFind)
    }
}

impl std::str::FromStr for Task {
    type Err = EvalError;

    fn from_str(name: &str) -> Result<Self, EvalError> {
        let found = Self::ALL.into_iter().find(|task| task.name() == name);
        found.ok_or_else(|| EvalError::unknown("task", name, Self::ALL.map(Self::name)))
    }
}

/// Groups of tasks that [`select`](super::select) knows beside `all`: those [`generate`] can make.
pub const GROUPS: [(&str, &[&str]); 1] =
    [("generated", &["passkey", "number_string", "kv_retrieval", "math_find"])];

/// The ten tasks, in the order of the published tables.
pub fn tasks() -> Vec<TaskInfo> {
    let info = |task: Task| TaskInfo {
        name: task.name().to_owned(),
        benchmark: Benchmark::InfiniteBench,
        tokens_to_generate: task.tokens_to_generate(),
        metric: task.metric(),
    };
    Task::ALL.map(info).to_vec()
}
