//! `asterism bench`: how fast this machine encodes and decodes, and how fast it could.

mod cases;
mod json;
mod latency;
mod measure;
mod model;
mod outcome;
mod output;
mod plot;
mod report;
mod room;
mod stats;
mod together;

use super::args::BenchArgs;
use super::error::CliError;
use super::interrupt::Interrupt;
use super::{config, processes};
use crate::terminal::Out;
use asterism::engine::{Engine, EngineOptions};
use measure::Bench;
use model::Model;
use report::Report;
use std::io::Write;
use std::sync::Arc;

/// The model to be measured, ready to compute, for those who serve the one that measures.
pub(crate) fn engine(args: &BenchArgs) -> Result<Arc<Engine>, CliError> {
    Model::find(args)?.load(&config::engine_options(&args.model)?)
}

pub(crate) fn run(args: BenchArgs) -> Result<(), CliError> {
    if let (Some(dir), Some(shape)) = (&args.write_model, args.shape()) {
        return model::write(&shape, args.seed, dir);
    }
    output::check(&args)?;
    let options =
        EngineOptions { time_stages: args.breakdown, ..config::engine_options(&args.model)? };
    let model = Model::find(&args)?;
    let cases = cases::all(&args, &model.config()?)?;
    let engine = model.load(&options)?;
    let bench = Bench {
        engine,
        runs: usize::from(args.runs),
        decode_tokens: args.decode_tokens,
        seed: args.seed,
        interrupt: Interrupt::install()?,
    };
    if args.latency {
        let all = bench.latency(&cases)?;
        write!(Out::lock(), "{}", latency::text(&all))?;
        return output::write_json(&args, &latency::json(&all));
    }
    let (outcomes, peak) = bench.run(cases)?;
    let report = Report {
        engine: &bench.engine,
        methods: &args.methods,
        runs: bench.runs,
        decode_tokens: bench.decode_tokens,
        query_tokens: args.query_tokens,
        seed: bench.seed,
        peak,
        own_processors: processes::world().is_some(),
        outcomes: &outcomes,
    };
    write!(Out::lock(), "{}", report.text())?;
    output::write(&args, &report)
}
