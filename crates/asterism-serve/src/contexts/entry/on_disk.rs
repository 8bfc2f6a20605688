//! A context with a name on its way to the disk and back.

use super::{Entry, OnDisk, Stage, State};
use crate::contexts::Label;
use crate::contexts::progress::Work;
use crate::error::ApiError;
use asterism::cancel::Cancel;
use asterism::engine::Context;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// What somebody finds who wants the context.
pub(crate) enum Asked {
    /// It is there.
    There(Context),
    /// It is on disk, and who asks brings it back: [`Entry::plan`], [`Entry::finish`].
    OnDisk { revision: u64 },
    /// Somebody else brings it back.
    Coming,
}

impl Entry {
    /// A context that is on disk.
    pub(crate) fn stored(label: Label, cancel: Cancel) -> Arc<Self> {
        let Label { id, settings, created, revision, kv_bytes, .. } = label;
        let state = State {
            name: label.name,
            pinned: label.pinned,
            ttl_seconds: label.ttl_seconds,
            last_used: label.last_used,
            stage: Stage::Stored,
            work: Work::of_stored(label.tokens, label.documents),
            generation: 0,
            on_disk: Some(OnDisk { revision, generation: 0, kv_bytes }),
            restored: None,
        };
        let entry = Self::with(id, settings, cancel, created, state);
        entry.log.add("ready", json!(entry.info(true)));
        Arc::new(entry)
    }

    /// The context, or who brings it back from disk.
    ///
    /// # Errors
    /// As [`Entry::context`], but for what is on disk.
    pub(crate) fn ask(&self) -> Result<Asked, ApiError> {
        let mut state = self.state();
        match (&state.stage, state.on_disk) {
            (Stage::Stored, Some(OnDisk { revision, .. })) => {
                state.stage = Stage::Restoring;
                Ok(Asked::OnDisk { revision })
            }
            (Stage::Restoring, _) => Ok(Asked::Coming),
            _ => {
                drop(state);
                self.context().map(Asked::There)
            }
        }
    }

    /// Waits a while for another stage.
    pub(crate) fn wait(&self, most: Duration) {
        let state = self.state();
        let is_coming = |state: &mut State| matches!(state.stage, Stage::Restoring);
        drop(self.changed.wait_timeout_while(state, most, is_coming));
    }

    /// What is to be written to disk: the context, its generation, and the revision that it will
    /// be; `None` if that is there already.
    pub(crate) fn to_write(&self) -> Option<(Context, u64, u64)> {
        let state = self.state();
        let (Stage::Ready(context) | Stage::Editing(context)) = &state.stage else { return None };
        match state.on_disk {
            Some(on_disk) if on_disk.generation == state.generation => None,
            Some(on_disk) => Some((context.clone(), state.generation, on_disk.revision + 1)),
            None => Some((context.clone(), state.generation, 1)),
        }
    }

    /// `context`, of this generation, was written to disk as `revision`.
    pub(crate) fn written(&self, context: &Context, generation: u64, revision: u64) {
        let kv_bytes = context.phase1().kv_bytes;
        self.state().on_disk = Some(OnDisk { revision, generation, kv_bytes });
    }

    /// What its label says on disk; `None` if it is not there.
    pub(crate) fn label(&self) -> Option<Label> {
        let state = self.state();
        let OnDisk { revision, kv_bytes, .. } = state.on_disk?;
        Some(Label {
            format: Label::format(),
            id: self.id.clone(),
            name: state.name.clone(),
            settings: self.settings.clone(),
            created: self.created,
            last_used: state.last_used,
            pinned: state.pinned,
            ttl_seconds: state.ttl_seconds,
            revision,
            tokens: state.work.tokens,
            kv_bytes,
            documents: state.work.documents.clone(),
        })
    }

    /// Lets go of what is in memory, if all of it is on disk: whether it did.
    pub(crate) fn unload(&self) -> bool {
        let mut state = self.state();
        let is_whole = state.on_disk.is_some_and(|disk| disk.generation == state.generation);
        if is_whole && matches!(state.stage, Stage::Ready(_)) {
            state.stage = Stage::Stored;
            return true;
        }
        false
    }
}
