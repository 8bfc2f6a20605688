//! What the samples of each benchmark are made of.

use asterism_eval::ruler::{Search, Variant};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// What RULER's samples are made of.
#[derive(Debug, Args)]
#[command(next_help_heading = "RULER")]
pub(crate) struct RulerArgs {
    /// Whose generator: star-paper, star-head, ruler-upstream or clean. Their scores differ by tens
    /// of points.
    #[arg(long, value_name = "NAME", default_value_t, env = "ASTERISM_EVAL_VARIANT")]
    pub(crate) variant: VariantName,
    /// How lengths are filled: fast if not given, or reference: as the variant's own scripts do,
    /// draw for draw.
    #[arg(long, value_enum, env = "ASTERISM_EVAL_SEARCH")]
    pub(crate) search: Option<SearchName>,
    /// Questions about each context, samples of their own (NIAH tasks): their contexts are encoded
    /// once, and the report has a score for the first question, the second, and so on.
    #[arg(long, value_name = "N", env = "ASTERISM_EVAL_QUESTIONS",
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) questions: Option<u16>,
    /// Text that the essay tasks hide needles in; Walden if not given.
    #[arg(long, value_name = "FILE", env = "ASTERISM_EVAL_HAYSTACK")]
    pub(crate) haystack: Option<PathBuf>,
    /// SQuAD's dev-v2.0.json, for qa_1.
    #[arg(long, value_name = "FILE", env = "ASTERISM_EVAL_SQUAD")]
    pub(crate) squad: Option<PathBuf>,
    /// HotpotQA's hotpot_dev_distractor_v1.json, for qa_2.
    #[arg(long, value_name = "FILE", env = "ASTERISM_EVAL_HOTPOT")]
    pub(crate) hotpot: Option<PathBuf>,
}

/// What BABILong's samples are made of.
#[derive(Debug, Args)]
#[command(next_help_heading = "BABILong")]
pub(crate) struct BabilongArgs {
    /// Folder of original bAbI files (qa1_…_test.txt) to take stories from; new ones are told if
    /// not given.
    #[arg(long, value_name = "DIR", env = "ASTERISM_EVAL_BABI")]
    pub(crate) babi: Option<PathBuf>,
    /// Book that the facts are scattered over; may be given several times; Walden if not given.
    #[arg(long, value_name = "FILE", env = "ASTERISM_EVAL_BOOK")]
    pub(crate) book: Vec<PathBuf>,
}

/// InfiniteBench has no settings of its own.
#[derive(Debug, Args)]
pub(crate) struct InfiniteBenchArgs {}

/// A variant by its name.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct VariantName(pub(crate) Variant);

impl std::fmt::Display for VariantName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name())
    }
}

impl std::str::FromStr for VariantName {
    type Err = asterism_eval::EvalError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        name.parse().map(Self)
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SearchName {
    /// By interpolation: seconds at any length.
    Fast,
    /// As the variant's own scripts do: their samples, in minutes.
    #[value(alias = "linear")]
    Reference,
}

impl From<SearchName> for Search {
    fn from(name: SearchName) -> Self {
        match name {
            SearchName::Fast => Self::Fast,
            SearchName::Reference => Self::Reference,
        }
    }
}
