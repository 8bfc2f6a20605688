//! Errors as the user meets them: a message on stderr and an exit code.

use asterism::engine::EngineError;
use asterism::model::ModelError;
use asterism::tensor::{CpuError, TensorError};
use std::process::ExitCode;

/// Why a command stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
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
    /// Writes the message and its causes to stderr.
    pub(crate) fn print(&self) {
        match self {
            Self::BrokenPipe => {}
            Self::Failed(error) => eprintln!("error: {error:#}"),
            other => eprintln!("error: {other}"),
        }
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::BrokenPipe => 0,
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Interrupted => 130,
        })
    }
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

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::Failed(error.into()),
        }
    }
}
