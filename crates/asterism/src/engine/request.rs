//! What callers ask of a group of hosts and what they hear back. Callers and hosts run on threads
//! of their own.

use super::EngineError;
use super::command::ContextId;
use super::generate::{Generation, Logprobs, Revisited};
use super::phase1::{Phase1, Progress};
use super::sources::{Source, Sourcing};
use crate::cancel::Cancel;
use crate::plan::{Link, Plan, Revisit};
use crate::press::RepeatPrompt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// What is asked.
pub(super) enum Request {
    Encode(EncodeRequest),
    Ask(AskRequest),
    Save(SaveRequest),
    /// The last holder of the context has dropped it.
    Forget(ContextId),
    /// What do the links between the hosts carry?
    Measure(Sender<Result<Option<Link>, EngineError>>),
    /// The engine ends.
    Stop,
}

/// Encode a context.
pub(super) struct EncodeRequest {
    pub(super) plan: Arc<Plan>,
    /// `[plan.tokens]`
    pub(super) tokens: Arc<[u32]>,
    /// Tokens of question and answer that there must be memory for beside it.
    pub(super) room: usize,
    /// The folder that it was saved in; it is encoded if there is none.
    pub(super) from: Option<PathBuf>,
    /// What asks for blocks to be repeated, if that is what their keys are scored by.
    pub(super) prompt: Option<Arc<RepeatPrompt>>,
    pub(super) waiter: Waiter,
}

/// Write the keys of an encoded context to disk.
pub(super) struct SaveRequest {
    pub(super) context: ContextId,
    pub(super) folder: PathBuf,
    /// All that is written, in tokens times layers.
    pub(super) work: u64,
    /// The most of it that is written at a time.
    pub(super) slice: u64,
    pub(super) cancel: Cancel,
    /// Hears how it ended.
    pub(super) ended: Sender<Result<(), EngineError>>,
}

/// A caller that waits for a context.
pub(super) struct Waiter {
    pub(super) since: Instant,
    pub(super) cancel: Cancel,
    pub(super) events: Sender<EncodeEvent>,
}

/// What is heard while a context is encoded.
pub(super) enum EncodeEvent {
    Progress(Progress),
    /// The last event.
    Done(Result<(Held, Phase1), EngineError>),
}

/// A caller's hold on an encoded context; dropping it has the hosts forget the context.
pub(super) struct Held {
    id: ContextId,
    requests: Sender<Request>,
}

impl Held {
    pub(super) fn new(id: ContextId, requests: Sender<Request>) -> Self {
        Self { id, requests }
    }

    pub(super) fn id(&self) -> ContextId {
        self.id
    }

    /// Asks the hosts that hold the context for something.
    pub(super) fn send(&self, request: Request) -> Result<(), EngineError> {
        self.requests.send(request).map_err(|_| EngineError::Stopped)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // A group that has ended holds nothing any more.
        let _ = self.requests.send(Request::Forget(self.id));
    }
}

/// Answer a question.
pub(super) struct AskRequest {
    pub(super) context: ContextId,
    /// The tokens that the context's keys were computed from.
    pub(super) context_tokens: Arc<[u32]>,
    /// Where they stand.
    pub(super) plan: Arc<Plan>,
    /// How many of them are computed anew.
    pub(super) revisit: Revisit,
    /// The question; not empty.
    pub(super) query: Vec<u32>,
    pub(super) settings: Generation,
    /// If its sources are wanted.
    pub(super) sourcing: Option<Sourcing>,
    /// Token ids below this may be chosen. The head may be wider, padded to a round size.
    pub(super) spelled: usize,
    pub(super) since: Instant,
    /// Raised by the user.
    pub(super) cancel: Cancel,
    /// Raised by the caller, who has heard enough.
    pub(super) enough: Cancel,
    pub(super) events: Sender<AnswerEvent>,
}

impl AskRequest {
    /// The question that asks nothing, if it has to run first.
    pub(super) fn blank(&self) -> Option<&[u32]> {
        self.sourcing.as_ref().and_then(Sourcing::to_run)
    }
}

/// What is heard while a question is answered.
pub(super) enum AnswerEvent {
    /// The question has run.
    Question {
        /// The largest logits that follow it, if they were asked for, with their tokens, largest
        /// first.
        top_logits: Vec<(u32, f32)>,
        /// Where it looked, if that was asked for, most of all first.
        sources: Vec<Source>,
    },
    /// The next token of the answer, and how likely it was, if that was asked for.
    Token(u32, Option<Logprobs>),
    /// The last event.
    Done(Result<Ended, EngineError>),
}

/// How an answer ended, and what it took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    /// Whether the last token ends a sequence; otherwise the answer has all tokens that were
    /// allowed or wanted.
    pub(super) eos: bool,
    /// From the request to the first token.
    pub(super) query_time: Duration,
    /// From the first token to the last.
    pub(super) decode_time: Duration,
    /// Bytes that the hosts sent each other.
    pub(super) bytes_sent: u64,
    /// What was computed anew.
    pub(super) revisited: Revisited,
}
