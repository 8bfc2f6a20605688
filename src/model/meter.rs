//! Progress of one download.
//!
//! Receives the events of the Hub's client; passes them on to the caller's [`FetchProgress`], and
//! keeps the length that the Hub announced, to compare it with what arrived.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};

use super::FetchProgress;

/// Passes one file's progress on, and remembers the length that the Hub announced.
pub(super) struct Meter {
    file: String,
    /// Bytes; 0 while unknown.
    announced: AtomicU64,
    listener: Option<Arc<dyn FetchProgress>>,
}

impl Meter {
    /// Before the download of `file`.
    pub(super) fn new(file: &str, listener: Option<Arc<dyn FetchProgress>>) -> Self {
        Self { file: file.to_owned(), announced: AtomicU64::new(0), listener }
    }

    /// The length that the Hub announced, in bytes; 0 if it told none, or the cache had the file.
    pub(super) fn announced(&self) -> u64 {
        self.announced.load(Ordering::Relaxed)
    }
}

impl ProgressHandler for Meter {
    fn on_progress(&self, event: &ProgressEvent) {
        let ProgressEvent::Download(event) = event else {
            return;
        };
        let tell = |done, total| {
            if let Some(listener) = &self.listener {
                listener.progress(&self.file, done, total);
            }
        };
        match event {
            DownloadEvent::Start { total_bytes, .. } => {
                self.announced.store(*total_bytes, Ordering::Relaxed);
                tell(0, *total_bytes);
            }
            DownloadEvent::Progress { files } => {
                files.iter().for_each(|file| tell(file.bytes_completed, file.total_bytes))
            }
            DownloadEvent::AggregateProgress { bytes_completed, total_bytes, .. } => {
                tell(*bytes_completed, *total_bytes)
            }
            DownloadEvent::Complete => {}
        }
    }
}
