//! One process per GPU of this machine, started and ended together.

use crate::args::LaunchArgs;
use crate::error::CliError;
use crate::terminal::note;
use anyhow::Context;
use asterism::world::family::{Event, Family, Place, ask_to_end};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long processes may take to end once one has ended badly: they tell each other, and leave.
const ENDING: Duration = Duration::from_secs(4);

/// Runs `args.command` as `args.processes` processes and ends as the first of them that fails.
pub(super) fn run(args: &LaunchArgs) -> Result<(), CliError> {
    let family = Family::new().context("cannot hold back signals")?;
    let mut children = start(&family, args)?;
    let mut failed: Option<(ExitStatus, Instant)> = None;
    loop {
        for (rank, place) in children.iter_mut().enumerate() {
            let Some(child) = place else { continue };
            let Some(status) = child.try_wait().context("cannot wait for a process")? else {
                continue;
            };
            *place = None;
            if !status.success() && failed.is_none() {
                if let Some(signal) = status.signal() {
                    note(format_args!("rank {rank} was ended by signal {signal}"));
                }
                failed = Some((status, Instant::now()));
            }
        }
        if children.iter().all(Option::is_none) {
            break;
        }
        if failed.is_some_and(|(_, at)| at.elapsed() > ENDING) {
            children.iter_mut().flatten().for_each(|child| drop(child.kill()));
        }
        match family.next(Duration::from_millis(100)) {
            // Rank 0 finishes what it should, and tells the others. What is typed at the terminal
            // it has heard itself.
            Event::End => children.iter().take(1).flatten().for_each(ask_to_end),
            Event::Child | Event::Interrupt | Event::Nothing => {}
        }
    }
    let Some((status, _)) = failed else { return Ok(()) };
    // As a shell would have it.
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    std::process::exit(code.unwrap_or(1))
}

/// Starts the processes, each with the variables that say which it is.
fn start(family: &Family, args: &LaunchArgs) -> Result<Vec<Option<Child>>, CliError> {
    let this = std::env::current_exe().context("this program cannot be found")?;
    // Free now; whoever takes it meanwhile makes rank 0 say so.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .context("no port is free")?
        .port();
    // Keys of hash tables are random numbers of the system.
    let secret = RandomState::new().build_hasher().finish();
    let size = args.processes.to_string();
    let mut children: Vec<Option<Child>> = Vec::new();
    for rank in 0..args.processes {
        let mut command = Command::new(&this);
        let number = rank.to_string();
        command.args(&args.command).envs([
            ("RANK", number.as_str()),
            ("LOCAL_RANK", &number),
            ("WORLD_SIZE", &size),
            ("LOCAL_WORLD_SIZE", &size),
            ("MASTER_ADDR", "127.0.0.1"),
            ("MASTER_PORT", &port.to_string()),
            ("ASTERISM_JOB_SECRET", &format!("{secret:x}")),
        ]);
        let place = if rank == 0 { Place::Foreground } else { Place::Background };
        if rank > 0 {
            command.stdin(Stdio::null());
        }
        match family.start(&mut command, place) {
            Ok(child) => children.push(Some(child)),
            Err(error) => {
                children.iter_mut().flatten().for_each(|child| drop(child.kill()));
                return Err(anyhow::Error::from(error)
                    .context("a process cannot be started")
                    .into());
            }
        }
    }
    Ok(children)
}
