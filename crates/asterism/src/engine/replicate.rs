//! Decode steps that every host runs: what a host that does not lead does for them.

use super::EngineError;
use super::command::{Replay, Rows};
use super::host::Host;
use super::loaded::Loaded;
use super::replica::{Replica, Step};
use crate::attention::{ContextKeys, Gathered, NewKeys, ReplicatedAttention, SequenceRows};
use crate::cancel::Cancel;
use crate::model::{Team, Workspace};
use crate::plan::{Slices, Span};
use crate::tensor::Backend;

impl<B: Backend> Host<B> {
    /// Runs a token of each of `sequences`: the same as the query host does, but for the keys of
    /// these tokens, which that keeps; with a slice of the weights if they are `sliced`.
    pub(super) fn replicate(
        &mut self,
        sequences: &[Rows],
        tokens: &[u32],
        replay: Replay,
        sliced: bool,
    ) -> Result<(), EngineError> {
        let mut replica = match self.replica.take() {
            Some(replica) => replica,
            None => Replica::new(&self.loaded, self.comm.size()),
        };
        let done = self.run(&mut replica, sequences, tokens, replay, sliced);
        self.replica = Some(replica);
        done
    }

    fn run(
        &self,
        replica: &mut Replica<B>,
        sequences: &[Rows],
        tokens: &[u32],
        replay: Replay,
        sliced: bool,
    ) -> Result<(), EngineError> {
        let Loaded { backend, decoder } = &*self.loaded;
        let Replica { work, gathered, slices, recorded } = replica;
        let slices = sliced.then_some(&*slices);
        let firsts = sequences.iter().map(|rows| rows.at.tokens_and_first().1);
        let positions: Vec<u32> = firsts.map(|first| first as u32).collect();
        if replay != Replay::Again {
            // The buffers may grow.
            *recorded = None;
        }
        decoder.begin(backend, tokens, &positions, self.loaded.layers(), work)?;
        let hosts = self.comm.size();
        gathered.reserve(backend, hosts, tokens.len(), decoder.shape())?;
        if sliced {
            decoder.reserve_shared(backend, hosts, tokens.len(), work)?;
        }
        let before = self.comm.bytes_sent();
        match replay {
            Replay::Again => {
                let step = recorded.as_ref().ok_or(EngineError::UnknownContext)?;
                // All that it attends to stands before the tokens, whichever they are.
                let again = step.recorded.with(|recording| backend.replay(recording, 0));
                again.ok_or(EngineError::UnknownContext)??;
                self.comm.count(step.sent);
                Ok(())
            }
            Replay::Later => {
                let step = || self.pass(work, gathered, slices, sequences);
                match backend.record(step)? {
                    Some(recording) => {
                        let sent = self.comm.bytes_sent() - before;
                        let contexts = sequences.iter().map(|rows| rows.context).collect();
                        let of = self.recordings.add(recording);
                        *recorded = Some(Step { recorded: of, sent, contexts });
                        Ok(())
                    }
                    None => self.pass(work, gathered, slices, sequences),
                }
            }
            Replay::Never => self.pass(work, gathered, slices, sequences),
        }
    }

    /// All layers of a step, and this host's share of the logits.
    fn pass(
        &self,
        work: &mut Workspace<B>,
        gathered: &mut Gathered<B>,
        slices: Option<&Slices>,
        sequences: &[Rows],
    ) -> Result<(), EngineError> {
        let Loaded { backend, decoder } = &*self.loaded;
        let rows = |rows: &Rows| {
            let (len, start) = rows.at.tokens_and_first();
            let hidden = rows.hides.map(|question| self.hidden(question)).transpose()?;
            let hidden = hidden.map(|hidden| &**hidden);
            let context = ContextKeys { hidden, ..ContextKeys::of(self.blocks(rows.context)?) };
            Ok(SequenceRows { span: Span { start, len }, context, new: NewKeys::Elsewhere })
        };
        let sequences = sequences.iter().map(rows).collect::<Result<_, EngineError>>()?;
        let (comm, shape) = (&*self.comm, decoder.shape());
        let mut attention = ReplicatedAttention { backend, comm, shape, sequences, gathered };
        let Some(slices) = slices else {
            decoder.advance(backend, usize::MAX, &mut attention, &Cancel::new(), work)?;
            return Ok(());
        };
        let (team, count) = (Team { comm, slices }, attention.sequences.len());
        decoder.advance_shared(backend, &team, &mut attention, work)?;
        Ok(decoder.head_shared(backend, count, &team, work)?)
    }
}
