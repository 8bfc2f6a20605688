//! A run from its arguments to its report.

use super::ahead::Ahead;
use super::progress::Bar;
use super::source::{self, Source};
use crate::args::eval::{GenerateArgs, RunArgs, SetArgs};
use crate::config::distinct;
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::terminal::{Out, note};
use crate::{config, machine, report};
use anyhow::anyhow;
use asterism::engine::{Engine, ModelText};
use asterism::plan::PlanSpec;
use asterism::plan::words::MethodName;
use asterism::plan::words::{Defaults, MethodWord};
use asterism_eval::report::{Report, Results, points, short, signed_points};
use asterism_eval::run::{
    self, EngineAnswer, Failure, Group, MachineInfo, Method, MethodInfo, ModelInfo, RunError,
    RunInfo, Runner,
};
use asterism_eval::{EvalError, write_jsonl};
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// How a benchmark's arguments become its samples; the last one is the folder of files
/// to read them from.
type Open<B> = fn(&SetArgs, &B, &ModelText, Option<&Path>) -> Result<Source, CliError>;

/// Runs, scores and reports.
pub(super) fn run<B: Args>(args: RunArgs<B>, open: Open<B>) -> Result<(), CliError> {
    let RunArgs { set, out, .. } = &args;
    distinct("--lengths", &set.lengths)?;
    distinct("--methods", &args.by.methods.0)?;
    let files = config::model_files(&args.model)?;
    let options = config::engine_options(&args.model)?;
    let text = Arc::new(ModelText::open(&files)?);
    let source = Arc::new(open(set, &args.benchmark, &text, args.data.as_deref())?);

    let hosts = usize::from(args.hosts);
    let plans: Vec<_> = args.by.methods.0.iter().map(|method| plan_of(method, hosts)).collect();
    let methods: Vec<Method<'_>> = args
        .by
        .methods
        .0
        .iter()
        .zip(&plans)
        .map(|(method, plan)| Method { name: method.to_string(), plan })
        .collect();
    run::check(&methods, &set.lengths, text.config().max_positions)?;

    let precision = options.precision.to_string();
    let model = ModelInfo::of(&files, &precision, text.config().max_positions);
    let _lock = run::Lock::take(out)?;
    let engine = Arc::new(Engine::load_read(files, Arc::clone(&text), &options, &|_, _| ())?);
    let (mut info, machine) = describe(&args, &source, model, &engine).begin(out)?;
    source.say_what_is_left_out();

    let interrupt = Interrupt::install()?;
    // While a GPU encodes, the CPU is free to make samples.
    let is_idle = engine.take_peak_memory()?.is_some();
    let stop_words = source.stop_words.clone();
    let answer = EngineAnswer { engine, stop_words, tokenise: args.tokenise.into() };
    let samples = set.samples as usize;
    let bar = Bar::new();
    let runner = Runner {
        dir: out,
        answer: &answer,
        methods: &methods,
        most: info.samples,
        machine,
        stop_words: &source.stop_words,
        observer: &bar,
        cancel: interrupt.cancel(),
    };
    let pairs = || set.lengths.iter().flat_map(|l| source.tasks.iter().map(|t| (*l, t)));
    let jobs: Vec<_> = pairs().map(|(length, task)| (length, task.clone())).collect();
    let maker = Arc::clone(&source);
    let mut sets = Ahead::start(jobs.len(), is_idle, move |number| {
        let (length, task) = &jobs[number];
        maker.samples(task, *length, samples, text.tokenizer())
    });
    for (length, task) in pairs() {
        bar.expect_work(samples as u64 * runner.sample_work(length, task));
    }
    let mut failed = 0;
    for (length, task) in pairs() {
        if interrupt.cancel().is_raised() {
            return stopped(&bar);
        }
        bar.say(format!("{length} {}: making samples", task.name));
        let Some(made) = sets.next() else { break };
        let expected = samples as u64 * runner.sample_work(length, task);
        let made = match made {
            Ok(set) => set,
            // This task at this length cannot be asked; the others can. Nobody asked for it by name
            // where all tasks were asked for.
            Err(error) => {
                bar.drop_work(expected);
                let what = format!("{length}/{}", task.name);
                let failure = Failure { what, reason: error.to_string() };
                bar.line(&failure.to_string());
                if matches!(error, EvalError::TooShort { .. }) && set.is_all() {
                    info.note(out, &failure.reason)?;
                } else {
                    failed += 1;
                    info.failed(out, (length, &task.name), &[failure])?;
                }
                continue;
            }
        };
        let missing = samples.saturating_sub(made.samples.len()) as u64;
        bar.drop_work(missing * runner.sample_work(length, task));
        let mut failures = made.failures;
        failures.iter().for_each(|failure| bar.line(&failure.to_string()));
        if let Some(note) = &made.note {
            info.note(out, note)?;
        }
        match runner.run(&Group { length, task, samples: &made.samples }) {
            Ok(unanswered) => failures.extend(unanswered),
            Err(RunError::Cancelled) => return stopped(&bar),
            Err(error) => return Err(error.into()),
        }
        failed += failures.len();
        info.failed(out, (length, &task.name), &failures)?;
    }
    drop(bar);
    finish(out)?;
    match failed {
        0 => Ok(()),
        n => {
            Err(anyhow!("{n} could not be read, asked or answered: see above and the report")
                .into())
        }
    }
}

/// Ctrl-C: nothing that was answered is lost.
fn stopped(bar: &Bar) -> Result<(), CliError> {
    bar.line("stopped; what is answered is kept, and the same command goes on from there");
    Err(CliError::Interrupted)
}

/// A method's plan for a length.
fn plan_of(method: &MethodWord, hosts: usize) -> impl Fn(usize) -> PlanSpec + Sync + use<> {
    let method = *method;
    move |length| method.plan_spec(length, hosts, Defaults::Paper)
}

/// What `run.json` says.
fn describe<B: Args>(
    args: &RunArgs<B>,
    source: &Source,
    model: ModelInfo,
    engine: &Engine,
) -> RunInfo {
    let mut settings = source.settings.clone();
    settings.insert("hosts".to_owned(), json!(args.hosts));
    let cached = engine.kv_precision().to_string();
    settings.insert("keys cached in".to_owned(), json!(cached));
    let tokenise = run::Tokenise::from(args.tokenise);
    settings.insert("tokenised".to_owned(), json!(tokenise.describe()));
    settings.insert("decoding".to_owned(), json!("greedy, to a stop word or the model's end"));
    settings.insert("stop words".to_owned(), json!(source.stop_words.join(" ")));
    let method = |method: &MethodWord| MethodInfo {
        name: method.to_string(),
        baseline: method.name() == MethodName::Dense,
    };
    RunInfo {
        asterism: env!("CARGO_PKG_VERSION").to_owned(),
        benchmark: source.benchmark,
        model,
        settings,
        lengths: args.set.lengths.clone(),
        tasks: source.tasks.clone(),
        methods: args.by.methods.0.iter().map(method).collect(),
        samples: args.set.samples as usize,
        left_out: source.left_out.clone(),
        notes: Vec::new(),
        failures: BTreeMap::new(),
        machines: vec![MachineInfo {
            processor: machine::cpu_name().unwrap_or_else(|| "unknown".to_owned()),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            cores: machine::cores(),
            computing_on: engine.hardware(),
            memory: machine::memory().map(|(all, _)| all),
        }],
    }
}

/// Writes the report of `dir` and prints its summary.
pub(super) fn finish(dir: &Path) -> Result<(), CliError> {
    let results = Results::read(dir)?;
    let [page, markdown] = Report::of(&results)?.write(dir)?;
    let baseline = results.info.baseline().map_or("", |method| &method.name);
    let difference = format!("over {baseline}");
    let header = ["method", "length", "score", "95 % interval", &difference, "speed-up"];
    let mut rows = Vec::new();
    for at in &results.lengths {
        for (method, cell) in results.info.methods.iter().zip(&at.mean) {
            let Some(cell) = cell else { continue };
            let score = cell.score;
            let some =
                at.share_of_tasks(cell).map_or_else(String::new, |share| format!(" ({share})"));
            rows.push(vec![
                method.name.clone(),
                short(at.length),
                points(score.mean) + &some,
                format!("{} to {}", points(score.low), points(score.high)),
                cell.difference.map_or_else(String::new, |difference| {
                    let mean = signed_points(difference.estimate.mean);
                    format!("{mean} {}", difference.verdict())
                }),
                cell.speedup.map_or_else(String::new, |speedup| format!("{speedup:.2}x")),
            ]);
        }
    }
    let mut out = Out::lock();
    write!(out, "{}", report::table(&header, &rows))?;
    writeln!(out, "\nreport: {}\n        {}", page.display(), markdown.display())?;
    Ok(())
}

/// Only writes the samples.
pub(super) fn generate<B: Args>(args: GenerateArgs<B>, open: Open<B>) -> Result<(), CliError> {
    let GenerateArgs { set, out, .. } = &args;
    distinct("--lengths", &set.lengths)?;
    let files = config::model_files(&args.model)?;
    let text = ModelText::open(&files)?;
    let source = open(set, &args.benchmark, &text, None)?;
    source.say_what_is_left_out();
    let mut failed = 0;
    for &length in &set.lengths {
        for task in &source.tasks {
            let path = out.join(source::file(length, &task.name));
            match source.samples(task, length, set.samples as usize, text.tokenizer()) {
                Ok(made) => {
                    write_jsonl(&path, &made.samples)?;
                    if let Some(text) = &made.note {
                        note(format_args!("note: {text}"));
                    }
                    made.failures.iter().for_each(|failure| note(format_args!("{failure}")));
                    failed += usize::from(!made.failures.is_empty());
                    writeln!(Out::lock(), "{}", path.display())?;
                }
                Err(error @ (EvalError::TooShort { .. } | EvalError::NotEnough { .. })) => {
                    note(format_args!("{length}/{}: {error}", task.name));
                    failed += usize::from(!set.is_all());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    match failed {
        0 => Ok(()),
        n => Err(anyhow!("{n} sets could not be made, or not whole (listed above)").into()),
    }
}
