//! Which model is measured: a real one, or random weights of a known shape.

use crate::args::BenchArgs;
use crate::error::CliError;
use crate::terminal::note;
use crate::{config, machine, report};
use anyhow::Context;
use asterism::engine::{Engine, EngineOptions};
use asterism::model::{ModelConfig, ModelFiles, Shape, random_model};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

/// The model before its weights are made or read.
pub(super) enum Model {
    Real(Box<ModelFiles>),
    Random { shape: Shape, seed: u64 },
}

impl Model {
    /// What the arguments name, downloaded if need be.
    pub(super) fn find(args: &BenchArgs) -> Result<Self, CliError> {
        Ok(match args.shape() {
            Some(shape) => Self::Random { shape, seed: args.seed },
            None => Self::Real(Box::new(config::model_files(&args.model)?)),
        })
    }

    /// Its configuration, which needs no weights.
    pub(super) fn config(&self) -> Result<ModelConfig, CliError> {
        Ok(match self {
            Self::Real(files) => {
                ModelConfig::parse(&files.config, files.generation_config.as_deref())?
            }
            Self::Random { shape, .. } => shape.config()?,
        })
    }

    /// The model, ready to compute.
    pub(super) fn load(self, options: &EngineOptions) -> Result<Arc<Engine>, CliError> {
        let files = match self {
            Self::Real(files) => *files,
            Self::Random { shape, seed } => {
                check_memory(&shape, shape.engine_bytes(options.precision)?)?;
                random_model(&shape, seed)?
            }
        };
        config::load(files, options)
    }
}

/// `--write-model`: a random checkpoint as a folder, in place of a benchmark.
pub(super) fn write(shape: &Shape, seed: u64, dir: &Path) -> Result<(), CliError> {
    let name = dir.display();
    let refuse = |why: &str| Err(CliError::Usage(format!("--write-model {name}: {why}")));
    match std::fs::read_dir(dir).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return refuse("the folder is not empty: give a new one"),
        Err(error) if error.kind() != ErrorKind::NotFound => return refuse(&error.to_string()),
        _ => {}
    }
    check_memory(shape, shape.checkpoint_bytes()?)?;
    let files = random_model(shape, seed)?;
    files.write(dir).with_context(|| format!("cannot write {name}"))?;
    note(format_args!("{name}: {}", files.name));
    Ok(())
}

/// Refuses what the machine has no memory for, where the system says how much it has: otherwise
/// the system would kill this process, or another one, half-way.
fn check_memory(shape: &Shape, needed: u64) -> Result<(), CliError> {
    match machine::memory() {
        Some((_, available)) if needed > available => Err(CliError::Usage(format!(
            "--shape {} with {} layers takes {} of memory, but {} are available: lower --layers",
            shape.name,
            shape.layers,
            report::bytes(needed),
            report::bytes(available),
        ))),
        _ => Ok(()),
    }
}
