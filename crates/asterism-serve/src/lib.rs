//! The HTTP server of asterism: OpenAI's API for chats and completions, contexts by name that are
//! encoded once and asked by anybody who knows the name, and a page for people. It sees texts,
//! tokens and times, never a tensor.
//!
//! The way of a request:
//!
//! 1. `api` receives it; `auth` and `gate` let it in, or not.
//! 2. `wire` reads its fields, and refuses what is wrong with the field's name.
//! 3. `work` has the engine encode and answer, on a thread that may wait, and tells what happens.
//! 4. `api::reply` makes one answer of that, `api::stream` one chunk of each event.
//!
//! Contexts with a name live in `contexts`; `grammar` makes the masks of answers in JSON.

#![forbid(unsafe_code)]

mod api;
mod auth;
mod contexts;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod grammar;
mod metrics;
mod options;
mod page;
mod rate;
mod signals;
mod state;
mod wire;
mod work;

pub use contexts::DiskError;
pub use options::ServeOptions;
pub use signals::told_to_stop;

use asterism::engine::Engine;
use contexts::Disk;
use state::App;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Nothing can listen there.
    #[error("cannot listen on {address}: {source}; is the port taken?")]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The folder for contexts cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Its threads cannot be started, or its socket fails.
    #[error("the server failed: {0}")]
    Io(#[from] std::io::Error),
}

/// Serves `engine` until `stop` is over; then takes no more requests, and ends when those that run
/// have ended, or after [`ServeOptions::drain`]. `ready` hears where it listens.
///
/// # Errors
/// If it cannot listen, or the system fails.
pub fn serve(
    engine: Arc<Engine>,
    options: ServeOptions,
    ready: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // Each request has one that waits for the engine, and reading texts takes some.
        .max_blocking_threads(options.queue + 16)
        .enable_all()
        .build()?;
    let drain = options.drain;
    let disk = options.cache_dir.as_deref().map(Disk::open).transpose()?;
    let app = App::new(engine, options, disk);
    let result = runtime.block_on(run(Arc::clone(&app), ready, stop));
    // What has not ended by now is told to.
    app.stop.raise();
    runtime.shutdown_timeout(drain.min(Duration::from_secs(5)));
    result
}

async fn run(
    app: Arc<App>,
    ready: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let address = app.options.address;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })?;
    ready(listener.local_addr()?);
    let expiring = tokio::spawn(expire(Arc::clone(&app)));
    let stopping = Arc::clone(&app);
    let (told, mut heard) = tokio::sync::oneshot::channel();
    let stop = async move {
        stop.await;
        stopping.gate.close();
        let _ = told.send(());
    };
    let router = api::router(&app);
    let mut serving =
        std::pin::pin!(axum::serve(listener, router).with_graceful_shutdown(stop).into_future());
    let result = tokio::select! {
        result = &mut serving => result,
        _ = &mut heard => {
            // Nobody new; those inside have a while.
            let mut served = None;
            let end = async {
                served = Some((&mut serving).await);
                settle(&app).await;
            };
            let _ = tokio::time::timeout(app.options.drain, end).await;
            app.stop.raise();
            match served {
                Some(result) => result,
                // Streams end once their work is cancelled.
                None => tokio::time::timeout(Duration::from_secs(2), &mut serving)
                    .await
                    .unwrap_or(Ok(())),
            }
        }
    };
    expiring.abort();
    if let Some(disk) = &app.disk {
        // When each was used.
        app.contexts.all().iter().for_each(|entry| work::put_label(disk, entry));
    }
    Ok(result?)
}

/// Waits until no context is being written to disk.
async fn settle(app: &App) {
    while app.disk.as_ref().is_some_and(Disk::is_writing) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Lets go of contexts whose time is over.
async fn expire(app: Arc<App>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        app.expire();
    }
}
