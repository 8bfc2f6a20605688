//! Errors as the user meets them: a message on stderr and an exit code.

use asterism::engine::EngineError;
use asterism::model::ModelError;
use asterism::tensor::{CpuError, TensorError};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

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
    /// Whoever reads our output is gone (`asterism … | head`): nothing to say.
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
            Self::Arguments(error) => print_arguments(error),
            Self::Failed(error) => terminal::note(format_args!("error: {error:#}")),
            other => terminal::note(format_args!("error: {other}")),
        }
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Arguments(error) => u8::try_from(error.exit_code()).unwrap_or(2),
            Self::BrokenPipe => 0,
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Interrupted => 130,
        })
    }
}

/// Help and complaints quote values of the environment: in colour only where those hold nothing
/// that a terminal obeys. Where they cannot be written there is nobody to tell.
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

impl From<EngineError> for CliError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Cancelled => Self::Interrupted,
            EngineError::Plan(error) => Self::Usage(error.to_string()),
            EngineError::Sampling(error) => Self::Usage(error.to_string()),
            EngineError::Tensor(error @ TensorError::Unsupported { .. }) => {
                Self::Usage(error.to_string())
            }
            other => Self::Failed(other.into()),
        }
    }
}

impl From<CpuError> for CliError {
    fn from(error: CpuError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<ModelError> for CliError {
    fn from(error: ModelError) -> Self {
        match error {
            error @ ModelError::BadSource { .. } => Self::Usage(error.to_string()),
            other => Self::Failed(other.into()),
        }
    }
}

impl From<asterism::text::TextError> for CliError {
    fn from(error: asterism::text::TextError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<asterism::plan::PlanError> for CliError {
    fn from(error: asterism::plan::PlanError) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Of standard output: whoever reads or writes a file says which one.
impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::Failed(anyhow::Error::from(error).context("cannot write standard output")),
        }
    }
}
