//! Long work that Python can watch and stop.

use asterism::cancel::Cancel;
use pyo3::prelude::*;
use std::panic::resume_unwind;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// How long Ctrl-C may wait to be noticed here; the work then ends within a slice.
const TICK: Duration = Duration::from_millis(50);

/// Does `work` on another thread, with Python's lock released. This thread passes the shares that
/// `work` sends on to `progress`, and raises `cancel` when that fails or the user interrupts; their
/// error is then what this returns.
pub(crate) fn watch<T: Send>(
    py: Python<'_>,
    cancel: &Cancel,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&Sender<f64>) -> T + Send,
) -> PyResult<T> {
    thread::scope(|scope| {
        let (sender, mut heard) = channel();
        let worker = scope.spawn(move || work(&sender));
        let mut stopped: Option<PyErr> = None;
        loop {
            let step;
            (heard, step) = py.detach(move || {
                let step = heard.recv_timeout(TICK);
                (heard, step)
            });
            let went_on = match step {
                Ok(share) if stopped.is_none() => progress
                    .map_or(Ok(()), |progress| progress.call1((share,)).map(drop))
                    .and_then(|()| py.check_signals()),
                Ok(_) => Ok(()),
                Err(RecvTimeoutError::Timeout) if stopped.is_none() => py.check_signals(),
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Err(error) = went_on {
                cancel.raise();
                stopped = Some(error);
            }
        }
        let value = py.detach(move || worker.join());
        match (stopped, value) {
            (_, Err(panic)) => resume_unwind(panic),
            (Some(error), Ok(_)) => Err(error),
            (None, Ok(value)) => Ok(value),
        }
    })
}
