//! `asterism eval`: the benchmarks long-context methods are judged by, run on any model.

mod ahead;
mod babilong;
mod compare;
mod infinitebench;
mod progress;
mod ruler;
mod run;
mod source;

use super::args::eval::{EvalArgs, EvalCommand, GenerateCommand};
use super::error::CliError;
use asterism_eval::EvalError;
use asterism_eval::run::RunError;

pub(crate) fn run(args: EvalArgs) -> Result<(), CliError> {
    match args.command {
        EvalCommand::Ruler(args) => run::run(args, ruler::source),
        EvalCommand::Babilong(args) => run::run(args, babilong::source),
        EvalCommand::Infinitebench(args) => run::run(args, infinitebench::source),
        EvalCommand::Generate(GenerateCommand::Ruler(args)) => run::generate(args, ruler::source),
        EvalCommand::Generate(GenerateCommand::Babilong(args)) => {
            run::generate(args, babilong::source)
        }
        EvalCommand::Generate(GenerateCommand::Infinitebench(args)) => {
            run::generate(args, infinitebench::source)
        }
        EvalCommand::Compare(args) => compare::run(&args),
        EvalCommand::Ablate(args) => run::run(args.into(), ruler::source),
        EvalCommand::Report(args) => run::finish(&args.dir),
    }
}

impl From<EvalError> for CliError {
    fn from(error: EvalError) -> Self {
        match error {
            EvalError::Unknown { .. } => Self::Usage(error.to_string()),
            EvalError::MissingData { setting, .. } => {
                Self::Usage(format!("{error} with --{setting}"))
            }
            other => Self::Failed(other.into()),
        }
    }
}

impl From<RunError> for CliError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Eval(error) => error.into(),
            RunError::Cancelled => Self::Interrupted,
            RunError::TooLong { .. } | RunError::Plan { .. } | RunError::OtherRun { .. } => {
                Self::Usage(error.to_string())
            }
            other => Self::Failed(other.into()),
        }
    }
}
