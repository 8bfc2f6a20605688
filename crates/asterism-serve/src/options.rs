//! What the operator decides.

use asterism::engine::Generation;
use asterism::plan::PlanSpec;
use asterism_documents::Reader;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How the server runs.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Where it listens.
    pub address: SocketAddr,
    /// The model's name for clients.
    pub model_id: String,
    /// Keys of those who may ask; everybody may if there are none.
    pub api_keys: Vec<String>,
    /// How contexts are encoded where a request does not say.
    pub spec: PlanSpec,
    /// How answers are generated where a request does not say.
    pub generation: Generation,
    /// Requests that are answered or wait, at most.
    pub queue: usize,
    /// Bytes of a request's body, at most.
    pub body_bytes: usize,
    /// How long a request may take; for ever if `None`.
    pub timeout: Option<Duration>,
    /// How long requests may go on once the server was told to stop.
    pub drain: Duration,
    /// Bytes of encoded blocks that the engine keeps for later, for people to see.
    pub cache_bytes: u64,
    /// Where contexts with a name are kept over restarts; nowhere if `None`.
    pub cache_dir: Option<PathBuf>,
    /// How files that are sent are read: PDFs, books and others by processes of their own.
    pub reader: Reader,
}
