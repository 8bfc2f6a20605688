//! What a host that does not lead keeps for decode steps that every host runs.

use super::command::ContextId;
use super::loaded::Loaded;
use super::recorded::Recorded;
use crate::attention::Gathered;
use crate::model::Workspace;
use crate::plan::Slices;
use crate::tensor::{self, Backend};

/// The buffers of such steps, and the last one that was recorded.
pub(super) struct Replica<B: Backend> {
    pub(super) work: Workspace<B>,
    pub(super) gathered: Gathered<B>,
    /// How the hosts divide the weights, where they do.
    pub(super) slices: Slices,
    pub(super) recorded: Option<Step<B>>,
}

/// A step that was recorded.
pub(super) struct Step<B: Backend> {
    pub(super) recorded: Recorded<B>,
    /// Bytes that it sends.
    pub(super) sent: u64,
    /// Contexts whose memory it holds.
    pub(super) contexts: Vec<ContextId>,
}

impl<B: Backend> Replica<B> {
    pub(super) fn new(loaded: &Loaded<B>, hosts: usize) -> Self {
        let work = loaded.decoder.workspace(&loaded.backend, tensor::Pass::Decode);
        let slices = loaded.slices(hosts);
        Self { work, gathered: Gathered::new(), slices, recorded: None }
    }

    /// Lets go of what was recorded if it holds memory of the context `id`.
    pub(super) fn forget(&mut self, id: ContextId) {
        self.recorded.take_if(|step| step.contexts.contains(&id));
    }
}
