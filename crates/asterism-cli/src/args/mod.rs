//! The arguments as the user writes them. Every option has an environment variable.

mod bench;
pub(crate) mod common;
mod documents;
pub(crate) mod eval;
mod serve;

pub(crate) use bench::BenchArgs;
use clap::{Args, Parser, Subcommand};
use common::{
    GenerationArgs, MethodArgs, ModelArgs, bits_per_second, context_tokens, microseconds,
};
pub(crate) use documents::DocumentArgs;
use eval::EvalArgs;
pub(crate) use serve::{LogFormat, ServeArgs};
use std::ffi::OsString;
use std::path::PathBuf;

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong arguments, 130 interrupted (Ctrl-C).
Token counts may be written 4096, 4k (x 1024) or 1m (x 1024 x 1024).";

/// Ask questions of very long documents, with Star Attention and the exact methods it is judged by.
#[derive(Debug, Parser)]
#[command(name = "asterism", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer a question about a document; without a question, answer one after another.
    Ask(AskArgs),
    /// Answer a file of prompts (JSON lines with input_context and input_query).
    Batch(BatchArgs),
    /// Show what encoding a context will cost, for every method, without running it.
    Plan(PlanArgs),
    /// Measure how fast contexts are encoded and answers decoded: methods x lengths x hosts.
    Bench(BenchArgs),
    /// Run RULER, BABILong or InfiniteBench and report scores with their certainty.
    Eval(EvalArgs),
    /// Serve OpenAI's API, contexts by name, and a page for people.
    Serve(ServeArgs),
    /// Show what this machine has and check that the engine works on it.
    Doctor(DoctorArgs),
    /// Run a command as several processes of this machine, each a host: by MPI, or one per GPU.
    Launch(LaunchArgs),
    /// Print a completion script for a shell.
    Completions {
        /// bash, elvish, fish, powershell or zsh.
        shell: clap_complete::Shell,
    },
    /// Read a file of a foreign format for the process that started this one.
    #[command(hide = true)]
    ReadDocument,
}

/// The name of the command that reads a file for another process.
pub(crate) const READ_DOCUMENT: &str = "read-document";

#[derive(Debug, Args)]
pub(crate) struct AskArgs {
    /// The question; without one, questions are read from standard input.
    pub(crate) question: Option<String>,
    /// A file (text, HTML, EPUB, DOCX, PDF), a folder, or - for standard input; may be given
    /// several times.
    #[arg(short, long, value_name = "PATH", required = true, env = "ASTERISM_CONTEXT")]
    pub(crate) context: Vec<PathBuf>,
    /// System message (models with a chat template).
    #[arg(long, value_name = "TEXT", env = "ASTERISM_SYSTEM")]
    pub(crate) system: Option<String>,
    /// Answer by star, ring and dense, and compare answers, times and traffic.
    #[arg(long, env = "ASTERISM_COMPARE")]
    pub(crate) compare: bool,
    /// Show behind each answer the passages that the question looks at.
    #[arg(long, conflicts_with = "compare", env = "ASTERISM_SOURCES")]
    pub(crate) sources: bool,
    /// Answer again whenever a file changes: only blocks that change are encoded again (star).
    #[arg(long, conflicts_with = "compare", env = "ASTERISM_WATCH")]
    pub(crate) watch: bool,
    /// Print one JSON object per answer instead of text.
    #[arg(long, env = "ASTERISM_JSON")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) documents: DocumentArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) method: MethodArgs,
    #[command(flatten)]
    pub(crate) generation: GenerationArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BatchArgs {
    /// JSON lines: input_context, input_query, optionally index and outputs.
    pub(crate) input: PathBuf,
    /// JSON lines: index, pred, token_ids, timings. Lines that are already there are not redone.
    pub(crate) output: PathBuf,
    /// Also write the K largest logits of the first position.
    #[arg(long, value_name = "K", default_value_t = 0, env = "ASTERISM_TOP_LOGITS")]
    pub(crate) top_logits: usize,
    /// Also write the passages that the question looks at.
    #[arg(long, env = "ASTERISM_SOURCES")]
    pub(crate) sources: bool,
    /// Generate exactly --max-tokens tokens.
    #[arg(long, env = "ASTERISM_IGNORE_EOS")]
    pub(crate) ignore_eos: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) method: MethodArgs,
    #[command(flatten)]
    pub(crate) generation: GenerationArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Length of the context.
    #[arg(long, value_name = "N", value_parser = context_tokens, env = "ASTERISM_TOKENS",
          required_unless_present = "context")]
    pub(crate) tokens: Option<usize>,
    /// Count the tokens of these files and folders instead.
    #[arg(short, long, value_name = "PATH", conflicts_with = "tokens")]
    pub(crate) context: Vec<PathBuf>,
    /// Also show what the link of each host carries, and for how long: its bits per second, such as
    /// 100m or 25g.
    #[arg(long, value_name = "RATE", value_parser = bits_per_second, env = "ASTERISM_LINK")]
    pub(crate) link: Option<f64>,
    /// Microseconds that a message is on its way between two hosts.
    #[arg(long, value_name = "N", default_value_t = 10.0, requires = "link",
          value_parser = microseconds, env = "ASTERISM_LATENCY_US")]
    pub(crate) latency_us: f64,
    /// Print JSON.
    #[arg(long, env = "ASTERISM_JSON")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) documents: DocumentArgs,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    #[command(flatten)]
    pub(crate) method: MethodArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print JSON.
    #[arg(long, env = "ASTERISM_JSON")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "For example: asterism launch -n 2 -- ask -c book.txt \"Who did it?\"")]
pub(crate) struct LaunchArgs {
    /// Processes to start.
    #[arg(short = 'n', long, value_name = "N", env = "ASTERISM_PROCESSES",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) processes: u16,
    /// The command and its options, behind --.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_command_that_reads_documents_is_called_as_it_is_started() {
        use clap::CommandFactory;
        assert!(Cli::command().find_subcommand(READ_DOCUMENT).is_some());
    }

    #[test]
    fn every_option_has_an_environment_variable() {
        use clap::CommandFactory;
        fn check(command: &clap::Command) {
            for arg in command.get_arguments().filter(|a| a.get_long().is_some()) {
                let name = arg.get_id().as_str();
                let exempt = ["help", "version"].contains(&name)
                    || (name == "context" && command.get_name() == "plan");
                assert!(exempt || arg.get_env().is_some(), "{} --{name}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
