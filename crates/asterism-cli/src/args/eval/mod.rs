//! The arguments of `asterism eval`.

mod benchmarks;

use super::common::ModelArgs;
use asterism::plan::words::{MethodList, MethodWord, Size, tokens};
use asterism_eval::run::Tokenise;
pub(crate) use benchmarks::{BabilongArgs, InfiniteBenchArgs, RulerArgs, SearchName};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    #[command(subcommand)]
    pub(crate) command: EvalCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EvalCommand {
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
pub(crate) enum GenerateCommand {
    /// RULER's samples.
    Ruler(GenerateArgs<RulerArgs>),
    /// BABILong's samples.
    Babilong(GenerateArgs<BabilongArgs>),
    /// InfiniteBench's samples, of the four tasks that need no files.
    Infinitebench(GenerateArgs<InfiniteBenchArgs>),
}

/// A run: the samples, the model that answers them, and the methods.
#[derive(Debug, Args)]
pub(crate) struct RunArgs<B: Args, M: Args = MethodsArgs> {
    #[command(flatten)]
    pub(crate) set: SetArgs,
    #[command(flatten)]
    pub(crate) benchmark: B,
    #[command(flatten)]
    pub(crate) by: M,
    /// Hosts that share the work: threads of this process, or the processes started together.
    #[arg(long, value_name = "N", default_value_t = 1, env = "ASTERISM_HOSTS",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) hosts: u16,
    /// How context and question become tokens, by every method: apart, or joint as one text that is
    /// cut before the token holding the boundary. They differ where no chat marker stands between
    /// them.
    #[arg(long, value_enum, default_value_t, env = "ASTERISM_EVAL_TOKENISE")]
    pub(crate) tokenise: TokeniseName,
    /// Folder for answers and report; a run that was stopped goes on in it.
    #[arg(short, long, value_name = "DIR", env = "ASTERISM_EVAL_OUT")]
    pub(crate) out: PathBuf,
    /// Read samples instead of making them: DIR/LENGTH/TASK/validation.jsonl as the reference
    /// writes them; babilong also takes the published sets as
    /// DIR/data/TASK/16k-00000-of-00001.parquet or DIR/TASK/16k.parquet, .jsonl or .json,
    /// infinitebench DIR/TASK.jsonl, whose middle is cut to fit the length.
    #[arg(long, value_name = "DIR", env = "ASTERISM_EVAL_DATA")]
    pub(crate) data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// The methods of a run.
#[derive(Debug, Args)]
pub(crate) struct MethodsArgs {
    /// Methods: dense, ring, zigzag, or star with :block=N (or a share of the length, 1/4),
    /// :anchor=N|full|none (or a share of the block), :anchor-kv=shared|recompute|auto,
    /// :anchor-content=first|constant|random|shuffled|previous, :anchor-at=first|previous|random,
    /// :revisit=N|P%|auto, :revisit-by=question|random|first|late|largest|tokens|rounds|values,
    /// :sparse=PATTERN; or a pattern: streaming:sink=N:window=N, minference:vertical=N:slash=N,
    /// flexprefill:gamma=G:tau=T:min=N, xattention:stride=N:tau=T,
    /// blocks:block=N:anchor=N:previous=N. A comma may stand for the colon.
    #[arg(long, value_name = "METHOD,…", value_parser = MethodList::parse,
          default_value = "dense,star:block=1/4", env = "ASTERISM_EVAL_METHODS")]
    pub(crate) methods: MethodList,
}

/// The methods of the anchor study.
#[derive(Debug, Args)]
pub(crate) struct StudyArgs {
    /// Tokens of a block, or a share of the length.
    #[arg(long, value_name = "N|1/N", value_parser = Size::parse, default_value = "1/4",
          env = "ASTERISM_EVAL_BLOCK")]
    pub(crate) block: Size,
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
pub(crate) struct GenerateArgs<B: Args> {
    #[command(flatten)]
    pub(crate) set: SetArgs,
    #[command(flatten)]
    pub(crate) benchmark: B,
    /// Folder for the samples: DIR/LENGTH/TASK/validation.jsonl.
    #[arg(short, long, value_name = "DIR", env = "ASTERISM_EVAL_OUT")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// Which samples, of any benchmark.
#[derive(Debug, Args)]
#[command(next_help_heading = "Samples")]
pub(crate) struct SetArgs {
    /// Lengths of context, question and answer together, in tokens.
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = length,
          default_value = "4k", env = "ASTERISM_EVAL_LENGTHS")]
    pub(crate) lengths: Vec<usize>,
    /// Tasks or groups of tasks; all means those that fit and whose files are at hand.
    #[arg(long, value_name = "TASK,…", default_value = "all", env = "ASTERISM_EVAL_TASKS")]
    pub(crate) tasks: String,
    /// Samples of each task at each length.
    #[arg(long, value_name = "N", default_value_t = 50, env = "ASTERISM_EVAL_SAMPLES",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) samples: u32,
    /// Chat markers around a sample, and where answers end: base (none), llama3, qwen, or auto (the
    /// model's own template).
    #[arg(long, value_name = "NAME", default_value = "auto", env = "ASTERISM_EVAL_TEMPLATE")]
    pub(crate) template: String,
    /// The same seed gives the same samples; 42, as the published ones have, if not given.
    #[arg(long, value_name = "N", env = "ASTERISM_SEED")]
    pub(crate) seed: Option<u32>,
}

impl SetArgs {
    /// Whether all tasks are asked for, rather than some by name.
    pub(crate) fn is_all(&self) -> bool {
        self.tasks.trim() == "all"
    }

    /// The seed given, or that of the published samples.
    pub(crate) fn seed(&self) -> u32 {
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

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum TokeniseName {
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

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Folder of the run that is compared with.
    pub(crate) before: PathBuf,
    /// Folder of the run that is compared.
    pub(crate) after: PathBuf,
    /// The method of each run, where it is not the same in both.
    #[arg(long, value_name = "BEFORE,AFTER", value_parser = MethodList::parse,
          env = "ASTERISM_EVAL_COMPARE_METHODS")]
    pub(crate) methods: Option<MethodList>,
    /// Changed samples to show of each task.
    #[arg(long, value_name = "N", default_value_t = 3, env = "ASTERISM_EVAL_SHOW")]
    pub(crate) show: usize,
    /// Print JSON: every changed sample.
    #[arg(long, env = "ASTERISM_JSON")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Folder of the run.
    pub(crate) dir: PathBuf,
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
