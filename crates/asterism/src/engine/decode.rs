//! Decode steps of several sequences at once, on the query host: run, recorded or replayed, by this
//! host alone with the others' help, or by all.

use super::EngineError;
use super::choice::{Chooser, Chosen};
use super::command::{Command, Purpose, Replay};
use super::group::Group;
use super::host::Host;
use super::loaded::Loaded;
use super::members::Members;
use super::recorded::Decoding;
use super::step::{Sequence, Steps, chosen, run};
use crate::attention::{Gathered, GlobalAttention, ReplicatedAttention};
use crate::cancel::Cancel;
use crate::comm::CommError;
use crate::model::{Team, Workspace};
use crate::plan::{Slices, Span};
use crate::tensor::Backend;

/// How a decode step runs.
enum Run {
    /// As the recorded one, so many tokens later.
    Replayed(u32),
    /// It is recorded.
    Recorded,
    /// Neither.
    Once,
}

/// Which hosts run the model over the tokens of a step.
#[derive(Clone, Copy)]
enum Who<'a> {
    /// The query host, with the others' help.
    Lead,
    /// Every host.
    All,
    /// Every host, each with its slices of the weights.
    AllWith(&'a Slices),
}

/// Tokens that the page of every sequence has room for when a step is recorded: what was recorded
/// is of use until the first of the pages is full, and to record takes longer than the step itself.
const WORTH_RECORDING: usize = 16;

impl<B: Backend> Steps<B> {
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
        let (hosts, slices) = (group.lead.comm.size(), group.slices());
        if group.replicates() {
            self.gathered.reserve(backend, hosts, rows, decoder.shape())?;
        }
        if slices.is_some() {
            decoder.reserve_shared(backend, hosts, rows, &mut self.decode)?;
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
            let sliced = slices.is_some();
            Command::Answer { sequences: told, tokens: tokens.into(), replay, sliced }
        } else {
            Command::Step { sequences: told, layers: 0..layers, purpose: Purpose::Answer }
        };
        let who = match (group.replicates(), slices.as_deref()) {
            (_, Some(slices)) => Who::AllWith(slices),
            (true, None) => Who::All,
            (false, None) => Who::Lead,
        };
        let sent = run(group, &command, |lead| match how {
            Run::Replayed(later) => replay(lead, sequences, later),
            Run::Recorded => self.record(lead, sequences, &spans, who),
            Run::Once => self.run_once(lead, sequences, &spans, who),
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
        who: Who<'_>,
    ) -> Result<(), EngineError> {
        sequences.iter_mut().for_each(|sequence| sequence.forget_step());
        let members = members(sequences);
        let before = lead.comm.bytes_sent();
        let (work, gathered) = (&mut self.decode, &mut self.gathered);
        let step = || pass(lead, sequences, spans, work, (who, gathered));
        let recorded = lead.loaded.backend.record(step)?;
        let Some(recording) = recorded else {
            return self.run_once(lead, sequences, spans, who);
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
        who: Who<'_>,
    ) -> Result<(), EngineError> {
        sequences.iter_mut().for_each(|sequence| sequence.forget_step());
        let members = members(sequences);
        self.passes += 1;
        pass(lead, sequences, spans, &mut self.decode, (who, &mut self.gathered))?;
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

/// All layers of a decode step, and its logits.
/// [`Decoder::begin`](crate::model::Decoder::begin) has been called with its tokens. What all hosts
/// find is `gathered` where all run it.
fn pass<B: Backend>(
    lead: &Host<B>,
    sequences: &mut [&mut Sequence<B>],
    spans: &[Span],
    work: &mut Workspace<B>,
    (who, gathered): (Who<'_>, &mut Gathered<B>),
) -> Result<(), EngineError> {
    let Loaded { backend, decoder } = &*lead.loaded;
    let (comm, shape) = (&*lead.comm, decoder.shape());
    let rows: Vec<_> =
        sequences.iter_mut().zip(spans).map(|(sequence, span)| sequence.rows(*span)).collect();
    // Cancels are seen between steps.
    let (all, cancel) = (usize::MAX, Cancel::new());
    if let Who::Lead = who {
        let mut attention = GlobalAttention::new(backend, comm, shape, rows)?;
        decoder.advance(backend, all, &mut attention, &cancel, work)?;
        return Ok(decoder.head(backend, spans.len(), work)?);
    }
    let sequences = rows;
    let mut attention = ReplicatedAttention { backend, comm, shape, sequences, gathered };
    if let Who::AllWith(slices) = who {
        let team = Team { comm, slices };
        decoder.advance_shared(backend, &team, &mut attention, work)?;
        return Ok(decoder.head_shared(backend, spans.len(), &team, work)?);
    }
    decoder.advance(backend, all, &mut attention, &cancel, work)?;
    Ok(decoder.head(backend, spans.len(), work)?)
}
