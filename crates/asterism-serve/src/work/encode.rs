//! Contexts with a name: read, planned, encoded.

use crate::contexts::{Entry, Settings};
use crate::error::{ApiError, ApiResult};
use crate::state::App;
use crate::wire::Document;
use asterism::cancel::Cancel;
use asterism::engine::{Context, EngineError, Prepared};
use std::sync::Arc;
use std::time::Instant;

/// Documents, and how they are to be encoded.
pub(crate) struct Build {
    pub(crate) documents: Vec<Document>,
    pub(crate) settings: Settings,
}

impl Build {
    /// Reads and plans; this takes a while for long texts.
    pub(crate) fn prepare(&self, app: &App, cancel: &Cancel) -> Result<Prepared, EngineError> {
        let Settings { spec, slack, system } = &self.settings;
        let documents: Vec<(&str, &str)> =
            self.documents.iter().map(|d| (d.name.as_str(), d.text.as_str())).collect();
        let mut builder =
            app.engine.documents(&documents).method(spec.method).hosts(spec.hosts).cancel(cancel);
        if let Some(star) = spec.method.as_star() {
            // Long documents begin blocks of their own, so that editing one leaves the others.
            builder = builder.slack(*slack).own_blocks_from(star.block / 4);
        }
        if let Some(system) = system {
            builder = builder.system(system);
        }
        builder.prepare()
    }
}

/// Reads and plans, on a thread that may take its time.
///
/// # Errors
/// As the engine's.
pub(crate) async fn prepare(app: &Arc<App>, build: Build) -> ApiResult<Prepared> {
    let (app, cancel) = (Arc::clone(app), app.stop.child());
    let prepared = tokio::task::spawn_blocking(move || build.prepare(&app, &cancel)).await;
    Ok(prepared.map_err(|error| ApiError::internal(error.to_string()))??)
}

/// Encodes `prepared` for `entry`, of which `before` is what was there, and tells it. Waits until
/// that is done. `again` prepares it once more, should there be no memory at first.
///
/// # Errors
/// What the entry was told.
pub(crate) fn encode_entry(
    app: &App,
    entry: &Entry,
    prepared: Prepared,
    again: impl Fn() -> Result<Prepared, EngineError>,
    before: Option<&Context>,
) -> ApiResult<()> {
    let cancel = entry.cancel.clone();
    let mut prepared = Ok(prepared);
    let result = loop {
        let began = Instant::now();
        let watch = |step| {
            if app.stop.is_raised() {
                cancel.raise();
            }
            entry.step(step, began.elapsed().as_secs_f64());
        };
        match prepared.and_then(|prepared| prepared.encode(&watch, &cancel)) {
            // Contexts that were not used for long, and are not pinned, make room.
            Err(error) if error.code() == "out_of_memory" && app.contexts.make_room() => {
                prepared = again();
            }
            result => break result,
        }
    };
    if let Ok(context) = &result
        && context.phase1().reused.is_empty()
    {
        app.rate.note(context.plan(), &app.engine.model_size(), context.phase1().time);
    }
    let result = result.map_err(ApiError::from);
    let failed = result.as_ref().err().cloned();
    entry.finish(result, before);
    failed.map_or(Ok(()), Err)
}
