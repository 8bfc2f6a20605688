//! Contexts with a name on disk: written once they are encoded.

use crate::contexts::{Disk, Entry};
use crate::state::App;
use asterism::engine::EngineError;
use std::sync::{Arc, PoisonError};

/// Writes `entry` to disk in the background, if the server keeps contexts there.
pub(super) fn keep(app: &Arc<App>, entry: &Arc<Entry>) {
    let (app, entry) = (Arc::clone(app), Arc::clone(entry));
    if app.disk.is_some() {
        tokio::task::spawn_blocking(move || {
            let Some(disk) = &app.disk else { return };
            let _writing = disk.begin_writing();
            if let Err(error) = write(disk, &entry) {
                let (context, why) = (&entry.id, error.to_string());
                tracing::warn!(context, why, "a context could not be written to disk");
            }
        });
    }
}

fn write(disk: &Disk, entry: &Entry) -> Result<(), EngineError> {
    let _turn = entry.writing.lock().unwrap_or_else(PoisonError::into_inner);
    // Somebody may have written it meanwhile, or it is gone.
    let Some((context, generation, revision)) = entry.to_write() else { return Ok(()) };
    let folder = disk.keys_of(&entry.id, revision);
    let saved = context.save(&folder, &entry.cancel);
    if entry.cancel.is_raised() {
        // Deleted, or the server stops: what was written before stays.
        let _ = std::fs::remove_dir_all(folder);
        return Ok(());
    }
    saved?;
    entry.written(&context, generation, revision);
    put_label(disk, entry);
    disk.remove_but(&entry.id, Some(revision));
    tracing::info!(context = entry.id, bytes = context.phase1().kv_bytes, "written to disk");
    Ok(())
}

/// Writes the label of `entry`, if it is on disk.
pub(crate) fn put_label(disk: &Disk, entry: &Entry) {
    let Some(label) = entry.label().filter(|_| !entry.is_deleted()) else { return };
    if let Err(error) = disk.write(&label) {
        let (context, why) = (&entry.id, error.to_string());
        tracing::warn!(context, why, "the label of a context could not be written");
    }
}
