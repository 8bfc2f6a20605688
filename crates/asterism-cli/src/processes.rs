//! The processes that this one was started with, where a launcher started several: rank 0 runs the
//! command and talks to the user; the others [follow](super::loads::Loads::follow).

use super::error::CliError;
use super::machine;
use asterism::world::{Carrier, World};
use std::sync::{Arc, OnceLock};

static WORLD: OnceLock<Arc<World>> = OnceLock::new();

/// The processes, if there are others than this one.
pub(crate) fn world() -> Option<&'static Arc<World>> {
    WORLD.get()
}

/// Meets the other processes, if a launcher started any, with which tensors travel by `carrier`.
/// True on those that do not lead.
pub(crate) fn join(carrier: Carrier) -> Result<bool, CliError> {
    let Some(world) = World::join_by(carrier)? else { return Ok(false) };
    let follows = world.rank() > 0;
    // Only `main` joins, and once.
    let _ = WORLD.set(world);
    Ok(follows)
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
