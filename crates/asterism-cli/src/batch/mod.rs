//! `asterism batch`: JSON lines in, JSON lines out, in the format of the paper's code. Text is used
//! as given: special tokens in it are parsed, none are added.

mod input;
mod output;

use super::args::BatchArgs;
use super::error::CliError;
use super::inputs::Limit;
use super::interrupt::Interrupt;
use super::terminal::note;
use super::{config, report, sources};
use anyhow::anyhow;
use asterism::engine::{Context, Engine, EngineOptions, Generation, Room, TextOptions};
use asterism::model::ModelFiles;
use asterism::plan::PlanSpec;
use asterism::text::Special;
use asterism_eval::run::ModelInfo;
use asterism_eval::run::journal::Journal;
use indicatif::{ProgressBar, ProgressStyle};
use input::{Line, Sample};
use output::{Done, Record, fingerprint};
use serde_json::{Map, json};
use std::ops::ControlFlow;
use std::sync::Arc;

/// A command's settings.
struct Batch {
    engine: Arc<Engine>,
    spec: PlanSpec,
    generation: Generation,
    text: TextOptions,
    interrupt: Interrupt,
    /// Fingerprint of everything but the prompts.
    run: String,
}

pub(crate) fn run(args: BatchArgs) -> Result<(), CliError> {
    let spec = config::plan_spec(&args.method)?;
    let (generation, text) = config::generation(&args.generation)?;
    let generation = Generation {
        ignore_eos: args.ignore_eos,
        top_logits: args.top_logits,
        sources: args.sources,
        ..generation
    };
    let interrupt = Interrupt::install()?;
    let lines = interrupt.while_idle(|| input::read(&args.input))?;
    let files = config::model_files(&args.model)?;
    let run = settings(&args, &files, spec, &generation, &text);
    // Before the long part; the file is made only when there is a model to write into it.
    check(&lines, &Done::read(&args.output, &args.input, &run)?)?;
    // Lines about the same context share its blocks.
    let EngineOptions { cache_bytes, .. } = EngineOptions::default();
    let options = EngineOptions { cache_bytes, ..config::engine_options(&args.model)? };
    let engine = config::load(files, &options)?;
    let (mut out, done) = output::open(&args.output, &args.input, &run)?;
    check(&lines, &done)?;
    let batch = Batch { engine, spec, generation, text, interrupt, run };
    batch.answer_all(&lines, &done, &mut out)
}

/// What answers depend on besides the prompt. How many hosts and threads share the work is not part
/// of it: it changes no answer but by rounding.
fn settings(
    args: &BatchArgs,
    files: &ModelFiles,
    spec: PlanSpec,
    generation: &Generation,
    text: &TextOptions,
) -> String {
    let precision = format!("{:?} {}", args.model.dtype, args.model.kv_precision());
    let model = ModelInfo::of(files, &precision, 0);
    let method = format!("{:?}", PlanSpec { hosts: 1, ..spec });
    let how = format!("{generation:?} {text:?}");
    fingerprint(&[&model.hash, &model.tokenizer_hash, &model.precision, &method, &how])
}

/// Refuses to go on where some index was answered for another prompt.
fn check(lines: &[Line], done: &Done) -> Result<(), CliError> {
    for line in lines {
        if let Ok((index, sample)) = &line.sample
            && let Err(reason) = done.has(*index, &sample.fingerprint())
        {
            let number = line.number;
            return Err(anyhow!(
                "line {number}: {reason}: the input has changed, choose another output file"
            )
            .into());
        }
    }
    Ok(())
}

impl Sample {
    fn fingerprint(&self) -> String {
        fingerprint(&[&self.input_context, &self.input_query])
    }
}

impl Batch {
    fn answer_all(&self, lines: &[Line], done: &Done, out: &mut Journal) -> Result<(), CliError> {
        let bar = ProgressBar::new(lines.len() as u64);
        let style = "{bar:30} {pos}/{len} {elapsed} (left {eta})";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        let (mut written, mut skipped, mut failed) = (0, 0, 0);
        for Line { number, sample } in lines {
            // A bad sample must not lose the others: say so and go on.
            let answered = match sample {
                Err(reason) => Err(anyhow!("{reason}").into()),
                Ok((index, sample)) => match done.has(*index, &sample.fingerprint()) {
                    Ok(false) => self.answer(sample, *index),
                    Ok(true) => {
                        skipped += 1;
                        bar.inc(1);
                        continue;
                    }
                    Err(reason) => Err(anyhow!(reason).into()),
                },
            };
            match answered {
                Ok(record) => {
                    out.append(&record)?;
                    written += 1;
                }
                Err(CliError::Failed(error)) => {
                    failed += 1;
                    bar.suspend(|| note(format_args!("line {number}: {error:#}")));
                }
                Err(other) => return Err(other),
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        note(format_args!("{written} written, {skipped} already there, {failed} failed"));
        match failed {
            0 => Ok(()),
            _ => {
                Err(anyhow!("{failed} of {} lines failed; run again to retry them", lines.len())
                    .into())
            }
        }
    }

    fn answer(&self, sample: &Sample, index: i64) -> Result<Record, CliError> {
        let tokenizer = self.engine.tokenizer();
        let limit = Limit::of(tokenizer, self.engine.config().max_positions);
        let tokens = |name: &str, text: &str| -> Result<Vec<u32>, CliError> {
            limit.check(name, text.len())?;
            let cancel = self.interrupt.cancel();
            // Nothing is lost by leaving at once.
            let encode = || tokenizer.encode_until(text, Special::Parse, cancel);
            Ok(self.interrupt.while_idle(encode)?)
        };
        let context = tokens("input_context", &sample.input_context)?;
        let query = tokens("input_query", &sample.input_query)?;
        let engine = Arc::clone(&self.engine);
        let cancel = self.interrupt.cancel();
        let length = context.len() + query.len();
        let room = Room { question: query.len(), answer: self.generation.max_tokens };
        let context = match Context::encode(engine, context, self.spec, room, &|_| (), cancel) {
            // An empty context is this sample's fault, not the command line's.
            Err(asterism::engine::EngineError::Plan(error)) => return Err(anyhow!(error).into()),
            other => other?,
        };
        // Whoever wrote the prompts, sources are compared with a blank question as the model's own
        // template would have it.
        let context = match self.generation.sources {
            true => context.within(self.engine.frame(None)?),
            false => context,
        };
        let mut go_on = |_: &str| ControlFlow::Continue(());
        let answer = context.answer(&query, &self.generation, &self.text, &mut go_on, cancel)?;
        let mut rest = Map::new();
        rest.insert("token_ids".to_owned(), json!(answer.generated.tokens));
        rest.insert("finish".to_owned(), answer.generated.finish.name().into());
        rest.insert("length".to_owned(), length.into());
        if let Some(outputs) = &sample.outputs {
            rest.insert("outputs".to_owned(), outputs.clone());
        }
        if self.generation.top_logits > 0 {
            rest.insert("top_logits".to_owned(), json!(answer.generated.top_logits));
        }
        if self.generation.sources {
            rest.insert("sources".to_owned(), sources::json(&context, answer.sources())?);
        }
        rest.insert("plan".to_owned(), report::plan_json(context.plan()));
        rest.insert("timings".to_owned(), report::timings(context.phase1(), &answer));
        let (prompt, run) = (sample.fingerprint(), self.run.clone());
        Ok(Record { index, prompt, run, pred: answer.text.trim().to_owned(), rest })
    }
}
