//! Contexts with a name, kept over restarts: a folder for each, in which the engine writes the keys
//! and this a label with the name.
//!
//! ```text
//! lock                  held by the server that uses the folder
//! ctx_…/label.json      name, lifetime, how it was asked to be encoded; says which is the last
//! ctx_…/3/              the context as it is after its second edit, as the engine saves it
//! ```
//!
//! A context that is edited is written beside what was there; the label changes once that is done.

use super::Settings;
use crate::wire::DocumentInfo;
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The format of labels that this version writes, and the only one that it reads.
const FORMAT: &str = "asterism label 1";

/// Why the folder for contexts cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// The system refuses.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another server uses it.
    #[error("{path} is used by another server: give each a folder of its own", path = .0.display())]
    InUse(PathBuf),
}

/// The folder for contexts.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
    /// Locked as long as this lives.
    _lock: File,
    /// Contexts that are being written.
    writing: AtomicUsize,
    /// Bytes of keys and values read per second; `None` before any were read.
    rate: Mutex<Option<f64>>,
}

/// What is known of a context on disk without reading it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Label {
    pub(crate) format: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) settings: Settings,
    pub(crate) created: u64,
    pub(crate) last_used: u64,
    pub(crate) pinned: bool,
    pub(crate) ttl_seconds: Option<u64>,
    /// The name of the folder with its keys.
    pub(crate) revision: u64,
    pub(crate) tokens: usize,
    pub(crate) kv_bytes: u64,
    pub(crate) documents: Vec<DocumentInfo>,
}

impl Label {
    /// The format of a new one.
    pub(crate) fn format() -> String {
        FORMAT.to_owned()
    }
}

/// Counts a context that is being written.
pub(crate) struct Writing<'a>(&'a AtomicUsize);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Disk {
    /// Takes `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// If the system refuses, or another server has it.
    pub(crate) fn open(folder: &Path) -> Result<Self, DiskError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| DiskError::Io { path, source }
        };
        let folder = std::path::absolute(folder).map_err(io(folder))?;
        std::fs::create_dir_all(&folder).map_err(io(&folder))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(io(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DiskError::InUse(folder)),
            Err(TryLockError::Error(source)) => return Err(io(&path)(source)),
        }
        Ok(Self { folder, _lock: lock, writing: AtomicUsize::new(0), rate: Mutex::default() })
    }

    /// The folder of the context `id`.
    fn of(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    /// Where the keys of a revision of the context `id` are.
    pub(crate) fn keys_of(&self, id: &str, revision: u64) -> PathBuf {
        self.of(id).join(revision.to_string())
    }

    /// The labels of all contexts. What cannot be read is left where it is, and logged; what was
    /// never written to its end is taken away.
    pub(crate) fn labels(&self) -> Vec<Label> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Vec::new() };
        let mut labels = Vec::new();
        for entry in entries.flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            if !id.starts_with("ctx_") {
                continue;
            }
            match read_label(&entry.path()) {
                Ok(Some(label)) if label.id == id => {
                    self.remove_but(&id, Some(label.revision));
                    labels.push(label);
                }
                Ok(Some(label)) => {
                    tracing::warn!(
                        folder = id,
                        label.id,
                        "a label of another context: passed over"
                    );
                }
                Ok(None) => self.remove(&id),
                Err(why) => tracing::warn!(folder = id, why, "a label that cannot be read"),
            }
        }
        labels.sort_by(|one, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
        labels
    }

    /// Writes a label: all of it or nothing.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn write(&self, label: &Label) -> std::io::Result<()> {
        let folder = self.of(&label.id);
        let draft = folder.join("label.json.new");
        std::fs::write(&draft, serde_json::to_vec_pretty(label)?)?;
        std::fs::rename(draft, folder.join("label.json"))
    }

    /// Takes a context away.
    pub(crate) fn remove(&self, id: &str) {
        // The label first: what is left, should this be interrupted, is then taken away later.
        let _ = std::fs::remove_file(self.of(id).join("label.json"));
        if let Err(error) = std::fs::remove_dir_all(self.of(id)) {
            let why = error.to_string();
            tracing::warn!(context = id, why, "a context cannot be taken off the disk");
        }
    }

    /// Takes away all revisions of a context but `revision`.
    pub(crate) fn remove_but(&self, id: &str, revision: Option<u64>) {
        let Ok(entries) = std::fs::read_dir(self.of(id)) else { return };
        let keep = revision.map(|revision| revision.to_string());
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.parse::<u64>().is_ok() && keep.as_ref() != Some(&name) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Notes that a context is being written, as long as the guard lives.
    pub(crate) fn begin_writing(&self) -> Writing<'_> {
        self.writing.fetch_add(1, Ordering::AcqRel);
        Writing(&self.writing)
    }

    /// Whether a context is being written.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing.load(Ordering::Acquire) > 0
    }

    /// Notes that reading `bytes` of keys took `time`.
    pub(crate) fn note(&self, bytes: u64, time: Duration) {
        let seconds = time.as_secs_f64();
        if bytes > 0 && seconds > 0.0 {
            let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
            let now = bytes as f64 / seconds;
            *rate = Some(rate.map_or(now, |before| 0.5 * before + 0.5 * now));
        }
    }

    /// How long reading `bytes` of keys is likely to take; `None` before anything was read.
    pub(crate) fn seconds(&self, bytes: u64) -> Option<f64> {
        let rate = *self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        Some(bytes as f64 / rate?)
    }
}

/// The label in `folder`; `None` if there is none.
fn read_label(folder: &Path) -> Result<Option<Label>, String> {
    let bytes = match std::fs::read(folder.join("label.json")) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    parse_label(&bytes).map(Some)
}

/// The label that `bytes` are.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn parse_label(bytes: &[u8]) -> Result<Label, String> {
    let label: Label = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if label.format != FORMAT {
        return Err(format!("its format is {:?}, and this version reads {FORMAT:?}", label.format));
    }
    Ok(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use asterism::plan::PlanSpec;

    fn label(id: &str, revision: u64) -> Label {
        let spec = PlanSpec::star(64).anchor(16).hosts(2);
        let documents = vec![DocumentInfo { name: "a".into(), characters: 9, tokens: 3 }];
        Label {
            format: Label::format(),
            id: id.into(),
            name: "walden".into(),
            settings: Settings { spec, slack: 4, system: Some("Be brief.".into()) },
            created: 5,
            last_used: 7,
            pinned: true,
            ttl_seconds: Some(60),
            revision,
            tokens: 3,
            kv_bytes: 96,
            documents,
        }
    }

    #[test]
    fn what_was_written_to_its_end_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(&folder.path().join("new/contexts")).unwrap();
        for (id, revision) in [("ctx_1", 2), ("ctx_2", 1)] {
            for revision in 1..=revision + 1 {
                std::fs::create_dir_all(disk.keys_of(id, revision)).unwrap();
            }
            disk.write(&label(id, revision)).unwrap();
        }
        // Never written to its end; of another context; of another kind; damaged.
        std::fs::create_dir_all(disk.keys_of("ctx_3", 1)).unwrap();
        for (id, text) in [("ctx_4", None), ("other", None), ("ctx_5", Some("{\"format\": 3"))] {
            std::fs::create_dir_all(disk.of(id)).unwrap();
            let json = serde_json::to_string(&label("ctx_1", 1)).unwrap();
            std::fs::write(disk.of(id).join("label.json"), text.unwrap_or(&json)).unwrap();
        }
        assert_eq!(disk.labels(), [label("ctx_1", 2), label("ctx_2", 1)]);
        assert!(disk.keys_of("ctx_1", 2).exists() && !disk.keys_of("ctx_1", 3).exists());
        assert!(!disk.of("ctx_3").exists() && disk.of("ctx_4").exists());
        disk.remove("ctx_2");
        assert_eq!(disk.labels(), [label("ctx_1", 2)]);
    }

    #[test]
    fn one_server_uses_a_folder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        let error = Disk::open(folder.path()).unwrap_err();
        assert!(matches!(error, DiskError::InUse(_)), "{error}");
        drop(disk);
        assert!(Disk::open(folder.path()).is_ok());
    }

    #[test]
    fn reading_is_expected_to_take_as_long_as_it_did() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::open(folder.path()).unwrap();
        assert_eq!(disk.seconds(100), None);
        disk.note(1000, Duration::from_secs(2));
        assert_eq!(disk.seconds(250), Some(0.5));
        let writing = disk.begin_writing();
        assert!(disk.is_writing());
        drop(writing);
        assert!(!disk.is_writing());
    }
}
