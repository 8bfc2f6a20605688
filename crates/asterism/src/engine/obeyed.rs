//! How a host obeys: whatever fails or panics in a command ends that command, not the host.

use super::EngineError;
use super::command::{Command, Outcome};
use super::host::Host;
use crate::tensor::Backend;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a host sends back: its rank and what came of the command.
pub(super) type Report = (usize, Result<Outcome, EngineError>);

/// Has a host that does not lead obey command number `number`; if it fails or panics, no other host
/// waits for this one.
///
/// # Errors
/// As [`Host::obey`]; [`EngineError::HostPanicked`].
pub(super) fn obey_numbered<B: Backend>(
    host: &mut Host<B>,
    number: u64,
    command: &Command,
) -> Result<Outcome, EngineError> {
    guarded(host, number, |host| host.obey(command))
}

/// Takes back what was recorded, where messages are part of it that travel no more.
pub(super) fn take_back<B: Backend>(host: &Host<B>) {
    if host.comm.is_broken() {
        host.recordings.take_back();
    }
}

/// Runs `program`, the host's part of command number `number`; if it fails or panics, no other host
/// waits for this one.
pub(super) fn guarded<B: Backend, T>(
    host: &mut Host<B>,
    number: u64,
    program: impl FnOnce(&mut Host<B>) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    // Between commands a host holds finished blocks, which never change, and encodings, which are
    // given up when a command fails.
    let obeyed = AssertUnwindSafe(|| {
        take_back(host);
        host.comm.begin(number)?;
        let value = program(host)?;
        // What the host has is good only if what others sent has come.
        host.comm.settle()?;
        Ok(value)
    });
    let result =
        catch_unwind(obeyed).unwrap_or_else(|_| Err(EngineError::HostPanicked(host.comm.rank())));
    if result.is_err() {
        host.comm.abort();
    }
    host.comm.end();
    result
}
