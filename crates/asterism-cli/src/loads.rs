//! What a command computes with: the processes that follow load it, too, and serve it.

use super::args::common::ModelArgs;
use super::args::{BenchArgs, Command};
use super::error::CliError;
use super::{bench, config, processes};
use asterism::engine::Engine;
use asterism::world::Carrier;
use std::sync::Arc;

/// How a command that computes gets its model.
pub(crate) enum Loads<'a> {
    Model(&'a ModelArgs),
    Bench(&'a BenchArgs),
}

impl Command {
    /// What it computes with; `None` if it does not compute, or on this machine alone.
    pub(crate) fn loads(&self) -> Option<Loads<'_>> {
        match self {
            Self::Ask(args) => Some(Loads::Model(&args.model)),
            Self::Batch(args) => Some(Loads::Model(&args.model)),
            Self::Bench(args) if args.write_model.is_none() => Some(Loads::Bench(args)),
            Self::Eval(args) => args.model().map(Loads::Model),
            Self::Serve(args) => Some(Loads::Model(&args.model)),
            Self::Bench(_) | Self::Plan(_) | Self::Doctor(_) => None,
            Self::Launch(_) | Self::Completions { .. } | Self::ReadDocument => None,
        }
    }
}

impl Loads<'_> {
    fn model(&self) -> &ModelArgs {
        match self {
            Loads::Model(args) => args,
            Loads::Bench(args) => &args.model,
        }
    }

    /// What carries tensors between processes that compute with it.
    pub(crate) fn carrier(&self) -> Carrier {
        let ModelArgs { device, dtype, .. } = self.model();
        device.carrier((*dtype).into())
    }

    /// What every rank but the first does: loads the model and obeys. What goes wrong is told by
    /// rank 0.
    pub(crate) fn follow(&self) -> Result<(), CliError> {
        let Some(world) = processes::world() else { return Ok(()) };
        match self.load() {
            Ok(engine) => engine.serve()?,
            Err(error) => world.give_up(&error.to_string()),
        }
        Ok(())
    }

    fn load(&self) -> Result<Arc<Engine>, CliError> {
        match self {
            Self::Model(args) => config::engine(args),
            Self::Bench(args) => bench::engine(args),
        }
    }
}
