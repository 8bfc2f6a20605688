//! A context encoded once, asked as often as you like.

use super::command::ContextId;
use super::documents::Encoded;
use super::generate::{Generated, Generation};
use super::phase1::{Phase1, Progress};
use super::request::{AskRequest, EncodeEvent, EncodeRequest, Held, Request, Waiter};
use super::sources::{Baseline, Sourcing};
use super::tokens::Tokens;
use super::{Engine, EngineError};
use crate::cancel::Cancel;
use crate::plan::{Plan, PlanSpec, Span};
use crate::press::RepeatPrompt;
use crate::text::PromptFrame;
use std::ops::ControlFlow;
use std::path::PathBuf;
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
    /// What surrounds the text and its questions; `None` if it was encoded from tokens.
    frame: Option<Arc<PromptFrame>>,
    /// What its tokens were read from, if they were read from documents.
    documents: Option<Encoded>,
    /// Where questions within the frame look that ask nothing.
    baseline: Baseline,
}

struct Inner {
    held: Held,
    plan: Arc<Plan>,
    /// `[plan.tokens]`
    tokens: Arc<[u32]>,
    room: Room,
    phase1: Phase1,
}

/// What a context must have room for beside it: refused before any work if it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Tokens of the longest question.
    pub question: usize,
    /// Tokens of the longest answer.
    pub answer: usize,
}

impl Default for Room {
    /// The least: one token of each.
    fn default() -> Self {
        Self { question: 1, answer: 1 }
    }
}

/// What became of a block when its context was edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Its keys were there and were taken as they are.
    Reused,
    /// Its tokens are not those of any block before.
    Edited,
    /// Its tokens are those of a block before, at another place: keys depend on where they stand.
    Moved,
    /// It stands behind another anchor than before.
    Anchor,
    /// Its keys had been given up for lack of memory.
    GivenUp,
}

impl Context {
    /// Phase 1: encodes `tokens`, to be asked questions that take up to `room`. `progress` hears of
    /// every step.
    ///
    /// # Errors
    /// Before any work, if the plan is impossible, or context and `room` do not fit the
    /// model or the memory; later [`EngineError::Cancelled`], within one layer of one chunk.
    pub fn encode(
        engine: Arc<Engine>,
        tokens: Vec<u32>,
        spec: impl Into<PlanSpec>,
        room: Room,
        progress: &dyn Fn(Progress),
        cancel: &Cancel,
    ) -> Result<Self, EngineError> {
        let plan = Plan::new(spec, tokens.len())?;
        Self::encode_plan(engine, tokens, plan, room, progress, cancel)
    }

    /// Phase 1 by a plan that is there already: a [spaced](Plan::spaced) one, for a context that
    /// will be [edited](Self::edit_tokens).
    ///
    /// # Errors
    /// As [`Context::encode`].
    pub fn encode_plan(
        engine: Arc<Engine>,
        tokens: Vec<u32>,
        plan: Plan,
        room: Room,
        progress: &dyn Fn(Progress),
        cancel: &Cancel,
    ) -> Result<Self, EngineError> {
        Self::encode_from(engine, tokens, plan, room, None, progress, cancel)
    }

    /// As [`Context::encode_plan`], with the keys that were saved in the folder `from`, if there is
    /// one.
    pub(super) fn encode_from(
        engine: Arc<Engine>,
        tokens: Vec<u32>,
        plan: Plan,
        room: Room,
        from: Option<PathBuf>,
        progress: &dyn Fn(Progress),
        cancel: &Cancel,
    ) -> Result<Self, EngineError> {
        let plan = Arc::new(engine.settled(plan)?);
        if plan.tokens != tokens.len() {
            return Err(EngineError::OtherPlan { planned: plan.tokens, given: tokens.len() });
        }
        engine.check(&tokens, plan.end(), room.question, room.answer)?;
        // Blocks of any length may be among those that are repeated.
        let prompt = match plan.repeats(usize::MAX) {
            true => {
                let (frame, tokenizer) = (engine.frame(None)?, engine.tokenizer());
                Some(Arc::new(RepeatPrompt::new(&frame, tokenizer)?))
            }
            false => None,
        };
        let tokens: Arc<[u32]> = tokens.into();
        let requests = engine.compute.requests(plan.hosts.len())?;
        let (events, heard) = channel();
        let waiter = Waiter { since: Instant::now(), cancel: cancel.clone(), events };
        let request = EncodeRequest {
            plan: Arc::clone(&plan),
            tokens: Arc::clone(&tokens),
            room: room.question.saturating_add(room.answer),
            from,
            prompt,
            waiter,
        };
        requests.send(Request::Encode(request)).map_err(|_| EngineError::Stopped)?;
        loop {
            match heard.recv().map_err(|_| EngineError::Stopped)? {
                EncodeEvent::Progress(step) => progress(step),
                EncodeEvent::Done(result) => {
                    let (held, phase1) = result?;
                    let inner = Arc::new(Inner { held, plan, tokens, room, phase1 });
                    let (frame, documents, baseline) = (None, None, Baseline::default());
                    return Ok(Self { engine, inner, frame, documents, baseline });
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
        let mut tokens = self.begin(query, settings, cancel)?;
        while let Some(token) = tokens.next()? {
            if on_token(token).is_break() {
                tokens.stop();
            }
        }
        tokens.finish()
    }

    /// Sends the hosts a question; its answer comes token by token.
    pub(super) fn begin(
        &self,
        query: &[u32],
        settings: &Generation,
        cancel: &Cancel,
    ) -> Result<Tokens, EngineError> {
        let Inner { held, plan, tokens: context_tokens, .. } = &*self.inner;
        if query.is_empty() {
            return Err(EngineError::EmptyQuery);
        }
        settings.sampling.check()?;
        let start = plan.end();
        self.engine.check(query, start, query.len(), settings.max_tokens)?;
        let (events, heard) = channel();
        let (enough, cancel) = (Cancel::new(), cancel.child());
        let star = plan.spec.method.as_star();
        let request = AskRequest {
            context: held.id(),
            context_tokens: Arc::clone(context_tokens),
            plan: Arc::clone(plan),
            revisit: settings.revisit.or(star.map(|star| star.revisit)).unwrap_or_default(),
            query: query.to_vec(),
            sourcing: if settings.sources { Some(self.sourcing()?) } else { None },
            settings: settings.clone(),
            spelled: self.engine.text().choices(),
            since: Instant::now(),
            cancel: cancel.clone(),
            enough: enough.clone(),
            events,
        };
        held.send(Request::Ask(request))?;
        let eos = if settings.ignore_eos { &[][..] } else { &self.engine.config().eos[..] };
        Ok(Tokens::new(heard, enough, cancel, eos, query.len()))
    }

    /// What a question needs whose sources are wanted.
    fn sourcing(&self) -> Result<Sourcing, EngineError> {
        let blank = match self.frame() {
            Some(frame) => {
                let blank = frame.blank_query_tokens(self.engine.tokenizer())?;
                self.engine.check(&blank, self.plan().end(), blank.len(), 0)?;
                Some(blank).filter(|blank| !blank.is_empty())
            }
            None => None,
        };
        Ok(Sourcing { blank, baseline: Arc::clone(&self.baseline) })
    }

    /// Encodes `tokens`, which this context was changed into. Blocks whose tokens, place and anchor
    /// stay are taken as they are; [`Context::changes_from`] says what was encoded anew, and why.
    /// This context stays as it is.
    ///
    /// # Errors
    /// As [`Context::encode`]; [`PlanError::NotSpaced`](crate::plan::PlanError::NotSpaced) if its
    /// method is another than star with the paper's anchor.
    pub fn edit_tokens(
        &self,
        tokens: Vec<u32>,
        room: Room,
        progress: &dyn Fn(Progress),
        cancel: &Cancel,
    ) -> Result<Self, EngineError> {
        let plan = self.inner.plan.edited(&self.inner.tokens, &tokens, &[])?;
        let engine = Arc::clone(&self.engine);
        let edited = Self::encode_plan(engine, tokens, plan, room, progress, cancel)?;
        Ok(Self { frame: self.frame.clone(), ..edited })
    }

    /// What became of every block of this context, which `before` was [edited](Self::edit_tokens)
    /// into, in order.
    #[must_use]
    pub fn changes_from(&self, before: &Self) -> Vec<(Span, Change)> {
        let Inner { plan, tokens, phase1, .. } = &*self.inner;
        let Inner { plan: old_plan, tokens: old_tokens, .. } = &*before.inner;
        let anchor = (tokens.get(..plan.anchor), plan.anchor);
        let same_anchor = anchor == (old_tokens.get(..old_plan.anchor), old_plan.anchor);
        let old: Vec<Span> = old_plan.hosts.iter().flatten().copied().collect();
        let change = |span: Span| {
            let own = plan.tokens_at(tokens, span);
            let same = |old: &Span| old_plan.tokens_at(old_tokens, *old) == own;
            if phase1.reused.contains(&span) {
                Change::Reused
            } else if !old.iter().any(same) {
                Change::Edited
            } else if !old.iter().any(|old| *old == span && same(old)) {
                Change::Moved
            } else if !same_anchor {
                Change::Anchor
            } else {
                Change::GivenUp
            }
        };
        plan.hosts.iter().flatten().map(|span| (*span, change(*span))).collect()
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

    /// The text of the tokens at the positions `span`, which lie within one block, as the tokenizer
    /// reads them back: the passage of a [`Source`](super::Source). Of documents,
    /// [`Context::places`] says where it stands.
    ///
    /// ```
    /// # #[cfg(feature = "nano")]
    /// # fn main() -> Result<(), asterism::engine::EngineError> {
    /// use asterism::engine::{Ask, Engine};
    ///
    /// let engine = Engine::open("nano")?;
    /// let prose = "The grass is green. The sky is blue. The sun is yellow. ".repeat(40);
    /// let note = format!("{prose}The access code for the Lisbon vault is 48213. {prose}");
    /// let documents = [("prose.txt", prose.as_str()), ("note.txt", note.as_str())];
    /// let context = engine.documents(&documents).star(512).anchor(128).encode()?;
    /// let ask = Ask::new("What is the access code for the Lisbon vault?").sources();
    /// let answer = context.ask(ask)?.finish()?;
    ///
    /// let first = answer.sources()[0];
    /// assert!(context.passage(first.best)?.contains("48213"));
    /// let places = context.places(context.plan().indices(first.best));
    /// assert_eq!(places[0].document.name(), "note.txt");
    /// assert!(places[0].text().contains("48213"));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "nano"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// If the tokenizer has no text for a token.
    pub fn passage(&self, span: Span) -> Result<String, EngineError> {
        let tokens = self.inner.plan.tokens_at(&self.inner.tokens, span);
        Ok(self.engine.tokenizer().decode(tokens, false)?)
    }

    /// What it has room for beside it.
    #[must_use]
    pub fn room(&self) -> Room {
        self.inner.room
    }

    /// What surrounds its text and its questions in the model's prompt; `None` if it was encoded
    /// from tokens.
    #[must_use]
    pub fn frame(&self) -> Option<&PromptFrame> {
        self.frame.as_deref()
    }

    /// The same context, whose text stands within `frame`: its tokens are those of
    /// [`PromptFrame::context_tokens`] or [`PromptFrame::documents_until`]. It can be
    /// [asked](Self::ask) in words.
    #[must_use]
    pub fn within(self, frame: PromptFrame) -> Self {
        Self { frame: Some(Arc::new(frame)), baseline: Baseline::default(), ..self }
    }

    /// The same context, whose tokens were read from `documents`.
    pub(super) fn of_documents(self, documents: Encoded) -> Self {
        Self { documents: Some(documents), ..self }
    }

    /// Asks the hosts that hold it for something.
    pub(super) fn request(
        &self,
        request: impl FnOnce(ContextId) -> Request,
    ) -> Result<(), EngineError> {
        let held = &self.inner.held;
        held.send(request(held.id()))
    }

    pub(super) fn encoded(&self) -> Option<&Encoded> {
        self.documents.as_ref()
    }

    /// What encoding took.
    #[must_use]
    pub fn phase1(&self) -> &Phase1 {
        &self.inner.phase1
    }
}
