//! What all requests share.

use crate::auth::Keys;
use crate::contexts::{Disk, Entry, Registry};
use crate::error::ApiError;
use crate::gate::Gate;
use crate::grammar::Grammars;
use crate::metrics::Metrics;
use crate::options::ServeOptions;
use crate::rate::Rate;
use asterism::cancel::Cancel;
use asterism::engine::Engine;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;

/// Files that are read at a time: each may take as much memory as the reader allows.
const READERS: usize = 2;

/// The server.
pub(crate) struct App {
    pub(crate) engine: Arc<Engine>,
    pub(crate) options: ServeOptions,
    pub(crate) keys: Keys,
    pub(crate) gate: Arc<Gate>,
    pub(crate) contexts: Registry,
    /// Where contexts are kept over restarts.
    pub(crate) disk: Option<Disk>,
    pub(crate) metrics: Metrics,
    pub(crate) grammars: Grammars,
    pub(crate) rate: Rate,
    /// Files that may be read at a time.
    pub(crate) readers: Arc<Semaphore>,
    /// Raised when all work is to end.
    pub(crate) stop: Cancel,
    pub(crate) began: Instant,
    /// When it began, in seconds since 1970: the model's age, for clients that ask.
    pub(crate) created: u64,
}

impl App {
    /// The server, with the contexts that are on disk.
    pub(crate) fn new(engine: Arc<Engine>, options: ServeOptions, disk: Option<Disk>) -> Arc<Self> {
        let app = Self {
            keys: Keys::new(&options.api_keys),
            gate: Arc::new(Gate::new(options.queue)),
            contexts: Registry::default(),
            disk,
            metrics: Metrics::new(),
            grammars: Grammars::new(&engine),
            rate: Rate::default(),
            readers: Arc::new(Semaphore::new(READERS)),
            stop: Cancel::new(),
            began: Instant::now(),
            created: unix_now(),
            engine,
            options,
        };
        for label in app.disk.iter().flat_map(Disk::labels) {
            let entry = Entry::stored(label, app.stop.child());
            let (id, name) = (entry.id.clone(), entry.name());
            if app.contexts.add(entry, app.model_id()).is_err() {
                tracing::warn!(context = id, name, "its name is taken: it stays on disk");
            }
        }
        Arc::new(app)
    }

    /// Forgets contexts whose time is over.
    pub(crate) fn expire(&self) {
        for entry in self.contexts.expire(unix_now()) {
            self.forget(&entry);
        }
    }

    /// Stops what is done for a context that was taken out, and takes it off the disk. Questions
    /// that run are answered: they hold its keys.
    pub(crate) fn forget(&self, entry: &Entry) {
        entry.delete();
        if let Some(disk) = self.disk.as_ref().filter(|_| entry.label().is_some()) {
            disk.remove(&entry.id);
        }
    }

    /// The model's name for clients.
    pub(crate) fn model_id(&self) -> &str {
        &self.options.model_id
    }

    /// Whether a request for `model` is for the model itself; so is one that names none.
    pub(crate) fn is_model(&self, model: &str) -> bool {
        model.is_empty() || model == self.model_id()
    }

    /// What a request for an unknown model gets.
    pub(crate) fn no_model(&self, model: &str) -> ApiError {
        let message = format!(
            "there is no model or context {model:?}: the model is {:?}, and GET /v1/models lists \
             contexts, too",
            self.model_id()
        );
        ApiError::not_found("model_not_found", message).about("model")
    }
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    // A clock before 1970 is no reason to fail.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A name that nobody else has: `prefix` and 24 hexadecimal digits.
pub(crate) fn new_id(prefix: &str) -> String {
    use std::hash::{BuildHasher, RandomState};
    // Every `RandomState` has keys of its own, from the system's random numbers.
    let random = |salt: u64| RandomState::new().hash_one(salt);
    format!("{prefix}{:016x}{:08x}", random(1), random(2) as u32)
}
