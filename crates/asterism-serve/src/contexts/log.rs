//! What happened to a context, kept for those who begin to watch later or lost their connection.

use serde_json::Value;
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// Something that happened.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// Rising, from 1.
    pub(crate) id: u64,
    pub(crate) kind: &'static str,
    pub(crate) data: Value,
}

/// All that happened since the last plan.
#[derive(Debug)]
pub(crate) struct Log {
    records: Mutex<Vec<Record>>,
    /// The number of the last record, for those who wait for the next.
    last: watch::Sender<u64>,
}

impl Default for Log {
    fn default() -> Self {
        Self { records: Mutex::default(), last: watch::Sender::new(0) }
    }
}

impl Log {
    /// Adds a record. A plan makes an end of what was before it, and only the last report of
    /// progress is kept, so that a log stays as short as a list of blocks.
    pub(crate) fn add(&self, kind: &'static str, data: Value) {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let id = *self.last.borrow() + 1;
        match kind {
            "planned" => records.clear(),
            "progress" => records.retain(|record| record.kind != "progress"),
            _ => {}
        }
        records.push(Record { id, kind, data });
        self.last.send_replace(id);
    }

    /// What happened after record `id`.
    pub(crate) fn after(&self, id: u64) -> Vec<Record> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().filter(|record| record.id > id).cloned().collect()
    }

    /// Tells of new records.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}

impl Record {
    /// Whether nothing comes after it, before the next plan.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self.kind, "ready" | "failed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_from_where_a_reader_left_it() {
        let log = Log::default();
        for (kind, data) in [("planned", 0), ("progress", 1), ("block", 2), ("progress", 3)] {
            log.add(kind, data.into());
        }
        let after =
            |id| log.after(id).into_iter().map(|r| (r.id, r.kind, r.data)).collect::<Vec<_>>();
        assert_eq!(after(2), [(3, "block", 2.into()), (4, "progress", 3.into())]);
        assert_eq!(after(0).len(), 3, "the first report of progress is out of date");
        log.add("ready", 4.into());
        log.add("planned", 5.into());
        assert_eq!(after(0), [(6, "planned", 5.into())]);
    }
}
