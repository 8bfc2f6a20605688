//! From a text to a context that can be asked.

use super::documents::Encoded;
use super::generate::Generation;
use super::phase1::{Phase1, Progress};
use super::prepared::Prepared;
use super::{Context, Engine, EngineError, Room};
use crate::cancel::Cancel;
use crate::plan::words::{Defaults, MethodName, MethodWord, Size};
use crate::plan::{Method, Plan, PlanSpec, Press, Revisit};
use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What hears how far encoding has come.
type OnProgress<'a> = Box<dyn FnMut(f64) -> ControlFlow<()> + 'a>;

/// How a text is to be encoded: what [`Engine::context`] begins and
/// [`encode`](ContextBuilder::encode) ends.
///
/// Without further settings it is star attention on one host, with room for a question of 256
/// tokens and an answer of 128. A block has a quarter of the context's tokens, the share that the
/// paper (arXiv 2411.17116) recommends, but at least 1,024, so that short texts are encoded
/// exactly, and at most 32,768, the paper's block for longer texts. The anchor is a quarter of the
/// block.
///
/// ```
/// # #[cfg(feature = "nano")]
/// # fn main() -> Result<(), asterism::engine::EngineError> {
/// use asterism::engine::Engine;
/// use std::ops::ControlFlow;
///
/// let engine = Engine::open("nano")?;
/// let text = "The grass is green. The sky is blue. The sun is yellow. Here we go. ".repeat(10);
/// let mut share = 0.0;
/// let context = engine
///     .context(&text)
///     .star(64)
///     .anchor(32)
///     .hosts(2)
///     .on_progress(|done| {
///         share = done;
///         ControlFlow::Continue(()) // `Break` gives up
///     })
///     .encode()?;
/// assert_eq!(context.plan().blocks(), context.tokens().len().div_ceil(64));
/// assert_eq!(share, 1.0);
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "nano"))]
/// # fn main() {}
/// ```
#[must_use = "nothing is encoded before `encode`"]
pub struct ContextBuilder<'a> {
    engine: Arc<Engine>,
    given: Given<'a>,
    own_blocks: Option<usize>,
    system: Option<&'a str>,
    how: How,
    hosts: usize,
    press: Option<Press>,
    slack: usize,
    room: Room,
    on_progress: OnProgress<'a>,
    cancel: Cancel,
}

/// What is to be encoded.
#[derive(Debug, Clone, Copy)]
enum Given<'a> {
    Text(&'a str),
    /// Names and texts.
    Documents(&'a [(&'a str, &'a str)]),
}

/// The method, as far as it was asked for.
#[derive(Debug, Clone, Copy)]
enum How {
    Word(MethodWord),
    Whole(Method),
}

impl How {
    /// What was asked for of star's settings; nothing if it is another method.
    fn star(self) -> MethodWord {
        match self {
            Self::Word(word) if word.name() == MethodName::Star => word,
            Self::Word(_) | Self::Whole(_) => MethodWord::of(MethodName::Star),
        }
    }

    /// The method for a context of `tokens` tokens.
    fn method(self, tokens: usize) -> Method {
        match self {
            Self::Whole(method) => method,
            Self::Word(word) => word.method(tokens, Defaults::Any),
        }
    }
}

impl Engine {
    /// Begins a context of `text`, which is to be asked questions.
    pub fn context<'a>(self: &Arc<Self>, text: &'a str) -> ContextBuilder<'a> {
        ContextBuilder::of(Arc::clone(self), Given::Text(text))
    }

    /// Begins a context of `documents`, each a name and a text, which are to be asked questions
    /// together. Each is read by itself: its tokens are the same whatever stands beside it. Names
    /// are not part of the text. The context leads from tokens back to the documents.
    ///
    /// ```
    /// # #[cfg(feature = "nano")]
    /// # fn main() -> Result<(), asterism::engine::EngineError> {
    /// use asterism::engine::Engine;
    ///
    /// let engine = Engine::open("nano")?;
    /// let (sky, sea) = ("The sky is blue. ".repeat(20), "Das Meer ist grün. ".repeat(20));
    /// let documents = [("sky.txt", sky.as_str()), ("sea.txt", sea.as_str())];
    /// let context = engine.documents(&documents).star(64).anchor(32).own_blocks().encode()?;
    ///
    /// // From the last block to the text that it was made of.
    /// let last = context.plan().hosts.iter().flatten().last().unwrap();
    /// let places = context.places(context.plan().indices(*last));
    /// assert_eq!(places[0].document.name(), "sea.txt");
    /// assert_eq!(places[0].text(), &sea[places[0].bytes.clone()]);
    ///
    /// // Another sky: the blocks of the sea stay, if it has as many tokens.
    /// let grey = sky.replacen("blue", "grey", 1);
    /// let after = context.edit_documents(&[("sky.txt", grey.as_str()), documents[1]])?;
    /// assert_eq!(after.documents()[0].text(), grey);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "nano"))]
    /// # fn main() {}
    /// ```
    pub fn documents<'a>(
        self: &Arc<Self>,
        documents: &'a [(&'a str, &'a str)],
    ) -> ContextBuilder<'a> {
        ContextBuilder::of(Arc::clone(self), Given::Documents(documents))
    }
}

/// Of calls that name different methods, the last one counts.
impl<'a> ContextBuilder<'a> {
    fn of(engine: Arc<Engine>, given: Given<'a>) -> Self {
        Self {
            engine,
            given,
            own_blocks: None,
            system: None,
            how: How::Word(MethodWord::of(MethodName::Star)),
            hosts: 1,
            press: None,
            slack: 0,
            room: Room { question: 256, answer: Generation::default().max_tokens },
            on_progress: Box::new(|_| ControlFlow::Continue(())),
            cancel: Cancel::new(),
        }
    }

    /// Star attention in blocks of `block` tokens.
    pub fn star(mut self, block: usize) -> Self {
        self.how = How::Word(self.how.star().block(Size::Tokens(block)));
        self
    }

    /// Star attention behind an anchor of `tokens` tokens, at most the block.
    pub fn anchor(mut self, tokens: usize) -> Self {
        self.how = How::Word(self.how.star().anchor(Size::Tokens(tokens)));
        self
    }

    /// Star attention whose questions have so many tokens of the context computed anew: those they
    /// look at, now with all of the context before them in sight. It wins back what blocks lose of
    /// the accuracy of full attention.
    pub fn revisit(mut self, revisit: Revisit) -> Self {
        self.how = How::Word(self.how.star().revisit(revisit));
        self
    }

    /// Full attention: exact, and the slowest.
    pub fn dense(mut self) -> Self {
        self.how = How::Whole(Method::Dense);
        self
    }

    /// Ring attention: exact, the work shared by the hosts.
    pub fn ring(mut self) -> Self {
        self.how = How::Whole(Method::Ring);
        self
    }

    /// By the method that `word` names, as on the command line: `star:block=1/4:revisit=auto`,
    /// `dense:keep=50%`. What it leaves out of star's settings is as without it.
    ///
    /// ```
    /// # #[cfg(feature = "nano")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use asterism::{engine::Engine, plan::words::MethodWord};
    ///
    /// let engine = Engine::open("nano")?;
    /// let text = "The grass is green. The sky is blue. ".repeat(30);
    /// let word = MethodWord::parse("star:block=1/2:keep=50%:press=knorm")?;
    /// let context = engine.context(&text).word(word).encode()?;
    /// assert_eq!(context.plan().blocks(), 2);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "nano"))]
    /// # fn main() {}
    /// ```
    pub fn word(mut self, word: MethodWord) -> Self {
        (self.how, self.press) = (How::Word(word), word.press());
        self
    }

    /// By `method`, with all its settings.
    pub fn method(mut self, method: impl Into<Method>) -> Self {
        self.how = How::Whole(method.into());
        self
    }

    /// On `hosts` hosts. Answers do not depend on their number, up to rounding.
    pub fn hosts(mut self, hosts: usize) -> Self {
        self.hosts = hosts;
        self
    }

    /// With only a share of its keys and values kept: those that `press` says are worth it. The
    /// others are gone: memory, time of an answer and files are smaller by their share.
    pub fn press(mut self, press: Press) -> Self {
        self.press = Some(press);
        self
    }

    /// With room in each block of star for `tokens` tokens that are not there yet:
    /// [edits](Context::edit) that make the text longer by less encode only the block that they
    /// change.
    pub fn slack(mut self, tokens: usize) -> Self {
        self.slack = tokens;
        self
    }

    /// With a block of star begun at each [document](Engine::documents), so that no block holds
    /// parts of two. The first begins behind the prompt, within the first block.
    pub fn own_blocks(self) -> Self {
        self.own_blocks_from(0)
    }

    /// As [`own_blocks`](Self::own_blocks), for documents of at least `tokens` tokens: shorter ones
    /// share blocks with what stands before them.
    pub fn own_blocks_from(mut self, tokens: usize) -> Self {
        self.own_blocks = Some(tokens);
        self
    }

    /// Behind a message of the system, by the operator of the model: special tokens in it count.
    pub fn system(mut self, message: &'a str) -> Self {
        self.system = Some(message);
        self
    }

    /// Refused before any work unless model and memory have room for a question and an answer of so
    /// many tokens.
    pub fn room(mut self, question: usize, answer: usize) -> Self {
        self.room = Room { question, answer };
        self
    }

    /// With `on_progress` called as the work goes on, with the share of it that is done, from 0 to
    /// 1. [`Break`](ControlFlow::Break) stops it, with [`EngineError::Cancelled`].
    pub fn on_progress(mut self, on_progress: impl FnMut(f64) -> ControlFlow<()> + 'a) -> Self {
        self.on_progress = Box::new(on_progress);
        self
    }

    /// Stopped when `cancel` is raised, from any thread, with [`EngineError::Cancelled`].
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// Encodes the text within the model's prompt. Questions can be asked of what comes back.
    ///
    /// # Errors
    /// As [`Context::encode`]; if the text or a document is blank, the model's chat template cannot
    /// be rendered, or there is a system message and no template.
    pub fn encode(self) -> Result<Context, EngineError> {
        let (prepared, on_progress, cancel) = self.read()?;
        let all = Phase1::work(prepared.plan(), prepared.engine().config().layers) as f64;
        let heard = RefCell::new((on_progress, 0));
        let progress = |step: Progress| {
            let (on_progress, done) = &mut *heard.borrow_mut();
            *done += step.work;
            if on_progress(*done as f64 / all).is_break() {
                cancel.raise();
            }
        };
        prepared.encode(&progress, &cancel)
    }

    /// Reads the text within the model's prompt and plans how it is encoded, without encoding it.
    ///
    /// # Errors
    /// As [`ContextBuilder::encode`], before any work.
    pub fn prepare(self) -> Result<Prepared, EngineError> {
        Ok(self.read()?.0)
    }

    fn read(self) -> Result<(Prepared, OnProgress<'a>, Cancel), EngineError> {
        let Self { engine, given, own_blocks, system, how, .. } = self;
        let Self { hosts, press, slack, room, on_progress, cancel, .. } = self;
        // Stopping here must not raise the caller's flag.
        let cancel = cancel.child();
        let frame = engine.frame(system)?;
        let read = match given {
            Given::Text(text) => frame
                .context_tokens_until(engine.tokenizer(), text, &cancel)
                .map(|tokens| (tokens, None)),
            Given::Documents(documents) => frame
                .documents_until(engine.tokenizer(), documents, &cancel)
                .map(|(tokens, read)| (tokens, Some(Arc::new(read)))),
        };
        let (tokens, documents) = read.map_err(EngineError::of_cancelled)?;
        let documents = documents.map(|documents| Encoded { documents, own_blocks });
        let spec = PlanSpec { method: how.method(tokens.len()), hosts, press };
        let plan = if slack > 0 || own_blocks.is_some() {
            let borders = documents.as_ref().map_or_else(Vec::new, Encoded::borders);
            Plan::spaced(spec, tokens.len(), &borders, slack)?
        } else {
            Plan::new(spec, tokens.len())?
        };
        let prepared = Prepared { engine, tokens, plan, frame, documents, room, saved: None };
        prepared.check()?;
        Ok((prepared, on_progress, cancel))
    }
}

impl Context {
    /// The context of `text`, which this one's text was changed into. Blocks whose tokens, place
    /// and anchor stay are taken as they are; [`Context::changes_from`] says what was encoded anew,
    /// and why. This context stays as it is. [`Context::edit_tokens`] can be watched and cancelled.
    ///
    /// ```
    /// # #[cfg(feature = "nano")]
    /// # fn main() -> Result<(), asterism::engine::EngineError> {
    /// use asterism::engine::{Change, Engine};
    ///
    /// let engine = Engine::open("nano")?;
    /// let text = "The grass is green. The sky is blue. The sun is yellow. ".repeat(10);
    /// let before = engine.context(&text).star(64).slack(8).encode()?;
    /// let after = before.edit(&(text + "The end."))?;
    /// let changes = after.changes_from(&before);
    /// let anew = changes.iter().filter(|(_, change)| *change != Change::Reused);
    /// assert_eq!(anew.count(), 1);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "nano"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    /// [`EngineError::NoFrame`] if this context was encoded from tokens;
    /// [`PlanError::NotSpaced`](crate::plan::PlanError::NotSpaced) if it was not encoded by star;
    /// otherwise as [`ContextBuilder::encode`].
    pub fn edit(&self, text: &str) -> Result<Self, EngineError> {
        let frame = self.frame().ok_or(EngineError::NoFrame)?;
        let tokens = frame.context_tokens(self.engine().tokenizer(), text)?;
        self.edit_tokens(tokens, self.room(), &|_| (), &Cancel::new())
    }
}
