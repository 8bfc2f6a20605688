//! A group of hosts that live on: rank 0 on the thread that owns the group, the others on threads
//! or in processes of their own. Every command is obeyed by all of them, or given up by all:
//! whatever fails in it ends that command, not the group.

use super::DecodeWeights;
use super::EngineError;
use super::command::{Command, Outcome};
use super::followers::Followers;
use super::host::Host;
use super::obeyed::{guarded, take_back};
use crate::comm::CommError;
use crate::plan::{Link, Slices};
use crate::tensor::Backend;
use crate::world::World;
use std::sync::Arc;

/// Hosts that obey together.
pub(super) struct Group<B: Backend> {
    pub(super) lead: Host<B>,
    followers: Followers,
    /// Whether every host runs the query, not the first alone.
    replicates: bool,
    /// How hosts divide the weights of such steps, if they do.
    slices: Option<Arc<Slices>>,
    /// The links between the hosts, once they were measured.
    pub(super) measured: Option<Link>,
    /// Commands so far.
    commands: u64,
}

impl<B: Backend> Group<B> {
    /// Starts the hosts as threads; the first of them leads.
    ///
    /// # Errors
    /// If there is no host or a thread cannot be started.
    pub(super) fn threads(
        hosts: Vec<Host<B>>,
        weights: DecodeWeights,
    ) -> Result<Self, EngineError> {
        let mut hosts = hosts.into_iter();
        let lead = hosts.next().ok_or(crate::plan::PlanError::NoHosts)?;
        Ok(Self::of(lead, Followers::threads(hosts)?, weights))
    }

    /// The processes of `world`, led by this one's host.
    pub(super) fn processes(lead: Host<B>, world: Arc<World>, weights: DecodeWeights) -> Self {
        Self::of(lead, Followers::Processes(world), weights)
    }

    fn of(lead: Host<B>, followers: Followers, weights: DecodeWeights) -> Self {
        let replicates = lead.comm.size() > 1
            && match weights {
                DecodeWeights::Auto => lead.comm.has_own_processors(),
                DecodeWeights::One => false,
                DecodeWeights::Replicated | DecodeWeights::Sliced => true,
            };
        let slices = (replicates && weights == DecodeWeights::Sliced)
            .then(|| Arc::new(lead.loaded.slices(lead.comm.size())));
        Self { lead, followers, replicates, slices, measured: None, commands: 0 }
    }

    /// Whether its hosts are processes.
    pub(super) fn are_processes(&self) -> bool {
        matches!(self.followers, Followers::Processes(_))
    }

    /// Whether every host runs the query, not the first alone.
    pub(super) fn replicates(&self) -> bool {
        self.replicates
    }

    /// How hosts divide the weights of steps that every host runs, if they do.
    pub(super) fn slices(&self) -> Option<Arc<Slices>> {
        self.slices.clone()
    }

    /// Has all hosts obey `command`. Returns what each of them did, by rank.
    ///
    /// # Errors
    /// As [`Group::run`].
    pub(super) fn obey(&mut self, command: &Command) -> Result<Vec<Outcome>, EngineError> {
        let (own, mut outcomes) = self.run(command, |lead| lead.obey(command))?;
        outcomes.insert(0, own);
        Ok(outcomes)
    }

    /// Has all hosts obey `command`, by which they let go of something.
    pub(super) fn let_go(&mut self, command: &Command) {
        // An error says that a host has ended, and with it what it held; the next request reports
        // it.
        let _ = self.obey(command);
    }

    /// Has the other hosts obey `command` while this thread does the query host's part of it.
    /// Returns what that returned, and what the other hosts did, by rank.
    ///
    /// # Errors
    /// The first error that is a cause rather than a consequence ([`CommError::Aborted`]). All
    /// hosts have given the command up by then and are ready for the next.
    pub(super) fn run<T>(
        &mut self,
        command: &Command,
        lead: impl FnOnce(&mut Host<B>) -> Result<T, EngineError>,
    ) -> Result<(T, Vec<Outcome>), EngineError> {
        self.commands += 1;
        let number = self.commands;
        let (told, all_told) = self.followers.tell(number, command);
        if let Err(error) = all_told {
            // Do not wait for those who were not told.
            self.lead.comm.abort();
            self.followers.gather(told, number);
            self.lead.comm.renew();
            return Err(error);
        }
        let own = guarded(&mut self.lead, number, lead);
        let mut reports = self.followers.gather(told, number);
        if own.is_ok() && reports.iter().all(|(_, report)| report.is_ok()) {
            reports.sort_by_key(|(rank, _)| *rank);
            let outcomes = reports.into_iter().filter_map(|(_, report)| report.ok()).collect();
            return own.map(|value| (value, outcomes));
        }
        // No host works on the command any more: messages that were not received are dropped.
        self.lead.comm.renew();
        take_back(&self.lead);
        let errors = reports.into_iter().filter_map(|(_, report)| report.err());
        let mut errors: Vec<EngineError> = own.err().into_iter().chain(errors).collect();
        let cause = errors.iter().position(is_cause).unwrap_or(0);
        Err(errors.swap_remove(cause))
    }
}

fn is_cause(error: &EngineError) -> bool {
    !matches!(error, EngineError::Comm(CommError::Aborted))
}
