//! The arguments of `asterism eval`.

use crate::args::common::ModelArgs;
use asterism::plan::words::{MethodList, MethodWord, Size, tokens};
use asterism_eval::ruler::{Search, Variant};
use asterism_eval::run::Tokenise;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    #[command(subcommand)]
    pub(super) command: EvalCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum EvalCommand {
    /// RULER: thirteen synthetic tasks of any length.
    Ruler(RunArgs<RulerArgs>),
    /// BABILong: bAbI's twenty tasks, their facts scattered over book text.
    Babilong(RunArgs<BabilongArgs>),
    /// InfiniteBench: ten tasks beyond 100K tokens.
    Infinitebench(RunArgs<InfiniteBenchArgs>),
    /// Only make the samples, in the reference's format.
    #[command(subcommand)]
    Generate(GenerateCommand),
    /// Say sample by sample what changed between two runs, or between two methods of one.
    Compare(CompareArgs),
    /// Repeat the paper's anchor study: RULER by dense and by star with the paper's anchor, none,
    /// and anchors of other tokens or at other positions.
    #[command(mut_arg("tasks", |arg| arg.default_value("niah")))]
    Ablate(RunArgs<RulerArgs, StudyArgs>),
    /// Draw the report of a run again.
    Report(ReportArgs),
}

impl EvalArgs {
    /// The model that answers, if one does.
    pub(crate) fn model(&self) -> Option<&ModelArgs> {
        match &self.command {
            EvalCommand::Ruler(args) => Some(&args.model),
            EvalCommand::Babilong(args) => Some(&args.model),
            EvalCommand::Infinitebench(args) => Some(&args.model),
            EvalCommand::Ablate(args) => Some(&args.model),
            EvalCommand::Generate(_) | EvalCommand::Compare(_) | EvalCommand::Report(_) => None,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum GenerateCommand {
    /// RULER's samples.
    Ruler(GenerateArgs<RulerArgs>),
    /// BABILong's samples.
    Babilong(GenerateArgs<BabilongArgs>),
    /// InfiniteBench's samples, of the four tasks that need no files.
    Infinitebench(GenerateArgs<InfiniteBenchArgs>),
}

/// A run: the samples, the model that answers them, and the methods.
#[derive(Debug, Args)]
pub(super) struct RunArgs<B: Args, M: Args = MethodsArgs> {
    #[command(flatten)]
    pub(super) set: SetArgs,
    #[command(flatten)]
    pub(super) benchmark: B,
    #[command(flatten)]
    pub(super) by: M,
    /// Hosts that share the work: threads of this process, or the processes started together.
    #[arg(long, value_name = "N", default_value_t = 1, env = "ASTERISM_HOSTS",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) hosts: u16,
    /// How context and question become tokens, by every method: apart, or joint as one text that is
    /// cut before the token holding the boundary. They differ where no chat marker stands between
    /// them.
    #[arg(long, value_enum, default_value_t, env = "ASTERISM_EVAL_TOKENISE")]
    pub(super) tokenise: TokeniseName,
    /// Folder for answers and report; a run that was stopped goes on in it.
    #[arg(short, long, value_name = "DIR", env = "ASTERISM_EVAL_OUT")]
    pub(super) out: PathBuf,
    /// Read samples instead of making them: DIR/LENGTH/TASK/validation.jsonl as the reference
    /// writes them; babilong also takes the published sets as
    /// DIR/data/TASK/16k-00000-of-00001.parquet or DIR/TASK/16k.parquet, .jsonl or .json,
    /// infinitebench DIR/TASK.jsonl, whose middle is cut to fit the length.
    #[arg(long, value_name = "DIR", env = "ASTERISM_EVAL_DATA")]
    pub(super) data: Option<PathBuf>,
    #[command(flatten)]
    pub(super) model: ModelArgs,
}

/// The methods of a run.
#[derive(Debug, Args)]
pub(super) struct MethodsArgs {
    /// Methods: dense, ring, zigzag, or star with :block=N (or a share of the length, 1/4),
    /// :anchor=N|full|none (or a share of the block), :anchor-kv=shared|recompute|auto,
    /// :anchor-content=first|constant|random|shuffled|previous, :anchor-at=first|previous|random,
    /// :revisit=N|P%|auto, :revisit-by=question|random|first|late|largest|tokens|rounds|values,
    /// :sparse=PATTERN; or a pattern: streaming:sink=N:window=N, minference:vertical=N:slash=N,
    /// flexprefill:gamma=G:tau=T:min=N, xattention:stride=N:tau=T,
    /// blocks:block=N:anchor=N:previous=N. A comma may stand for the colon.
    #[arg(long, value_name = "METHOD,…", value_parser = MethodList::parse,
          default_value = "dense,star:block=1/4", env = "ASTERISM_EVAL_METHODS")]
    pub(super) methods: MethodList,
}

/// The methods of the anchor study.
#[derive(Debug, Args)]
pub(super) struct StudyArgs {
    /// Tokens of a block, or a share of the length.
    #[arg(long, value_name = "N|1/N", value_parser = Size::parse, default_value = "1/4",
          env = "ASTERISM_EVAL_BLOCK")]
    pub(super) block: Size,
}

impl<B: Args> From<RunArgs<B, StudyArgs>> for RunArgs<B> {
    /// The study is a run whose methods are given.
    fn from(args: RunArgs<B, StudyArgs>) -> Self {
        let RunArgs { set, benchmark, by: StudyArgs { block }, hosts, tokenise, out, data, model } =
            args;
        let by = MethodsArgs { methods: MethodList(anchor_study(block)) };
        Self { set, benchmark, by, hosts, tokenise, out, data, model }
    }
}

/// What the paper's anchor study compares (table 4): exact attention, the anchor, none, the anchor
/// at other positions, other tokens at its positions, and the block before as the anchor.
fn anchor_study(block: Size) -> Vec<MethodWord> {
    let anchors = [
        "anchor=full",
        "anchor=none",
        "anchor-at=random",
        "anchor-at=previous",
        "anchor-content=constant",
        "anchor-content=random",
        "anchor-content=shuffled",
        "anchor-content=previous:anchor-at=previous",
    ];
    let star = anchors.map(|anchor| format!("star:block={block}:{anchor}"));
    let words = ["dense".to_owned()].into_iter().chain(star);
    words.filter_map(|word| MethodWord::parse(&word).ok()).collect()
}

/// Samples without a run.
#[derive(Debug, Args)]
pub(super) struct GenerateArgs<B: Args> {
    #[command(flatten)]
    pub(super) set: SetArgs,
    #[command(flatten)]
    pub(super) benchmark: B,
    /// Folder for the samples: DIR/LENGTH/TASK/validation.jsonl.
    #[arg(short, long, value_name = "DIR", env = "ASTERISM_EVAL_OUT")]
    pub(super) out: PathBuf,
    #[command(flatten)]
    pub(super) model: ModelArgs,
}

/// Which samples, of any benchmark.
#[derive(Debug, Args)]
#[command(next_help_heading = "Samples")]
pub(super) struct SetArgs {
    /// Lengths of context, question and answer together, in tokens.
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = length,
          default_value = "4k", env = "ASTERISM_EVAL_LENGTHS")]
    pub(super) lengths: Vec<usize>,
    /// Tasks or groups of tasks; all means those that fit and whose files are at hand.
    #[arg(long, value_name = "TASK,…", default_value = "all", env = "ASTERISM_EVAL_TASKS")]
    pub(super) tasks: String,
    /// Samples of each task at each length.
    #[arg(long, value_name = "N", default_value_t = 50, env = "ASTERISM_EVAL_SAMPLES",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) samples: u32,
    /// Chat markers around a sample, and where answers end: base (none), llama3, qwen, or auto (the
    /// model's own template).
    #[arg(long, value_name = "NAME", default_value = "auto", env = "ASTERISM_EVAL_TEMPLATE")]
    pub(super) template: String,
    /// The same seed gives the same samples; 42, as the published ones have, if not given.
    #[arg(long, value_name = "N", env = "ASTERISM_SEED")]
    pub(super) seed: Option<u32>,
}

impl SetArgs {
    /// Whether all tasks are asked for, rather than some by name.
    pub(super) fn is_all(&self) -> bool {
        self.tasks.trim() == "all"
    }

    /// The seed given, or that of the published samples.
    pub(super) fn seed(&self) -> u32 {
        self.seed.unwrap_or(42)
    }
}

/// Tokens of a sample that can be made: far beyond any model, far below any memory.
const LONGEST: usize = 16 << 20;

fn length(text: &str) -> Result<usize, String> {
    match tokens(text)? {
        n if n > LONGEST => Err("samples have at most 16m tokens".to_owned()),
        n => Ok(n),
    }
}

/// What RULER's samples are made of.
#[derive(Debug, Args)]
#[command(next_help_heading = "RULER")]
pub(super) struct RulerArgs {
    /// Whose generator: star-paper, star-head, ruler-upstream or clean. Their scores differ by tens
    /// of points.
    #[arg(long, value_name = "NAME", default_value_t, env = "ASTERISM_EVAL_VARIANT")]
    pub(super) variant: VariantName,
    /// How lengths are filled: fast if not given, or reference: as the variant's own scripts do,
    /// draw for draw.
    #[arg(long, value_enum, env = "ASTERISM_EVAL_SEARCH")]
    pub(super) search: Option<SearchName>,
    /// Questions about each context, samples of their own (NIAH tasks): their contexts are encoded
    /// once, and the report has a score for the first question, the second, and so on.
    #[arg(long, value_name = "N", env = "ASTERISM_EVAL_QUESTIONS",
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(super) questions: Option<u16>,
    /// Text that the essay tasks hide needles in; Walden if not given.
    #[arg(long, value_name = "FILE", env = "ASTERISM_EVAL_HAYSTACK")]
    pub(super) haystack: Option<PathBuf>,
    /// SQuAD's dev-v2.0.json, for qa_1.
    #[arg(long, value_name = "FILE", env = "ASTERISM_EVAL_SQUAD")]
    pub(super) squad: Option<PathBuf>,
    /// HotpotQA's hotpot_dev_distractor_v1.json, for qa_2.
    #[arg(long, value_name = "FILE", env = "ASTERISM_EVAL_HOTPOT")]
    pub(super) hotpot: Option<PathBuf>,
}

/// What BABILong's samples are made of.
#[derive(Debug, Args)]
#[command(next_help_heading = "BABILong")]
pub(super) struct BabilongArgs {
    /// Folder of original bAbI files (qa1_…_test.txt) to take stories from; new ones are told if
    /// not given.
    #[arg(long, value_name = "DIR", env = "ASTERISM_EVAL_BABI")]
    pub(super) babi: Option<PathBuf>,
    /// Book that the facts are scattered over; may be given several times; Walden if not given.
    #[arg(long, value_name = "FILE", env = "ASTERISM_EVAL_BOOK")]
    pub(super) book: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(super) enum TokeniseName {
    /// Each for itself.
    #[default]
    Apart,
    /// As one text.
    Joint,
}

impl From<TokeniseName> for Tokenise {
    fn from(name: TokeniseName) -> Self {
        match name {
            TokeniseName::Apart => Self::Apart,
            TokeniseName::Joint => Self::Joint,
        }
    }
}

/// InfiniteBench has no settings of its own.
#[derive(Debug, Args)]
pub(super) struct InfiniteBenchArgs {}

/// A variant by its name.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct VariantName(pub(super) Variant);

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
pub(super) enum SearchName {
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

#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// Folder of the run that is compared with.
    pub(super) before: PathBuf,
    /// Folder of the run that is compared.
    pub(super) after: PathBuf,
    /// The method of each run, where it is not the same in both.
    #[arg(long, value_name = "BEFORE,AFTER", value_parser = MethodList::parse,
          env = "ASTERISM_EVAL_COMPARE_METHODS")]
    pub(super) methods: Option<MethodList>,
    /// Changed samples to show of each task.
    #[arg(long, value_name = "N", default_value_t = 3, env = "ASTERISM_EVAL_SHOW")]
    pub(super) show: usize,
    /// Print JSON: every changed sample.
    #[arg(long, env = "ASTERISM_JSON")]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Folder of the run.
    pub(super) dir: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use asterism::plan::Plan;
    use asterism::plan::words::Defaults;

    #[test]
    fn the_study_has_methods_that_may_be_given() {
        let study = anchor_study(Size::parse("1/4").unwrap());
        let names: Vec<String> = study.iter().map(MethodWord::to_string).collect();
        assert_eq!(names.len(), 9);
        for (word, name) in study.iter().zip(&names) {
            assert_eq!(MethodWord::parse(name).unwrap().to_string(), *name);
            Plan::new(word.plan_spec(1000, 2, Defaults::Paper), 1000).unwrap();
        }
        assert_eq!(names[..3], ["dense", "star:block=1/4", "star:block=1/4:anchor=none"]);
        assert_eq!(names[8], "star:block=1/4:anchor-content=previous:anchor-at=previous");
    }
}
