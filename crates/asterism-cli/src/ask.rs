//! `asterism ask`: encode a document once, answer one question or many.

use super::args::AskArgs;
use super::asking::Asking;
use super::documents::Inputs;
use super::error::CliError;
use super::inputs::Limit;
use super::interrupt::Interrupt;
use super::{compare, config, inputs, report, sources, watch};
use crate::terminal::{Out, note};
use asterism::engine::{Context, EngineError, Generation, ModelText};
use asterism_documents::Document;
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

pub(crate) fn run(args: AskArgs) -> Result<(), CliError> {
    let spec = config::plan_spec(&args.method)?;
    let star = config::star(&args.method);
    let (generation, text) = config::generation(&args.generation)?;
    let generation = Generation { sources: args.sources, ..generation };
    let inputs = Inputs::new(args.context, &args.documents)?;
    if args.watch && inputs.read_stdin() {
        let message = "--watch is for files and folders: standard input is read once";
        return Err(CliError::Usage(message.to_owned()));
    }
    if args.question.is_none() && (args.compare || args.watch || inputs.read_stdin()) {
        let reason = match (args.compare, args.watch) {
            (true, _) => "--compare",
            (_, true) => "--watch",
            _ => "--context -",
        };
        return Err(CliError::Usage(format!("{reason} needs a question")));
    }
    let interrupt = Interrupt::install()?;
    let files = config::model_files(&args.model)?;
    // Before the weights: how long a document may be, and that it can be read.
    let text_of_model = Arc::new(ModelText::open(&files)?);
    let limit = Limit::of_model(&text_of_model);
    let reading = interrupt.while_idle(|| inputs.read(limit))?;
    reading.tell();
    limit.check("the question", args.question.as_ref().map_or(0, String::len))?;
    let engine = config::load_read(files, text_of_model, &config::engine_options(&args.model)?)?;
    let (frame, system) = (engine.frame(args.system.as_deref())?, args.system);
    let asking =
        Asking { engine, frame, system, generation, text, interrupt, limit, json: args.json };
    match args.question {
        Some(question) if args.compare => {
            compare::run(&asking, &reading.texts(), &question, (star, spec.press), spec.hosts)
        }
        Some(question) if args.watch => watch::run(&asking, &inputs, reading, spec, &question),
        Some(question) => {
            // Before the long part: an empty question is an error now.
            let query = asking.frame.query_tokens(asking.engine.tokenizer(), &question)?;
            let context =
                asking.encode(asking.prepare(&reading.texts(), spec, query.len(), 0)?)?;
            asking.answer(&context, &reading.documents, &question, &query)
        }
        None => {
            let context = asking.encode(asking.prepare(&reading.texts(), spec, 1, 0)?)?;
            asking.converse(&context, &reading.documents)
        }
    }
}

impl Asking {
    /// Phase 2: streams the answer, or prints it as JSON, and its sources in `documents`.
    pub(crate) fn answer(
        &self,
        context: &Context,
        documents: &[Document],
        question: &str,
        query: &[u32],
    ) -> Result<(), CliError> {
        let mut out = Out::lock();
        let mut broken = None;
        let mut on_text = |piece: &str| {
            if !self.json {
                broken = write!(out, "{piece}").and_then(|()| out.flush()).err();
            }
            // Where writing failed, the rest of the answer is not generated.
            if broken.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let cancel = self.interrupt.cancel();
        let result = context.answer(query, &self.generation, &self.text, &mut on_text, cancel);
        if let Some(error) = broken {
            return Err(error.into());
        }
        let answer = match result {
            Err(EngineError::Cancelled) => {
                writeln!(out)?;
                return Err(CliError::Interrupted);
            }
            other => other?,
        };
        if self.json {
            let mut value = json!({
                "question": question,
                "answer": answer.text,
                "finish": answer.generated.finish.name(),
                "token_ids": answer.generated.tokens,
                "model": self.engine.name,
                "plan": report::plan_json(context.plan()),
                "timings": report::timings(context.phase1(), &answer),
            });
            if self.generation.sources {
                value["sources"] = sources::json_in(documents, context, answer.sources())?;
            }
            writeln!(out, "{value}")?;
        } else {
            writeln!(out)?;
            if self.generation.sources {
                sources::print(&mut out, documents, context, answer.sources())?;
            }
            out.flush()?;
            note(format_args!(
                "{}",
                report::closing_line(context.plan(), context.phase1(), &answer)
            ));
        }
        Ok(())
    }

    /// Questions from standard input, each answered from the same encoded context. On a terminal
    /// Ctrl-C stops an answer and, at the prompt, leaves.
    fn converse(&self, context: &Context, documents: &[Document]) -> Result<(), CliError> {
        let stdin = std::io::stdin();
        let terminal = stdin.is_terminal();
        if terminal {
            let phase1 = context.phase1();
            let (tokens, time) = (report::count(phase1.tokens), report::seconds(phase1.time));
            note(format_args!(
                "{tokens} tokens encoded in {time}. Ask; an empty line or Ctrl-D ends."
            ));
        }
        let mut asked = 0;
        loop {
            if terminal {
                let _ = write!(std::io::stderr(), "> ");
            }
            let line = self.interrupt.while_idle(|| inputs::line(&mut stdin.lock()))?;
            let question = line.as_deref().unwrap_or_default().trim();
            if line.is_none() || (terminal && question.is_empty()) {
                break;
            }
            if question.is_empty() {
                continue;
            }
            asked += 1;
            self.limit.check("the question", question.len())?;
            let query = self.frame.query_tokens(self.engine.tokenizer(), question)?;
            match self.answer(context, documents, question, &query) {
                Err(CliError::Interrupted) if terminal => note(format_args!("(stopped)")),
                other => other?,
            }
        }
        if asked == 0 && !terminal {
            let message = "no question: give one as an argument or on standard input";
            return Err(CliError::Usage(message.to_owned()));
        }
        Ok(())
    }
}
