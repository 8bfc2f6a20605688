//! Forward passes of phase 2 on the query host: sequences, and layers of a question. Decode steps
//! are in `decode.rs`.

use super::EngineError;
use super::choice::{Chooser, Chosen};
use super::command::{At, Command, ContextId, Purpose, QuestionId, Rows};
use super::group::Group;
use super::host::{Blocks, Hidden, Host};
use super::loaded::Loaded;
use super::members::Member;
use super::recorded::Decoding;
use crate::attention::{
    ContextKeys, Gathered, GlobalAttention, NewKeys, SequenceRows, WeighingAttention,
};
use crate::cache::{KvStore, PAGE, Reservation, Tail};
use crate::cancel::Cancel;
use crate::model::Workspace;
use crate::plan::Span;
use crate::tensor::{Backend, Pass};
use std::ops::Range;
use std::sync::Arc;

/// A question and its answer: what the query host keeps of them.
pub(super) struct Sequence<B: Backend> {
    pub(super) context: ContextId,
    pub(super) question: QuestionId,
    blocks: Blocks<B>,
    /// Which keys of the blocks it does not see, once some were computed anew.
    hidden: Option<Hidden<B>>,
    /// Those keys.
    anew: Option<KvStore<B>>,
    pub(super) tail: Tail<B>,
    /// Memory of the tail.
    _reservation: Reservation,
    /// Position of its next token.
    pub(super) position: usize,
    /// Of the steps in which it is the first.
    pub(super) decoding: Decoding<B>,
}

impl<B: Backend> Sequence<B> {
    /// A sequence whose question of `query` tokens stands at `position`.
    pub(super) fn new(
        lead: &Host<B>,
        (context, question): (ContextId, QuestionId),
        position: usize,
        query: usize,
        reservation: Reservation,
    ) -> Result<Self, EngineError> {
        let blocks = lead.blocks(context)?.clone();
        Ok(Self {
            context,
            question,
            blocks,
            hidden: None,
            anew: None,
            tail: tail(&lead.loaded, query),
            _reservation: reservation,
            position,
            decoding: Decoding::Cold,
        })
    }

    /// Gives up the step that was recorded of this sequence and others, and with it what it holds
    /// of their memory.
    pub(super) fn forget_step(&mut self) {
        self.decoding = Decoding::Cold;
    }

    /// What tells it from others, and where it stands.
    pub(super) fn member(&self) -> Member {
        (self.question, self.position)
    }

    /// Position of its next token.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Makes room for its next token, in a step that is not replayed.
    pub(super) fn make_room(&mut self, lead: &Host<B>) -> Result<(), EngineError> {
        Ok(self.tail.open(&lead.loaded.backend, Span { start: self.position, len: 1 })?)
    }

    /// A question of `query` tokens, which stands at `position`, will run as if none had before.
    pub(super) fn rewind(&mut self, lead: &Host<B>, position: usize, query: usize) {
        self.tail = tail(&lead.loaded, query);
        self.position = position;
    }

    /// From now on it does not see what the hosts hide from its question, and has room for `count`
    /// keys instead.
    pub(super) fn hide(&mut self, lead: &Host<B>, count: usize) -> Result<(), EngineError> {
        self.hidden = Some(Arc::clone(lead.hidden(self.question)?));
        // Those of an earlier round make room for those of this one.
        self.anew = None;
        self.anew = Some(lead.loaded.store(count)?);
        Ok(())
    }

    /// What it sees of its context's own keys, and where those that were computed anew are kept.
    pub(super) fn old_and_new(
        &mut self,
    ) -> Result<(ContextKeys<'_, B>, &mut KvStore<B>), EngineError> {
        let old = ContextKeys { hidden: self.hidden.as_deref(), ..ContextKeys::of(&self.blocks) };
        Ok((old, self.anew.as_mut().ok_or(EngineError::UnknownContext)?))
    }

    /// Its rows at `span`, as the other hosts are told of them.
    pub(super) fn told(&self, span: Span) -> Rows {
        let hides = self.hidden.is_some().then_some(self.question);
        Rows { context: self.context, at: At::Span(span), hides }
    }

    /// Its rows at `span`, which are open, with the keys that they see.
    pub(super) fn rows(&mut self, span: Span) -> SequenceRows<'_, B> {
        let context = ContextKeys {
            blocks: &self.blocks,
            hidden: self.hidden.as_deref(),
            anew: self.anew.as_ref(),
        };
        SequenceRows { span, context, new: NewKeys::Tail(&mut self.tail) }
    }
}

/// An empty tail whose first page holds a question of `query` tokens and the beginning of its
/// answer.
fn tail<B: Backend>(loaded: &Loaded<B>, query: usize) -> Tail<B> {
    loaded.tail((query + PAGE).next_multiple_of(PAGE))
}

/// What a pass over tokens of a question is to bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// How much each token of the context is looked at, in all layers together or in each, on the
    /// hosts.
    Weights { by_layer: bool },
    /// Only keys: more tokens follow.
    Nothing,
    /// The logits that follow the last token.
    Logits,
}

/// The workspaces of phase 2.
pub(super) struct Steps<B: Backend> {
    /// Of the question that is under way.
    pub(super) question: Workspace<B>,
    /// Of decode steps.
    pub(super) decode: Workspace<B>,
    /// Decode steps so far that ran outside a recording: what was recorded refers to the buffers of
    /// `decode` as they were then.
    pub(super) passes: u64,
    /// What all hosts found, where all run the step.
    pub(super) gathered: Gathered<B>,
}

impl<B: Backend> Steps<B> {
    pub(super) fn new(loaded: &Loaded<B>) -> Self {
        let workspace = |kind| loaded.decoder.workspace(&loaded.backend, kind);
        Self {
            question: workspace(Pass::Prefill),
            decode: workspace(Pass::Decode),
            passes: 0,
            gathered: Gathered::new(),
        }
    }

    /// Runs `now`, layers of a pass over `tokens`, the next ones of a question; with the last layer
    /// the logits behind them are computed if they are `wanted`. Returns the bytes that hosts sent.
    pub(super) fn question_layers(
        &mut self,
        group: &mut Group<B>,
        sequence: &mut Sequence<B>,
        tokens: &[u32],
        now: Range<usize>,
        wanted: Wanted,
        cancel: &Cancel,
    ) -> Result<u64, EngineError> {
        let span = Span { start: sequence.position, len: tokens.len() };
        let work = &mut self.question;
        let layers = group.lead.loaded.layers();
        if now.start == 0 {
            let Loaded { backend, decoder } = &*group.lead.loaded;
            let positions: Vec<u32> = span.positions().collect();
            decoder.begin(backend, tokens, &positions, layers, work)?;
            sequence.tail.open(backend, span)?;
        }
        let purpose = match wanted {
            Wanted::Weights { by_layer } => {
                Purpose::Weigh { question: sequence.question, by_layer }
            }
            Wanted::Nothing | Wanted::Logits => Purpose::Answer,
        };
        let (sequences, count) = ([sequence.told(span)].into(), now.len());
        let ends = now.end == layers;
        let command = Command::Step { sequences, layers: now, purpose };
        let sent = run(group, &command, |lead| {
            if let Wanted::Weights { by_layer } = wanted {
                return weigh_layers(lead, sequence, by_layer, (span, count), cancel, work);
            }
            let Loaded { backend, decoder } = &*lead.loaded;
            let rows = vec![sequence.rows(span)];
            let mut attention = GlobalAttention::new(backend, &*lead.comm, decoder.shape(), rows)?;
            if decoder.advance(backend, count, &mut attention, cancel, work)?
                && wanted == Wanted::Logits
            {
                decoder.reserve_logits(backend, 1, work)?;
                decoder.head(backend, 1, work)?;
            }
            Ok(())
        })?;
        if ends {
            sequence.position += tokens.len();
        }
        Ok(sent)
    }

    /// The token below `among` that `chooser` chooses to follow the question; `None` if a logit is
    /// not finite.
    pub(super) fn first_token(
        &self,
        lead: &Host<B>,
        among: usize,
        chooser: &mut Chooser<B>,
    ) -> Result<Option<Chosen>, EngineError> {
        let mut chosen = chosen(lead, &self.question, [(among, chooser)].into_iter())?;
        chosen.pop().unwrap_or(Ok(None))
    }

    /// Copies the logits `[vocab]` that follow the question.
    pub(super) fn first_logits(
        &self,
        lead: &Host<B>,
        position: usize,
        logits: &mut [f32],
    ) -> Result<(), EngineError> {
        let Loaded { backend, decoder } = &*lead.loaded;
        decoder.logits(backend, &self.question, 0, logits)?;
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(EngineError::NotFinite { position: position.saturating_sub(1) });
        }
        Ok(())
    }
}

/// The tokens that follow the rows of the last pass in `work`, in their order, each chosen below
/// the number beside its chooser. Waits once for those that are chosen where the logits are.
pub(super) fn chosen<'a, B: Backend>(
    lead: &Host<B>,
    work: &'a Workspace<B>,
    choosers: impl Iterator<Item = (usize, &'a mut Chooser<B>)>,
) -> Result<Vec<Result<Option<Chosen>, EngineError>>, EngineError> {
    let Loaded { backend, decoder } = &*lead.loaded;
    let (mut there, mut here, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
    for (row, (among, chooser)) in choosers.enumerate() {
        tokens.push(Ok(None));
        match chooser {
            Chooser::There(sampler) => {
                there.push((row, decoder.choice(work, row, among, sampler)));
            }
            Chooser::Here(reader) => here.push((row, among, reader)),
        }
    }
    let (rows, mut choices): (Vec<usize>, Vec<_>) = there.into_iter().unzip();
    for (row, token) in rows.into_iter().zip(backend.choose_all(&mut choices)?) {
        tokens[row] = Ok(token.map(|token| Chosen { token, logprobs: None }));
    }
    // [vocab]
    let mut logits = vec![0.0; if here.is_empty() { 0 } else { decoder.config().vocab }];
    for (row, among, reader) in here {
        decoder.logits(backend, work, row, &mut logits)?;
        tokens[row] = reader.choose(&mut logits[..among]);
    }
    Ok(tokens)
}

/// The next `count` layers of a question, whose tokens at `span` weigh its context.
fn weigh_layers<B: Backend>(
    lead: &mut Host<B>,
    sequence: &mut Sequence<B>,
    by_layer: bool,
    (span, count): (Span, usize),
    cancel: &Cancel,
    work: &mut Workspace<B>,
) -> Result<(), EngineError> {
    let Sequence { question, context, blocks, hidden, anew, tail, .. } = sequence;
    let new = anew.as_ref().map_or(0, KvStore::tokens);
    let mut weights = lead.take_weights(*question, *context, by_layer, new)?;
    let Loaded { backend, decoder } = &*lead.loaded;
    let mut attention = WeighingAttention {
        backend,
        comm: &*lead.comm,
        shape: decoder.shape(),
        span,
        context: ContextKeys { blocks, hidden: hidden.as_deref(), anew: anew.as_ref() },
        tail,
        weights: &mut weights,
    };
    decoder.advance(backend, count, &mut attention, cancel, work)?;
    lead.put_weights(*question, weights);
    Ok(())
}

/// Runs `lead` on the query host while the others obey `command`. Returns the bytes that all sent.
pub(super) fn run<B: Backend>(
    group: &mut Group<B>,
    command: &Command,
    lead: impl FnOnce(&mut Host<B>) -> Result<(), EngineError>,
) -> Result<u64, EngineError> {
    let (own, outcomes) = group.run(command, |host| {
        let before = host.comm.bytes_sent();
        lead(host)?;
        Ok(host.comm.bytes_sent() - before)
    })?;
    Ok(own + outcomes.iter().map(|outcome| outcome.sent).sum::<u64>())
}
