//! When the system, or the person at the terminal, wants the server to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits until the process is told to stop, by SIGTERM or Ctrl-C. The next such signal does not
/// wait for requests that run: it ends the process with status 130.
pub async fn told_to_stop() {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    next(&mut terminate, &mut interrupt).await;
    tokio::spawn(async move {
        next(&mut terminate, &mut interrupt).await;
        std::process::exit(130);
    });
}

/// Waits for either. A signal that cannot be heard never comes.
async fn next(terminate: &mut std::io::Result<Signal>, interrupt: &mut std::io::Result<Signal>) {
    tokio::select! {
        Some(()) = heard(terminate) => {}
        Some(()) = heard(interrupt) => {}
        else => std::future::pending().await,
    }
}

async fn heard(signal: &mut std::io::Result<Signal>) -> Option<()> {
    signal.as_mut().ok()?.recv().await
}
