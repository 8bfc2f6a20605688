//! One context with a name.

mod on_disk;

pub(crate) use on_disk::Asked;

use super::Log;
use super::progress::Work;
use crate::error::ApiError;
use crate::state::unix_now;
use crate::wire::{ContextInfo, ErrorInfo, RestoreInfo};
use asterism::cancel::Cancel;
use asterism::engine::{Context, Prepared, Progress, Sparsity};
use asterism::plan::PlanSpec;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// How a context is encoded, now and after edits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) spec: PlanSpec,
    pub(crate) slack: usize,
    pub(crate) system: Option<String>,
}

/// A context with a name.
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) settings: Settings,
    pub(crate) log: Log,
    /// Raised when it is deleted, or the server stops.
    pub(crate) cancel: Cancel,
    deleted: AtomicBool,
    /// Held by who writes it to disk.
    pub(crate) writing: Mutex<()>,
    created: u64,
    state: Mutex<State>,
    /// Told when its stage changes.
    changed: Condvar,
}

/// What changes of it.
struct State {
    name: String,
    pinned: bool,
    ttl_seconds: Option<u64>,
    last_used: u64,
    stage: Stage,
    work: Work,
    /// Counts the contexts that it has been: one more with each edit.
    generation: u64,
    /// What there is of it on disk.
    on_disk: Option<OnDisk>,
    restored: Option<RestoreInfo>,
}

/// What there is of a context on disk.
#[derive(Debug, Clone, Copy)]
struct OnDisk {
    revision: u64,
    /// What it was in memory when it was written.
    generation: u64,
    kv_bytes: u64,
}

/// How far it has come.
enum Stage {
    Encoding,
    /// On disk, and not in memory.
    Stored,
    /// Being brought back from there.
    Restoring,
    Ready(Context),
    /// Being edited; questions are answered from what was there before.
    Editing(Context),
    Failed(ApiError),
}

impl Entry {
    /// A context to be encoded as `prepared`.
    pub(crate) fn new(
        id: String,
        name: String,
        settings: Settings,
        (pinned, ttl_seconds): (bool, Option<u64>),
        cancel: Cancel,
        prepared: &Prepared,
        predicted: Option<f64>,
    ) -> Arc<Self> {
        let now = unix_now();
        let state = State {
            name,
            pinned,
            ttl_seconds,
            last_used: now,
            stage: Stage::Encoding,
            work: Work::of(prepared, predicted),
            generation: 0,
            on_disk: None,
            restored: None,
        };
        let entry = Self::with(id, settings, cancel, now, state);
        entry.log_plan();
        Arc::new(entry)
    }

    fn with(id: String, settings: Settings, cancel: Cancel, created: u64, state: State) -> Self {
        let (log, writing, changed) = (Log::default(), Mutex::default(), Condvar::new());
        let state = Mutex::new(state);
        let deleted = AtomicBool::new(false);
        Self { id, settings, log, cancel, deleted, writing, created, state, changed }
    }

    /// Nobody wants it any more: stops what is done for it.
    pub(crate) fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
        self.cancel.raise();
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn name(&self) -> String {
        self.state().name.clone()
    }

    pub(crate) fn created(&self) -> u64 {
        self.created
    }

    /// Changes what is not `None`.
    pub(crate) fn change(
        &self,
        name: Option<String>,
        ttl_seconds: Option<Option<u64>>,
        pinned: Option<bool>,
    ) {
        let mut state = self.state();
        state.name = name.unwrap_or_else(|| state.name.clone());
        state.ttl_seconds = ttl_seconds.unwrap_or(state.ttl_seconds);
        state.pinned = pinned.unwrap_or(state.pinned);
    }

    /// The context, if it is encoded; it counts as used now.
    ///
    /// # Errors
    /// If it is being encoded, or that failed.
    pub(crate) fn context(&self) -> Result<Context, ApiError> {
        let mut state = self.state();
        state.last_used = unix_now();
        match &state.stage {
            Stage::Ready(context) | Stage::Editing(context) => Ok(context.clone()),
            Stage::Failed(error) => Err(error.clone()),
            Stage::Encoding => {
                let message =
                    format!("context {:?} is being encoded: wait until it is ready", self.id);
                Err(ApiError::conflict("context_not_ready", message))
            }
            Stage::Stored | Stage::Restoring => {
                let message = format!("context {:?} is on disk: ask again", self.id);
                Err(ApiError::conflict("context_not_ready", message))
            }
        }
    }

    /// The context, if it is encoded, without using it.
    pub(crate) fn peek(&self) -> Option<Context> {
        match &self.state().stage {
            Stage::Ready(context) | Stage::Editing(context) => Some(context.clone()),
            Stage::Failed(_) | Stage::Encoding | Stage::Stored | Stage::Restoring => None,
        }
    }

    /// Whether it is encoded, in memory or on disk.
    pub(crate) fn can_be_asked(&self) -> bool {
        !matches!(self.state().stage, Stage::Encoding | Stage::Failed(_))
    }

    /// The context, which nobody else may edit until [`Entry::finish`].
    ///
    /// # Errors
    /// If it is being encoded or edited, or that failed.
    pub(crate) fn begin_edit(&self) -> Result<Context, ApiError> {
        let context = self.context()?;
        let mut state = self.state();
        if matches!(state.stage, Stage::Editing(_)) {
            let message =
                format!("context {:?} is being edited: try again when it is ready", self.id);
            return Err(ApiError::conflict("context_being_edited", message));
        }
        state.stage = Stage::Editing(context.clone());
        Ok(context)
    }

    /// This is to be encoded next, or read from disk as `restored` says.
    pub(crate) fn plan(
        &self,
        prepared: &Prepared,
        predicted: Option<f64>,
        restored: Option<RestoreInfo>,
    ) {
        let mut state = self.state();
        state.work = Work::of(prepared, predicted);
        state.restored = restored;
        drop(state);
        self.log_plan();
    }

    fn log_plan(&self) {
        let state = self.state();
        let Work { tokens, cells, predicted, .. } = &state.work;
        let data = json!({"tokens": tokens, "blocks": cells, "predicted_seconds": predicted});
        self.log.add("planned", data);
    }

    /// A host took a step. `elapsed` is how long the work has been going on, in seconds.
    pub(crate) fn step(&self, step: Progress, elapsed: f64) {
        let mut state = self.state();
        let before = state.work.progress();
        for index in state.work.step(step) {
            let state = state.work.cells[index].state;
            self.log.add("block", json!({"index": index, "state": state}));
        }
        let now = state.work.progress();
        // A hundred reports are enough to see it move.
        if (now * 100.0) as u32 > (before * 100.0) as u32 {
            let eta = (now > 0.0).then(|| elapsed * (1.0 - now) / now);
            self.log.add("progress", json!({"progress": now, "eta_seconds": eta}));
        }
    }

    /// Encoding, editing or restoring has ended. What was there stays if that failed: `before` in
    /// memory, or what is on disk.
    pub(crate) fn finish(&self, result: Result<Context, ApiError>, before: Option<&Context>) {
        let mut state = self.state();
        state.last_used = unix_now();
        let failed = match result {
            Ok(context) => {
                state.work.finish(&context, before);
                let is_restored = matches!(state.stage, Stage::Restoring);
                state.generation += u64::from(!is_restored);
                state.stage = Stage::Ready(context);
                None
            }
            Err(error) => {
                let body = error.body();
                state.stage = match (before, state.on_disk) {
                    (Some(before), _) => {
                        state.work = Work::done(before);
                        Stage::Ready(before.clone())
                    }
                    (None, Some(_)) => Stage::Stored,
                    (None, None) => Stage::Failed(error),
                };
                Some(body)
            }
        };
        drop(state);
        self.changed.notify_all();
        match failed {
            Some(error) => self.log.add("failed", error),
            None => self.log.add("ready", json!(self.info(true))),
        }
    }

    /// Whether its time is over.
    pub(crate) fn is_expired(&self, now: u64) -> bool {
        let state = self.state();
        let idle = now.saturating_sub(state.last_used);
        let busy = matches!(state.stage, Stage::Encoding | Stage::Restoring | Stage::Editing(_));
        !busy && !state.pinned && state.ttl_seconds.is_some_and(|ttl| idle >= ttl)
    }

    /// When it was last used, if it may go for lack of memory.
    pub(crate) fn may_go(&self) -> Option<u64> {
        let state = self.state();
        let idle = matches!(state.stage, Stage::Ready(_)) && !state.pinned;
        idle.then_some(state.last_used)
    }

    /// As others see it; with its blocks or without.
    pub(crate) fn info(&self, with_blocks: bool) -> ContextInfo {
        let state = self.state();
        let (status, error) = match &state.stage {
            Stage::Encoding | Stage::Editing(_) => ("encoding", None),
            Stage::Stored => ("stored", None),
            Stage::Restoring => ("restoring", None),
            Stage::Ready(_) => ("ready", None),
            Stage::Failed(error) => {
                let message = error.message().to_owned();
                ("failed", Some(ErrorInfo { code: error.code(), message }))
            }
        };
        let kv_bytes = match &state.stage {
            Stage::Ready(context) | Stage::Editing(context) => context.phase1().kv_bytes,
            Stage::Stored | Stage::Restoring => state.on_disk.map_or(0, |disk| disk.kv_bytes),
            Stage::Encoding | Stage::Failed(_) => 0,
        };
        let sparsity = match &state.stage {
            Stage::Ready(context) | Stage::Editing(context) => context.phase1().sparsity,
            _ => None,
        };
        let count = |wanted| state.work.cells.iter().filter(|cell| cell.state == wanted).count();
        ContextInfo {
            id: self.id.clone(),
            object: "context",
            name: state.name.clone(),
            created: self.created,
            status,
            progress: match status {
                "ready" | "stored" => 1.0,
                _ => state.work.progress(),
            },
            tokens: state.work.tokens,
            kv_bytes,
            density: sparsity.map(Sparsity::density),
            kept_mass: sparsity.map(Sparsity::kept_mass),
            how: self.settings.spec.into(),
            documents: state.work.documents.clone(),
            reused_blocks: count("reused"),
            encoded_blocks: count("encoded"),
            loaded_blocks: count("loaded"),
            blocks: with_blocks.then(|| state.work.cells.clone()),
            seconds: state.work.seconds,
            predicted_seconds: state.work.predicted,
            on_disk: state.on_disk.is_some_and(|disk| disk.generation == state.generation),
            restored: state.restored.clone(),
            pinned: state.pinned,
            ttl_seconds: state.ttl_seconds,
            expires_at: state
                .ttl_seconds
                .filter(|_| !state.pinned)
                .map(|ttl| state.last_used.saturating_add(ttl)),
            last_used: state.last_used,
            error,
        }
    }
}
