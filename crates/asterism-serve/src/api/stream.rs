//! Answers as they come: chunks of server-sent events, in the shapes that break no client.

use super::reply::{Kind, Reply, fingerprint};
use crate::error::ApiError;
use crate::state::App;
use crate::wire::{Timings, Usage, finish_reason};
use crate::work::{Asked, Encoded, Event};
use asterism::engine::{AnswerText, Generated, Logprobs};
use axum::response::sse::{Event as Line, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// Between two signs of life, where nothing else is sent: proxies close connections that are still.
const PING: Duration = Duration::from_secs(10);

/// The answers of a request as a stream.
pub(crate) fn respond(app: Arc<App>, reply: Reply, asked: Asked) -> Response {
    let chunks = Chunks::new(app, reply, asked);
    let lines = unfold(chunks, |mut chunks| async move {
        let line = chunks.next().await?;
        Some((Ok::<_, Infallible>(line), chunks))
    });
    Sse::new(lines).keep_alive(KeepAlive::new().interval(PING).text("ping")).into_response()
}

/// What is sent, chunk by chunk.
struct Chunks {
    app: Arc<App>,
    reply: Reply,
    asked: Asked,
    encoded: Option<Box<Encoded>>,
    /// What is to be sent before the next event is waited for.
    ready: VecDeque<Line>,
    /// Answers whose first chunk, which names the speaker, was sent.
    begun: usize,
    /// Characters of the answer under way.
    characters: usize,
    ended: Vec<Generated>,
    is_over: bool,
}

impl Chunks {
    fn new(app: Arc<App>, reply: Reply, asked: Asked) -> Self {
        Self {
            app,
            reply,
            asked,
            encoded: None,
            ready: VecDeque::new(),
            begun: 0,
            characters: 0,
            ended: Vec::new(),
            is_over: false,
        }
    }

    /// Waits for the next line; `None` at the end.
    async fn next(&mut self) -> Option<Line> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.is_over {
                return None;
            }
            match self.asked.next().await {
                Some(event) => {
                    if let Err(error) = self.take(event) {
                        self.fail(&error);
                    }
                }
                None => self.end(),
            }
        }
    }

    fn take(&mut self, event: Event) -> Result<(), ApiError> {
        match event {
            Event::Encoding { done, all, elapsed_ms } => self.progress(done, all, elapsed_ms),
            Event::Encoded(encoded) => self.encoded = Some(encoded),
            Event::Piece { choice, text, tokens } => {
                self.begin(choice);
                let logprobs = self.reply.logprobs(&self.app, &tokens, self.characters);
                self.characters += text.chars().count();
                let choice = self.choice(choice, Some(&text), logprobs, None);
                self.send(vec![choice], Map::new());
            }
            Event::Ended { choice, answer, tokens } => self.answered(choice, *answer, &tokens)?,
            Event::Failed(error) => return Err(error),
        }
        Ok(())
    }

    /// Says that the context is encoded so far, to clients that asked for it.
    fn progress(&mut self, done: usize, all: usize, elapsed_ms: f64) {
        if !self.reply.progress || self.reply.kind != Kind::Chat {
            return;
        }
        let left = all.saturating_sub(done) as f64;
        let eta_ms = (done > 0).then(|| elapsed_ms / done as f64 * left);
        let progress = json!({"total": all, "cache": 0, "processed": done, "time_ms": elapsed_ms});
        let more = [
            ("prompt_progress".to_owned(), progress),
            ("asterism".to_owned(), json!({"phase": "encoding", "eta_ms": eta_ms})),
        ];
        // A chunk like others: clients that do not know it pass over it.
        let delta = json!({"role": "assistant", "content": null});
        let choice = json!({"index": 0, "delta": delta, "finish_reason": null});
        self.send(vec![choice], more.into_iter().collect());
    }

    /// Names the speaker of answer `choice`, once.
    fn begin(&mut self, choice: usize) {
        if self.reply.kind == Kind::Completion || self.begun > choice {
            return;
        }
        self.begun = choice + 1;
        let delta = json!({"role": "assistant", "content": ""});
        let choice =
            json!({"index": choice, "delta": delta, "logprobs": null, "finish_reason": null});
        self.send(vec![choice], Map::new());
    }

    fn answered(
        &mut self,
        choice: usize,
        answer: AnswerText,
        tokens: &[(u32, Logprobs)],
    ) -> Result<(), ApiError> {
        self.begin(choice);
        let logprobs = self.reply.logprobs(&self.app, tokens, self.characters);
        self.characters = 0;
        let finish = finish_reason(answer.generated.finish);
        let last = self.choice(choice, None, logprobs, Some(finish));
        let mut more = Map::new();
        if let Some(encoded) = &self.encoded {
            more.insert("timings".into(), json!(Timings::of(encoded.cost, &answer.generated)));
            let ours = self.reply.ours(encoded, &answer.generated)?;
            more.insert("asterism".into(), json!(ours));
        }
        self.send(vec![last], more);
        self.ended.push(answer.generated);
        Ok(())
    }

    fn choice(
        &self,
        index: usize,
        text: Option<&str>,
        logprobs: Value,
        end: Option<&str>,
    ) -> Value {
        match self.reply.kind {
            Kind::Chat => {
                let delta = text.map_or_else(|| json!({}), |text| json!({"content": text}));
                json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": end})
            }
            Kind::Completion => json!({
                "index": index,
                "text": text.unwrap_or_default(),
                "logprobs": logprobs,
                "finish_reason": end,
            }),
        }
    }

    fn send(&mut self, choices: Vec<Value>, more: Map<String, Value>) {
        let object = match self.reply.kind {
            Kind::Chat => "chat.completion.chunk",
            Kind::Completion => "text_completion",
        };
        let mut chunk = self.reply.envelope(object);
        chunk.insert("choices".into(), choices.into());
        chunk.insert("system_fingerprint".into(), json!(fingerprint()));
        chunk.extend(more);
        self.ready.push_back(Line::default().data(Value::Object(chunk).to_string()));
    }

    /// All answers are there.
    fn end(&mut self) {
        self.is_over = true;
        let Some(encoded) = self.encoded.take().filter(|_| self.ended.len() == self.reply.answers)
        else {
            return self.fail(&ApiError::internal("the work ended without an answer"));
        };
        if self.reply.include_usage {
            let answers: Vec<&Generated> = self.ended.iter().collect();
            let usage = json!(Usage::of(encoded.cost, &answers));
            self.send(Vec::new(), Map::from_iter([("usage".to_owned(), usage)]));
        }
        self.ready.push_back(Line::default().data("[DONE]"));
    }

    /// What went wrong is the last that is sent.
    fn fail(&mut self, error: &ApiError) {
        self.is_over = true;
        self.ready.push_back(Line::default().data(error.body().to_string()));
    }
}
