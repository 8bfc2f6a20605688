//! The hosts that do not lead, as the one that leads sees them: threads of this process, or other
//! processes.

use super::EngineError;
use super::command::Command;
use super::host::Host;
use super::obeyed::{Report, obey_numbered};
use super::remote;
use crate::tensor::Backend;
use crate::world::World;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// A command and its number.
type Numbered = (u64, Command);

/// The hosts but the first.
pub(super) enum Followers {
    Threads(Threads),
    Processes(Arc<World>),
}

/// Threads that obey.
pub(super) struct Threads {
    /// Where each waits for commands.
    commands: Vec<Sender<Numbered>>,
    reports: Receiver<Report>,
    threads: Vec<JoinHandle<()>>,
}

impl Followers {
    /// Starts a thread for each of `hosts`.
    ///
    /// # Errors
    /// If one cannot be started.
    pub(super) fn threads<B: Backend>(
        hosts: impl Iterator<Item = Host<B>>,
    ) -> Result<Self, EngineError> {
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
        Ok(Self::Threads(Threads { commands, reports, threads }))
    }

    /// Gives all of them command number `number`. Returns how many were given it, and an error if
    /// these are not all.
    pub(super) fn tell(&self, number: u64, command: &Command) -> (usize, Result<(), EngineError>) {
        match self {
            Self::Threads(Threads { commands, .. }) => {
                for (host, sender) in commands.iter().enumerate() {
                    if sender.send((number, command.clone())).is_err() {
                        // Its thread has ended, which it does only with the group.
                        return (host, Err(EngineError::HostPanicked(host + 1)));
                    }
                }
                (commands.len(), Ok(()))
            }
            Self::Processes(world) => {
                remote::tell(world, number, command);
                (world.size() - 1, Ok(()))
            }
        }
    }

    /// The reports of the `told` hosts that were given command number `number`.
    pub(super) fn gather(&self, told: usize, number: u64) -> Vec<Report> {
        match self {
            Self::Threads(Threads { reports, .. }) => {
                (0..told).filter_map(|_| reports.recv().ok()).collect()
            }
            Self::Processes(world) => remote::gather(world, told, number),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.commands.clear();
        for thread in self.threads.drain(..) {
            // A panic inside a command was caught and reported; nothing else is run.
            let _ = thread.join();
        }
    }
}

/// The life of a host that is a thread and does not lead.
fn obey_all<B: Backend>(mut host: Host<B>, commands: &Receiver<Numbered>, report: &Sender<Report>) {
    let rank = host.comm.rank();
    for (number, command) in commands {
        let outcome = obey_numbered(&mut host, number, &command);
        if report.send((rank, outcome)).is_err() {
            return;
        }
    }
}
