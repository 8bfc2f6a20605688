//! `asterism batch`: JSON lines in, JSON lines out, in the format of the paper's code. Text is used
//! as given: special tokens in it are parsed, none are added.

use super::args::BatchArgs;
use super::error::CliError;
use super::interrupt::Interrupt;
use super::{config, inputs, report};
use anyhow::{Context, anyhow};
use asterism::engine::{Engine, Generation, Session, TextOptions};
use asterism::plan::PlanSpec;
use asterism::text::Special;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, Write};
use std::path::Path;
use std::sync::Arc;

/// One line of the input.
#[derive(Debug, Deserialize)]
struct Sample {
    input_context: String,
    input_query: String,
    /// Its number; the line's position in the file (from 0) if absent.
    index: Option<i64>,
    /// Expected answers, passed through.
    outputs: Option<Value>,
}

/// A command's settings.
struct Batch {
    engine: Arc<Engine>,
    spec: PlanSpec,
    generation: Generation,
    text: TextOptions,
    interrupt: Interrupt,
}

pub(crate) fn run(args: BatchArgs) -> Result<(), CliError> {
    let spec = config::plan_spec(&args.method)?;
    let (generation, text) = config::generation(&args.generation)?;
    let generation =
        Generation { ignore_eos: args.ignore_eos, top_logits: args.top_logits, ..generation };
    let lines = input_lines(&args.input)?;
    let (mut out, done) = open_output(&args.output)?;
    let engine = config::engine(&args.model)?;
    let interrupt = Interrupt::install()?;
    let batch = Batch { engine, spec, generation, text, interrupt };
    let bar = ProgressBar::new(lines.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} (left {eta})") {
        bar.set_style(style);
    }
    let (mut written, mut skipped, mut failed) = (0, 0, 0);
    for (number, line) in lines.iter().enumerate() {
        let sample = parse(line);
        let index = sample.as_ref().map_or(number as i64, |s| s.index.unwrap_or(number as i64));
        if done.contains(&index) {
            skipped += 1;
            bar.inc(1);
            continue;
        }
        // A bad sample must not lose the others: say so and go on.
        match sample.and_then(|sample| batch.answer(&sample, index)) {
            Ok(record) => {
                writeln!(out, "{record}")?;
                out.flush()?;
                written += 1;
            }
            Err(CliError::Failed(error)) => {
                failed += 1;
                bar.suspend(|| eprintln!("line {}: {error:#}", number + 1));
            }
            Err(other) => return Err(other),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    eprintln!("{written} written, {skipped} already there, {failed} failed");
    if failed > 0 {
        return Err(
            anyhow!("{failed} of {} lines failed; run again to retry them", lines.len()).into()
        );
    }
    Ok(())
}

impl Batch {
    fn answer(&self, sample: &Sample, index: i64) -> Result<Value, CliError> {
        let tokenizer = self.engine.tokenizer();
        let context = tokenizer.encode(&sample.input_context, Special::Parse)?;
        let query = tokenizer.encode(&sample.input_query, Special::Parse)?;
        let engine = Arc::clone(&self.engine);
        let cancel = self.interrupt.cancel();
        let length = context.len() + query.len();
        let mut session = match Session::encode(engine, context, self.spec, &|_| (), cancel) {
            // An empty context is this sample's fault, not the command line's.
            Err(asterism::engine::EngineError::Plan(error)) => return Err(anyhow!(error).into()),
            other => other?,
        };
        let answer = session.answer(&query, &self.generation, &self.text, &mut |_| (), cancel)?;
        let mut record = json!({
            "index": index,
            "pred": answer.text.trim(),
            "token_ids": answer.generated.tokens,
            "finish": answer.generated.finish.name(),
            "length": length,
        });
        if let Some(outputs) = &sample.outputs {
            record["outputs"] = outputs.clone();
        }
        if self.generation.top_logits > 0 {
            record["top_logits"] = json!(answer.generated.top_logits);
        }
        record["plan"] = report::plan_json(session.plan());
        record["timings"] = report::timings(session.phase1(), &answer);
        Ok(record)
    }
}

fn parse(line: &str) -> Result<Sample, CliError> {
    let sample =
        serde_json::from_str(line).context("not a sample with input_context and input_query")?;
    Ok(sample)
}

/// The input's lines; blank ones are kept as errors to report, not dropped.
fn input_lines(path: &Path) -> Result<Vec<String>, CliError> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = inputs::utf8(bytes, path)?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if lines.is_empty() {
        return Err(anyhow!("{} is empty", path.display()).into());
    }
    Ok(lines)
}

/// Opens the output for appending and collects the indices it already has. A last line that was
/// cut off when an earlier run was stopped is removed; any other unreadable line is an error, for
/// the file may not be ours.
fn open_output(path: &Path) -> Result<(File, HashSet<i64>), CliError> {
    let name = path.display();
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = open.with_context(|| format!("cannot write {name}"))?;
    let mut done = HashSet::new();
    let mut whole = 0;
    let mut reader = BufReader::new(&file);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).with_context(|| format!("cannot read {name}"))? > 0 {
        if line.last() != Some(&b'\n') {
            eprintln!("{name}: removing a last line that was not finished");
            break;
        }
        let record: Option<Value> = serde_json::from_slice(&line).ok();
        let index = record.and_then(|r| r.get("index").and_then(Value::as_i64));
        let Some(index) = index else {
            return Err(anyhow!(
                "{name} has a line at byte {whole} that is no result of batch: choose another output file"
            )
            .into());
        };
        done.insert(index);
        whole += line.len() as u64;
        line.clear();
    }
    drop(reader);
    file.set_len(whole).with_context(|| format!("cannot write {name}"))?;
    file.seek(std::io::SeekFrom::End(0)).with_context(|| format!("cannot write {name}"))?;
    Ok((file, done))
}
