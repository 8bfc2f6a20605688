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
mod error;
mod eval;
#[cfg(feature = "cuda")]
mod gpu;
#[cfg(not(feature = "cuda"))]
#[path = "no_gpu.rs"]
mod gpu;
mod inputs;
mod interrupt;
mod machine;
mod method_spec;
mod plan;
mod progress;
mod report;
mod serve;
mod sources;
mod terminal;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
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
    let done = Cli::try_parse().map_err(CliError::Arguments).and_then(dispatch);
    // Writing what is still buffered may fail: the reader of a pipe is gone, or a disk is full.
    match done.and_then(|()| Ok(terminal::Out::lock().flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.print();
            error.exit_code()
        }
    }
}

fn dispatch(cli: Cli) -> Result<(), CliError> {
    match cli.command {
        Command::Ask(args) => ask::run(args),
        Command::Batch(args) => batch::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Completions { shell } => {
            // Into memory first: the generator panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "asterism", &mut script);
            Ok(terminal::Out::lock().write_all(&script)?)
        }
    }
}
