//! Contexts that are being written to disk, on the thread that leads the hosts.

use super::EngineError;
use super::command::Command;
use super::group::Group;
use super::request::SaveRequest;
use crate::tensor::Backend;

/// Contexts that are being written, oldest first.
#[derive(Default)]
pub(super) struct SavingQueue(Vec<Job>);

struct Job {
    request: SaveRequest,
    /// What was not written yet, in tokens times layers.
    left: u64,
    begun: bool,
}

impl SavingQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, request: SaveRequest) {
        self.0.push(Job { left: request.work, request, begun: false });
    }

    /// Of every context that is being written, the work that is left, in tokens times layers.
    pub(super) fn work_left(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|job| job.left)
    }

    /// Gives up what is not wanted any more.
    pub(super) fn drop_cancelled<B: Backend>(&mut self, group: &mut Group<B>) {
        for job in self.0.extract_if(.., |job| job.request.cancel.is_raised()) {
            group.let_go(&Command::EndSave(job.request.context));
            let _ = job.request.ended.send(Err(EngineError::Cancelled));
        }
    }

    /// Writes the next layer of context number `index` on all hosts.
    pub(super) fn advance<B: Backend>(&mut self, group: &mut Group<B>, index: usize) {
        let Some(job) = self.0.get_mut(index) else { return };
        let SaveRequest { context, folder, slice, .. } = &job.request;
        let (context, folder) = (*context, folder.clone());
        let command = Command::Save { context, folder, first: !job.begun };
        job.begun = true;
        job.left = job.left.saturating_sub(*slice);
        let result = match group.obey(&command) {
            Ok(outcomes) if outcomes.iter().any(|outcome| outcome.save_left) => return,
            Ok(_) => Ok(()),
            Err(error) => {
                group.let_go(&Command::EndSave(context));
                Err(error)
            }
        };
        let _ = self.0.remove(index).request.ended.send(result);
    }
}
