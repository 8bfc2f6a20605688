//! Contexts with a name, brought back from disk when they are asked: read, or encoded again.

use super::encode::make;
use crate::contexts::{Asked, Entry};
use crate::error::{ApiError, ApiResult};
use crate::state::App;
use crate::wire::RestoreInfo;
use asterism::engine::{Context, EngineError, Prepared};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The context of `entry`, brought back from disk if that is where it is. Takes its time: for
/// threads that may wait.
///
/// # Errors
/// If it is being encoded, or that failed; what went wrong with bringing it back.
pub(crate) fn bring(app: &App, entry: &Entry) -> ApiResult<Context> {
    loop {
        match entry.ask()? {
            Asked::There(context) => return Ok(context),
            Asked::Coming if app.stop.is_raised() => return Err(ApiError::stopping()),
            Asked::Coming => entry.wait(Duration::from_millis(200)),
            Asked::OnDisk { revision } => {
                let result = restore(app, entry, revision).map_err(ApiError::from);
                entry.finish(result.clone(), None);
                return result;
            }
        }
    }
}

/// As [`bring`], for those who may not wait.
///
/// # Errors
/// As [`bring`].
pub(crate) async fn bring_soon(app: &Arc<App>, entry: &Arc<Entry>) -> ApiResult<Context> {
    if let Some(context) = entry.peek() {
        // Counts as used.
        return entry.context().or(Ok(context));
    }
    let (app, entry) = (Arc::clone(app), Arc::clone(entry));
    let brought = tokio::task::spawn_blocking(move || bring(&app, &entry)).await;
    brought.map_err(|error| ApiError::internal(error.to_string()))?
}

/// Reads the keys of `entry` from disk, or encodes it from the texts there: what is likely to be
/// faster, by what was measured.
fn restore(app: &App, entry: &Entry, revision: u64) -> Result<Context, EngineError> {
    let Some(disk) = &app.disk else { return Err(EngineError::Stopped) };
    let folder = disk.keys_of(&entry.id, revision);
    let find = |folder: &Path| app.engine.saved(folder, &entry.cancel);
    let mut prepared = find(&folder)?;
    let saved = prepared.saved().map(|saved| (saved.kv_bytes, saved.encode_time));
    let (bytes, encode_time) = saved.unwrap_or_default();
    let load_seconds = disk.seconds(bytes);
    let encode_seconds = app
        .rate
        .seconds(prepared.plan(), &app.engine.model_size())
        .or_else(|| Some(encode_time.as_secs_f64()).filter(|seconds| *seconds > 0.0));
    let mut info = RestoreInfo { how: "loaded", load_seconds, encode_seconds, reason: None };
    if is_faster(load_seconds, encode_seconds) {
        entry.plan(&prepared, load_seconds, Some(info.clone()));
        match make(app, entry, prepared, || find(&folder)) {
            Ok(context) => {
                if context.phase1().reused.is_empty() {
                    disk.note(bytes, context.phase1().time);
                }
                return Ok(context);
            }
            // What cannot be read can be encoded again.
            Err(error) if error.code().starts_with("saved_") => {
                let (context, why) = (&entry.id, error.to_string());
                tracing::warn!(context, why, "keys on disk cannot be used: encoding again");
                info.reason = Some(error.to_string());
                prepared = find(&folder)?;
            }
            Err(error) => return Err(error),
        }
    }
    info.how = "encoded";
    let prepared = prepared.anew();
    entry.plan(&prepared, encode_seconds, Some(info));
    make(app, entry, prepared, || find(&folder).map(Prepared::anew))
}

/// Whether loading is likely to be the faster way. It is tried where nothing is known of it.
fn is_faster(load_seconds: Option<f64>, encode_seconds: Option<f64>) -> bool {
    match (load_seconds, encode_seconds) {
        (Some(load), Some(encode)) => load <= encode,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_likely_to_be_faster_is_done() {
        assert!(is_faster(Some(1.0), Some(2.0)));
        assert!(!is_faster(Some(3.0), Some(2.0)));
        assert!(is_faster(None, Some(2.0)) && is_faster(Some(3.0), None) && is_faster(None, None));
    }
}
