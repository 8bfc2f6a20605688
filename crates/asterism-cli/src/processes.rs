//! The processes that this one was started with, where a launcher started several: rank 0 runs the
//! command and talks to the user; the others load the same model and serve it.

use super::args::Command;
use super::args::common::ModelArgs;
use super::bench::{self, BenchArgs};
use super::error::CliError;
use super::{config, machine};
use asterism::engine::Engine;
use asterism::world::{Carrier, World};
use std::sync::{Arc, OnceLock};

static WORLD: OnceLock<Arc<World>> = OnceLock::new();

/// The processes, if there are others than this one.
pub(crate) fn world() -> Option<&'static Arc<World>> {
    WORLD.get()
}

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
}

/// Meets the other processes, if a launcher started any. True on those that do not lead.
pub(crate) fn join(loads: &Loads<'_>) -> Result<bool, CliError> {
    let Some(world) = World::join_by(loads.carrier())? else { return Ok(false) };
    let follows = world.rank() > 0;
    // Only `main` joins, and once.
    let _ = WORLD.set(world);
    Ok(follows)
}

/// What every rank but the first does: loads the model and obeys. What goes wrong is told by rank
/// 0.
pub(crate) fn follow(loads: &Loads<'_>) -> Result<(), CliError> {
    let Some(world) = world() else { return Ok(()) };
    match load(loads) {
        Ok(engine) => engine.serve()?,
        Err(error) => world.give_up(&error.to_string()),
    }
    Ok(())
}

fn load(loads: &Loads<'_>) -> Result<Arc<Engine>, CliError> {
    match loads {
        Loads::Model(args) => config::engine(args),
        Loads::Bench(args) => bench::engine(args),
    }
}

/// Parts from the other processes, before this one ends with `exit_code`.
pub(crate) fn finish(exit_code: u8) {
    if let Some(world) = world() {
        world.finish(exit_code.into());
    }
}

/// Compute threads where none are asked for: all cores, shared with the ranks beside this one.
pub(crate) fn threads() -> usize {
    let neighbours = world().map_or(1, |world| world.neighbours());
    // Where the launcher has bound each rank to cores of its own, they are counted already.
    let own = machine::cores();
    if own < machine::all_cores().unwrap_or(own) { own } else { (own / neighbours).max(1) }
}
