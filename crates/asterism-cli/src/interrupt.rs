//! Ctrl-C. The first asks the work to stop, which it does within one layer of one chunk; a second
//! does not wait for that.

use super::error::CliError;
use anyhow::Context;
use asterism::cancel::Cancel;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const EXIT_CODE: i32 = 130;

/// What the signal handler shares with the command.
#[derive(Clone, Default)]
pub(crate) struct Interrupt {
    cancel: Cancel,
    idle: Arc<AtomicBool>,
}

impl Interrupt {
    /// Installs the handler.
    pub(crate) fn install() -> Result<Self, CliError> {
        let interrupt = Self::default();
        let shared = interrupt.clone();
        ctrlc::set_handler(move || {
            // Nothing to stop, or stopping takes too long: leave.
            if shared.idle.load(Ordering::Acquire) || shared.cancel.is_raised() {
                let _ = writeln!(std::io::stderr());
                std::process::exit(EXIT_CODE);
            }
            shared.cancel.raise();
        })
        .context("cannot handle Ctrl-C")?;
        Ok(interrupt)
    }

    /// The flag that work checks.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Runs `wait`, for example for a line of input, during which Ctrl-C leaves at once.
    pub(crate) fn while_idle<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.cancel.reset();
        self.idle.store(true, Ordering::Release);
        let result = wait();
        self.idle.store(false, Ordering::Release);
        result
    }
}
