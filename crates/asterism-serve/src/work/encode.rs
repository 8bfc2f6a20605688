//! Contexts with a name: read, planned, encoded.

use super::keep::keep;
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
            builder = builder.slack(*slack).own_blocks_from(star.own_block());
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
    app: &Arc<App>,
    entry: &Arc<Entry>,
    prepared: Prepared,
    again: impl Fn() -> Result<Prepared, EngineError>,
    before: Option<&Context>,
) -> ApiResult<()> {
    let result = make(app, entry, prepared, again).map_err(ApiError::from);
    let failed = result.as_ref().err().cloned();
    entry.finish(result, before);
    keep(app, entry);
    failed.map_or(Ok(()), Err)
}

/// Encodes `prepared`, or reads its keys, as its entry watches. `again` prepares it once more,
/// should there be no memory at first.
pub(super) fn make(
    app: &App,
    entry: &Entry,
    prepared: Prepared,
    again: impl Fn() -> Result<Prepared, EngineError>,
) -> Result<Context, EngineError> {
    let mut prepared = prepared;
    let context = loop {
        let began = Instant::now();
        let watch = |step| entry.step(step, began.elapsed().as_secs_f64());
        match prepared.encode(&watch, &entry.cancel) {
            // Contexts that were not used for long, and are not pinned, make room.
            Err(error) if error.code() == "out_of_memory" && app.contexts.make_room() => {
                prepared = again()?;
            }
            result => break result?,
        }
    };
    note_rate(app, &context);
    Ok(context)
}

/// Notes how long encoding a context took, if all of it was encoded.
pub(super) fn note_rate(app: &App, context: &Context) {
    let phase1 = context.phase1();
    if phase1.reused.is_empty() && !phase1.is_loaded {
        app.rate.note(context.plan(), &app.engine.model_size(), phase1.time);
    }
}
