//! Errors as the user meets them: a message on stderr and an exit code.

use asterism::engine::EngineError;
use asterism::model::ModelError;
use asterism::tensor::{CpuError, TensorError};
use asterism::world::WorldError;
use std::io::{IsTerminal, Write};

use super::terminal;

/// Why a command stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The arguments do not parse, or ask for help or the version.
    #[error(transparent)]
    Arguments(clap::Error),
    /// The arguments make no sense: exit code 2, as for arguments that do not parse.
    #[error("{0}")]
    Usage(String),
    /// Ctrl-C: exit code 130.
    #[error("interrupted")]
    Interrupted,
    /// The program that reads our output has ended (`asterism … | head`): nothing is printed.
    #[error("broken pipe")]
    BrokenPipe,
    /// Everything else: exit code 1.
    #[error(transparent)]
    Failed(anyhow::Error),
}

impl CliError {
    /// Writes the message and its causes to stderr; help goes to stdout.
    pub(crate) fn print(&self) {
        match self {
            Self::BrokenPipe => {}
            // Rank 0 has the same arguments, and says it.
            Self::Arguments(_) if terminal::follows() => {}
            Self::Arguments(error) => print_arguments(error),
            Self::Failed(error) => complain(&format!("{error:#}")),
            other => complain(&other.to_string()),
        }
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Arguments(error) => u8::try_from(error.exit_code()).unwrap_or(2),
            Self::BrokenPipe => 0,
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Interrupted => 130,
        }
    }
}

/// Characters of a message: names and values in it may be of any length.
const MOST: usize = 2000;

fn complain(message: &str) {
    match message.char_indices().nth(MOST) {
        Some((end, _)) => terminal::note(format_args!("error: {}…", &message[..end])),
        None => terminal::note(format_args!("error: {message}")),
    }
}

/// Prints help, or what is wrong with the arguments. Both quote values of the environment, so they
/// are in colour only where those hold nothing that a terminal obeys. An error in writing them is
/// dropped: standard error is where it would be reported.
fn print_arguments(error: &clap::Error) {
    let text = error.render().to_string();
    let shown = terminal::lines(&text);
    let is_terminal = match error.use_stderr() {
        true => std::io::stderr().is_terminal(),
        false => std::io::stdout().is_terminal(),
    };
    let _ = match () {
        () if !is_terminal || shown == text => error.print(),
        () if error.use_stderr() => write!(std::io::stderr(), "{shown}"),
        () => write!(std::io::stdout(), "{shown}"),
    };
}

impl From<anyhow::Error> for CliError {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// An error of the library, and the options that change what it complains of: the library knows
/// no command line.
#[derive(Debug)]
struct WithOptions<E> {
    error: E,
    options: &'static str,
}

impl<E: std::fmt::Display> std::fmt::Display for WithOptions<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.error, self.options)
    }
}

impl<E: std::error::Error> std::error::Error for WithOptions<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// The options to change after `error`, if there are any.
fn options(error: &EngineError) -> Option<&'static str> {
    match error {
        EngineError::TooLong { .. } => Some("--max-tokens of ask and batch"),
        EngineError::NoMemory { is_gpu: true, .. } => Some("--block, --kv-dtype fp8, --device cpu"),
        EngineError::NoMemory { .. } => Some("--block, --kv-dtype int8, --hosts"),
        EngineError::NotFinite { .. } => Some("--dtype f32"),
        EngineError::Tensor(TensorError::OutOfMemory { .. }) => {
            Some("--block, --kv-dtype fp8, --device cpu")
        }
        EngineError::Tensor(TensorError::Unsupported { .. }) => {
            Some("--device, --dtype, --kv-dtype")
        }
        EngineError::Tensor(TensorError::Missing { .. }) => Some("--device cpu needs none of it"),
        EngineError::NoRoom { .. } => Some("--max-tokens"),
        EngineError::OtherHosts { .. } => Some("--hosts"),
        EngineError::OnlyGpus => Some("--device cuda"),
        EngineError::World(WorldError::Disagree { .. }) => {
            Some("--model, --dtype, --kv-dtype, --cpu, --threads")
        }
        EngineError::Model(error) => model_options(error),
        EngineError::Shared(error) => options(error),
        _ => None,
    }
}

fn model_options(error: &ModelError) -> Option<&'static str> {
    match error {
        ModelError::NotInCache { .. } | ModelError::Unreachable { .. } => Some("--offline"),
        ModelError::NotBuilt { .. } => Some("--model"),
        _ => None,
    }
}

impl From<EngineError> for CliError {
    fn from(error: EngineError) -> Self {
        let is_usage = matches!(
            error,
            EngineError::Plan(_)
                | EngineError::Sampling(_)
                | EngineError::OtherHosts { .. }
                | EngineError::OnlyGpus
                | EngineError::Tensor(TensorError::Unsupported { .. })
        );
        match (error, is_usage) {
            (EngineError::Cancelled, _) => Self::Interrupted,
            (error, true) => Self::Usage(with_options(error).to_string()),
            (error, false) => Self::Failed(with_options(error)),
        }
    }
}

fn with_options(error: EngineError) -> anyhow::Error {
    match options(&error) {
        Some(options) => WithOptions { error, options }.into(),
        None => error.into(),
    }
}

impl From<WorldError> for CliError {
    fn from(error: WorldError) -> Self {
        EngineError::from(error).into()
    }
}

impl From<CpuError> for CliError {
    fn from(error: CpuError) -> Self {
        let options = "--cpu";
        Self::Usage(WithOptions { error, options }.to_string())
    }
}

impl From<ModelError> for CliError {
    fn from(error: ModelError) -> Self {
        match error {
            error @ ModelError::BadSource { .. } => Self::Usage(error.to_string()),
            other => EngineError::from(other).into(),
        }
    }
}

impl From<asterism::text::TextError> for CliError {
    fn from(error: asterism::text::TextError) -> Self {
        match error {
            asterism::text::TextError::Cancelled => Self::Interrupted,
            other => Self::Failed(other.into()),
        }
    }
}

impl From<asterism::plan::PlanError> for CliError {
    fn from(error: asterism::plan::PlanError) -> Self {
        Self::Usage(error.to_string())
    }
}

/// An error of standard output; errors of files name the file and are not converted here.
impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::Failed(anyhow::Error::from(error).context("cannot write standard output")),
        }
    }
}
