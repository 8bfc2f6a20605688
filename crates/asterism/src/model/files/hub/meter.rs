//! Progress of one download.
//!
//! Receives the bytes as they are counted; passes the sums on to the caller's [`FetchProgress`].

use crate::model::FetchProgress;

/// Passes one file's progress on.
pub(super) struct Meter<'a> {
    file: &'a str,
    done: u64,
    /// Bytes; 0 while unknown.
    total: u64,
    listener: Option<&'a dyn FetchProgress>,
}

impl<'a> Meter<'a> {
    /// Before the download of `file`, which has `total` bytes if that is known.
    pub(super) fn new(
        file: &'a str,
        total: Option<u64>,
        listener: Option<&'a dyn FetchProgress>,
    ) -> Self {
        Self { file, done: 0, total: total.unwrap_or(0), listener }
    }

    /// A transfer begins, after the `done` bytes that earlier ones left.
    pub(super) fn start(&mut self, done: u64) {
        self.done = done;
        self.tell();
    }

    /// `more` bytes have arrived.
    pub(super) fn advance(&mut self, more: u64) {
        self.done += more;
        self.tell();
    }

    /// All has arrived; where the length was unknown, it is known now.
    pub(super) fn finish(&mut self) {
        if self.total == 0 {
            self.total = self.done;
            self.tell();
        }
    }

    fn tell(&self) {
        if let Some(listener) = self.listener {
            listener.progress(self.file, self.done, self.total);
        }
    }
}
