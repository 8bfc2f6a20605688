//! All contexts with a name.

use super::Entry;
use crate::error::{ApiError, ApiResult};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Contexts, oldest first. Names and ids are one set: each leads to one context.
#[derive(Default)]
pub(crate) struct Registry(Mutex<Vec<Arc<Entry>>>);

impl Registry {
    fn entries(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        self.entries().clone()
    }

    /// The one with this id or name.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Entry>> {
        let entries = self.entries();
        entries.iter().find(|entry| entry.id == name || entry.name() == name).cloned()
    }

    /// The one with this id or name.
    ///
    /// # Errors
    /// 404.
    pub(crate) fn get(&self, name: &str) -> ApiResult<Arc<Entry>> {
        self.find(name).ok_or_else(|| {
            let message = format!("there is no context {name:?}: GET /v1/contexts lists them");
            ApiError::not_found("context_not_found", message)
        })
    }

    /// Adds one.
    ///
    /// # Errors
    /// 409 if its name is taken, also by `model`.
    pub(crate) fn add(&self, entry: Arc<Entry>, model: &str) -> ApiResult<()> {
        let mut entries = self.entries();
        check_free(&entries, &entry.name(), model, None)?;
        entries.push(entry);
        Ok(())
    }

    /// Gives `entry` another name.
    ///
    /// # Errors
    /// As [`Registry::add`].
    pub(crate) fn rename(&self, entry: &Entry, name: &str, model: &str) -> ApiResult<()> {
        // Held until the name is given, so that nobody else takes it.
        let entries = self.entries();
        check_free(&entries, name, model, Some(&entry.id))?;
        entry.change(Some(name.to_owned()), None, None);
        Ok(())
    }

    /// Takes one out.
    ///
    /// # Errors
    /// 404.
    pub(crate) fn remove(&self, name: &str) -> ApiResult<Arc<Entry>> {
        let entry = self.get(name)?;
        self.entries().retain(|other| other.id != entry.id);
        Ok(entry)
    }

    /// Takes those out whose time is over.
    pub(crate) fn expire(&self, now: u64) -> Vec<Arc<Entry>> {
        self.entries().extract_if(.., |entry| entry.is_expired(now)).collect()
    }

    /// Lets go of the one that was used longest ago and may go: of its memory if it is on disk,
    /// otherwise of all. False if there is none.
    pub(crate) fn make_room(&self) -> bool {
        let mut entries = self.entries();
        let may_go = entries.iter().enumerate().filter_map(|(i, e)| Some((e.may_go()?, i)));
        let Some((_, oldest)) = may_go.min() else { return false };
        if !entries[oldest].unload() {
            entries.remove(oldest);
        }
        true
    }
}

fn check_free(entries: &[Arc<Entry>], name: &str, model: &str, own: Option<&str>) -> ApiResult<()> {
    let others = entries.iter().filter(|entry| Some(&*entry.id) != own);
    let taken = others.into_iter().any(|entry| entry.id == name || entry.name() == name);
    if taken || name == model {
        let message = format!("the name {name:?} is taken: choose another, or delete what has it");
        return Err(ApiError::conflict("name_taken", message));
    }
    Ok(())
}
