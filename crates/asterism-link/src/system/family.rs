//! Processes that begin, hear of signals and end together.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::ptr::null_mut;
use std::time::Duration;

/// The signals that a family deals with.
const SIGNALS: [libc::c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGCHLD];

/// What happened to a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A child may have ended.
    Child,
    /// Somebody wants the whole family to end.
    End,
    /// Somebody at the terminal interrupts what it does; children of this process's group heard it
    /// themselves.
    Interrupt,
    /// Nothing.
    Nothing,
}

/// What a child does with signals that are meant for the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It hears what is typed at the terminal.
    Foreground,
    /// It does not.
    Background,
}

/// The parent: from now on signals wait until [`Family::next`] asks for them.
#[derive(Debug)]
pub struct Family {
    signals: libc::sigset_t,
}

impl Family {
    /// Begins to hold signals back. Before any other thread is started.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        // SAFETY: plain data, which the call below fills.
        let mut signals: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: both write the set; the last changes this thread's mask.
        let code = unsafe {
            libc::sigemptyset(&mut signals);
            for signal in SIGNALS {
                libc::sigaddset(&mut signals, signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &signals, null_mut())
        };
        if code == 0 { Ok(Self { signals }) } else { Err(io::Error::from_raw_os_error(code)) }
    }

    /// Starts a child, which ends when this process does.
    ///
    /// # Errors
    /// The system's.
    pub fn start(&self, command: &mut Command, place: Place) -> io::Result<Child> {
        let (signals, parent) = (self.signals, std::process::id());
        if place == Place::Background {
            command.process_group(0);
        }
        let prepare = move || {
            // SAFETY: all three may be called between fork and exec.
            let is_orphan = unsafe {
                libc::pthread_sigmask(libc::SIG_UNBLOCK, &signals, null_mut());
                #[cfg(target_os = "linux")]
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::getppid().cast_unsigned() != parent
            };
            // The parent may have ended before the child asked to end with it.
            if is_orphan { Err(io::Error::other("the launcher has ended")) } else { Ok(()) }
        };
        // SAFETY: calls nothing that a child may not call there, and allocates nothing but for an
        // error that nobody hears.
        unsafe { command.pre_exec(prepare) };
        command.spawn()
    }

    /// The next thing that happens, if one does within `time`.
    #[must_use]
    pub fn next(&self, time: Duration) -> Event {
        let time = libc::timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        // SAFETY: reads the set and the time; what else is known of the signal is not asked for.
        match unsafe { libc::sigtimedwait(&self.signals, null_mut(), &time) } {
            libc::SIGCHLD => Event::Child,
            libc::SIGINT => Event::Interrupt,
            libc::SIGTERM | libc::SIGHUP => Event::End,
            _ => Event::Nothing,
        }
    }
}

/// Asks a child to end; one that has ended already needs no asking.
pub fn ask_to_end(child: &Child) {
    if let Ok(id) = child.id().try_into() {
        // SAFETY: a child that was not waited for keeps its id.
        unsafe { libc::kill(id, libc::SIGTERM) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_begin_with_signals_let_through_and_are_heard_of_when_they_end() {
        let family = Family::new().unwrap();
        let mut child = family.start(Command::new("sleep").arg("100"), Place::Background).unwrap();
        assert_eq!(family.next(Duration::from_millis(1)), Event::Nothing);
        ask_to_end(&child);
        let heard = family.next(Duration::from_secs(1));
        // Another thread of this program may have heard it instead.
        assert!(matches!(heard, Event::Child | Event::Nothing), "{heard:?}");
        assert!(!child.wait().unwrap().success());
    }
}
