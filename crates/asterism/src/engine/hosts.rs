//! Runs one program on every host of a process: rank 0 on the calling thread, the others on threads
//! of their own. Whoever fails, is cancelled or panics stops the others; nobody waits for ever.

use super::EngineError;
use crate::comm::{Comm, CommError, LocalComm};
use crate::tensor::Backend;

/// Stops the other hosts unless this one finished well: also when it panics.
struct StopOthers<'a, B: Backend> {
    comm: &'a dyn Comm<B>,
    finished: bool,
}

impl<B: Backend> Drop for StopOthers<'_, B> {
    fn drop(&mut self) {
        if !self.finished {
            self.comm.abort();
        }
    }
}

fn guarded<B: Backend, T>(
    comm: &dyn Comm<B>,
    program: impl FnOnce() -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    let mut guard = StopOthers { comm, finished: false };
    let result = program();
    guard.finished = result.is_ok();
    result
}

/// Runs `lead` on host 0 and `other` on the rest, each with its own state. Returns what `lead`
/// returned and the bytes that all hosts sent.
///
/// # Errors
/// The first error that is a cause rather than a consequence ([`CommError::Aborted`]).
pub(super) fn run<B: Backend, S: Send, T>(
    states: &mut [S],
    lead: impl FnOnce(&dyn Comm<B>, &mut S) -> Result<T, EngineError>,
    other: impl Fn(&dyn Comm<B>, &mut S) -> Result<(), EngineError> + Sync,
) -> Result<(T, u64), EngineError> {
    let comms = LocalComm::<B>::group(states.len());
    let (Some((lead_comm, other_comms)), Some((lead_state, other_states))) =
        (comms.split_first(), states.split_first_mut())
    else {
        return Err(crate::plan::PlanError::NoHosts.into());
    };
    let other = &other;
    let (result, others) = std::thread::scope(|scope| {
        let threads: Vec<_> = other_comms
            .iter()
            .zip(other_states)
            .map(|(comm, state)| scope.spawn(move || guarded(comm, || other(comm, state))))
            .collect();
        let result = guarded(lead_comm, || lead(lead_comm, lead_state));
        let others: Vec<Result<(), EngineError>> = threads
            .into_iter()
            .enumerate()
            .map(|(i, thread)| thread.join().unwrap_or(Err(EngineError::HostPanicked(i + 1))))
            .collect();
        (result, others)
    });
    let bytes = comms.iter().map(Comm::bytes_sent).sum();
    let is_cause = |e: &EngineError| !matches!(e, EngineError::Comm(CommError::Aborted));
    let mut errors = others.into_iter().filter_map(Result::err);
    match result {
        Ok(value) => errors.next().map_or(Ok((value, bytes)), Err),
        Err(error) if is_cause(&error) => Err(error),
        Err(error) => Err(errors.find(is_cause).unwrap_or(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::Message;
    use crate::tensor::Cpu;

    #[test]
    fn a_failing_host_stops_those_who_wait_for_it() {
        let error = run::<Cpu, _, _>(
            &mut [(), (), ()],
            |comm, ()| Ok(comm.recv(1).map(drop)?),
            |comm, ()| match comm.rank() {
                1 => Err(EngineError::EmptyQuery),
                _ => Ok(comm.recv(1).map(drop)?),
            },
        );
        assert!(matches!(error, Err(EngineError::EmptyQuery)), "{error:?}");
    }

    #[test]
    fn a_panicking_host_is_an_error_not_a_hang() {
        let error = run::<Cpu, _, ()>(
            &mut [(), ()],
            |comm, ()| Ok(comm.recv(1).map(drop)?),
            |_, ()| panic!("on purpose"),
        );
        assert!(matches!(error, Err(EngineError::HostPanicked(1))), "{error:?}");
    }

    #[test]
    fn bytes_of_all_hosts_are_counted() {
        let (sum, bytes) = run::<Cpu, _, _>(
            &mut [1u64, 2, 3],
            |comm, state| Ok(*state + comm.recv_words(1)?[0] + comm.recv_words(2)?[0]),
            |comm, state| Ok(comm.send(0, Message::Words(vec![*state]))?),
        )
        .unwrap();
        assert_eq!((sum, bytes), (6, 16));
    }
}
