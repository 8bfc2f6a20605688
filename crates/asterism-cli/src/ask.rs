//! `asterism ask`: encode a document once, answer one question or many.

use super::args::AskArgs;
use super::asking::Asking;
use super::error::CliError;
use super::inputs::Joined;
use super::interrupt::Interrupt;
use super::sources::Files;
use super::{compare, config, inputs, report};
use crate::terminal::{Out, note};
use asterism::engine::{Context, EngineError, Generation, ModelText};
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

pub(crate) fn run(args: AskArgs) -> Result<(), CliError> {
    let spec = config::plan_spec(&args.method)?;
    let star = config::star(&args.method);
    let (generation, text) = config::generation(&args.generation)?;
    let generation = Generation { sources: args.sources, ..generation };
    let reads_stdin = args.context.iter().any(|path| path.as_os_str() == "-");
    if args.question.is_none() && (args.compare || reads_stdin) {
        let reason = if args.compare { "--compare" } else { "--context -" };
        return Err(CliError::Usage(format!("{reason} needs a question")));
    }
    inputs::check(&args.context)?;
    let interrupt = Interrupt::install()?;
    let files = config::model_files(&args.model)?;
    // Before the weights: how long a document may be, and that it can be read.
    let text_of_model = Arc::new(ModelText::open(&files)?);
    let limit = inputs::Limit::of_model(&text_of_model);
    let document = interrupt.while_idle(|| inputs::documents(&args.context, limit))?;
    limit.check("the question", args.question.as_ref().map_or(0, String::len))?;
    let engine = config::load_read(files, text_of_model, &config::engine_options(&args.model)?)?;
    let frame = engine.frame(args.system.as_deref())?;
    let asking = Asking { engine, frame, generation, text, interrupt, limit, json: args.json };
    let (context, files) = asking.context(document)?;
    match args.question {
        Some(question) if args.compare => {
            compare::run(&asking, &context, &question, star, spec.hosts)
        }
        Some(question) => {
            // Before the long part: an empty question is an error now.
            let query = asking.frame.query_tokens(asking.engine.tokenizer(), &question)?;
            let context = asking.encode(context, spec, query.len())?;
            asking.answer(&context, files.as_ref(), &question, &query)
        }
        None => {
            let context = asking.encode(context, spec, 1)?;
            asking.converse(&context, files.as_ref())
        }
    }
}

impl Asking {
    /// The tokens of `document` and, if sources are wanted, what leads back from them. Nothing is
    /// lost by leaving at once.
    fn context(&self, document: Joined) -> Result<(Vec<u32>, Option<Files>), CliError> {
        let (tokenizer, cancel) = (self.engine.tokenizer(), self.interrupt.cancel());
        if self.generation.sources {
            // All files are one document: their tokens are those without sources.
            let all = [("", document.text.as_str())];
            let read = || self.frame.documents_until(tokenizer, &all, cancel);
            let (tokens, documents) = self.interrupt.while_idle(read)?;
            return Ok((tokens, Some(Files { documents, joined: document })));
        }
        let tokens = || self.frame.context_tokens_until(tokenizer, &document.text, cancel);
        Ok((self.interrupt.while_idle(tokens)?, None))
    }

    /// Phase 2: streams the answer, or prints it as JSON, and its sources in `files`.
    fn answer(
        &self,
        context: &Context,
        files: Option<&Files>,
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
            if let Some(files) = files {
                value["sources"] = files.json(context, answer.sources())?;
            }
            writeln!(out, "{value}")?;
        } else {
            writeln!(out)?;
            if let Some(files) = files {
                files.print(&mut out, context, answer.sources())?;
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
    fn converse(&self, context: &Context, files: Option<&Files>) -> Result<(), CliError> {
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
            match self.answer(context, files, question, &query) {
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
