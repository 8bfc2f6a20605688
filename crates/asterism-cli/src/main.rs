//! The `asterism` command: raw arguments ([`args`]) become checked settings once ([`config`]); one
//! file per command does the rest.

#![forbid(unsafe_code)]

mod args;
mod ask;
mod asking;
mod batch;
mod bench;
mod compare;
mod config;
mod doctor;
mod documents;
mod error;
mod eval;
#[cfg(feature = "cuda")]
mod gpu;
#[cfg(not(feature = "cuda"))]
#[path = "no_gpu.rs"]
mod gpu;
mod inputs;
mod interrupt;
mod launch;
mod loads;
mod machine;
mod plan;
mod processes;
mod progress;
mod report;
mod serve;
mod sources;
mod terminal;
mod watch;

use args::{Cli, Command};
use asterism::world::Launch;
use clap::{CommandFactory, FromArgMatches};
use error::CliError;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Panics of the tokenizer's library are caught, and become errors like others.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !asterism::text::panics_are_caught() {
            hook(panic);
        }
    }));
    // Variables that contradict each other are an error of commands that compute.
    let launch = Launch::detect().ok().flatten();
    if let Some(Launch { rank: rank @ 1.., .. }) = launch {
        terminal::follow(rank);
    }
    let done = parse(launch).map_err(CliError::Arguments).and_then(dispatch);
    // Writing what is still buffered may fail: the reader of a pipe is gone, or a disk is full.
    let exit_code = match done.and_then(|()| Ok(terminal::Out::lock().flush()?)) {
        Ok(()) => 0,
        Err(error) => {
            error.print();
            error.exit_code()
        }
    };
    processes::finish(exit_code);
    ExitCode::from(exit_code)
}

/// The arguments. Of several processes each is a host, unless they say otherwise.
fn parse(launch: Option<Launch>) -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    if let Some(Launch { size, .. }) = launch {
        // Once per process, as long as it runs.
        command = with_hosts(command, Box::leak(size.to_string().into_boxed_str()));
    }
    Cli::from_arg_matches(&command.try_get_matches()?)
}

/// `command` and its subcommands with another number of hosts where none is given.
fn with_hosts(command: clap::Command, hosts: &'static str) -> clap::Command {
    let command = command.mut_subcommands(|command| with_hosts(command, hosts));
    let has_hosts = command.get_arguments().any(|arg| arg.get_id() == "hosts");
    if has_hosts { command.mut_arg("hosts", |arg| arg.default_value(hosts)) } else { command }
}

fn dispatch(cli: Cli) -> Result<(), CliError> {
    match cli.command.loads() {
        Some(loads) if processes::join(loads.carrier())? => return loads.follow(),
        // What does not compute is done once.
        None if terminal::follows() => return Ok(()),
        _ => {}
    }
    match cli.command {
        Command::Ask(args) => ask::run(args),
        Command::Batch(args) => batch::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Launch(args) => launch::run(args),
        Command::ReadDocument => Ok(asterism_documents::read_for_parent()?),
        Command::Completions { shell } => {
            // Into memory first: the generator panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "asterism", &mut script);
            Ok(terminal::Out::lock().write_all(&script)?)
        }
    }
}
