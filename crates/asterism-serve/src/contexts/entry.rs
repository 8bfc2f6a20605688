//! One context with a name.

use super::{Log, cells};
use crate::error::ApiError;
use crate::state::unix_now;
use crate::wire::{Cell, ContextInfo, Document, DocumentInfo, ErrorInfo};
use asterism::cancel::Cancel;
use asterism::engine::{Change, Context, Prepared, Progress};
use asterism::plan::{Plan, PlanSpec, Span};
use serde_json::json;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a context is encoded, now and after edits.
#[derive(Debug, Clone)]
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
    /// Raised when it is deleted.
    pub(crate) cancel: Cancel,
    created: u64,
    state: Mutex<State>,
}

/// What changes of it.
struct State {
    name: String,
    pinned: bool,
    ttl_seconds: Option<u64>,
    last_used: u64,
    stage: Stage,
    work: Work,
}

/// How far it has come.
enum Stage {
    Encoding,
    Ready(Context),
    /// Being edited; questions are answered from what was there before.
    Editing(Context),
    Failed(ApiError),
}

/// What is, or was last, encoded for it.
#[derive(Default)]
struct Work {
    tokens: usize,
    documents: Vec<DocumentInfo>,
    cells: Vec<Cell>,
    /// Whether a host encodes its blocks one by one, as star does.
    by_block: bool,
    predicted: Option<f64>,
    seconds: Option<f64>,
    /// In tokens times layers.
    all: u64,
    so_far: u64,
}

impl Entry {
    /// A context to be encoded as `prepared`.
    pub(crate) fn new(
        id: String,
        name: String,
        settings: Settings,
        (pinned, ttl_seconds): (bool, Option<u64>),
        prepared: &Prepared,
        predicted: Option<f64>,
    ) -> Arc<Self> {
        let now = unix_now();
        let work = Work::of(prepared.plan(), prepared.documents(), prepared, predicted);
        let state =
            State { name, pinned, ttl_seconds, last_used: now, stage: Stage::Encoding, work };
        let (log, cancel, state) = (Log::default(), Cancel::new(), Mutex::new(state));
        let entry = Self { id, settings, log, cancel, created: now, state };
        entry.log_plan();
        Arc::new(entry)
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
        }
    }

    /// The context, if it is encoded, without using it.
    pub(crate) fn peek(&self) -> Option<Context> {
        match &self.state().stage {
            Stage::Ready(context) | Stage::Editing(context) => Some(context.clone()),
            Stage::Failed(_) | Stage::Encoding => None,
        }
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

    /// The edit is to encode this.
    pub(crate) fn plan_edit(&self, prepared: &Prepared, predicted: Option<f64>) {
        self.state().work = Work::of(prepared.plan(), prepared.documents(), prepared, predicted);
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

    /// Encoding or editing has ended.
    pub(crate) fn finish(&self, result: Result<Context, ApiError>, before: Option<&Context>) {
        {
            let mut state = self.state();
            state.last_used = unix_now();
            match result {
                Ok(context) => {
                    state.work.finish(&context, before);
                    state.stage = Stage::Ready(context);
                }
                // An edit that fails leaves what was there.
                Err(error) => match before {
                    Some(before) => {
                        state.work = Work::done(before);
                        state.stage = Stage::Ready(before.clone());
                        self.log.add("failed", error.body());
                        return;
                    }
                    None => {
                        self.log.add("failed", error.body());
                        state.stage = Stage::Failed(error);
                        return;
                    }
                },
            }
        }
        self.log.add("ready", json!(self.info(true)));
    }

    /// Whether its time is over.
    pub(crate) fn is_expired(&self, now: u64) -> bool {
        let state = self.state();
        let idle = now.saturating_sub(state.last_used);
        let busy = matches!(state.stage, Stage::Encoding | Stage::Editing(_));
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
            Stage::Ready(_) => ("ready", None),
            Stage::Failed(error) => {
                let message = error.message().to_owned();
                ("failed", Some(ErrorInfo { code: error.code(), message }))
            }
        };
        let kv_bytes = match &state.stage {
            Stage::Ready(context) | Stage::Editing(context) => context.phase1().kv_bytes,
            Stage::Encoding | Stage::Failed(_) => 0,
        };
        let count = |wanted| state.work.cells.iter().filter(|cell| cell.state == wanted).count();
        ContextInfo {
            id: self.id.clone(),
            object: "context",
            name: state.name.clone(),
            created: self.created,
            status,
            progress: if status == "ready" { 1.0 } else { state.work.progress() },
            tokens: state.work.tokens,
            kv_bytes,
            how: self.settings.spec.into(),
            documents: state.work.documents.clone(),
            reused_blocks: count("reused"),
            encoded_blocks: count("encoded"),
            blocks: with_blocks.then(|| state.work.cells.clone()),
            seconds: state.work.seconds,
            predicted_seconds: state.work.predicted,
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

impl Work {
    fn of(
        plan: &Plan,
        documents: &[asterism::text::Document],
        prepared: &Prepared,
        predicted: Option<f64>,
    ) -> Self {
        let layers = prepared.engine().config().layers;
        Self {
            tokens: plan.tokens,
            documents: document_infos(documents),
            cells: cells(plan, documents),
            by_block: plan.spec.method.as_star().is_some(),
            predicted,
            seconds: None,
            all: asterism::engine::Phase1::work(plan, layers),
            so_far: 0,
        }
    }

    /// Of a context that is encoded.
    fn done(context: &Context) -> Self {
        let mut work = Self {
            tokens: context.tokens().len(),
            documents: document_infos(context.documents()),
            cells: cells(context.plan(), context.documents()),
            ..Self::default()
        };
        work.finish(context, None);
        work
    }

    fn progress(&self) -> f64 {
        if self.all == 0 { 1.0 } else { (self.so_far as f64 / self.all as f64).min(1.0) }
    }

    /// A host took a step; the blocks that it finished.
    fn step(&mut self, step: Progress) -> Vec<usize> {
        self.so_far += step.work;
        let Some(block) = step.finished_block else { return Vec::new() };
        let of_host = self.cells.iter_mut().filter(|cell| cell.host == step.host);
        let is_done = |number: usize| !self.by_block || number == block;
        let done = of_host.enumerate().filter(|(number, _)| is_done(*number));
        let mark = |(_, cell): (usize, &mut Cell)| {
            cell.state = if step.is_reused { "reused" } else { "encoded" };
            cell.index
        };
        done.map(mark).collect()
    }

    fn finish(&mut self, context: &Context, before: Option<&Context>) {
        let reused = &context.phase1().reused;
        let changes = before.map(|before| context.changes_from(before)).unwrap_or_default();
        for cell in &mut self.cells {
            let span = Span { start: cell.start, len: cell.tokens };
            cell.state = if reused.contains(&span) { "reused" } else { "encoded" };
            let change = changes.iter().find(|(changed, _)| *changed == span);
            cell.change = change.map(|(_, change)| change_name(*change));
        }
        self.seconds = Some(context.phase1().time.as_secs_f64());
        self.so_far = self.all;
    }
}

fn change_name(change: Change) -> &'static str {
    match change {
        Change::Reused => "reused",
        Change::Edited => "edited",
        Change::Moved => "moved",
        Change::Anchor => "anchor",
        Change::GivenUp => "given_up",
    }
}

/// What is known of documents beside their texts.
pub(crate) fn document_infos(documents: &[asterism::text::Document]) -> Vec<DocumentInfo> {
    let info = |document: &asterism::text::Document| DocumentInfo {
        name: document.name().to_owned(),
        characters: document.text().chars().count(),
        tokens: document.tokens().len(),
    };
    documents.iter().map(info).collect()
}

/// The documents of a context as they were given.
pub(crate) fn documents_of(context: &Context) -> Vec<Document> {
    let document = |document: &asterism::text::Document| Document {
        name: document.name().to_owned(),
        text: document.text().to_owned(),
    };
    context.documents().iter().map(document).collect()
}
