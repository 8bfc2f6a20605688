//! A host: a share of every context, and obedience. Hosts live as long as the engine; threads and
//! processes run the same code.

use super::EngineError;
use super::command::{At, Command, ContextId, EncodingState, Outcome, Purpose, QuestionId, Rows};
use super::encode::{Asked, Encoding, Tools};
use super::loaded::Loaded;
use super::recorded::Recordings;
use super::replica::Replica;
use crate::attention::{
    ContextKeys, OthersPass, OthersRows, Weights, changes, compared_layer, serve,
};
use crate::cache::{EncodedBlock, Index, Ledger};
use crate::cancel::Cancel;
use crate::comm::Comm;
use crate::plan::Span;
use crate::saved::{StoredBlock, Writer};
use crate::tensor::{Backend, Buffers, Memory, Part, Positions};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// The encoded blocks of a context that a host holds, in the order of their positions.
pub(super) type Blocks<B> = Arc<[Arc<EncodedBlock<B>>]>;

/// For each of a context's [`Blocks`], which of its keys a question does not see, if any.
pub(super) type Hidden<B> = Arc<[Option<<B as Buffers>::Flags>]>;

/// What a host holds for a question that looks at its context before it is answered.
struct Noted<B: Backend> {
    /// How much it looks at the keys of the context on this host, until that is told.
    weights: Option<Weights<B>>,
    /// `[keys]`, once all are compared: how much the values of the context on this host change if
    /// their tokens see all before them, until that is told.
    changes: Vec<f32>,
    /// Which of them it does not see, once they were computed anew.
    hidden: Option<Hidden<B>>,
}

impl<B: Backend> Default for Noted<B> {
    fn default() -> Self {
        Self { weights: None, changes: Vec::new(), hidden: None }
    }
}

/// One host of a group.
pub(super) struct Host<B: Backend> {
    pub(super) loaded: Arc<Loaded<B>>,
    pub(super) comm: Box<dyn Comm<B>>,
    pub(super) ledger: Ledger,
    index: Index<B>,
    /// Contexts that are encoded.
    contexts: HashMap<ContextId, Blocks<B>>,
    /// Contexts that are being encoded.
    encodings: HashMap<ContextId, Encoding<B>>,
    questions: HashMap<QuestionId, Noted<B>>,
    /// Files of contexts that are being written.
    savings: HashMap<ContextId, Writer>,
    /// What decode steps take that all hosts run, on one that does not lead.
    pub(super) replica: Option<Replica<B>>,
    pub(super) recordings: Recordings<B>,
}

impl<B: Backend> Host<B> {
    /// A host without contexts, which keeps up to `spare` bytes of blocks that no context holds.
    pub(super) fn new(
        loaded: Arc<Loaded<B>>,
        comm: Box<dyn Comm<B>>,
        ledger: Ledger,
        spare: u64,
    ) -> Self {
        let index = Index::new(spare);
        Self {
            loaded,
            comm,
            ledger,
            index,
            contexts: HashMap::new(),
            encodings: HashMap::new(),
            questions: HashMap::new(),
            savings: HashMap::new(),
            replica: None,
            recordings: Recordings::new(),
        }
    }

    /// The blocks of an encoded context on this host.
    pub(super) fn blocks(&self, id: ContextId) -> Result<&Blocks<B>, EngineError> {
        self.contexts.get(&id).ok_or(EngineError::UnknownContext)
    }

    /// What stops the host's part of `command` before it is done, if anything does.
    pub(super) fn cancel_of(&self, command: &Command) -> Option<Cancel> {
        match command {
            Command::Open { cancel, .. } => Some(cancel.clone()),
            Command::Encode { id, .. } => Some(self.encodings.get(id)?.cancel().clone()),
            _ => None,
        }
    }

    /// Does what `command` says, together with the other hosts.
    pub(super) fn obey(&mut self, command: &Command) -> Result<Outcome, EngineError> {
        let before = self.comm.bytes_sent();
        let mut outcome = match command {
            Command::Open { id, plan, tokens, room, from, prompt, cancel } => {
                let mut tools = tools(&self.loaded, &*self.comm, &mut self.index);
                let asked = Asked {
                    plan: Arc::clone(plan),
                    context: Arc::clone(tokens),
                    room: if self.comm.rank() == 0 { *room } else { 0 },
                    from: from.clone(),
                    prompt: prompt.clone(),
                    cancel: cancel.clone(),
                };
                let encoding = Encoding::open(&mut tools, &self.ledger, asked)?;
                self.encodings.insert(*id, encoding);
                self.encoding_outcome(*id)?
            }
            Command::Encode { id, anchor } => {
                let mut tools = tools(&self.loaded, &*self.comm, &mut self.index);
                let encoding = self.encodings.get_mut(id).ok_or(EngineError::UnknownContext)?;
                encoding.advance(&mut tools, anchor)?;
                self.encoding_outcome(*id)?
            }
            Command::Step { sequences, layers, purpose } => {
                self.serve(sequences, layers.clone(), *purpose)?;
                Outcome::default()
            }
            Command::Answer { sequences, tokens, replay, sliced } => {
                self.replicate(sequences, tokens, *replay, *sliced)?;
                Outcome::default()
            }
            Command::Pass { len } => {
                self.pass_on(*len)?;
                Outcome::default()
            }
            Command::Weights(question) => {
                let noted = self.questions.entry(*question).or_default();
                let weights = match noted.weights.take() {
                    Some(weights) => weights.read(&self.loaded.backend)?,
                    None => std::mem::take(&mut noted.changes),
                };
                Outcome { weights, ..Outcome::default() }
            }
            Command::Hide { question, context, positions } => {
                let hidden = self.flags(*context, positions)?;
                self.questions.entry(*question).or_default().hidden = Some(hidden);
                Outcome::default()
            }
            Command::Release(question) => {
                self.questions.remove(question);
                Outcome::default()
            }
            Command::Save { context, folder, first } => {
                let save_left = self.save(*context, folder, *first)?;
                Outcome { save_left, ..Outcome::default() }
            }
            Command::EndSave(id) => {
                self.savings.remove(id);
                Outcome::default()
            }
            Command::Keep(id) => {
                let encoding = self.encodings.remove(id).ok_or(EngineError::UnknownContext)?;
                self.contexts.insert(*id, encoding.into_blocks().into());
                Outcome::default()
            }
            Command::Forget(id) => {
                self.encodings.remove(id);
                self.contexts.remove(id);
                if let Some(replica) = &mut self.replica {
                    replica.forget(*id);
                }
                self.index.trim();
                Outcome::default()
            }
        };
        outcome.sent = self.comm.bytes_sent() - before;
        Ok(outcome)
    }

    /// How far the context `id` has come.
    fn encoding_outcome(&mut self, id: ContextId) -> Result<Outcome, EngineError> {
        let encoding = self.encodings.get_mut(&id).ok_or(EngineError::UnknownContext)?;
        let (progress, state): (_, EncodingState) =
            (encoding.take_progress(), encoding.state(&self.loaded));
        Ok(Outcome { progress, encoding: Some(state), ..Outcome::default() })
    }

    /// Writes the next layer of the keys of `context` into `folder`, or the `first`: whether there
    /// are more.
    fn save(
        &mut self,
        context: ContextId,
        folder: &Path,
        first: bool,
    ) -> Result<bool, EngineError> {
        let blocks = Arc::clone(self.blocks(context)?);
        let writer = match first {
            true => {
                let stored = |block: &Arc<EncodedBlock<B>>| StoredBlock {
                    key: block.key(),
                    tokens: block.tokens(),
                    kept: block.kept_rows(),
                };
                let layout = blocks.iter().map(stored).collect();
                let layout = self.loaded.layout(layout);
                Some(Writer::create(folder, self.comm.rank(), layout)?)
            }
            false => self.savings.remove(&context),
        };
        // This host's file is written, others' are not.
        let Some(mut writer) = writer else { return Ok(false) };
        if let Some((block, layer)) = writer.next() {
            writer.put(&blocks[block].layer_bytes(&self.loaded.backend, layer)?)?;
        }
        let is_left = writer.next().is_some();
        if is_left {
            self.savings.insert(context, writer);
        } else {
            writer.finish()?;
        }
        Ok(is_left)
    }

    /// Takes part in a forward pass of the query host.
    fn serve(
        &mut self,
        sequences: &[Rows],
        layers: std::ops::Range<usize>,
        purpose: Purpose,
    ) -> Result<(), EngineError> {
        let mut weights = match (purpose, sequences) {
            (Purpose::Weigh { question, by_layer }, [rows]) => {
                Some(self.take_weights(question, rows.context, by_layer, 0)?)
            }
            _ => None,
        };
        let Loaded { backend, decoder } = &*self.loaded;
        let listed = |rows: &Rows| match &rows.at {
            At::Span(_) => Ok(None),
            At::Listed(positions) => backend.listed(positions).map(Some),
        };
        let listed = sequences.iter().map(listed).collect::<Result<Vec<_>, _>>()?;
        let rows = sequences
            .iter()
            .zip(&listed)
            .map(|(rows, listed)| {
                let (tokens, first) = rows.at.tokens_and_first();
                let positions = listed.as_ref().map_or(Positions::From(first), Positions::Listed);
                let hidden = rows.hides.map(|question| self.hidden(question)).transpose()?;
                let hidden = hidden.map(|hidden| &**hidden);
                let context = ContextKeys { hidden, ..ContextKeys::of(self.blocks(rows.context)?) };
                Ok(OthersRows { tokens, positions, context })
            })
            .collect::<Result<Vec<_>, EngineError>>()?;
        let config = decoder.config();
        let attending = match purpose {
            Purpose::Answer | Purpose::Weigh { .. } => config.layers,
            Purpose::Revisit => config.context_layers(),
            Purpose::Compare { .. } => compared_layer(config.layers),
        };
        let pass = OthersPass {
            layers,
            attending,
            sequences: &rows,
            weights: weights.as_mut(),
            share: None,
        };
        serve(backend, &*self.comm, decoder.shape(), pass)?;
        if let (Purpose::Weigh { question, .. }, Some(weights)) = (purpose, weights) {
            self.put_weights(question, weights);
        }
        if let (Purpose::Compare { question, owner }, [Rows { context, at: At::Span(span), .. }]) =
            (purpose, sequences)
            && owner == self.comm.rank()
        {
            let values = self.comm.recv_kv(0, span.len * self.loaded.shape().kv_width())?;
            self.note_changes(question, *context, *span, &values)?;
        }
        Ok(())
    }

    /// Notes for `question` how much the values of the tokens at `span`, which stand behind those
    /// noted so far, change in `context`: they would be `values [tokens, kv_heads, head_dim]`.
    pub(super) fn note_changes(
        &mut self,
        question: QuestionId,
        context: ContextId,
        span: Span,
        values: &B::Kv,
    ) -> Result<(), EngineError> {
        let Loaded { backend, decoder } = &*self.loaded;
        let (shape, precision) = (decoder.shape(), decoder.kv_precision());
        let of_layer = (compared_layer(decoder.config().layers), span);
        let values = Part::new(values, 0..values.len());
        let blocks = self.blocks(context)?;
        let changes = changes(backend, shape, precision, blocks, of_layer, values)?;
        let changes = changes.ok_or(EngineError::UnknownContext)?;
        self.questions.entry(question).or_default().changes.extend(changes);
        Ok(())
    }

    /// What `question` has given so far to the keys of `context` on this host, and to `anew` that
    /// were computed anew.
    pub(super) fn take_weights(
        &mut self,
        question: QuestionId,
        context: ContextId,
        by_layer: bool,
        anew: usize,
    ) -> Result<Weights<B>, EngineError> {
        let noted = self.questions.entry(question).or_default();
        if let Some(weights) = noted.weights.take() {
            return Ok(weights);
        }
        let keys: usize = self.blocks(context)?.iter().map(|block| block.tokens()).sum();
        let rows = if by_layer { self.loaded.layers() } else { 1 };
        Ok(Weights::new(&self.loaded.backend, rows, keys + anew)?)
    }

    /// Keeps them.
    pub(super) fn put_weights(&mut self, question: QuestionId, weights: Weights<B>) {
        self.questions.entry(question).or_default().weights = Some(weights);
    }

    /// What `question` does not see.
    pub(super) fn hidden(&self, question: QuestionId) -> Result<&Hidden<B>, EngineError> {
        let noted = self.questions.get(&question);
        noted.and_then(|noted| noted.hidden.as_ref()).ok_or(EngineError::UnknownContext)
    }

    /// Flags for the keys of `context` on this host that stand at `positions`.
    fn flags(&self, context: ContextId, positions: &[u32]) -> Result<Hidden<B>, EngineError> {
        let flags = |block: &Arc<EncodedBlock<B>>| {
            // Blocks of star have one run of positions.
            let Some(run) = block.segments(0).into_iter().next() else { return Ok(None) };
            let place = |end: usize| positions.partition_point(|at| (*at as usize) < end);
            let inside = &positions[place(run.start)..place(run.start + run.tokens)];
            if inside.is_empty() {
                return Ok(None);
            }
            let mut flags = vec![false; run.tokens];
            inside.iter().for_each(|at| flags[*at as usize - run.start] = true);
            self.loaded.backend.flags(&flags).map(Some)
        };
        Ok(self.blocks(context)?.iter().map(flags).collect::<Result<_, _>>()?)
    }
}

fn tools<'a, B: Backend>(
    loaded: &'a Loaded<B>,
    comm: &'a dyn Comm<B>,
    index: &'a mut Index<B>,
) -> Tools<'a, B> {
    Tools { loaded, comm, index }
}
