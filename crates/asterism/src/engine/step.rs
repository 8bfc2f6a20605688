//! Forward passes of phase 2 on the query host: layers of a question, and decode steps of several
//! sequences at once.

use super::EngineError;
use super::choice::{Chooser, Chosen};
use super::command::{At, Command, ContextId, Purpose, QuestionId, Replay, Rows};
use super::group::Group;
use super::host::{Blocks, Hidden, Host};
use super::loaded::Loaded;
use super::members::{Member, Members};
use super::recorded::Recorded;
use crate::attention::{
    ContextKeys, Gathered, GlobalAttention, NewKeys, ReplicatedAttention, SequenceRows,
    WeighingAttention,
};
use crate::cache::{KvStore, PAGE, Reservation, Tail};
use crate::cancel::Cancel;
use crate::comm::CommError;
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
    tail: Tail<B>,
    /// Memory of the tail.
    _reservation: Reservation,
    /// Position of its next token.
    position: usize,
    /// Of the steps in which it is the first.
    decoding: Decoding<B>,
}

/// How far sequences that decode together have come towards replaying a recorded step. The first of
/// them has it: what was recorded goes with it, or when the others change.
enum Decoding<B: Backend> {
    /// No step has run since the buffers it uses last changed: they may still grow, kernels may
    /// still be loaded.
    Cold,
    /// A step of these has run, as the pass of this number.
    Warm(Members, u64),
    /// The step of these was recorded, after the pass of number `pass`; it sends so many bytes.
    Recorded { recorded: Recorded<B>, members: Members, pass: u64, sent: u64 },
}

/// How a decode step runs.
enum Run {
    /// As the recorded one, so many tokens later.
    Replayed(u32),
    /// It is recorded.
    Recorded,
    /// Neither.
    Once,
}

/// Tokens that the page of every sequence has room for when a step is recorded: what was recorded
/// is of use until the first of the pages is full, and to record takes longer than the step itself.
const WORTH_RECORDING: usize = 16;

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
    fn member(&self) -> Member {
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
    fn told(&self, span: Span) -> Rows {
        let hides = self.hidden.is_some().then_some(self.question);
        Rows { context: self.context, at: At::Span(span), hides }
    }

    /// Its rows at `span`, which are open, with the keys that they see.
    fn rows(&mut self, span: Span) -> SequenceRows<'_, B> {
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
    /// How much each token of the context is looked at, on the hosts.
    Weights,
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
    decode: Workspace<B>,
    /// Decode steps so far that ran outside a recording: what was recorded refers to the buffers of
    /// `decode` as they were then.
    passes: u64,
    /// What all hosts found, where all run the step.
    gathered: Gathered<B>,
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
            Wanted::Weights => Purpose::Weigh(sequence.question),
            Wanted::Nothing | Wanted::Logits => Purpose::Answer,
        };
        let (sequences, count) = ([sequence.told(span)].into(), now.len());
        let ends = now.end == layers;
        let command = Command::Step { sequences, layers: now, purpose };
        let sent = run(group, &command, |lead| {
            if wanted == Wanted::Weights {
                return weigh_layers(lead, sequence, span, count, cancel, work);
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

    /// Runs one more token of each of `sequences`, whose rooms were made: by
    /// [`make_room`](Sequence::make_room), or by [`advance`](Self::advance), which says by how many
    /// tokens what was recorded is `replayed` later. Computes the logits that follow, and returns
    /// the bytes that hosts sent.
    pub(super) fn decode(
        &mut self,
        group: &mut Group<B>,
        sequences: &mut [&mut Sequence<B>],
        tokens: &[u32],
        replayed: Option<u32>,
    ) -> Result<u64, EngineError> {
        let rows = sequences.len();
        let spans: Vec<Span> =
            sequences.iter().map(|sequence| Span { start: sequence.position, len: 1 }).collect();
        let Loaded { backend, decoder } = &*group.lead.loaded;
        let layers = group.lead.loaded.layers();
        let positions: Vec<u32> = spans.iter().copied().flat_map(Span::positions).collect();
        decoder.begin(backend, tokens, &positions, layers, &mut self.decode)?;
        decoder.reserve_logits(backend, rows, &mut self.decode)?;
        if group.replicates() {
            let hosts = group.lead.comm.size();
            self.gathered.reserve(backend, hosts, rows, decoder.shape())?;
        }
        let how = match replayed {
            Some(later) => Run::Replayed(later),
            None => self.how(group, sequences),
        };
        let told = sequences.iter().zip(&spans).map(|(sequence, span)| sequence.told(*span));
        let told = told.collect();
        let command = if group.replicates() {
            let replay = match how {
                Run::Replayed(_) => Replay::Again,
                Run::Recorded => Replay::Later,
                Run::Once => Replay::Never,
            };
            Command::Answer { sequences: told, tokens: tokens.into(), replay }
        } else {
            Command::Step { sequences: told, layers: 0..layers, purpose: Purpose::Answer }
        };
        let replicates = group.replicates();
        let sent = run(group, &command, |lead| match how {
            Run::Replayed(later) => replay(lead, sequences, later),
            Run::Recorded => self.record(lead, sequences, &spans, replicates),
            Run::Once => self.run_once(lead, sequences, &spans, replicates),
        })?;
        sequences.iter_mut().for_each(|sequence| sequence.position += 1);
        Ok(sent)
    }

    /// How a step runs of sequences for which none was recorded: after a step of the same, it is
    /// recorded, if it will be replayed often enough. That pays only where the whole step is on
    /// this host's own processor, messages included; moments that are timed cannot be replayed.
    fn how(&self, group: &Group<B>, sequences: &[&mut Sequence<B>]) -> Run {
        let can = group.lead.comm.size() == 1
            || group.replicates() && group.lead.comm.has_own_processors();
        let is_warm = match sequences.first().map(|first| &first.decoding) {
            Some(Decoding::Warm(before, pass)) => {
                *pass == self.passes && before.later(&members(sequences)).is_some()
            }
            _ => false,
        };
        let times = group.lead.loaded.decoder.times_stages();
        let is_worth = sequences.iter().all(|s| s.tail.room() >= WORTH_RECORDING);
        if can && !times && is_warm && is_worth { Run::Recorded } else { Run::Once }
    }

    /// A step that is recorded, where that makes running it again cheaper.
    fn record(
        &mut self,
        lead: &Host<B>,
        sequences: &mut [&mut Sequence<B>],
        spans: &[Span],
        replicates: bool,
    ) -> Result<(), EngineError> {
        sequences.iter_mut().for_each(|sequence| sequence.forget_step());
        let members = members(sequences);
        let before = lead.comm.bytes_sent();
        let (work, gathered) = (&mut self.decode, replicates.then_some(&mut self.gathered));
        let step = || pass(lead, sequences, spans, work, gathered);
        let recorded = lead.loaded.backend.record(step)?;
        let Some(recording) = recorded else {
            return self.run_once(lead, sequences, spans, replicates);
        };
        let sent = lead.comm.bytes_sent() - before;
        let recorded = lead.recordings.add(recording);
        if let Some(first) = sequences.first_mut() {
            first.decoding = Decoding::Recorded { recorded, members, pass: self.passes, sent };
        }
        Ok(())
    }

    /// A step that is not recorded.
    fn run_once(
        &mut self,
        lead: &Host<B>,
        sequences: &mut [&mut Sequence<B>],
        spans: &[Span],
        replicates: bool,
    ) -> Result<(), EngineError> {
        sequences.iter_mut().for_each(|sequence| sequence.forget_step());
        let members = members(sequences);
        self.passes += 1;
        let gathered = replicates.then_some(&mut self.gathered);
        pass(lead, sequences, spans, &mut self.decode, gathered)?;
        if let Some(first) = sequences.first_mut() {
            first.decoding = Decoding::Warm(members, self.passes);
        }
        Ok(())
    }

    /// The tokens that follow the rows of the last decode step, in their order, each chosen below
    /// the number beside its chooser; `None` where a logit is not finite.
    pub(super) fn next_tokens<'a>(
        &'a self,
        lead: &Host<B>,
        choosers: impl Iterator<Item = (usize, &'a mut Chooser<B>)>,
    ) -> Result<Vec<Result<Option<Chosen>, EngineError>>, EngineError> {
        chosen(lead, &self.decode, choosers)
    }

    /// Makes room for the next token of each of `sequences` as a step fills it that was recorded of
    /// them: by how many tokens it is to be replayed later. `None`, and nothing done, if there is
    /// none, or the next step is another: a page is full, to which the recorded one appends, or so
    /// many keys would be attended otherwise.
    pub(super) fn advance(
        &self,
        lead: &Host<B>,
        sequences: &mut [&mut Sequence<B>],
    ) -> Option<u32> {
        let backend = &lead.loaded.backend;
        let later = match &sequences.first()?.decoding {
            Decoding::Recorded { recorded, members, pass, .. } if *pass == self.passes => {
                let later = members.later(&self::members(sequences))?;
                let can = recorded.with(|recording| backend.can_replay(recording, later));
                can.unwrap_or(false).then_some(later)?
            }
            _ => return None,
        };
        for at in 0..sequences.len() {
            let Sequence { tail, position, .. } = &mut *sequences[at];
            if !tail.advance(backend, *position) {
                sequences[..at].iter_mut().for_each(|before| before.tail.retreat(backend));
                return None;
            }
        }
        Some(later)
    }
}

/// The tokens that follow the rows of the last pass in `work`, in their order, each chosen below
/// the number beside its chooser. Waits once for those that are chosen where the logits are.
fn chosen<'a, B: Backend>(
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

fn members<B: Backend>(sequences: &[&mut Sequence<B>]) -> Members {
    Members::new(sequences.iter().map(|sequence| sequence.member()))
}

/// Replays the step that was recorded of `sequences`, so many tokens later.
fn replay<B: Backend>(
    lead: &Host<B>,
    sequences: &mut [&mut Sequence<B>],
    later: u32,
) -> Result<(), EngineError> {
    let Some(Decoding::Recorded { recorded, sent, .. }) =
        sequences.first_mut().map(|first| &mut first.decoding)
    else {
        unreachable!("there was a recorded step when room was made for it")
    };
    // It is taken back only between commands, when a step is not about to run.
    let replayed = recorded.with(|recording| lead.loaded.backend.replay(recording, later));
    replayed.ok_or(CommError::Aborted)??;
    lead.comm.count(*sent);
    Ok(())
}

/// All layers of a decode step, which all hosts run if what they find is `gathered`, and its logits. [`Decoder::begin`](crate::model::Decoder::begin)
/// has been called with its tokens.
fn pass<B: Backend>(
    lead: &Host<B>,
    sequences: &mut [&mut Sequence<B>],
    spans: &[Span],
    work: &mut Workspace<B>,
    gathered: Option<&mut Gathered<B>>,
) -> Result<(), EngineError> {
    let Loaded { backend, decoder } = &*lead.loaded;
    let (comm, shape) = (&*lead.comm, decoder.shape());
    let rows: Vec<_> =
        sequences.iter_mut().zip(spans).map(|(sequence, span)| sequence.rows(*span)).collect();
    // Cancels are seen between steps.
    let (all, cancel) = (usize::MAX, Cancel::new());
    if let Some(gathered) = gathered {
        let sequences = rows;
        let mut attention = ReplicatedAttention { backend, comm, shape, sequences, gathered };
        decoder.advance(backend, all, &mut attention, &cancel, work)?;
    } else {
        let mut attention = GlobalAttention::new(backend, comm, shape, rows)?;
        decoder.advance(backend, all, &mut attention, &cancel, work)?;
    }
    Ok(decoder.head(backend, spans.len(), work)?)
}

/// The next `count` layers of a question that weighs its context.
fn weigh_layers<B: Backend>(
    lead: &mut Host<B>,
    sequence: &mut Sequence<B>,
    span: Span,
    count: usize,
    cancel: &Cancel,
    work: &mut Workspace<B>,
) -> Result<(), EngineError> {
    let mut weights = lead.take_weights(sequence.question, sequence.context)?;
    let Loaded { backend, decoder } = &*lead.loaded;
    let mut attention = WeighingAttention {
        backend,
        comm: &*lead.comm,
        shape: decoder.shape(),
        span,
        context: ContextKeys::of(&sequence.blocks),
        tail: &mut sequence.tail,
        weights: &mut weights,
    };
    decoder.advance(backend, count, &mut attention, cancel, work)?;
    lead.put_weights(sequence.question, weights);
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
