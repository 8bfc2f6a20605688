//! Hosts in processes of their own: what rank 0 tells them, and how they obey.

use super::EngineError;
use super::code;
use super::command::{Command, Outcome};
use super::host::Host;
use super::obeyed::{Report, obey_numbered};
use crate::cancel::Cancel;
use crate::comm::{CommError, GivenUp};
use crate::tensor::Backend;
use crate::world::{Frame, Kind, World, WorldError};
use serde::{Deserialize, Serialize};
use std::sync::mpsc::{Receiver, RecvError, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An error as it travels.
#[derive(Debug, Serialize, Deserialize)]
enum Failure {
    /// Another host gave up.
    GivenUp,
    Cancelled,
    Panicked,
    Other {
        code: String,
        message: String,
    },
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Comm(CommError::Aborted) => Self::GivenUp,
            EngineError::Cancelled => Self::Cancelled,
            EngineError::HostPanicked(_) => Self::Panicked,
            error => Self::Other { code: error.code().to_owned(), message: error.to_string() },
        }
    }
}

impl Failure {
    /// The error, on the rank where it happened.
    fn on(self, rank: usize) -> EngineError {
        match self {
            Self::GivenUp => EngineError::Comm(CommError::Aborted),
            Self::Cancelled => EngineError::Cancelled,
            Self::Panicked => EngineError::HostPanicked(rank),
            Self::Other { code, message } => {
                EngineError::OnHost { rank, code: code::known(&code), message }
            }
        }
    }
}

/// Tells all other processes to obey command number `number`.
pub(super) fn tell(world: &World, number: u64, command: &Command) {
    // Plain data, which always has bytes.
    let body = postcard::to_stdvec(command).unwrap_or_default();
    world.control().send(&Frame { kind: Kind::Command, number, body });
}

/// Waits for the reports of `told` processes on command number `number`. A process that is lost
/// meanwhile ends this one.
pub(super) fn gather(world: &World, told: usize, number: u64) -> Vec<Report> {
    let events = world.events();
    let mut reports = Vec::new();
    while reports.len() < told
        && let Ok((rank, frame)) = events.recv()
    {
        if frame.kind == Kind::Report && frame.number == number {
            let report = postcard::from_bytes::<Result<Outcome, Failure>>(&frame.body);
            let report = report.unwrap_or_else(|error| {
                let code = "hosts_failed".to_owned();
                Err(Failure::Other { code, message: format!("its report is damaged: {error}") })
            });
            reports.push((rank, report.map_err(|failure| failure.on(rank))));
        }
    }
    reports
}

/// The command that this host obeys, for those who hear that it is given up.
type Current = Arc<Mutex<Option<(u64, Cancel)>>>;

/// How long a host looks for the command behind a step of an answer before it sleeps, where a GPU
/// computes: to be woken takes a share of a step, in which all GPUs wait, and its processor has
/// nothing else to do.
const BRISK: Duration = Duration::from_millis(20);

/// The next of `events`, looked for without sleep as long as `patience` lasts.
fn next<T>(events: &Receiver<T>, patience: Duration) -> Result<T, RecvError> {
    let start = Instant::now();
    while start.elapsed() < patience {
        match events.try_recv() {
            Err(TryRecvError::Empty) => std::hint::spin_loop(),
            Err(TryRecvError::Disconnected) => return Err(RecvError),
            Ok(event) => return Ok(event),
        }
    }
    events.recv()
}

/// The life of a process that does not lead: obeys until rank 0 says that there is nothing left to
/// do.
pub(super) fn serve<B: Backend>(
    mut host: Host<B>,
    world: &World,
    given_up: &Arc<dyn GivenUp>,
) -> Result<(), EngineError> {
    let current = Current::default();
    let (heard, obeyed) = (Arc::clone(given_up), Arc::clone(&current));
    world.control().on_given_up(move |number| {
        heard.hear(number);
        let obeyed = obeyed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((current, cancel)) = &*obeyed
            && *current == number
        {
            cancel.raise();
        }
    });
    let events = world.events();
    let mut patience = Duration::ZERO;
    loop {
        let (_, Frame { kind, number, body }) =
            next(&events, patience).map_err(|_| EngineError::World(WorldError::Ended))?;
        match kind {
            Kind::Command => {}
            Kind::Bye => return Ok(()),
            _ => continue,
        }
        let outcome = match postcard::from_bytes::<Command>(&body) {
            Ok(command) => {
                patience = match command {
                    Command::Answer { .. } if host.comm.has_own_processors() => BRISK,
                    _ => Duration::ZERO,
                };
                // So that an encoding stops in the middle of a layer when another host gave up.
                let cancel = host.cancel_of(&command).unwrap_or_default();
                *current.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some((number, cancel.clone()));
                if given_up.has_heard(number) {
                    cancel.raise();
                }
                obey_numbered(&mut host, number, &command)
            }
            Err(error) => {
                given_up.hear(number);
                world.control().give_up(number);
                let message = format!("command {number} is damaged: {error}");
                Err(EngineError::OnHost { rank: world.rank(), code: "hosts_failed", message })
            }
        };
        let report: Result<Outcome, Failure> = outcome.map_err(Failure::from);
        let body = postcard::to_stdvec(&report).unwrap_or_default();
        world.control().send(&Frame { kind: Kind::Report, number, body });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::command::{AnchorNews, At, ContextId, Purpose, QuestionId, Rows};
    use crate::plan::{Plan, PlanSpec, Span};

    #[test]
    fn commands_arrive_as_they_were_given() {
        let plan = Plan::new(PlanSpec::star(64).anchor(32).hosts(3), 1000).unwrap();
        let rows = |at| Rows { context: ContextId(7), at, hides: Some(QuestionId(2)) };
        let span = rows(At::Span(Span { start: 1000, len: 5 }));
        let listed = rows(At::Listed([3, 900].into()));
        let anchor = AnchorNews { to: [1, 2].into(), comes: 2, tokens: 32, sent: true };
        let (question, context) = (QuestionId(1), ContextId(1));
        for command in [
            Command::Open {
                id: context,
                plan: plan.into(),
                tokens: (0..1000).collect(),
                room: 9,
                from: Some("/a/folder".into()),
                prompt: None,
                cancel: Cancel::new(),
            },
            Command::Encode { id: context, anchor },
            Command::Step {
                sequences: [span, listed].into(),
                layers: 0..8,
                purpose: Purpose::Weigh { question, by_layer: true },
            },
            Command::Step {
                sequences: [rows(At::Span(Span { start: 64, len: 64 }))].into(),
                layers: 0..2,
                purpose: Purpose::Compare { question, owner: 2 },
            },
            Command::Weights(question),
            Command::Hide { question, context, positions: [1, 5].into() },
            Command::Release(question),
            Command::Save { context, folder: "/a/folder".into(), first: true },
            Command::EndSave(context),
            Command::Keep(context),
            Command::Forget(context),
        ] {
            let bytes = postcard::to_stdvec(&command).unwrap();
            let arrived: Command = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(format!("{arrived:?}"), format!("{command:?}"));
        }
    }

    #[test]
    fn errors_keep_their_code_and_say_where_they_happened() {
        let travel = |error: EngineError| {
            let bytes = postcard::to_stdvec(&Failure::from(error)).unwrap();
            postcard::from_bytes::<Failure>(&bytes).unwrap().on(2)
        };
        let error = travel(EngineError::NotFinite { position: 7 });
        assert_eq!(error.code(), "not_finite");
        assert!(error.to_string().starts_with("host 2: the model's logits"), "{error}");
        assert!(matches!(travel(EngineError::Cancelled), EngineError::Cancelled));
        let given_up = travel(CommError::Aborted.into());
        assert!(matches!(given_up, EngineError::Comm(CommError::Aborted)));
        assert_eq!(travel(EngineError::HostPanicked(0)).to_string(), {
            EngineError::HostPanicked(2).to_string()
        });
    }
}
