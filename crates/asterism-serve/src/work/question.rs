//! Questions, as what happens to them.

use super::encode::{Build, note_rate};
use crate::error::ApiError;
use crate::gate::Place;
use crate::metrics::{Failed, Finished};
use crate::state::App;
use crate::wire::{ContextCost, finish_reason};
use asterism::cancel::Cancel;
use asterism::engine::{
    AnswerText, Context, EngineError, Generation, Logprobs, Phase1, Progress, Room, TextOptions,
};
use asterism::plan::Plan;
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout_at;

/// What is to be done for a request.
pub(crate) struct Job {
    pub(crate) source: Source,
    /// One for each answer; not empty.
    pub(crate) questions: Vec<Question>,
    pub(crate) text: TextOptions,
}

/// A question, and how it is to be answered.
#[derive(Clone)]
pub(crate) struct Question {
    /// Its tokens, behind the context's.
    pub(crate) query: Vec<u32>,
    pub(crate) generation: Generation,
}

/// Where its context comes from.
pub(crate) enum Source {
    /// It is there.
    Ready(Context),
    /// It is to be encoded from these tokens.
    Tokens(Vec<u32>, Plan),
    /// It is to be encoded from documents.
    Documents(Box<Build>),
}

/// What happens.
pub(crate) enum Event {
    /// So many of the context's tokens are encoded; milliseconds so far.
    Encoding { done: usize, all: usize, elapsed_ms: f64 },
    /// The context is there.
    Encoded(Box<Encoded>),
    /// The next piece of an answer: its text may lag behind its tokens.
    Piece { choice: usize, text: String, tokens: Vec<(u32, Logprobs)> },
    /// An answer has ended. `tokens` are those that came without text.
    Ended { choice: usize, answer: Box<AnswerText>, tokens: Vec<(u32, Logprobs)> },
    /// Nothing more comes.
    Failed(ApiError),
}

/// A context that a request can ask.
pub(crate) struct Encoded {
    pub(crate) context: Context,
    pub(crate) cost: ContextCost,
    pub(crate) reused: usize,
    pub(crate) encoded: usize,
}

/// A request under way; dropping it cancels the work.
pub(crate) struct Asked {
    events: UnboundedReceiver<Event>,
    cancel: Cancel,
    deadline: Option<(tokio::time::Instant, u64)>,
    /// Taken out to be looked at before the rest.
    first: Option<Event>,
}

impl Asked {
    /// Waits for what happens next; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let Some((deadline, seconds)) = self.deadline else { return self.events.recv().await };
        match timeout_at(deadline, self.events.recv()).await {
            Ok(event) => event,
            Err(_) => {
                self.cancel.raise();
                self.deadline = None;
                self.events.close();
                Some(Event::Failed(ApiError::timeout(seconds)))
            }
        }
    }

    /// Waits a while for the first thing that happens, so that what is wrong from the beginning can
    /// be told by a status. What happened stays to be read.
    ///
    /// # Errors
    /// The failure, if that is what happened.
    pub(crate) async fn begin(&mut self) -> Result<(), ApiError> {
        let soon = Duration::from_secs(5);
        match tokio::time::timeout(soon, self.next()).await {
            Ok(Some(Event::Failed(error))) => Err(error),
            Ok(event) => {
                self.first = event;
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.cancel.raise();
    }
}

/// Begins `job`, which has `place` at the gate.
pub(crate) fn ask(app: &Arc<App>, place: Place, job: Job) -> Asked {
    let (tell, events) = unbounded_channel();
    let cancel = app.stop.child();
    let deadline = app
        .options
        .timeout
        .map(|timeout| (tokio::time::Instant::now() + timeout, timeout.as_secs()));
    let (app, cancelled) = (Arc::clone(app), cancel.clone());
    tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        app.metrics.running.inc();
        let result = work(&app, job, &tell, &cancelled, began);
        if let Err(error) = result {
            let error = ApiError::from(error);
            app.metrics.failed.get_or_create(&Failed { code: error.code() }).inc();
            // Who does not listen has gone.
            let _ = tell.send(Event::Failed(error));
        }
        app.metrics.running.dec();
        app.metrics.whole.observe(began.elapsed().as_secs_f64());
        drop(place);
    });
    Asked { events, cancel, deadline, first: None }
}

fn work(
    app: &App,
    job: Job,
    tell: &UnboundedSender<Event>,
    cancel: &Cancel,
    began: Instant,
) -> Result<(), EngineError> {
    let Job { source, questions, text } = job;
    let encoded = context(app, source, &questions, tell, cancel)?;
    let (context, cost) = (encoded.context.clone(), encoded.cost);
    let query: usize = questions.iter().map(|question| question.query.len()).sum();
    app.metrics.prompt_tokens.inc_by((cost.tokens + query) as u64);
    app.metrics.cache_queries.inc_by(cost.tokens as u64);
    app.metrics.cache_hits.inc_by(cost.cached as u64);
    let _ = tell.send(Event::Encoded(Box::new(encoded)));
    // All are asked before the first is read: they are answered together.
    let answers = questions
        .iter()
        .map(|question| context.ask_tokens(&question.query, &question.generation, &text, cancel))
        .collect::<Result<Vec<_>, _>>()?;
    for (choice, mut answer) in answers.into_iter().enumerate() {
        let (mut told, mut is_first) = (0, choice == 0);
        while let Some(piece) = answer.next() {
            if is_first {
                app.metrics.first_token.observe(began.elapsed().as_secs_f64());
                is_first = false;
            }
            let tokens = untold(answer.tokens(), &mut told);
            let _ = tell.send(Event::Piece { choice, text: piece?, tokens });
        }
        let mut answer = answer.finish()?;
        let generated = &mut answer.generated;
        let tokens = untold((&generated.tokens, &generated.logprobs), &mut told);
        let count = generated.tokens.len();
        app.metrics.generated_tokens.inc_by(count as u64);
        if count > 1 {
            let seconds = generated.decode_time.as_secs_f64();
            app.metrics.between_tokens.observe(seconds / (count - 1) as f64);
        }
        let reason = Finished { finished_reason: finish_reason(generated.finish) };
        app.metrics.finished.get_or_create(&reason).inc();
        let _ = tell.send(Event::Ended { choice, answer: Box::new(answer), tokens });
    }
    Ok(())
}

/// The tokens that have not been told of, if they are wanted at all.
fn untold((tokens, logprobs): (&[u32], &[Logprobs]), told: &mut usize) -> Vec<(u32, Logprobs)> {
    let all = tokens.iter().copied().zip(logprobs.iter().cloned());
    let new: Vec<_> = all.skip(*told).collect();
    *told += new.len();
    new
}

/// The context that is to be asked, encoded if it is not there.
fn context(
    app: &App,
    source: Source,
    questions: &[Question],
    tell: &UnboundedSender<Event>,
    cancel: &Cancel,
) -> Result<Encoded, EngineError> {
    let (began, done, told) = (Instant::now(), Cell::new(0u64), Cell::new(began_long_ago()));
    let watch = |plan: &Plan| {
        let all = Phase1::work(plan, app.engine.config().layers);
        let tokens = plan.tokens;
        let (done, told) = (&done, &told);
        move |step: Progress| {
            done.set(done.get() + step.work);
            if told.get().elapsed() < Duration::from_millis(200) && done.get() < all {
                return;
            }
            told.set(Instant::now());
            let share = done.get() as f64 / all as f64;
            let _ = tell.send(Event::Encoding {
                done: (share * tokens as f64) as usize,
                all: tokens,
                elapsed_ms: began.elapsed().as_secs_f64() * 1e3,
            });
        }
    };
    let context = match source {
        Source::Ready(context) => {
            let (cost, reused) =
                (ContextCost::cached(context.tokens().len()), context.plan().blocks());
            return Ok(Encoded { context, cost, reused, encoded: 0 });
        }
        Source::Tokens(tokens, plan) => {
            let question = questions.iter().map(|question| question.query.len()).max();
            let answer = questions.iter().map(|question| question.generation.max_tokens).max();
            let room =
                Room { question: question.unwrap_or_default(), answer: answer.unwrap_or_default() };
            let watch = watch(&plan);
            let engine = Arc::clone(&app.engine);
            Context::encode_plan(engine, tokens, plan, room, &watch, cancel)?
        }
        Source::Documents(build) => {
            let prepared = build.prepare(app, cancel)?;
            let watch = watch(prepared.plan());
            prepared.encode(&watch, cancel)?
        }
    };
    note_rate(app, &context);
    let phase1 = context.phase1();
    let reused = phase1.reused.len();
    let encoded = context.plan().hosts.iter().map(Vec::len).sum::<usize>() - reused;
    Ok(Encoded { cost: ContextCost::of(phase1), context, reused, encoded })
}

/// A moment after which the first report is due at once.
fn began_long_ago() -> Instant {
    let now = Instant::now();
    now.checked_sub(Duration::from_secs(1)).unwrap_or(now)
}
