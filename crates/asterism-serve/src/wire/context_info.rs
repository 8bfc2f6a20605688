//! What a context with a name looks like: how far it is encoded, or what encoding it would take.

use super::{DocumentInfo, MethodInfo};
use serde::Serialize;
use utoipa::ToSchema;

/// A block of a context (star), or a host's share of it (other methods).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Cell {
    pub(crate) index: usize,
    /// Position of its first token.
    pub(crate) start: usize,
    pub(crate) tokens: usize,
    pub(crate) host: usize,
    /// waiting, encoded, reused or loaded.
    pub(crate) state: &'static str,
    /// After an edit, what became of it: reused, edited, moved, anchor or given_up.
    pub(crate) change: Option<&'static str>,
    /// Documents that it has parts of.
    pub(crate) documents: Vec<String>,
}

/// A context with a name.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ContextInfo {
    pub(crate) id: String,
    pub(crate) object: &'static str,
    pub(crate) name: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// encoding, ready or failed; on disk only, stored, and restoring once it is asked for.
    pub(crate) status: &'static str,
    /// Share of the work that is done, from 0 to 1.
    pub(crate) progress: f64,
    pub(crate) tokens: usize,
    pub(crate) kv_bytes: u64,
    /// Where keys are left out, the share of attention's tiles that was computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) density: Option<f64>,
    /// The share of softmax weight that was kept then, in sampled rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kept_mass: Option<f64>,
    #[serde(flatten)]
    pub(crate) how: MethodInfo,
    pub(crate) documents: Vec<DocumentInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) blocks: Option<Vec<Cell>>,
    pub(crate) reused_blocks: usize,
    pub(crate) encoded_blocks: usize,
    /// Blocks whose keys were read from disk.
    pub(crate) loaded_blocks: usize,
    /// What encoding took.
    pub(crate) seconds: Option<f64>,
    /// What it was expected to take.
    pub(crate) predicted_seconds: Option<f64>,
    /// Whether it would be there after a restart as it is now.
    pub(crate) on_disk: bool,
    /// How it was brought back from disk, if it was.
    pub(crate) restored: Option<RestoreInfo>,
    pub(crate) pinned: bool,
    pub(crate) ttl_seconds: Option<u64>,
    pub(crate) expires_at: Option<u64>,
    pub(crate) last_used: u64,
    pub(crate) error: Option<ErrorInfo>,
}

/// How a context came back from disk, and why so.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct RestoreInfo {
    /// loaded, or encoded from the texts on disk.
    pub(crate) how: &'static str,
    /// What reading its keys was expected to take; null if this server has read none.
    pub(crate) load_seconds: Option<f64>,
    /// What encoding it was expected to take.
    pub(crate) encode_seconds: Option<f64>,
    /// Why keys that were expected to load faster were not loaded.
    pub(crate) reason: Option<String>,
}

/// Why a context could not be encoded.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ErrorInfo {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// What encoding a context would take.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PlanInfo {
    pub(crate) object: &'static str,
    pub(crate) tokens: usize,
    #[serde(flatten)]
    pub(crate) how: MethodInfo,
    pub(crate) blocks: Vec<Cell>,
    pub(crate) kv_bytes: u64,
    #[schema(value_type = u64)]
    pub(crate) work_flops: u128,
    /// By what this server encoded before; null if that was nothing.
    pub(crate) seconds: Option<f64>,
    pub(crate) fits: bool,
    /// Why it does not fit.
    pub(crate) reason: Option<String>,
    pub(crate) documents: Vec<DocumentInfo>,
}
