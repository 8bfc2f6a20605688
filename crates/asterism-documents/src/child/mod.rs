//! The process that reads a foreign file, as its parent sees it.

mod inside;

pub use inside::read_for_parent;

use crate::encoding::Wanted;
use crate::foreign::{Limits, ParseError, Parsed};
use crate::{Encoding, Kind, ReadError};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How the process is started that reads a foreign file: a program that calls [`read_for_parent`]
/// when it gets these arguments. It gets nothing of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// The first line that the process reads; the bytes of the file follow.
#[derive(Debug, Serialize, Deserialize)]
struct Task {
    kind: Kind,
    encoding: Option<String>,
    limits: Limits,
}

/// What it writes: one line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Read { text: String, encoding: Option<Encoding>, notes: Vec<String> },
    Failed(ParseError),
}

/// Bytes that are kept of what the process complains of.
const COMPLAINTS: u64 = 16 << 10;
/// How often is looked whether a file is still wanted.
const LOOK: Duration = Duration::from_millis(50);
/// What a process may take longer than its file before it is ended: its start, and its end.
const SLACK: Duration = Duration::from_secs(2);

impl Child {
    /// This program, started again with `arguments`.
    #[must_use]
    pub fn this_program(arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        // Where it was replaced on disk meanwhile, the system still has what runs.
        let running = PathBuf::from("/proc/self/exe");
        let program = match running.exists() {
            true => running,
            false => std::env::current_exe().unwrap_or_else(|_| "asterism".into()),
        };
        Self { program, arguments: arguments.into_iter().map(Into::into).collect() }
    }

    /// Has a process read the file `name`, which is of kind `kind`, as long as that `is_wanted`.
    pub(crate) fn read(
        &self,
        name: &str,
        kind: Kind,
        bytes: &[u8],
        encoding: Option<Wanted>,
        limits: &Limits,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Parsed, ReadError> {
        let encoding = encoding.map(|wanted| wanted.name().to_owned());
        let task = Task { kind, encoding, limits: *limits };
        let ended = self.run(&task, bytes, is_wanted).map_err(|error| {
            let name = name.to_owned();
            ReadError::NotStarted { name, error }
        })?;
        ended.outcome(name, limits)
    }

    fn run(
        &self,
        task: &Task,
        bytes: &[u8],
        is_wanted: &dyn Fn() -> bool,
    ) -> std::io::Result<Ended> {
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(std::io::Error::other("it has no pipes"));
        };
        let deadline = Instant::now() + Duration::from_secs(task.limits.seconds.into()) + SLACK;
        // A text as JSON takes up to six bytes for one.
        let most = task.limits.unpacked.saturating_mul(6).saturating_add(1 << 20);
        thread::scope(|scope| {
            let (said, heard) = channel();
            let all = said.clone();
            scope.spawn(move || {
                let mut line = serde_json::to_vec(task).unwrap_or_default();
                line.push(b'\n');
                // A process that ended before it read everything says why, or its status does.
                let _ = stdin.write_all(&line).and_then(|()| stdin.write_all(bytes));
            });
            scope.spawn(move || {
                let mut out = Vec::new();
                let _ = stdout.take(most).read_to_end(&mut out);
                let _ = all.send(out);
            });
            let complaints = scope.spawn(move || {
                let mut stderr = stderr;
                let mut text = Vec::new();
                let _ = stderr.by_ref().take(COMPLAINTS).read_to_end(&mut text);
                // So that it is never held up.
                let _ = std::io::copy(&mut stderr, &mut std::io::sink());
                String::from_utf8_lossy(&text).into_owned()
            });
            drop(said);
            let (mut out, mut end) = (Vec::new(), None);
            while end.is_none() {
                match heard.recv_timeout(LOOK) {
                    Ok(said) => (out, end) = (said, Some(End::Own)),
                    Err(RecvTimeoutError::Timeout) if !is_wanted() => end = Some(End::Unwanted),
                    Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                    Err(_) => end = Some(End::Late),
                }
            }
            let mut end = end.unwrap_or(End::Late);
            let is_whole = out.ends_with(b"\n");
            // What it has said is all that is wanted of it, and it must not outlive its time.
            if end == End::Own && out.len() as u64 >= most {
                end = End::TooMuch;
            }
            if end != End::Own || is_whole {
                let _ = child.kill();
            }
            let status = wait(&mut child, deadline)?;
            let complaints = complaints.join().unwrap_or_default();
            Ok(Ended { out, end, status, complaints })
        })
    }
}

/// Waits for a process to end, until `deadline`; then it is ended.
fn wait(child: &mut std::process::Child, deadline: Instant) -> std::io::Result<ExitStatus> {
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(1));
    }
    child.kill()?;
    child.wait()
}

/// Why a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It was done, or broke down.
    Own,
    /// Its time was over.
    Late,
    /// Nobody wants what it reads any more.
    Unwanted,
    /// It says more than it may.
    TooMuch,
}

/// How a process ended.
struct Ended {
    out: Vec<u8>,
    end: End,
    status: ExitStatus,
    complaints: String,
}

impl Ended {
    fn outcome(self, name: &str, limits: &Limits) -> Result<Parsed, ReadError> {
        match serde_json::from_slice(&self.out) {
            Ok(Outcome::Read { text, encoding, notes }) => Ok(Parsed { text, encoding, notes }),
            Ok(Outcome::Failed(error)) => Err(ReadError::of(name, error, limits)),
            Err(_) => Err(self.failure(name.to_owned(), limits)),
        }
    }

    /// Why there is no outcome.
    fn failure(self, name: String, limits: &Limits) -> ReadError {
        let signal = signal(self.status);
        match self.end {
            End::Unwanted => return ReadError::Cancelled { name },
            End::TooMuch => return ReadError::TooMuch { name, most: limits.unpacked },
            End::Own if signal != Some(SIGXCPU) => {}
            End::Own | End::Late => return ReadError::Time { name, seconds: limits.seconds },
        }
        if self.complaints.contains("memory allocation of") {
            return ReadError::Memory { name, most: limits.memory };
        }
        let how = match (self.complaints.contains("overflowed its stack"), signal) {
            (true, _) => "it is nested too deeply".to_owned(),
            (_, Some(signal)) => format!("signal {signal}"),
            (_, None) => match self.complaints.lines().next() {
                Some(line) => line.to_owned(),
                None => self.status.to_string(),
            },
        };
        ReadError::Crashed { name, how }
    }
}

/// The signal of a process that has used the time of a processor that it may use.
const SIGXCPU: i32 = 24;

#[cfg(unix)]
fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal(_: ExitStatus) -> Option<i32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a file whose reader is `program`.
    fn read(program: &str, arguments: &[&str], is_wanted: bool) -> ReadError {
        let arguments = arguments.iter().map(Into::into).collect();
        let child = Child { program: program.into(), arguments };
        let limits = Limits { seconds: 0, unpacked: 1000, ..Limits::default() };
        let bytes = vec![0; 1 << 20];
        child.read("a.pdf", Kind::Pdf, &bytes, None, &limits, &|| is_wanted).unwrap_err()
    }

    #[test]
    fn whatever_a_process_does_is_one_error_that_names_the_file() {
        for (program, arguments, is_wanted, code) in [
            ("/no/such/program", &[][..], true, "file_reader_not_started"),
            ("/bin/false", &[], true, "file_reader_crashed"),
            ("/bin/echo", &["{}"], true, "file_reader_crashed"),
            ("/bin/sleep", &["60"], true, "file_takes_too_long"),
            ("/bin/sleep", &["60"], false, "cancelled"),
            ("/usr/bin/yes", &[], true, "file_unpacks_to_too_much"),
            ("/bin/sh", &["-c", "kill -9 $$"], true, "file_reader_crashed"),
            ("/bin/sh", &["-c", "exec >&-; exec sleep 60"], true, "file_reader_crashed"),
        ] {
            let began = Instant::now();
            let error = read(program, arguments, is_wanted);
            assert_eq!(error.code(), code, "{program} {arguments:?}: {error}");
            assert!(error.to_string().contains("a.pdf"), "{error}");
            assert!(began.elapsed() < Duration::from_secs(20), "{program} {arguments:?}");
        }
    }
}
