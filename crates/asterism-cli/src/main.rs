//! The `asterism` command: raw arguments ([`args`]) become checked settings once ([`config`]); one
//! file per command does the rest.

#![forbid(unsafe_code)]

mod args;
mod ask;
mod batch;
mod bench;
mod compare;
mod config;
mod doctor;
mod error;
mod eval;
mod inputs;
mod interrupt;
mod machine;
mod method_spec;
mod plan;
mod progress;
mod report;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use error::CliError;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli) {
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
        Command::Doctor(args) => doctor::run(args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "asterism", &mut std::io::stdout());
            Ok(())
        }
    }
}
