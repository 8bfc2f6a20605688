//! The process that reads a foreign file, from within.

use super::{Outcome, Task};
use crate::foreign::{Limits, ParseError, Parsed, parse};
use std::fs::File;
use std::io::{BufRead, BufReader, Error, Read, Result, Write, stdin};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Bytes of the stack: pages are nested, and their readers call themselves for each level.
const STACK: usize = 256 << 20;

/// Reads a task and a file from standard input, parses the file and writes what came of it to
/// standard output. What parsing may take is limited before a byte of the file is looked at: memory
/// and time by the system; no file and no connection can be opened any more.
///
/// # Errors
/// If the task is none, or the limits cannot be set.
pub fn read_for_parent() -> Result<()> {
    let mut stdin = BufReader::new(stdin().lock());
    let mut line = Vec::new();
    stdin.read_until(b'\n', &mut line)?;
    let task: Task = serde_json::from_slice(&line)?;
    let mut out = own_output()?;
    limit(&task.limits)?;
    let mut bytes = Vec::new();
    stdin.read_to_end(&mut bytes)?;
    // Panics of a page, or of the whole, are told of by what is returned.
    std::panic::set_hook(Box::new(|_| ()));
    let encoding = task.encoding.map(|name| name.parse()).transpose().map_err(Error::other)?;
    let read = move || {
        let parse = || parse(task.kind, &bytes, encoding, &task.limits);
        catch_unwind(AssertUnwindSafe(parse))
            .unwrap_or_else(|panic| Err(ParseError::Panicked(message(&*panic))))
    };
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(read)?;
    let outcome = match thread.join() {
        Ok(Ok(Parsed { text, encoding, notes })) => Outcome::Read { text, encoding, notes },
        Ok(Err(error)) => Outcome::Failed(error),
        Err(panic) => Outcome::Failed(ParseError::Panicked(message(&*panic))),
    };
    let mut line = serde_json::to_vec(&outcome)?;
    line.push(b'\n');
    out.write_all(&line)
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.map_or_else(|| "it panicked".to_owned(), |text| text.chars().take(200).collect())
}

/// Standard output for us alone: some parsers print to it what they wonder about.
#[cfg(unix)]
fn own_output() -> Result<File> {
    let own = rustix::io::dup(rustix::stdio::stdout())?;
    let nowhere = File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    Ok(own.into())
}

#[cfg(unix)]
fn limit(limits: &Limits) -> Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // Not with its parent, which may be ended by force, but with itself.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let seconds = u64::from(limits.seconds).max(1);
    // Elsewhere what all programs share counts as well, and is more than that.
    let memory = if cfg!(target_os = "linux") { limits.memory } else { u64::MAX };
    for (resource, most, at_last) in [
        (Resource::As, memory, memory),
        // At the first of the two the system says what it is about.
        (Resource::Cpu, seconds, seconds + 1),
        (Resource::Core, 0, 0),
        (Resource::Fsize, 0, 0),
        (Resource::Nofile, 0, 0),
    ] {
        // Those that the process has already may be lower.
        let now = rustix::process::getrlimit(resource).maximum;
        let lower = |most: u64| Some(now.map_or(most, |now| now.min(most)));
        setrlimit(resource, Rlimit { current: lower(most), maximum: lower(at_last) })?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn own_output() -> Result<std::io::Stdout> {
    Ok(std::io::stdout())
}

#[cfg(not(unix))]
fn limit(_: &Limits) -> Result<()> {
    // The parent ends a process that takes too long; nothing else is limited there.
    Ok(())
}
