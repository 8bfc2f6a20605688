//! A context encoded once, asked as often as you like.

use super::generate::{Finish, Generated, Generation};
use super::phase1::{Phase1, Progress};
use super::request::{AnswerEvent, AskRequest, EncodeEvent, EncodeRequest, Held, Request, Waiter};
use super::{Engine, EngineError};
use crate::cancel::Cancel;
use crate::plan::{Plan, PlanSpec};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

/// The keys of an encoded context, spread over hosts as its plan says. They do not change: any
/// number of questions may be asked at the same time, from any thread. Clones share them, and the
/// last one to go frees them.
#[derive(Clone)]
pub struct Context {
    engine: Arc<Engine>,
    inner: Arc<Inner>,
}

struct Inner {
    held: Held,
    plan: Arc<Plan>,
    /// `[plan.tokens]`
    tokens: Arc<[u32]>,
    phase1: Phase1,
}

impl Context {
    /// Phase 1: encodes `tokens`, to be asked questions which together with their answers have up
    /// to `room` tokens. `progress` hears of every step.
    ///
    /// # Errors
    /// Before any work, if the plan is impossible, or context and `room` tokens do not fit the
    /// model or the memory; later [`EngineError::Cancelled`], within one layer of one chunk.
    pub fn encode(
        engine: Arc<Engine>,
        tokens: Vec<u32>,
        spec: impl Into<PlanSpec>,
        room: usize,
        progress: &dyn Fn(Progress),
        cancel: &Cancel,
    ) -> Result<Self, EngineError> {
        let plan = Arc::new(Plan::new(spec, tokens.len())?);
        engine.check(&tokens, tokens.len(), 1, room.max(2) - 1)?;
        let tokens: Arc<[u32]> = tokens.into();
        let requests = engine.compute.requests(plan.hosts.len())?;
        let (events, heard) = channel();
        let waiter = Waiter { since: Instant::now(), cancel: cancel.clone(), events };
        let request =
            EncodeRequest { plan: Arc::clone(&plan), tokens: Arc::clone(&tokens), room, waiter };
        requests.send(Request::Encode(request)).map_err(|_| EngineError::Stopped)?;
        loop {
            match heard.recv().map_err(|_| EngineError::Stopped)? {
                EncodeEvent::Progress(step) => progress(step),
                EncodeEvent::Done(result) => {
                    let (held, phase1) = result?;
                    let inner = Arc::new(Inner { held, plan, tokens, phase1 });
                    return Ok(Self { engine, inner });
                }
            }
        }
    }

    /// Phase 2: answers `query` from the context. Questions are independent: each is answered as if
    /// it were the only one. `on_token` sees every token but the end-of-sequence token, and may end
    /// the answer.
    ///
    /// # Errors
    /// If context, question and answer do not fit the model or the memory, a setting is out of
    /// range, or the logits are not finite. The context stays usable.
    pub fn generate(
        &self,
        query: &[u32],
        settings: &Generation,
        on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
        cancel: &Cancel,
    ) -> Result<Generated, EngineError> {
        let Inner { held, tokens: context_tokens, .. } = &*self.inner;
        if query.is_empty() {
            return Err(EngineError::EmptyQuery);
        }
        settings.sampling.check()?;
        let start = context_tokens.len();
        self.engine.check(query, start, query.len(), settings.max_tokens)?;
        let (events, heard) = channel();
        let enough = Cancel::new();
        let request = AskRequest {
            context: held.id(),
            context_tokens: Arc::clone(context_tokens),
            start,
            query: query.to_vec(),
            settings: settings.clone(),
            spelled: self.engine.text().choices(),
            since: Instant::now(),
            cancel: cancel.clone(),
            enough: enough.clone(),
            events,
        };
        held.send(Request::Ask(request))?;
        let (mut tokens, mut top_logits) = (Vec::new(), Vec::new());
        let eos = &self.engine.config().eos;
        loop {
            match heard.recv().map_err(|_| EngineError::Stopped)? {
                AnswerEvent::Question { top_logits: largest } => top_logits = largest,
                AnswerEvent::Token(_) if enough.is_raised() => {}
                AnswerEvent::Token(token) => {
                    tokens.push(token);
                    let ends = eos.contains(&token) && !settings.ignore_eos;
                    if !ends && on_token(token).is_break() {
                        enough.raise();
                    }
                }
                AnswerEvent::Done(result) => {
                    let ended = result?;
                    let finish = match ended.eos {
                        _ if enough.is_raised() => Finish::Stop,
                        true => Finish::Eos,
                        false => Finish::Length,
                    };
                    return Ok(Generated {
                        tokens,
                        finish,
                        query_tokens: query.len(),
                        query_time: ended.query_time,
                        decode_time: ended.decode_time,
                        bytes_sent: ended.bytes_sent,
                        top_logits,
                    });
                }
            }
        }
    }

    /// The model that encoded it.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Which host encoded what.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.inner.plan
    }

    /// Its tokens.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.inner.tokens
    }

    /// What encoding took.
    #[must_use]
    pub fn phase1(&self) -> &Phase1 {
        &self.inner.phase1
    }
}
