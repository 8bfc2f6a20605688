//! A group of hosts that live on: rank 0 on the thread that owns the group, the others on threads
//! of their own. Every command is obeyed by all of them, or given up by all: whatever fails in it
//! ends that command, not the group.

use super::EngineError;
use super::command::{Command, Outcome};
use super::host::Host;
use crate::comm::CommError;
use crate::tensor::Backend;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// What a host sends back: its rank and what came of the command.
type Report = (usize, Result<Outcome, EngineError>);

/// Hosts that obey together.
pub(super) struct Group<B: Backend> {
    pub(super) lead: Host<B>,
    /// Where each of the other hosts waits for commands.
    commands: Vec<Sender<Command>>,
    reports: Receiver<Report>,
    threads: Vec<JoinHandle<()>>,
}

impl<B: Backend> Group<B> {
    /// Starts the hosts; the first of them leads.
    ///
    /// # Errors
    /// If there is no host or a thread cannot be started.
    pub(super) fn start(hosts: Vec<Host<B>>) -> Result<Self, EngineError> {
        let mut hosts = hosts.into_iter();
        let lead = hosts.next().ok_or(crate::plan::PlanError::NoHosts)?;
        let (report, reports) = channel();
        let (mut commands, mut threads) = (Vec::new(), Vec::new());
        for host in hosts {
            let (sender, receiver) = channel();
            let report = report.clone();
            let name = format!("asterism host {}", host.comm.rank());
            let run = move || obey_all(host, &receiver, &report);
            let thread = std::thread::Builder::new().name(name).spawn(run);
            threads.push(thread.map_err(EngineError::NoThread)?);
            commands.push(sender);
        }
        Ok(Self { lead, commands, reports, threads })
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
        let mut told = 0;
        for (host, sender) in self.commands.iter().enumerate() {
            if sender.send(command.clone()).is_err() {
                // Its thread has ended, which it does only with the group: do not wait for it.
                self.lead.comm.abort();
                self.gather(told);
                self.lead.comm.renew();
                return Err(EngineError::HostPanicked(host + 1));
            }
            told += 1;
        }
        let own = guarded(&mut self.lead, lead);
        let mut reports = self.gather(told);
        if own.is_ok() && reports.iter().all(|(_, report)| report.is_ok()) {
            reports.sort_by_key(|(rank, _)| *rank);
            let outcomes = reports.into_iter().filter_map(|(_, report)| report.ok()).collect();
            return own.map(|value| (value, outcomes));
        }
        // No host works on the command any more: messages that were not received are dropped.
        self.lead.comm.renew();
        let errors = reports.into_iter().filter_map(|(_, report)| report.err());
        let mut errors: Vec<EngineError> = own.err().into_iter().chain(errors).collect();
        let cause = errors.iter().position(is_cause).unwrap_or(0);
        Err(errors.swap_remove(cause))
    }

    /// The reports of the `told` hosts that were given a command.
    fn gather(&self, told: usize) -> Vec<Report> {
        (0..told).filter_map(|_| self.reports.recv().ok()).collect()
    }
}

impl<B: Backend> Drop for Group<B> {
    fn drop(&mut self) {
        self.commands.clear();
        for thread in self.threads.drain(..) {
            // A panic inside a command was caught and reported; nothing else is run.
            let _ = thread.join();
        }
    }
}

fn is_cause(error: &EngineError) -> bool {
    !matches!(error, EngineError::Comm(CommError::Aborted))
}

/// The life of a host that does not lead.
fn obey_all<B: Backend>(mut host: Host<B>, commands: &Receiver<Command>, report: &Sender<Report>) {
    let rank = host.comm.rank();
    for command in commands {
        let outcome = guarded(&mut host, |host| host.obey(&command));
        if report.send((rank, outcome)).is_err() {
            return;
        }
    }
}

/// Runs `program`; if it fails or panics, no other host waits for this one.
fn guarded<B: Backend, T>(
    host: &mut Host<B>,
    program: impl FnOnce(&mut Host<B>) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    // Between commands a host holds finished blocks, which never change, and encodings, which are
    // given up when a command fails.
    let result = catch_unwind(AssertUnwindSafe(|| program(host)))
        .unwrap_or_else(|_| Err(EngineError::HostPanicked(host.comm.rank())));
    if result.is_err() {
        host.comm.abort();
    }
    result
}
